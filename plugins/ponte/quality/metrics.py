"""Figures of merit with their uncertainty.

Every figure is a function of row weights, so that a bootstrap resample is a vector of counts: subjects that are
measured under the same vectors were measured on the same rows, and their differences are paired. With weights of 1 the
figures are those of scikit-learn (`calibration_error` has no counterpart there).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ponte.model.spec import COVERAGE, WIDTH, Task
from ponte.versions.predicting import Predictions

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CALIBRATION_BINS = 10


class Figures(Protocol):
    """The figures of one subject on n rows."""

    def weighted(self, weights: Array | None = None) -> dict[str, float]:
        """Return every figure by name. weights : shape (n,), ≥ 0; None means 1. NaN where a figure is undefined."""
        ...


def figures_of(
    task: Task, labels: Array, predictions: Predictions, classes: Sequence[Any], *, quantile: float | None = None
) -> Figures:
    """Return the figures of a subject.

    labels : shape (n,); predictions : of the same n rows; classes : the labels in the order of the scores, the positive
    one last in a binary task; quantile : which quantile a regression predicts, if one.
    """
    if task == "regression":
        return RegressionFigures(labels, predictions, quantile)
    if task == "multiclass":
        return MulticlassFigures(labels, predictions, classes)
    return BinaryFigures(labels, predictions, classes)


class BinaryFigures:
    """roc_auc, average_precision in [0, 1], higher is better (0.5 and the positive share are chance).

    brier in [0, 1], log_loss in nats, calibration_error in [0, 1]: lower is better. accuracy, precision, recall and f1
    in [0, 1] and the four counts of the confusion matrix are those of the predicted labels, at the threshold; without
    scores there are only these.
    """

    def __init__(self, labels: Array, predictions: Predictions, classes: Sequence[Any]) -> None:
        import numpy as np

        self._positive = (labels == classes[1]).astype(float)
        self._predicted = (predictions.prediction == classes[1]).astype(float)
        self._hit = self._positive * self._predicted
        self._score = score = predictions.score
        if score is None:
            return
        self._ranking = _Ranking(score, labels == classes[1])
        self._bin, self._residual = equal_bins(score), self._positive - score
        self._square = self._residual**2
        clipped = np.clip(score, np.finfo(float).eps, 1 - np.finfo(float).eps)
        self._loss = -np.where(self._positive == 1, np.log(clipped), np.log1p(-clipped))

    def weighted(self, weights: Array | None = None) -> dict[str, float]:
        import numpy as np

        w = np.ones(len(self._positive)) if weights is None else weights
        # Weights are counts, and sums of whole numbers are the same in any order.
        tp = float(w @ self._hit)
        fp, fn = float(w @ self._predicted) - tp, float(w @ self._positive) - tp
        tn = float(w.sum()) - tp - fp - fn
        return {
            **self._of_scores(w),
            "accuracy": _ratio(tp + tn, w.sum()),
            "precision": _ratio(tp, tp + fp, 0.0),
            "recall": _ratio(tp, tp + fn, 0.0),
            "f1": _ratio(2 * tp, 2 * tp + fp + fn, 0.0),
            "true_positives": tp,
            "false_positives": fp,
            "false_negatives": fn,
            "true_negatives": tn,
        }

    def _of_scores(self, w: Array) -> dict[str, float]:
        if self._score is None:
            return {}
        total = float(w.sum())
        roc_auc, average_precision = self._ranking.weighted(w)
        return {
            "roc_auc": roc_auc,
            "average_precision": average_precision,
            "brier": _ratio((w * self._square).sum(), total),
            "log_loss": _ratio((w * self._loss).sum(), total),
            "calibration_error": _calibration_error(self._bin, w, self._residual),
        }


class MulticlassFigures:
    """roc_auc: mean over the classes of one against the rest; f1: mean over the classes; log_loss in nats.

    balanced_accuracy: mean recall of the classes; calibration_error is that of the predicted class's probability.
    Without scores there are only accuracy, balanced_accuracy and f1.
    """

    def __init__(self, labels: Array, predictions: Predictions, classes: Sequence[Any]) -> None:
        import numpy as np

        known = np.asarray(classes)
        self._classes = range(len(known))
        self._label = np.searchsorted(known, labels)
        #: Of the confusion matrix, which has room for what is none of the classes.
        self._cell = self._label * (len(known) + 1) + np.searchsorted(known, predictions.prediction)
        self._score = score = predictions.score
        if score is None:
            return
        self._rankings = [_Ranking(score[:, c], self._label == c) for c in self._classes]
        top = score.argmax(axis=1)
        confidence = score[np.arange(len(top)), top]
        self._residual = (top == self._label) - confidence
        self._bin = equal_bins(confidence)
        own = np.clip(score[np.arange(len(top)), self._label], np.finfo(float).eps, 1.0)
        self._loss = -np.log(own)

    def weighted(self, weights: Array | None = None) -> dict[str, float]:
        import numpy as np

        w = np.ones(len(self._label)) if weights is None else weights
        size = len(self._classes) + 1
        found = np.bincount(self._cell, w, size * size).reshape(size, size)
        right, actual, claimed = (
            counts[: size - 1] for counts in (found.diagonal(), found.sum(axis=1), found.sum(axis=0))
        )
        return {
            **self._of_scores(w),
            "accuracy": _ratio(found.trace(), w.sum()),
            "balanced_accuracy": float(np.nanmean([_ratio(r, a) for r, a in zip(right, actual, strict=True)])),
            "f1": float(np.mean([_ratio(2 * r, n, 0.0) for r, n in zip(right, actual + claimed, strict=True)])),
        }

    def _of_scores(self, w: Array) -> dict[str, float]:
        import numpy as np

        if self._score is None:
            return {}
        return {
            "roc_auc": float(np.mean([ranking.weighted(w)[0] for ranking in self._rankings])),
            "log_loss": _ratio((w * self._loss).sum(), w.sum()),
            "calibration_error": _calibration_error(self._bin, w, self._residual),
        }


class RegressionFigures:
    """mae, rmse and pinball in the unit of the label, lower is better; r2 at most 1, and 0 for the mean of the rows.

    With intervals also interval_coverage, the share of rows whose label lies in theirs, ends included, 0 to 1, and
    interval_width, the mean distance of the ends, in the unit of the label.
    """

    def __init__(self, labels: Array, predictions: Predictions, quantile: float | None) -> None:
        import numpy as np

        self._label = labels.astype(float)
        self._width: Array | None = None
        if (low := predictions.low) is not None and (high := predictions.high) is not None:
            self._inside, self._width = (low <= self._label) & (self._label <= high), high - low
        error = self._label - predictions.prediction
        self._absolute, self._square = np.abs(error), error**2
        self._pinball = None if quantile is None else np.maximum(quantile * error, (quantile - 1) * error)

    def weighted(self, weights: Array | None = None) -> dict[str, float]:
        import numpy as np

        w = np.ones(len(self._label)) if weights is None else weights
        total = float(w.sum())
        spread = float((w * (self._label - _ratio((w * self._label).sum(), total)) ** 2).sum())
        found = {
            "mae": _ratio((w * self._absolute).sum(), total),
            "rmse": _ratio((w * self._square).sum(), total) ** 0.5,
            "r2": 1 - _ratio((w * self._square).sum(), spread),
        }
        if self._pinball is not None:
            found["pinball"] = _ratio((w * self._pinball).sum(), total)
        if self._width is not None:
            found[COVERAGE] = _ratio((w * self._inside).sum(), total)
            found[WIDTH] = _ratio((w * self._width).sum(), total)
        return found


def area_under_roc(positive: Array, negative: Array) -> float:
    """Return the area from the weights of both classes per distinct score, ascending; NaN with one class only.

    It is the probability that a positive row has the higher score, ties counting half (Mann-Whitney U).

    >>> import numpy as np
    >>> area_under_roc(np.array([0.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.0]))
    0.9166666666666666
    """
    below = negative.cumsum() - negative
    return _ratio((positive * (below + negative / 2)).sum(), positive.sum() * negative.sum())


class _Ranking:
    """The order of scores: how far the rows of one class stand above the others.

    Only places with a row of the class count in the sums, so resamples look at no other.
    """

    def __init__(self, score: Array, own: Array) -> None:
        import numpy as np

        distinct, self._rank = np.unique(score, return_inverse=True)
        self._ranks = len(distinct)
        self._own = np.flatnonzero(own)
        self._places, self._place = np.unique(self._rank[self._own], return_inverse=True)

    def weighted(self, w: Array) -> tuple[float, float]:
        """Return the ROC AUC, see `area_under_roc`, and the mean precision over the rows of the class."""
        import numpy as np

        every = np.bincount(self._rank, w, self._ranks)
        below = (every.cumsum() - every)[self._places]
        every = every[self._places]
        own = np.bincount(self._place, w[self._own], len(self._places))
        own_below = own.cumsum() - own
        total, own_total = float(w.sum()), float(own.sum())
        pairs = (own * (below - own_below + (every - own) / 2)).sum()
        precision = np.divide(own_total - own_below, total - below, out=np.zeros(len(own)), where=own > 0)
        return _ratio(pairs, own_total * (total - own_total)), _ratio((own * precision).sum(), own_total)


def equal_bins(score: Array, count: int = CALIBRATION_BINS) -> Array:
    """Return, per row, which of at most `count` bins of about equally many rows its score falls into, from 0."""
    import numpy as np

    edges = np.unique(np.quantile(score, np.linspace(0, 1, count + 1)[1:-1])) if len(score) else np.empty(0)
    return np.searchsorted(edges, score, side="right")


def _calibration_error(bins: Array, w: Array, residual: Array) -> float:
    """Expected calibration error over bins of equal mass: mean gap between what happened and what was said.

    "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    import numpy as np

    return _ratio(np.abs(np.bincount(bins, w * residual)).sum(), w.sum())


def _ratio(part: Any, whole: Any, otherwise: float = float("nan")) -> float:
    return float(part) / float(whole) if whole else otherwise
