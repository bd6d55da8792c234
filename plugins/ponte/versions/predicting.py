"""What an estimator says of rows, held against what it must be: one prediction per row, of the label's type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.errors import PonteError, UnpredictableRows
from ponte.model.spec import Task
from ponte.short_way.deciding import says_the_most_probable
from ponte.short_way.pipelines import ShortWay
from ponte.short_way.plain import PlainRows
from ponte.short_way.values import NotKnown
from ponte.versions.signature import Signature, frame_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]
    Rows = pa.Table | pa.RecordBatch | PlainRows

#: A row of probabilities may miss 1 by the rounding of single precision.
SUM_TOLERANCE = 1e-5
#: Two predictions of a row may differ by this much: additions in another order, of another number of threads or rows.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
#: Likewise where all figures are of single precision; the second is a share of the greatest figure.
RELATIVE_OF_SINGLE, ABSOLUTE_OF_SINGLE = 1e-5, 1e-6
#: Threshold when no score tells the classes apart.
EVEN_ODDS = 0.5
MATRIX = 2


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of n rows."""

    #: Shape (n,): the predicted label, of the label's type; float64 for a regression.
    prediction: Array
    #: Binary: shape (n,), in [0, 1]: probability of the positive class, the last of the version's. Multiclass: shape
    #: (n, n_classes), rows sum to 1, in the order of the classes. None for a regression, and for a classifier that
    #: gives no probabilities.
    score: Array | None
    #: Ends of the interval of each prediction, shape (n,); None of a version without, and of a classifier.
    low: Array | None = None
    high: Array | None = None

    def take(self, rows: Array) -> Predictions:
        """Return those of some rows, by place or by mask."""
        taken = (None if values is None else values[rows] for values in (self.score, self.low, self.high))
        return Predictions(self.prediction[rows], *taken)


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What becomes of what an estimator says: labels of probabilities, an interval of a value."""

    task: Task
    #: The labels, ascending, but the positive one last in a binary task; () in a regression, and for versions that were
    #: registered before classes were kept, whose positive one is the greater.
    classes: tuple[Any, ...] = ()
    #: Score from which the positive class is predicted; None: the estimator's own predict() decides.
    threshold: float | None = None
    #: Of a regression with intervals: the share of outcomes that they hold, and how far their ends lie from the
    #: prediction, ≥ 0, in units of the label.
    interval: float | None = None
    half_width: float | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted estimator and what becomes of what it says."""

    estimator: Any
    output: Output


def fit(estimator: Any, features: Any, labels: Any) -> Any:
    """Return the estimator, fitted in place. features : shape (n_rows, n_features); labels : shape (n_rows,)."""
    return estimator.fit(features, labels)


def probabilities(estimator: Any, features: Any, output: Output) -> Array:
    """Return what a fitted classifier says of rows, shape (n_rows, n_classes), in the order of the output's classes."""
    import numpy as np

    return _positive_last(np.asarray(estimator.predict_proba(features), dtype=float), output)


def _positive_last(probabilities: Array, output: Output) -> Array:
    """Return the columns of an estimator, whose classes ascend, in the order of the output's classes."""
    ascending = output.task != "binary" or not output.classes or output.classes[0] < output.classes[1]
    return probabilities if ascending else probabilities[:, ::-1]


def predict_features(estimator: Any, features: Any, output: Output) -> Predictions:
    """Return the predictions of features that are made already, at the version's threshold, without any check."""
    import numpy as np

    if output.task == "regression":
        return as_predictions(output, estimator.predict(features))
    if not hasattr(estimator, "predict_proba"):
        return Predictions(np.asarray(estimator.predict(features)), None)
    return as_predictions(output, probabilities(estimator, features, output))


