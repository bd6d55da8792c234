"""How often do the guards of columns stop a quiet week? Simulated weeks that differ as weeks do.

Nine numbers and three texts, some with NULL. Each has week effects of `sd` of its own standard deviation (of the
logarithm of its shares, for texts and NULL), half of them common to all columns, that follow each other with the
correlation `rho`. A batch is compared with all windows before it, as in the flow.

    PYTHONPATH=plugins:. .venv/bin/python tests/bench/quiet_columns.py --worlds 100

Not collected by pytest.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from scipy.stats import norm
from tabulate import tabulate

from ponte.counting.bins import Bins
from ponte.guards.columns import broken

COLUMNS, BATCHES = 12, 20
ROWS = (50, 1_000, 50_000)
NUMBER = Bins(name="number", kind="number", edges=tuple(float(place) for place in range(11)))
TEXT = Bins(name="text", kind="value", values=tuple("abcdefgh"))
#: Far below, the deciles, far above, in standard deviations; shares of the texts, the last of which are other ones.
EDGES = np.array([-8.0, *norm.ppf(np.arange(1, 10) / 10), 8.0])
TEXTS = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.04, 0.03, 0.03])
NULL_SHARES = (0.0, 0.02, 0.1)

Array = np.ndarray[Any, Any]


def main() -> int:
    """Print the shares of quiet batches that are stopped; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--worlds", type=int, default=100, help=f"worlds per cell, each of {BATCHES} batches (100)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    rows = []
    for sd in (0.1, 0.3):
        for windows in (6, 12, 20, 52):
            for rho in (0.0, 0.5, 0.8):
                found = [
                    np.mean([stopped(rng, size, windows, rho, sd) for _ in range(options.worlds)]) for size in ROWS
                ]
                rows.append([sd, windows, rho, *(f"{share:.2%}" for share in found)])
    print(f"Stopped, of {options.worlds * BATCHES} quiet batches per cell")
    print(tabulate(rows, headers=["sd", "windows", "rho", *(f"{size:,} rows" for size in ROWS)]))
    return 0


def stopped(rng: np.random.Generator, rows: int, windows: int, rho: float, sd: float) -> Array:
    """Return for each batch of one world whether any of its columns is at fault, shape (BATCHES,)."""
    weeks = windows + BATCHES
    common, own, nulls = (effects(rng, count, rho, weeks) for count in (1, COLUMNS, COLUMNS))
    found = np.zeros(BATCHES, dtype=bool)
    for column in range(COLUMNS):
        effect = sd * (common[0] + own[column]) / np.sqrt(2)
        bins, shares = (TEXT, _texts(effect)) if column % 4 == 3 else (NUMBER, _numbers(effect))
        null = NULL_SHARES[column % 3] * np.exp(0.3 * nulls[column])
        counts = rng.multinomial(rows, np.column_stack([shares * (1 - null[:, None]), null]))
        for batch in range(BATCHES):
            before, own_counts = counts[: windows + batch], counts[windows + batch]
            found[batch] |= broken(bins, own_counts, before, constant=False) is not None
    return found


def effects(rng: np.random.Generator, count: int, rho: float, weeks: int) -> Array:
    """Return autoregressive series of variance 1, shape (count, weeks)."""
    series = rng.standard_normal((count, weeks))
    for week in range(1, weeks):
        series[:, week] = rho * series[:, week - 1] + np.sqrt(1 - rho**2) * series[:, week]
    return series


def _numbers(effect: Array) -> Array:
    below = norm.cdf(EDGES[None, :] - effect[:, None])
    return np.diff(np.column_stack([np.zeros(len(effect)), below, np.ones(len(effect))]), axis=1)


def _texts(effect: Array) -> Array:
    shares = TEXTS * np.exp(effect[:, None] * np.linspace(-1, 1, len(TEXTS)))
    normed: Array = shares / shares.sum(axis=1, keepdims=True)
    return normed


if __name__ == "__main__":
    raise SystemExit(main())
