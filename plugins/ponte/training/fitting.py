"""From an unfitted estimator and the parts of a snapshot to what is pickled; the same inputs give the same.

Fitting sees the first part only. Calibration, threshold and the width of intervals see the second part only: what they
learn from rows that were fitted on would be too good to be true.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ponte.errors import TrainingRefused
from ponte.model.estimator import seed_estimator
from ponte.model.spec import ModelSpec
from ponte.versions import predicting
from ponte.versions.predicting import EVEN_ODDS, Fitted, Output, classes_of

if TYPE_CHECKING:
    import numpy as np

    from ponte.snapshots.parts import Part, Parts

    Array = np.ndarray[Any, Any]


def fit(spec: ModelSpec, estimator: Any, parts: Parts) -> Fitted:
    """Return `estimator` fitted, calibrated and with its threshold, or the width of its intervals, as the spec says."""
    seed_estimator(estimator, spec.training.seed)
    predicting.fit(estimator, parts.fitting.features, parts.fitting.labels)
    if spec.training.calibration != "none":
        estimator = _calibrated(estimator, parts.calibration, spec.training.calibration)
    output = Output(task=spec.task, classes=classes_with_positive(spec, parts.fitting.labels))
    threshold = spec.training.threshold
    if isinstance(threshold, str):
        threshold = best_threshold(estimator, parts.calibration, output, goal=threshold)
    if (share := spec.training.interval) is not None:
        said = predicting.predict_features(estimator, parts.calibration.features, output)
        width = half_width(parts.calibration.labels.astype(float) - said.prediction, share)
        output = replace(output, interval=share, half_width=width)
    return Fitted(estimator, replace(output, threshold=threshold))


def rank_of(share: float, rows: int) -> int:
    """Return which of the absolute errors of so many rows, counted from the smallest, is the half width of an interval.

    The ceil((n + 1) * share)-th of n: "split conformal prediction", Lei, G'Sell, Rinaldo, Tibshirani and Wasserman,
    "Distribution-Free Predictive Inference for Regression", JASA 113, 2018, algorithm 2. When rows of calibration and
    rows to come are exchangeable, an interval holds the outcome with at least that probability, on average over both.
    Above n there is no such error: the interval would be endless.
    """
    return math.ceil((rows + 1) * Fraction(str(share)))


def half_width(errors: Array, share: float) -> float:
    """Return how far the ends of intervals lie from the prediction, ≥ 0, in units of the label.

    errors : of rows that were not fitted on, shape (n,). Raises TrainingRefused for too few, and for NaN or infinity.
    """
    import numpy as np

    rank, where = rank_of(share, len(errors)), "[training] interval, the calibration part"
    if rank > len(errors):
        raise TrainingRefused(
            "an interval of so few rows would be endless",
            where=where,
            got=f"{len(errors)} rows",
            expected=f"at least {rows_for(share)} for interval = {share:g}",
            fix="raise calibration_windows, or lower interval",
        )
    size = np.abs(errors)
    if not np.isfinite(size).all():
        got = f"{np.count_nonzero(~np.isfinite(size))} of {len(size)} errors are NaN or infinite"
        fix = "let labels.sql return finite labels, and the estimator predict finite values"
        raise TrainingRefused("the width of the interval cannot be set", where=where, got=got, fix=fix)
    return float(np.partition(size, rank - 1)[rank - 1])


def rows_for(share: float) -> int:
    """Return the fewest rows of which an interval of this share has ends."""
    return math.ceil(Fraction(str(share)) / (1 - Fraction(str(share))))


def classes_with_positive(spec: ModelSpec, labels: Any) -> tuple[Any, ...]:
    """Return the distinct labels as plain Python values, ascending, but the positive one last; () for a regression.

    Raises TrainingRefused when the positive one of `model.toml` is none of them.
    """
    found, positive = classes_of(labels, spec.task), spec.training.positive
    if positive is None:
        return found
    if positive not in found:
        raise TrainingRefused(
            "no label is the positive class",
            where="model.toml, training.positive",
            got=repr(positive),
            expected=f"one of {list(found)}",
            fix='name a value of the label as TOML writes it: 1, true or "yes"',
        )
    return tuple(sorted(found, key=lambda label: label == positive))


def _calibrated(estimator: Any, part: Part, method: str) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    # Frozen: only the map from its scores to probabilities is fitted.
    calibrated = CalibratedClassifierCV(FrozenEstimator(estimator), method=method, ensemble=False)
    return predicting.fit(calibrated, part.features, part.labels)


def best_threshold(estimator: Any, part: Part, output: Output, *, goal: str) -> float:
    """Return the score in (0, 1) from which predicting the positive class is best on the part.

    goal : "f1", or "balanced_accuracy" (the mean of both classes' recall).
    """
    import numpy as np
    from sklearn.metrics import precision_recall_curve, roc_curve

    score = predicting.probabilities(estimator, part.features, output)[:, 1]
    happened = part.labels == output.classes[1]
    if goal == "f1":
        precision, recall, thresholds = precision_recall_curve(happened, score)
        # The last pair is the end of the curve and belongs to no threshold.
        worth = 2 * precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], np.finfo(float).tiny)
    else:
        false_rate, true_rate, thresholds = roc_curve(happened, score)
        worth = true_rate - false_rate
    inside = (thresholds > 0) & (thresholds <= 1)
    if not inside.any():
        return EVEN_ODDS
    # Just below 1 flags the same rows as 1 does.
    return float(min(thresholds[inside][worth[inside].argmax()], np.nextafter(1, 0)))