def predict(
    estimator: Any, rows: Rows, signature: Signature, output: Output, short: ShortWay | None = None
) -> Predictions:
    """Return the estimator's predictions of `rows`, which hold at least the feature columns, in any order.

    short : the way past its transformers, where it has one; rows that this does not know go the whole way. Raises
    UnpredictableRows when it predicts NaN or infinity, or scores that are no probabilities; PonteError when it does not
    return one prediction per row.
    """
    import numpy as np

    count = rows.num_rows
    last, features = _asked(estimator, rows, signature, short)
    if output.task == "regression":
        value = np.asarray(last.predict(features), dtype=np.float64)
        _require_shape(value, (count,), "predict()")
        _require_finite(value, "predict()")
        half = output.half_width
        return Predictions(value, None) if half is None else Predictions(value, None, value - half, value + half)
    if not hasattr(last, "predict_proba"):
        return Predictions(_labels(last.predict(features), count), None)
    said = np.asarray(last.predict_proba(features))
    probabilities = said.astype(np.float64, copy=False)
    width = len(output.classes) or (2 if output.task == "binary" else probabilities.shape[-1])
    _require_shape(probabilities, (count, width), "predict_proba()")
    _require_probabilities(probabilities)
    score = _positive_last(probabilities, output)[:, 1] if output.task == "binary" else probabilities
    if output.threshold is not None:
        return Predictions(np.asarray(output.classes)[(score >= output.threshold).astype(int)], score)
    if says_the_most_probable(last, said):
        return Predictions(last.classes_[said.argmax(axis=1)], score)
    return Predictions(_labels(last.predict(features), count), score)


def _asked(estimator: Any, rows: Rows, signature: Signature, short: ShortWay | None) -> tuple[Any, Any]:
    """Return what is to be asked, and with what features."""
    if short is not None:
        with suppress(NotKnown):
            return short.last, short.features(rows)
    return last_step(estimator, frame_of(rows.table() if isinstance(rows, PlainRows) else rows, signature))


def last_step(estimator: Any, features: Any) -> tuple[Any, Any]:
    """Return what decides at the end of a pipeline, and what the steps before it make of the features.

    predict() and predict_proba() of a Pipeline each do all of that anew; here it is done once for both. Anything but a
    plain Pipeline is returned as it is.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    while type(estimator) is Pipeline:
        check_is_fitted(estimator)
        features = through([step for _, step in estimator.steps[:-1]], features)
        estimator = estimator.steps[-1][1]
    return estimator, features


def through(steps: Iterable[Any], features: Any) -> Any:
    """Return what the steps of a pipeline make of features, one after the other."""
    for step in steps:
        if step is not None and step != "passthrough":
            features = step.transform(features)
    return features


def _labels(values: Any, count: int) -> Array:
    import numpy as np
    import pandas as pd

    labels = np.asarray(values)
    _require_shape(labels, (count,), "predict()")
    if labels.dtype.kind == "f":
        _require_finite(labels, "predict()")
    if labels.dtype.kind == "O" and (missing := pd.isna(labels)).any():
        fix = "let the estimator predict one of the labels it was fitted on for every row"
        raise _unpredictable("predict() returned no label", missing, got=f"{missing.sum()} of {count} rows", fix=fix)
    return labels


def classes_of(labels: Sequence[Any] | np.ndarray[Any, Any], task: Task) -> tuple[Any, ...]:
    """Return the distinct labels in ascending order, as plain Python values; () for a regression."""
    import numpy as np

    return () if task == "regression" else tuple(np.unique(labels).tolist())


def as_predictions(output: Output, values: Array) -> Predictions:
    """Return values, shape (n,), or probabilities, shape (n, n_classes), as predictions, at the version's threshold."""
    import numpy as np

    if output.task == "regression":
        return Predictions(np.asarray(values, dtype=float).ravel(), None)
    labels = np.asarray(output.classes)
    if output.task == "multiclass":
        return Predictions(labels[values.argmax(axis=1)], values)
    threshold = EVEN_ODDS if output.threshold is None else output.threshold
    return Predictions(labels[(values[:, 1] >= threshold).astype(int)], values[:, 1])


def differing(then: Predictions, now: Predictions, output: Output, *, exactly: bool = False) -> Array:
    """Tell for each row, shape (n,), whether two predictions of it differ by more than roundings.

    A label may be another one only where the score lies within that of the threshold, or two classes are as close.
    exactly : to the last bit, labels too.
    """
    import numpy as np

    differ: Array = np.asarray(then.prediction != now.prediction, dtype=bool)
    figures = (then.prediction, now.prediction) if output.task == "regression" else (then.score, now.score)
    if figures[0] is None or figures[1] is None:
        return differ
    relative, absolute = (0.0, 0.0) if exactly else _roundings(figures[0])
    same = _per_row(np.isclose(figures[1], figures[0], rtol=relative, atol=absolute))
    if output.task == "regression":
        differ = np.zeros(len(same), dtype=bool)
    elif not exactly:
        if figures[0].ndim == 1:
            best, next_best = figures[0], np.float64(EVEN_ODDS if output.threshold is None else output.threshold)
        else:
            next_best, best = np.sort(figures[0], axis=1)[:, -2:].T
        differ &= ~np.isclose(best, next_best, rtol=relative, atol=absolute)
    differ |= ~same
    return differ


