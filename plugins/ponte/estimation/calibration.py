"""From scores to probabilities, learned from rows that were not fitted on; kept with the version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ponte.estimation.sums import (
    edges_of_scores,
    figures_of,
    sums_of_binary,
    sums_of_multiclass,
)
from ponte.versions import predicting
from ponte.versions.predicting import Output, Predictions

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CalibratedOn = Literal["calibration", "holdout"]
Method = Literal["isotonic", "error_model"]
#: With fewer rows, or fewer of a class and of the rest, nothing is calibrated.
LEAST_ROWS, LEAST_OF_CLASS = 200, 20
#: With fewer windows the rows are cut into as many blocks, to see how far estimates are off.
LEAST_BLOCKS, BLOCKS = 3, 5


@dataclass(frozen=True, slots=True)
class Curve:
    """Score → probability of a class, piecewise linear; and the bins of its scores."""

    score: tuple[float, ...]
    probability: tuple[float, ...]
    edges: tuple[float, ...]

    def at(self, score: Array) -> Array:
        """Return the probabilities for scores, of the same shape."""
        import numpy as np

        return np.interp(score, self.score, self.probability)


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What the estimates of a version are made with."""

    method: Method
    calibrated_on: CalibratedOn
    calibrated_rows: int
    #: Of the positive class, or of all classes; none for a regression.
    curves: tuple[Curve, ...] = ()
    #: Metric → standard deviation of estimates of blocks of rows around what they are, beyond the chance of labels.
    spread: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data. Law: `Calibration.from_json(c.as_json()) == c`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """Return the calibration that `as_json` wrote."""
        curves = tuple(Curve(*(tuple(c[name]) for name in Curve.__slots__)) for c in data["curves"])
        return cls(**{**data, "curves": curves})

    def sums(self, score: Array, predicted: Array) -> Array:
        """Return the sums of rows whose labels are not known.

        score : shape (n,) or (n, n_classes); predicted : shape (n,), place of the predicted class in the output's.
        """
        import numpy as np

        if score.ndim == 1:
            return sums_of_binary(self.curves[0].at(score), score, predicted == 1, self.curves[0].edges)
        p = np.column_stack([curve.at(score[:, c]) for c, curve in enumerate(self.curves)])
        whole = p.sum(axis=1, keepdims=True)
        p = np.where(whole > 0, p / np.where(whole > 0, whole, 1), score)
        return sums_of_multiclass(p, score, predicted, self.edges)

    def known_sums(self, label: Array, score: Array, predicted: Array) -> Array:
        """Return the sums of rows whose labels are known, shape (n,), places in the output's classes."""
        import numpy as np

        if score.ndim == 1:
            return sums_of_binary(label.astype(float), score, predicted == 1, self.curves[0].edges)
        return sums_of_multiclass(np.eye(score.shape[1])[label], score, predicted, self.edges)

    @property
    def edges(self) -> list[tuple[float, ...]]:
        """The edges of each class's scores."""
        return [curve.edges for curve in self.curves]


def calibrate(
    output: Output, labels: Array, said: Predictions, windows: Array, *, calibrated_on: CalibratedOn
) -> Calibration | None:
    """Return what estimates of a classifier are made with; None without scores, and with too few rows of a class.

    labels : shape (n,); said : of the same rows, which were not fitted on; windows : shape (n,), names the window of
    each row, in their order.
    """
    if said.score is None:
        return None
    label, predicted, score = places(labels, output), places(said.prediction, output), said.score
    curves = _curves(label, score)
    if curves is None or len(label) < LEAST_ROWS:
        return None

    def off(inside: Array) -> tuple[Any, Any] | None:
        """Return figures of the rows inside, estimated by the others, and as they are."""
        others = _curves(label[~inside], score[~inside])
        if others is None:
            return None
        found = Calibration(method="isotonic", calibrated_on=calibrated_on, calibrated_rows=0, curves=others)
        of = (score[inside], predicted[inside])
        return figures_of(output.task, found.sums(*of)), figures_of(output.task, found.known_sums(label[inside], *of))

    return Calibration(
        method="isotonic",
        calibrated_on=calibrated_on,
        calibrated_rows=len(label),
        curves=curves,
        spread=spread_of(windows, off),
    )


def places(labels: Any, output: Output) -> Array:
    """Return the place of each label in the output's classes, shape (n,)."""
    import numpy as np

    known = np.asarray(output.classes)
    order = np.argsort(known)
    found = np.searchsorted(known, np.asarray(labels), sorter=order)
    return np.asarray(order[np.minimum(found, len(order) - 1)])


def _curves(label: Array, score: Array) -> tuple[Curve, ...] | None:
    """Return a curve per class that is held against the rest, None when a class has too few rows."""
    import numpy as np

    columns = [(label == 1, score)] if score.ndim == 1 else [(label == c, score[:, c]) for c in range(score.shape[1])]
    if any(min(np.count_nonzero(own), np.count_nonzero(~own)) < LEAST_OF_CLASS for own, _ in columns):
        return None
    return tuple(_curve(own, of_class) for own, of_class in columns)


def _curve(own: Array, score: Array) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    fitted = predicting.fit(IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip"), score, own.astype(float))
    return Curve(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()), edges_of_scores(score))


def spread_of(windows: Array, off: Callable[[Array], tuple[Any, Any] | None]) -> dict[str, float]:
    """Return metric → standard deviation of the estimates of blocks of rows, beyond the chance of their labels.

    off : of a mask of rows: figures as the other rows estimate them, and as they are.
    """
    import numpy as np

    found: dict[str, list[tuple[float, float]]] = {}
    for inside in _blocks(windows):
        pair = off(inside)
        if pair is not None:
            for name, (value, variance) in pair[0].items():
                if name in pair[1]:
                    found.setdefault(name, []).append(((value - pair[1][name][0]) ** 2, variance))
    means = {name: np.mean(of, axis=0) for name, of in found.items()}
    return {name: float(max(0.0, square - variance)) ** 0.5 for name, (square, variance) in means.items()}


def _blocks(windows: Array) -> Iterator[Array]:
    """Yield masks of rows: the windows, or as many equal blocks of rows when there are few windows."""
    import numpy as np

    known: Sequence[Any] = np.unique(windows).tolist()
    if len(known) < LEAST_BLOCKS:
        windows = np.arange(len(windows)) * BLOCKS // max(1, len(windows))
    for one in np.unique(windows):
        yield np.asarray(windows == one)
