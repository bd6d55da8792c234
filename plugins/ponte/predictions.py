"""What an estimator says of rows, held against what it must be: one prediction per row, of the label's type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.errors import PonteError
from ponte.signature import Signature, to_frame
from ponte.spec import Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

#: A row of probabilities may miss 1 by the rounding of single precision.
SUM_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of n rows."""

    #: Shape (n,): the predicted label, of the label's type; float64 for a regression.
    prediction: np.ndarray[Any, Any]
    #: Binary: shape (n,), in [0, 1]: probability of the positive class (the greater label). Multiclass: shape
    #: (n, n_classes), rows sum to 1, in the order of the classes. None for a regression.
    score: np.ndarray[Any, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """How the probabilities of a fitted classifier become labels."""

    task: Task
    #: The labels in the order of the estimator's probabilities, the positive one last in a binary task; () in a
    #: regression, and for versions that were registered before classes were kept.
    classes: tuple[Any, ...] = ()
    #: Score from which the positive class is predicted; None: the estimator's own predict() decides.
    threshold: float | None = None


def predict(estimator: Any, rows: pa.Table | pa.RecordBatch, signature: Signature, output: Output) -> Predictions:
    """Return the estimator's predictions of `rows`, which hold at least the feature columns, in any order.

    Raises PonteError when it does not return one prediction per row, or a score that is no probability.
    """
    import numpy as np

    frame = to_frame(rows, signature.features)
    if output.task == "regression":
        value = np.asarray(estimator.predict(frame), dtype=np.float64)
        _require_shape(value, (len(frame),), "predict()")
        _require_finite(value, "predict()")
        return Predictions(value, None)
    probabilities = np.asarray(estimator.predict_proba(frame), dtype=np.float64)
    width = len(output.classes) or (2 if output.task == "binary" else probabilities.shape[-1])
    _require_shape(probabilities, (len(frame), width), "predict_proba()")
    _require_finite(probabilities, "predict_proba()")
    if probabilities.size and not (probabilities.min() >= 0.0 and probabilities.max() <= 1.0):
        got = f"{probabilities.min()} to {probabilities.max()}"
        raise PonteError("a score is no probability", got=got, expected="0 to 1")
    if probabilities.size and np.abs(probabilities.sum(axis=1) - 1.0).max() > SUM_TOLERANCE:
        got = f"a row sums to {probabilities.sum(axis=1).max()}"
        raise PonteError("the probabilities of a row do not sum to 1", got=got, expected="1")
    score = probabilities[:, 1] if output.task == "binary" else probabilities
    if output.threshold is not None:
        return Predictions(np.asarray(output.classes)[(score >= output.threshold).astype(int)], score)
    prediction = np.asarray(estimator.predict(frame))
    _require_shape(prediction, (len(frame),), "predict()")
    return Predictions(prediction, score)


def classes_of(labels: Sequence[Any] | np.ndarray[Any, Any], task: Task) -> tuple[Any, ...]:
    """Return the distinct labels in ascending order, as plain Python values; () for a regression."""
    import numpy as np

    return () if task == "regression" else tuple(np.unique(labels).tolist())


def as_labels(values: np.ndarray[Any, Any], signature: Signature, task: Task) -> pa.Array[Any]:
    """Return predictions as the type of the label; raises PonteError when they cannot be, 0.5 as an integer say."""
    import pyarrow as pa

    types = {"integer": pa.int64(), "boolean": pa.bool_(), "text": pa.string(), "number": pa.float64()}
    family = "number" if task == "regression" else signature.label
    try:
        found: pa.Array[Any] = pa.array(values)
        if family == "text" and not (pa.types.is_string(found.type) or pa.types.is_large_string(found.type)):
            raise pa.ArrowTypeError("any value can be written as text, so only text is a text label")
        return found.cast(types[family])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        got = f"values of type {values.dtype}"
        fix = "let the estimator predict the labels it was fitted on"
        raise PonteError("predict() returned no labels", got=f"{got}: {error}", expected=family, fix=fix) from error


def require_labels(predictions: Predictions, signature: Signature, output: Output) -> None:
    """Raise PonteError unless every prediction is one of the labels of the fitting rows."""
    import numpy as np

    as_labels(predictions.prediction, signature, output.task)
    if output.classes:
        strange = sorted(set(np.unique(predictions.prediction).tolist()) - set(output.classes), key=str)
        if strange:
            fix = "let the estimator predict the labels it was fitted on"
            got, expected = str(strange[:5]), str(list(output.classes))
            raise PonteError("predict() returned no labels", got=got, expected=expected, fix=fix)


def score_column(predictions: Predictions) -> tuple[str, pa.Array[Any]] | None:
    """Return name and values of the column that holds the scores, `score` or `scores`; None for a regression."""
    import pyarrow as pa

    if predictions.score is None:
        return None
    if predictions.score.ndim == 1:
        return "score", pa.array(predictions.score)
    rows, width = predictions.score.shape
    offsets = pa.array(range(0, (rows + 1) * width, width), pa.int32())
    return "scores", pa.ListArray.from_arrays(offsets, pa.array(predictions.score.ravel()))


def _require_shape(values: Any, expected: tuple[int, ...], method: str) -> None:
    if values.shape != expected:
        raise PonteError(f"{method} returned the wrong shape", got=str(values.shape), expected=str(expected))


def _require_finite(values: Any, method: str) -> None:
    import numpy as np

    bad = int((~np.isfinite(values)).sum())
    if bad:
        fix = "handle missing and extreme inputs in the pipeline, or refuse them with a check"
        raise PonteError(f"{method} returned NaN or infinity", got=f"{bad} of {values.size} values", fix=fix)
