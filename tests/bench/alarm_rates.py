"""How often alarms about quality are false, and how soon they are right: simulated weeks through the rules themselves.

    PYTHONPATH=plugins .venv/bin/python tests/bench/alarm_rates.py [runs]

Each run is a history of a metric, normal noise around a level, whose weeks resemble the week before by a correlation.
Printed: false alarms of 260 weeks, and weeks until a loss that stays is an alarm, in standard deviations between weeks.
Takes about 20 minutes of a core with 1,000 runs.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Sequence

import numpy as np

from ponte.alarms.rules import ARMED, GAP, NEEDED, Figure, Look, follow

WEEKS = 260
YEAR = 52
CORRELATIONS = (0.0, 0.3, 0.5, 0.8)
LOSSES = (1, 2, 3)
#: The loss is looked for so long.
PATIENCE = 104
_DAYS = [dt.date(2000, 1, 3) + dt.timedelta(days=7 * n) for n in range(WEEKS + 3 * PATIENCE)]
History = Sequence[float]


def history(random: np.random.Generator, weeks: int, correlation: float) -> np.ndarray:
    """Return a stationary autoregressive series of order 1 with mean 0 and standard deviation 1."""
    noise = random.standard_normal(weeks)
    found = noise.copy()
    for week in range(1, weeks):
        found[week] = correlation * found[week - 1] + np.sqrt(1 - correlation**2) * noise[week]
    return found


def openings(values: History) -> list[tuple[int, Look]]:
    """Return the place of each window that opens an alarm, and the look at it."""
    looks = follow([Figure(window_start=_DAYS[n], value=float(v)) for n, v in enumerate(values)], higher_is_better=True)
    return [(n, look) for n, look in enumerate(looks) if look.rule and not (n and looks[n - 1].lasts)]


def false_alarms(random: np.random.Generator, runs: int, correlation: float) -> str:
    """Return a row: alarms of a history in which nothing happens."""
    found = [openings(history(random, WEEKS, correlation)) for _ in range(runs)]
    armed = ARMED + GAP
    years = (WEEKS - armed) / YEAR
    full = [[(n, look) for n, look in one if not look.provisional] for one in found]

    def share(some: Sequence[Sequence[object]]) -> str:
        return f"{100 * np.mean([bool(one) for one in some]):.1f} %"

    def yearly(rule: str) -> str:
        return f"{np.mean([sum(look.rule == rule for _, look in one) for one in full]) / years:.3f}"

    total = np.mean([len(one) for one in full]) / years
    first = [[n for n, _ in one if n < armed + YEAR] for one in full]
    early = [[n for n, look in one if look.provisional] for one in found]
    return (
        f"| {correlation:g} | {total:.3f} | {yearly('recent')} | {yearly('slow')} | {share(first)} | {share(full)} | "
        f"{share(early)} |"
    )


def delays(random: np.random.Generator, runs: int, correlation: float, past: int) -> str:
    """Return a row: weeks until losses that begin after `past` quiet weeks are alarms."""
    cells = []
    for loss in LOSSES:
        found = []
        for _ in range(runs):
            values = history(random, past + PATIENCE, correlation)
            values[past:] -= loss
            after = [n - past + 1 for n, _ in openings(values) if n >= past]
            found.append(after[0] if after else np.inf)
        middle = np.median(found)
        within = f"{100 * np.mean(np.array(found) <= YEAR):.0f} % within a year"
        cells.append(f"{middle:.0f} ({within})" if np.isfinite(middle) else f"– ({within})")
    return f"| {correlation:g} | {past} | " + " | ".join(cells) + " |"


def maturities(random: np.random.Generator, runs: int, correlation: float) -> str:
    """Return a row: alarms of three maturities together, whose figures are alike by 0.9, one alarm at a time."""
    counts = []
    for _ in range(runs):
        common = history(random, WEEKS, correlation)
        places: set[int] = set()
        for _ in range(3):
            own = np.sqrt(0.9) * common + np.sqrt(0.1) * history(random, WEEKS, correlation)
            places |= {n for n, look in openings(own) if not look.provisional}
        # Those within four weeks of one another are one episode.
        counts.append(sum(not any(n - m in places for m in range(1, 5)) for n in places))
    years = (WEEKS - ARMED - GAP) / YEAR
    return f"| {correlation:g} | {np.mean(counts) / years:.3f} |"


def main(runs: int) -> None:
    """Print the tables."""

    def table(head: str, rows: Callable[[], list[str]]) -> None:
        print(head, "|---" * (head.count("|") - 1) + "|", sep="\n")
        for row in rows():
            print(row, flush=True)
        print()

    print(f"{runs} histories; compared with at least {NEEDED} windows, armed from {ARMED}\n")
    random = np.random.default_rng(17)
    table(
        "| correlation | false alarms a year | by two of three | by the sum | in the first year | in 260 weeks | "
        "provisional, in the first 24 weeks |",
        lambda: [false_alarms(random, runs, c) for c in CORRELATIONS],
    )
    table(
        "| correlation | quiet weeks before | 1 sd | 2 sd | 3 sd |",
        lambda: [delays(random, runs // 2, c, past) for past in (24, YEAR + GAP) for c in CORRELATIONS],
    )
    table(
        "| correlation | false alarms a year, three maturities |",
        lambda: [maturities(random, runs // 2, c) for c in CORRELATIONS],
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
