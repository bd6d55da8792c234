"""What can be said of the holdout without the model: one constant, the mean of a group, a single feature.

A version that does not beat them has learned nothing; a single feature that nearly knows the outcome probably does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.model.spec import OF_LABELS, ModelSpec
from ponte.quality.figures import BASELINE, CONSTANT
from ponte.quality.groups import value_names
from ponte.quality.metrics import figures_of
from ponte.snapshots.parts import Parts
from ponte.versions.predicting import Output, Predictions, as_predictions, fit, predict_features

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def baselines(spec: ModelSpec, output: Output, parts: Parts) -> dict[str, Predictions]:
    """Return the baselines' predictions of the holdout by subject: the constant, and the mean per `baseline_by`."""
    found = {CONSTANT: _constant(spec, output, parts)}
    by = spec.evaluation.baseline_by
    if by is not None:
        fitting, holdout = (value_names(p.rows.column(by)) for p in (parts.fitting, parts.holdout))
        found[f"{BASELINE}{by}"] = by_group(output, parts, fitting, holdout)
    return found


def _constant(spec: ModelSpec, output: Output, parts: Parts) -> Predictions:
    """scikit-learn's dummy, of the kind that the gate's metric is kindest to.

    Figures of predicted labels get the one label that is best at them on the fitting rows; its scores stay the shares
    of the classes.
    """
    import numpy as np
    from sklearn.dummy import DummyClassifier, DummyRegressor

    nothing, rows = np.zeros((len(parts.fitting.labels), 1)), np.zeros((len(parts.holdout.labels), 1))
    if output.task != "regression":
        dummy = fit(DummyClassifier(strategy="prior"), nothing, parts.fitting.labels)
        shares = predict_features(dummy, rows, output)
        if spec.gate.metric not in OF_LABELS:
            return shares
        labels = np.asarray(output.classes)

        def always(label: Any, count: int, scores: Array | None) -> Predictions:
            return Predictions(np.full(count, label, dtype=labels.dtype), scores)

        known = predict_features(dummy, nothing, output).score
        worth = [
            figures_of(
                output.task, parts.fitting.labels, always(label, len(nothing), known), output.classes
            ).weighted()[spec.gate.metric]
            for label in labels
        ]
        return always(labels[int(np.nanargmax(worth))], len(rows), shares.score)
    strategy: dict[str, Any] = {"strategy": "median" if spec.gate.metric == "mae" else "mean"}
    if spec.gate.metric == "pinball":
        strategy = {"strategy": "quantile", "quantile": spec.evaluation.quantile}
    return predict_features(fit(DummyRegressor(**strategy), nothing, parts.fitting.labels), rows, output)


def by_group(output: Output, parts: Parts, fitting: Array, holdout: Array) -> Predictions:
    """Mean outcome per group of the fitting rows; the overall mean for a group not seen there.

    fitting, holdout : the group of each row of the two parts.
    """
    import numpy as np
    import pandas as pd

    labels = parts.fitting.labels
    targets = [labels.astype(float)] if output.task == "regression" else [labels == c for c in output.classes]
    columns = []
    for target in targets:
        means = pd.Series(target.astype(float)).groupby(fitting).mean()
        columns.append(pd.Series(holdout).map(means).fillna(target.mean()).to_numpy(dtype="float64"))
    return as_predictions(output, columns[0] if output.task == "regression" else np.column_stack(columns))
