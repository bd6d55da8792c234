"""How often RS-max calls quiet weeks a notice, and how often two in a row: simulated, with the code that judges.

    PYTHONPATH=plugins nice -n 10 .venv/bin/python tests/bench/drift_quiet.py [--worlds 250] [--part quiet]

A world is a model whose weeks differ although nothing is wrong: 12 features, a score and a prediction, each with a
level that moves from week to week by TAU standard deviations of its rows, half of the variance common to all columns,
with a serial correlation RHO (an autoregressive process of order one). Features are counted in deciles, two of them are
categories of 2 and 8 values, one has 3 % of NULL; the score in deciles, the prediction is a class. Both families know
the same number of windows, the worst case for both together. Weeks have the same number of rows on average, and vary by
10 % around it. Each world is judged in BATCHES weeks that follow its windows. Standard errors are of worlds, since the
weeks of a world share their windows. About 20 minutes of one core for all.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

import numpy as np
from scipy import stats

from ponte.monitoring import drift

Array = np.ndarray[Any, Any]

ROWS = (50, 200, 1_000, 10_000, 50_000)
WINDOWS = (6, 12, 20, 34, 52)
RHO = (0.0, 0.5, 0.8)
#: Standard deviation of a week's level, in standard deviations of rows. 0: only chance makes weeks differ.
TAU = 0.1
BATCHES = 8
FEATURES, ANSWERS, BINS = 12, 2, 11
TENTH = 0.1


def levels(rng: np.random.Generator, worlds: int, weeks: int, rho: float, tau: float) -> Array:
    """Return the level of each column and week, shape (worlds, columns, weeks)."""
    columns = FEATURES + ANSWERS
    noise = rng.standard_normal((worlds, columns + 1, weeks))
    moved = np.empty_like(noise)
    moved[..., 0] = noise[..., 0]
    for week in range(1, weeks):
        moved[..., week] = rho * moved[..., week - 1] + np.sqrt(1 - rho**2) * noise[..., week]
    found: Array = tau * np.sqrt(0.5) * (moved[:, :columns] + moved[:, columns:])
    return found


def shares(levels: Array) -> Array:
    """Return the shares of the bins at these levels, shape (..., columns, weeks, BINS), the last one NULL."""
    found = np.zeros((*levels.shape, BINS))
    deciles = stats.norm.ppf(np.arange(1, 10) / 10)
    for column in range(levels.shape[-2]):
        edges = {
            0: stats.norm.ppf([0.7]),
            1: stats.norm.ppf([0.5, 0.7, 0.8, 0.88, 0.94, 0.97, 0.99]),
            13: stats.norm.ppf([0.8]),
        }
        cut = np.asarray(edges.get(column, deciles))
        below = stats.norm.cdf(cut - levels[..., column, :, None])
        found[..., column, :, : len(cut) + 1] = np.diff(below, axis=-1, prepend=0, append=1)
    null = np.where(np.arange(levels.shape[-2]) == 2, 0.03, 0.0)[:, None, None]
    found *= 1 - null
    found[..., -1:] += null
    return found


def counted(rng: np.random.Generator, shares: Array, rows: Array) -> Array:
    """Return counts of weeks, shape of the shares; rows : shape (worlds, weeks)."""
    found: Array = rng.multinomial(rows[:, None, :], shares / shares.sum(-1, keepdims=True))
    return found


def sizes(rng: np.random.Generator, worlds: int, weeks: int, rows: int, spread: float) -> Array:
    """Return the rows of weeks, shape (worlds, weeks)."""
    return np.maximum(3, np.rint(rows * np.exp(spread * rng.standard_normal((worlds, weeks))))).astype(int)


def judged(windows: Array, batches: Array) -> tuple[Array, Array]:
    """Return whether each batch is beyond the limit of either family, and of the strong one, shape (worlds, batches).

    windows : shape (worlds, columns, W, BINS). batches : shape (worlds, columns, batches, BINS), all of one size.
    """
    beyond, strong = [], []
    for family in (slice(0, FEATURES), slice(FEATURES, None)):
        limits = drift.learn(windows[:, family], float(np.median(batches.sum(-1))), seed=7)
        found = [drift.judge(limits, batches[:, family, week]) for week in range(batches.shape[-2])]
        beyond.append(np.stack([f.statistic > f.limit for f in found], axis=1))
        strong.append(np.stack([f.p < drift.STRONG_ALPHA for f in found], axis=1))
    return beyond[0] | beyond[1], strong[0] | strong[1]


def rates(beyond: Array) -> tuple[float, float, float]:
    """Return per cent of weeks beyond the limit, the standard error over worlds, and of weeks that make an episode."""
    of_worlds = beyond.mean(1) * 100
    two = (beyond[:, 1:] & beyond[:, :-1]).mean() * 100
    return of_worlds.mean(), of_worlds.std(ddof=1) / np.sqrt(len(of_worlds)), two


def world(
    rng: np.random.Generator, worlds: int, windows: int, *, rho: float, tau: float, rows: int, batch: int
) -> tuple[Array, Array]:
    """Return counts of windows and of the batches after them."""
    found = shares(levels(rng, worlds, windows + BATCHES, rho, tau))
    known = counted(rng, found[..., :windows, :], sizes(rng, worlds, windows, rows, 0.1))
    return known, counted(rng, found[..., windows:, :], np.full((worlds, BATCHES), batch))


def quiet(worlds: int, tau: float) -> bool:
    """Print a table over rows, windows and serial correlation; return whether the goal holds where it is stated."""
    print(f"\nQuiet weeks that differ by {tau} standard deviations, {worlds * BATCHES:,} weeks a cell:")
    print("notices % (standard error) / episodes %\n")
    print("| serial correlation | rows | " + " | ".join(f"{w} windows" for w in WINDOWS) + " |")
    print("|---|---|" + "---|" * len(WINDOWS))
    reached = True
    for rho, rows in itertools.product(RHO if tau else (0.0,), ROWS):
        cells = []
        for windows in WINDOWS:
            rng = np.random.default_rng([int(rho * 10), rows, windows, int(tau * 100)])
            beyond, _ = judged(*world(rng, worlds, windows, rho=rho, tau=tau, rows=rows, batch=rows))
            notices, error, episodes = rates(beyond)
            cells.append(f"{notices:.1f} ({error:.1f}) / {episodes:.1f}")
            if windows >= 20 and rho <= 0.5:
                reached &= notices <= 6.5 and episodes <= 1.5
        print(f"| {rho} | {rows:,} | " + " | ".join(cells) + " |", flush=True)
    return reached


def other_sizes(worlds: int) -> None:
    """Print what batches of another size than the windows get."""
    print(f"\nBatches of another size than the 20 windows, {worlds * BATCHES:,} weeks a cell:\n")
    print("| rows of windows | rows of batch | tau 0 | tau 0.1 | tau 0.1, rho 0.5 | tau 0.3, rho 0.5 |")
    print("|---|---|---|---|---|---|")
    for rows, batch in ((1_000, 50), (10_000, 200), (10_000, 1_000), (1_000, 10_000), (1_000, 50_000), (200, 3)):
        cells = []
        for tau, rho in ((0.0, 0.0), (0.1, 0.0), (0.1, 0.5), (0.3, 0.5)):
            rng = np.random.default_rng([rows, batch, int(tau * 100), int(rho * 10)])
            notices, error, episodes = rates(
                judged(*world(rng, worlds, 20, rho=rho, tau=tau, rows=rows, batch=batch))[0]
            )
            cells.append(f"{notices:.1f} ({error:.1f}) / {episodes:.1f}")
        print(f"| {rows:,} | {batch:,} | " + " | ".join(cells) + " |", flush=True)


def power(worlds: int) -> None:
    """Print how often the first week is noticed in which one of the 12 features moves, and what `detectable` says."""
    print("\nOne feature of 12 moves by so many standard deviations, 20 windows: weeks noticed %, and `detectable`:\n")
    print("| tau | rows | " + " | ".join(f"{s} sd" for s in (0.1, 0.2, 0.3, 0.5, 1.0)) + " | `detectable` | moved |")
    print("|---|---|---|---|---|---|---|---|---|")
    for tau, rows in itertools.product((0.0, 0.1, 0.3), ROWS):
        rng = np.random.default_rng([rows, int(tau * 100)])
        found = levels(rng, worlds, 21, 0.0, tau)
        known = counted(rng, shares(found[..., :20]), sizes(rng, worlds, 20, rows, 0.1))
        limits = drift.learn(known[:, :FEATURES], rows, seed=7)
        seen, detectable = [], 0.0
        for shift in (0.1, 0.2, 0.3, 0.5, 1.0):
            moved = found[..., 20:].copy()
            moved[:, 5] += shift
            batch = counted(rng, shares(moved), np.full((worlds, 1), rows))[:, :FEATURES, 0]
            answer = drift.judge(limits, batch)
            seen.append(f"{100 * (answer.statistic > answer.limit).mean():.0f}")
            detectable = float(np.median(answer.detectable[:, 5]))
        still = shares(found[..., 20:])[:, :FEATURES, 0]
        still[:, 5, 0] -= np.minimum(detectable, still[:, 5, 0])
        still[:, 5, 5] += 1 - still[:, 5].sum(-1)
        answer = drift.judge(limits, counted(rng, still[:, :, None], np.full((worlds, 1), rows))[:, :, 0])
        # A tenth has no more rows to give.
        of_those = f"{100 * (answer.statistic > answer.limit).mean():.0f}" if detectable <= TENTH else "–"
        print(f"| {tau} | {rows:,} | " + " | ".join(seen) + f" | {detectable:.3f} | {of_those} |", flush=True)


def main() -> int:
    """Print the tables; 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=250)
    parser.add_argument("--part", choices=["quiet", "sizes", "power", "all"], default="all")
    arguments = parser.parse_args()
    reached = True
    if arguments.part in ("quiet", "all"):
        reached = [quiet(arguments.worlds, tau) for tau in (0.0, TAU)] == [True, True]
        print("\nat most 6.5 % notices and 1.5 % episodes from 20 windows, serial correlation up to 0.5:", reached)
    if arguments.part in ("sizes", "all"):
        other_sizes(arguments.worlds)
    if arguments.part in ("power", "all"):
        power(arguments.worlds)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
