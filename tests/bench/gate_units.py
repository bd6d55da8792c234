"""How often are two equally good versions told apart, with few units of `resample_by`?

    PYTHONPATH=plugins:. .venv/bin/python tests/bench/gate_units.py

Each trial draws units (days, customers) of some rows, and two versions whose errors have a part of their own per unit:
neither is better in the long run. Their ROC AUC is compared as the gate does, with its margin; "better" is wrong, and
so often it may be said: half of what the confidence leaves, 2.5 % of 95 %. Beside Ponte's interval stands the plain
percentile interval of the same resamples. 5,000 trials of each size take some minutes.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from tabulate import tabulate

from ponte.decisions.gate import MARGIN_SHARE, outcome_of
from ponte.quality.figures import Figure
from ponte.quality.metrics import BinaryFigures
from ponte.quality.resampling import bootstrap, interval
from ponte.versions.predicting import Predictions

Array = np.ndarray[Any, Any]
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
    parser.add_argument("--resamples", type=int, default=500, help="bootstrap resamples of each (500)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for units, size in SIZES:
        rng = np.random.default_rng(options.seed)
        told = [_trial(rng, units, size, options.resamples, check=n == 0) for n in range(options.trials)]
        plain, ours, wider = np.mean(told, axis=0)
        rows.append((units, size, f"{plain:.1%}", f"{ours:.1%}", f"{wider:.2f}"))
    headers = ("units", "rows of each", "better, percentiles", "better, as Ponte does", "width, as multiple")
    print(tabulate(rows, headers=headers, disable_numparse=True))
    return 0


def _trial(rng: np.random.Generator, units: int, size: int, resamples: int, *, check: bool) -> tuple[bool, bool, float]:
    """Compare two equal versions; return whether each interval calls the first better, and how much wider ours is."""
    count, unit = units * size, np.repeat(np.arange(units), size)
    happened = rng.random(count) < 0.4
    known = happened - 0.4 + rng.normal(0, 1, count)
    logits = [known + OWN_ERROR * rng.normal(0, 1, units)[unit] * (happened - 0.4) for _ in range(2)]
    weights = rng.multinomial(units, [1 / units] * units, size=resamples).astype(float)
    drawn = [_areas(happened, logit, unit, weights) for logit in logits]
    if check:
        figures = BinaryFigures(happened.astype(int), _said(logits[0]), (0, 1))
        same = bootstrap({"x": figures}, {"x": ["roc_auc"]}, (w[unit] for w in weights[:20]))["x"]["roc_auc"]
        assert np.allclose(same, drawn[0][:20])
    gap, theirs = (float(_areas(happened, logit, unit, np.ones((1, units)))[0]) for logit in logits)
    gap, margin = gap - theirs, MARGIN_SHARE * theirs
    ends = [interval(drawn[0] - drawn[1], CONFIDENCE, units=n) for n in (PLAIN, units)]
    better = [outcome_of(Figure(gap, *e), higher_is_better=True, margin=margin) == "better" for e in ends]
    plain, ours = (high - low for low, high in ends)
    return better[0], better[1], ours / plain


def _areas(happened: Array, logit: Array, unit: Array, weights: Array) -> Array:
    """ROC AUC under each row of weights of units, from how many pairs of rows each pair of units has in order."""
    units = weights.shape[1]
    wins = (logit[happened][:, None] > logit[~happened][None, :]).astype(np.float32)
    of_unit = np.zeros((units, wins.shape[1]), np.float32)
    np.add.at(of_unit, unit[happened], wins)
    pairs = np.zeros((units, units))
    np.add.at(pairs.T, unit[~happened], of_unit.T)
    positive, negative = (weights @ np.bincount(unit, rows, units) for rows in (happened, ~happened))
    areas: Array = ((weights @ pairs) * weights).sum(axis=1) / (positive * negative)
    return areas


def _said(logit: Array) -> Predictions:
    score = 1 / (1 + np.exp(-logit))
    return Predictions((score >= 0.5).astype(int), score)


if __name__ == "__main__":
    sys.exit(main())
