"""From an unfitted estimator and the parts of a snapshot to what is pickled; the same inputs give the same.

Fitting sees the first part only. Calibration and threshold see the second part only: what they learn from rows that
were fitted on would be too good to be true.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ponte.errors import TrainingRefused
from ponte.model.estimator import seed_estimator
from ponte.model.spec import ModelSpec
from ponte.versions import predicting
from ponte.versions.predicting import EVEN_ODDS, Fitted, Output, classes_of

if TYPE_CHECKING:
    from ponte.snapshots.parts import Part, Parts


def fit(spec: ModelSpec, estimator: Any, parts: Parts) -> Fitted:
    """Return `estimator` fitted, calibrated and with its threshold as the spec says."""
    seed_estimator(estimator, spec.training.seed)
    predicting.fit(estimator, parts.fitting.features, parts.fitting.labels)
    if spec.training.calibration != "none":
        estimator = _calibrated(estimator, parts.calibration, spec.training.calibration)
    output = Output(task=spec.task, classes=classes_with_positive(spec, parts.fitting.labels))
    threshold = spec.training.threshold
    if isinstance(threshold, str):
        threshold = best_threshold(estimator, parts.calibration, output, goal=threshold)
    return Fitted(estimator, replace(output, threshold=threshold))


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