def _roundings(figures: Array) -> tuple[float, float]:
    """Return the relative and the absolute difference that figures like these may have."""
    import numpy as np

    with np.errstate(over="ignore"):
        single = bool((figures == figures.astype(np.float32)).all())
    if not single:
        return RELATIVE, ABSOLUTE
    return RELATIVE_OF_SINGLE, ABSOLUTE_OF_SINGLE * float(np.abs(figures).max(initial=0.0))


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
        got = f"values of type {values.dtype}: {type(error).__name__}"
        fix = "let the estimator predict the labels it was fitted on"
        raise PonteError("predict() returned no labels", got=got, expected=family, fix=fix) from error


def require_labels(predictions: Predictions, signature: Signature, output: Output) -> None:
    """Raise PonteError unless every prediction is one of the labels of the fitting rows."""
    import numpy as np

    as_labels(predictions.prediction, signature, output.task)
    if output.classes:
        strange = sorted(set(np.unique(predictions.prediction).tolist()) - set(output.classes), key=str)
        if strange:
            fix = "let the estimator predict the labels it was fitted on"
            got, expected = f"{len(strange)} other values", str(list(output.classes))
            raise PonteError("predict() returned no labels", got=got, expected=expected, fix=fix)


def score_column(predictions: Predictions) -> tuple[str, pa.Array[Any]] | None:
    """Return name and values of the column that holds the scores, `score` or `scores`; None without scores."""
    import pyarrow as pa

    if predictions.score is None:
        return None
    if predictions.score.ndim == 1:
        return "score", pa.array(predictions.score)
    rows, width = predictions.score.shape
    offsets = pa.array(range(0, (rows + 1) * width, width), pa.int32())
    return "scores", pa.ListArray.from_arrays(offsets, pa.array(predictions.score.ravel()))


def _require_shape(values: Any, expected: tuple[int, ...], method: str) -> None:
    if values.shape == expected:
        return
    # One column per output from predict(); one array per output from predict_proba().
    outputs = values.shape[1] if method == "predict()" and values.ndim == MATRIX else 0
    outputs = len(values) if method == "predict_proba()" and values.ndim > MATRIX else outputs
    what, fix = f"{method} returned the wrong shape", ""
    if outputs > 1:
        what += f": {outputs} outputs per row, those of a multi-output estimator"
        fix = "let the estimator predict one value per row; other targets are models of their own"
    raise PonteError(what, got=str(values.shape), expected=str(expected), fix=fix)


def _require_finite(values: Array, method: str) -> None:
    import numpy as np

    finite = np.isfinite(values)
    if not finite.all():
        raise _not_finite(finite, method, ~_per_row(finite))


def _require_probabilities(values: Array) -> None:
    """Raise UnpredictableRows with every row that holds no probabilities, for the first of the reasons below."""
    import numpy as np

    # One pass each when all is well. NaN fails every comparison.
    if not values.size or (values.min() >= 0 and values.max() <= 1 and (_miss(values) <= SUM_TOLERANCE).all()):
        return
    finite, inside = np.isfinite(values), (values >= 0) & (values <= 1)
    good = _per_row(inside) & (_miss(values) <= SUM_TOLERANCE)
    if not finite.all():
        raise _not_finite(finite, "predict_proba()", ~good)
    if not inside.all():
        got = f"{values.min()} to {values.max()}"
        raise _unpredictable("a score is no probability", ~good, got=got, expected="0 to 1")
    got = f"a row sums to {values.sum(axis=1)[_miss(values).argmax()]}"
    raise _unpredictable("the probabilities of a row do not sum to 1", ~good, got=got, expected="1")


def _miss(values: Array) -> Array:
    import numpy as np

    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, which misses
        missing: Array = np.abs(values.sum(axis=1) - 1.0)
    return missing


def _per_row(good: Array) -> Any:
    return good if good.ndim == 1 else good.all(axis=1)


def _not_finite(finite: Array, method: str, rows: Array) -> UnpredictableRows:
    got = f"{finite.size - int(finite.sum())} of {finite.size} values"
    fix = "handle missing and extreme inputs in the pipeline, or refuse them with a check"
    return _unpredictable(f"{method} returned NaN or infinity", rows, got=got, fix=fix)


def _unpredictable(what: str, rows: Array, **parts: str) -> UnpredictableRows:
    error = UnpredictableRows(what, **parts)
    error.rows = rows
    return error
