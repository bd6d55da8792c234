"""Sums over predictions, of which the figures of quality are made; sums of two sets of rows add up to those of both.

Every figure is made of what is expected of each row: the probability p of its label. Where the labels are known p is 1
or 0, and the same sums give the realised figures.

The sums, in this order: the rows; for each loss of the task (LOSSES) its expected sum and the variance of that sum; for
each class that is held against the rest (the positive one of a binary task, all of a multiclass one) what `_OF_CLASS`
says, and three histograms over SCORE_BINS bins of the class's score: rows, expected labels, variance of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ponte.model.spec import Task

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Task → the losses whose mean is a figure.
LOSSES: dict[Task, tuple[str, ...]] = {
    "binary": ("accuracy", "brier", "log_loss"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("mae",),
}
#: Bins of the score, of about equally many rows of the calibration; ROC AUC takes rows of one bin for ties.
SCORE_BINS = 200
#: Expected labels, rows predicted, expected hits, variance of the labels where predicted, and where not.
_OF_CLASS = 5
_LEAST = 2.0**-52
#: Variance of the absolute value of a normal error of mean absolute value 1.
_SPREAD_OF_ERROR = math.pi / 2 - 1


def sums_of_binary(p: Array, score: Array, hit: Array, edges: Sequence[float]) -> Array:
    """Return the sums of a binary task.

    p : shape (n,), probability that the label is the positive class; score : shape (n,), in [0, 1]; hit : shape (n,),
    whether the positive class is predicted; edges : at most SCORE_BINS - 1, ascending.
    """
    import numpy as np

    v, s = p * (1 - p), np.clip(score, _LEAST, 1 - _LEAST)
    yes, no = np.log(s), np.log1p(-s)
    losses = [
        np.where(hit, p, 1 - p).sum(),
        v.sum(),
        (p * (1 - score) ** 2 + (1 - p) * score**2).sum(),
        (v * (1 - 2 * score) ** 2).sum(),
        -(p * yes + (1 - p) * no).sum(),
        (v * (yes - no) ** 2).sum(),
    ]
    return np.concatenate([[len(p)], losses, _of_class(p, score, hit, edges)])


def sums_of_multiclass(p: Array, score: Array, predicted: Array, edges: Sequence[Sequence[float]]) -> Array:
    """Return the sums of a multiclass task.

    p and score : shape (n, n_classes), rows sum to 1; predicted : shape (n,), place of the predicted class; edges : as
    in `sums_of_binary`, per class.
    """
    import numpy as np

    right = p[np.arange(len(p)), predicted] if len(p) else np.empty(0)
    loss = -np.log(np.clip(score, _LEAST, 1.0))
    expected = (p * loss).sum(axis=1)
    losses = [right.sum(), (right * (1 - right)).sum(), expected.sum(), ((p * loss**2).sum(axis=1) - expected**2).sum()]
    classes = [_of_class(p[:, c], score[:, c], predicted == c, of_class) for c, of_class in enumerate(edges)]
    return np.concatenate([[len(p)], losses, *classes])


def sums_of_regression(error: Array, *, known: bool = False) -> Array:
    """Return the sums of a regression. error : shape (n,), expected absolute error, or the known one."""
    import numpy as np

    return np.array([len(error), error.sum(), 0.0 if known else _SPREAD_OF_ERROR * (error**2).sum()])


def _of_class(p: Array, score: Array, hit: Array, edges: Sequence[float]) -> Array:
    import numpy as np

    v, place = p * (1 - p), np.searchsorted(edges, score, side="right")
    of_class = [p.sum(), np.count_nonzero(hit), p[hit].sum(), v[hit].sum(), v[~hit].sum()]
    return np.concatenate([of_class, *(np.bincount(place, w, SCORE_BINS) for w in (None, p, v))])


def edges_of_scores(score: Array) -> tuple[float, ...]:
    """Return the edges for the scores of the calibration, shape (n,)."""
    import numpy as np

    quantiles = np.quantile(score, np.arange(1, SCORE_BINS) / SCORE_BINS)
    return tuple(np.unique(quantiles).tolist())


def figures_of(task: Task, sums: Array) -> dict[str, tuple[float, float]]:
    """Return value and variance of each figure by name; a figure that is not defined, as of no rows, is left out.

    The variance is that of what will be realised, when the estimate is right: each label falls by chance.
    """
    import numpy as np

    count, names = float(sums[0]), LOSSES[task]
    losses = sums[1 : 1 + 2 * len(names)].reshape(-1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: (of[0] / count, of[1] / count**2) for name, of in zip(names, losses, strict=True)}
        classes = sums[1 + 2 * len(names) :].reshape(-1, _OF_CLASS + 3 * SCORE_BINS)
        if task == "binary":
            found |= _of_labels(classes[0]) | {"roc_auc": _roc_auc(classes[0])}
        elif task == "multiclass":
            of = [_of_labels(c) for c in classes]
            found |= {
                "balanced_accuracy": _mean([c["recall"] for c in of]),
                "f1": _mean([c["f1"] for c in of]),
                "roc_auc": _mean([_roc_auc(c) for c in classes]),
            }
    return {name: (float(v), float(var)) for name, (v, var) in found.items() if np.isfinite(v) and np.isfinite(var)}


def _of_labels(of_class: Array) -> dict[str, tuple[Any, Any]]:
    actual, claimed, hits, inside, outside = of_class[:_OF_CLASS]
    precision, recall, f1 = hits / claimed, hits / actual, 2 * hits / (actual + claimed)
    return {
        "precision": (precision, inside / claimed**2),
        "recall": (recall, (inside * (1 - recall) ** 2 + outside * recall**2) / actual**2),
        "f1": (f1, (inside * (2 - f1) ** 2 + outside * f1**2) / (actual + claimed) ** 2),
    }


def _roc_auc(of_class: Array) -> tuple[Any, Any]:
    rows, yes, v = of_class[_OF_CLASS:].reshape(3, -1)
    no = rows - yes
    below = (no.cumsum() - no / 2) / no.sum()
    above = 1 - (yes.cumsum() - yes / 2) / yes.sum()
    auc = (yes * below).sum() / yes.sum()
    # What one more positive, and one less negative, of a bin does to it.
    slope = (below - auc) / yes.sum() - (above - auc) / no.sum()
    return auc, (v * slope**2).sum()


def _mean(figures: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The deviation of a mean of figures of the same rows is at most the mean of their deviations."""
    values, variances = zip(*figures, strict=True)
    return sum(values) / len(values), (sum(v**0.5 for v in variances) / len(values)) ** 2
