"""How large the error of a regression probably is: a second model, of features and prediction, fitted on other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.estimation.calibration import LEAST_ROWS, CalibratedOn, Calibration, spread_of
from ponte.estimation.sums import figures_of, sums_of_regression
from ponte.versions import predicting
from ponte.versions.predicting import Output
from ponte.versions.signature import Signature, frame_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_OUTPUT = Output(task="regression")


def fit_error_model(
    rows: pa.Table,
    signature: Signature,
    labels: Array,
    prediction: Array,
    windows: Array,
    *,
    seed: int,
    calibrated_on: CalibratedOn,
) -> tuple[Any, Calibration] | None:
    """Return a fitted model of the absolute error, and what is known of it; None with too few rows.

    rows : not fitted on, with labels and prediction, shape (n,); windows : as in `calibrate`.
    """
    import numpy as np

    if len(labels) < LEAST_ROWS:
        return None
    inputs, error = _inputs(rows, signature, prediction), np.abs(labels.astype(float) - prediction)

    def off(inside: Array) -> tuple[Any, Any]:
        said = _said(_fitted(inputs[~inside], error[~inside], seed), inputs[inside])
        known = sums_of_regression(error[inside], known=True)
        return figures_of("regression", sums_of_regression(said)), figures_of("regression", known)

    known = Calibration(
        method="error_model",
        calibrated_on=calibrated_on,
        calibrated_rows=len(labels),
        spread=spread_of(windows, off),
    )
    return _fitted(inputs, error, seed), known


def expected_errors(model: Any, rows: pa.Table | pa.RecordBatch, signature: Signature, prediction: Array) -> Array:
    """Return the absolute error to be expected of each row, shape (n,), ≥ 0."""
    return _said(model, _inputs(rows, signature, prediction))


def _fitted(inputs: Array, error: Array, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(max_iter=100, early_stopping=False, random_state=seed)
    return predicting.fit(model, inputs, error)


def _said(model: Any, inputs: Array) -> Array:
    import numpy as np

    if not len(inputs):
        return np.empty(0)
    return np.maximum(0.0, predicting.predict_features(model, inputs, _OUTPUT).prediction)


def _inputs(rows: pa.Table | pa.RecordBatch, signature: Signature, prediction: Array) -> Array:
    """Return numbers as they are and texts as codes, shape (n, columns + 1), NaN for NULL and unseen texts.

    Dates are left out, which mean something else every week, and texts whose codes are those of a chunk.
    """
    import numpy as np

    frame = frame_of(rows, signature)
    columns: list[Array] = [prediction]
    for column in signature.features:
        if column.family == "text":
            known = len(signature.categories.get(column.name, ()))
            codes = frame[column.name].cat.codes.to_numpy()
            if known:
                columns.append(np.where((codes >= 0) & (codes < known), codes, np.nan))
        elif column.family in ("integer", "number", "boolean"):
            numbers = frame[column.name].to_numpy(dtype=np.float64, na_value=np.nan)
            columns.append(np.where(np.isfinite(numbers), numbers, np.nan))
    return np.column_stack(columns)
