"""How often are two equally good versions told apart, with few units of `resample_by`?

    PYTHONPATH=plugins:. .venv/bin/python tests/bench/gate_units.py

Each trial draws units (days, customers) of some rows, and two versions whose errors have a part of their own per unit:
neither is better in the long run. Their ROC AUC is compared as the gate does, by Ponte's own figures, resamples and
margin; "better" is wrong, and so often it may be said: half of what the confidence leaves, 2.5 % of 95 %. Beside it
stands the plain percentile interval of the same resamples.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from tabulate import tabulate

from ponte.decisions.gate import MARGIN_SHARE, outcome_of
from ponte.quality.figures import Figure
from ponte.quality.metrics import BinaryFigures
from ponte.quality.resampling import bootstrap, interval, resampled_weights
from ponte.versions.predicting import Predictions

#: Units, and rows of each.
SIZES = ((10, 40), (14, 40), (28, 20), (100, 10))
CONFIDENCE = 0.95
#: So many units that the interval is that of plain percentiles.
PLAIN = 10**9
#: Standard deviation of what each version gets wrong per unit, beside that of a row, which is 1.
OWN_ERROR = 0.8


def main() -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=1_000, help="comparisons per size (1000)")
    parser.add_argument("--resamples", type=int, default=300, help="bootstrap resamples of each (300)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for units, size in SIZES:
        rng = np.random.default_rng(options.seed)
        told = [_trial(rng, units, size, options.resamples) for _ in range(options.trials)]
        plain, expanded, wider = np.mean(told, axis=0)
        rows.append((units, size, f"{plain:.1%}", f"{expanded:.1%}", f"{wider:.2f}"))
        print(f"{units} units done", file=sys.stderr, flush=True)
    headers = ("units", "rows of each", "better, percentiles", "better, as Ponte does", "width, as multiple")
    print(tabulate(rows, headers=headers, disable_numparse=True))
    return 0


def _trial(rng: np.random.Generator, units: int, size: int, resamples: int) -> tuple[bool, bool, float]:
    """Compare two equal versions; return whether each interval calls the first better, and how much wider ours is."""
    count, unit = units * size, np.repeat(np.arange(units), size)
    happened = rng.random(count) < 0.4
    known = happened - 0.4 + rng.normal(0, 1, count)
    ours, theirs = (known + OWN_ERROR * rng.normal(0, 1, units)[unit] * (happened - 0.4) for _ in range(2))
    labels = happened.astype(int)
    subjects = {name: BinaryFigures(labels, _said(score), (0, 1)) for name, score in (("a", ours), ("b", theirs))}
    weights = resampled_weights(count, resamples, seed=0, units=unit)
    drawn = bootstrap(subjects, {name: ["roc_auc"] for name in subjects}, weights)
    gaps = drawn["a"]["roc_auc"] - drawn["b"]["roc_auc"]
    margin = MARGIN_SHARE * subjects["b"].weighted()["roc_auc"]
    ends = [interval(gaps, CONFIDENCE, units=n) for n in (PLAIN, units)]
    better = [outcome_of(Figure(0.0, *e), higher_is_better=True, margin=margin) == "better" for e in ends]
    plain, expanded = (high - low for low, high in ends)
    return better[0], better[1], expanded / plain


def _said(logit: np.ndarray) -> Predictions:
    score = 1 / (1 + np.exp(-logit))
    return Predictions((score >= 0.5).astype(int), score)


if __name__ == "__main__":
    sys.exit(main())
