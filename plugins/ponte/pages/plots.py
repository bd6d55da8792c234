"""What a version did on its holdout, as plots: pieces of SVG that stand inside an HTML page and take its colours.

The same inputs give the same bytes. Curves and clouds of points are thinned out, so that a plot stays small however
many rows there are; nothing is averaged away but where a caption says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.pages.svg import ACCENT, INK, MUTED, SECOND, SERIES, figure, shown, to_svg
from ponte.quality.figures import IMPORTANCE, Measured
from ponte.quality.metrics import CALIBRATION_BINS, equal_bins
from ponte.versions.predicting import Output, Predictions

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    Array = np.ndarray[Any, Any]

#: Points of a curve, and of a cloud, at most.
CURVE_POINTS = 300
CLOUD_POINTS = 800
#: Classes of a confusion matrix, and curves in one plot, at most: the most frequent ones.
MATRIX_CLASSES = 12
CURVES = 8
#: Features of the importance plot, at most: the most important ones.
FEATURES = 20
#: The length of an axis for numbers this great, in both directions and with margins, is no double precision any more.
NO_AXIS = 1e307
#: Names of so many classes fit below a confusion matrix without being turned.
LEVEL_CLASSES = 3
TENTHS = 10
HISTOGRAM_BINS = 40

_NAMES = {
    "roc_auc": "ROC AUC", "brier": "Brier score", "f1": "F1", "mae": "mean absolute error", "rmse": "RMSE", "r2": "R²",
    "pinball": "pinball loss", "rows_per_second": "rows predicted per second",
}  # fmt: skip


def metric_name(name: str) -> str:
    """Return how people call a figure: `roc_auc` is the ROC AUC."""
    return _NAMES.get(name, name.replace("_", " "))


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with what a reader needs to understand it; `svg` is one element that can stand in HTML."""

    title: str
    caption: str
    svg: str


def draw(output: Output, labels: Array, predictions: Predictions, measured: Sequence[Measured]) -> tuple[Plot, ...]:
    """Return the plots that suit the task.

    labels : shape (n,); predictions : of the same n rows. A plot that is undefined on these rows is left out: a ROC
    curve needs both classes, all plots of a classifier but its confusion matrix need probabilities, and those of
    a regression an axis that numbers can measure.
    """
    if output.task == "regression":
        found = _regression(labels, predictions) if _greatest(labels, predictions) < NO_AXIS else []
    elif output.task == "multiclass":
        found = _multiclass(output, labels, predictions)
    else:
        found = _binary(output, labels, predictions)
    importance = _importance(measured)
    return (*found, importance) if importance else tuple(found)


def _greatest(labels: Array, predictions: Predictions) -> float:
    return float(max(abs(values.astype(float)).max(initial=0) for values in (labels, predictions.prediction)))


def _plot(title: str, caption: str, fill: Callable[..., None], *, width: float = 5.2, height: float = 4.0,
          rows: Sequence[float] = (1,)) -> Plot:  # fmt: skip
    with figure(width, height) as drawing:
        fill(*drawing.subplots(len(rows), height_ratios=rows, squeeze=False).ravel())
        svg = to_svg(drawing, title=title, caption=caption)
    return Plot(title, caption, svg)


# ---------------------------------------------------------------- binary


def _binary(output: Output, labels: Array, predictions: Predictions) -> list[Plot]:
    where = "by the estimator itself" if output.threshold is None else f"from a score of {output.threshold:.4g} on"
    confusion = _confusion(output.classes, labels, predictions.prediction, f"Labels are predicted {where}.")
    if predictions.score is None:
        return [confusion]
    positive, score = labels == output.classes[1], predictions.score
    plots = []
    if positive.any() and not positive.all():
        plots += [_roc(positive, score), _precision_recall(positive, score)]
    plots.append(_calibration(positive, score, f"Share that was {shown(output.classes[1])}", "Predicted probability"))
    if positive.any():
        plots.append(_lift(positive, score))
    return [*plots, confusion]


def _roc(positive: Array, score: Array) -> Plot:
    def fill(axes: Axes) -> None:
        axes.plot(*_roc_curve(positive, score), color=ACCENT)
        _roc_axes(axes)

    caption = "The further the curve bends to the upper left, the better; the dashed line is chance."
    return _plot("ROC curve", caption, fill)


def _roc_curve(positive: Array, score: Array) -> tuple[Array, Array]:
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(positive, score)
    return _thinned(false_rate, true_rate)


def _roc_axes(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
    _unit(axes, "x", "y")
    axes.set(xlabel="False positive rate", ylabel="True positive rate")


def _precision_recall(positive: Array, score: Array) -> Plot:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, score)

    def fill(axes: Axes) -> None:
        axes.plot(*_thinned(recall, precision), color=ACCENT)
        axes.axhline(positive.mean(), color=MUTED, linestyle="--", linewidth=1)
        _unit(axes, "x", "y")
        axes.set(xlabel="Recall: share of positives found", ylabel="Precision: share of hits right")

    caption = "How many of the hits are right when more of the positive rows are to be found; dashed: guessing."
    return _plot("Precision and recall", caption, fill)


def _calibration(happened: Array, said: Array, ylabel: str, xlabel: str) -> Plot:
    import numpy as np

    bins = equal_bins(said, CALIBRATION_BINS)
    count = np.bincount(bins)
    held = count > 0
    x, y = (np.bincount(bins, values.astype(float))[held] / count[held] for values in (said, happened))

    def fill(axes: Axes, below: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
        axes.plot(x, y, color=ACCENT, marker="o", markersize=4)
        _unit(axes, "x", "y")
        axes.set(ylabel=ylabel)
        below.hist(said, bins=HISTOGRAM_BINS, range=(0, 1), color=ACCENT, alpha=0.6)
        _unit(below, "x")
        below.set(xlabel=xlabel, ylabel="Rows")

    caption = "On the dashed line, what was said is what happened. Ten bins of equally many rows; below, all scores."
    return _plot("Calibration", caption, fill, height=5.0, rows=(3, 1))


def _lift(positive: Array, score: Array) -> Plot:
    import numpy as np

    ordered = positive[np.argsort(-score, kind="stable")]
    share = np.arange(len(ordered) + 1) / len(ordered)
    found = np.append(0, ordered.cumsum()) / ordered.sum()
    tenths = [part.mean() / positive.mean() for part in np.array_split(ordered, TENTHS) if len(part)]

    def fill(axes: Axes, below: Axes) -> None:
        axes.plot(*_thinned(share, found), color=ACCENT)
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
        _unit(axes, "x", "y")
        axes.set(xlabel="Share of rows, highest scores first", ylabel="Share of the positive rows found")
        below.bar(np.arange(1, len(tenths) + 1), tenths, color=ACCENT, alpha=0.75)
        below.axhline(1, color=MUTED, linestyle="--", linewidth=1)
        below.set(xlabel="Tenth of the rows, highest scores first", ylabel="Lift", xticks=range(1, len(tenths) + 1))

    caption = "What is gained by acting on the highest scores first; a lift of 2 is twice the overall share."
    return _plot("Gains and lift", caption, fill, height=5.0, rows=(3, 2))


# ---------------------------------------------------------------- multiclass


def _multiclass(output: Output, labels: Array, predictions: Predictions) -> list[Plot]:
    import numpy as np

    confusion = _confusion(output.classes, labels, predictions.prediction, "Rows of the matrix are what happened.")
    if predictions.score is None:
        return [confusion]
    score, classes = predictions.score, np.asarray(output.classes)
    top = score.argmax(axis=1)
    xlabel = "Probability of the most probable class"
    return [
        confusion,
        _calibration(classes[top] == labels, score.max(axis=1), "Share that was right", xlabel),
        *_roc_per_class(output.classes, labels, score),
    ]


def _roc_per_class(classes: Sequence[Any], labels: Array, score: Array) -> list[Plot]:
    counts = [int((labels == c).sum()) for c in classes]
    both = [c for c in range(len(classes)) if 0 < counts[c] < len(labels)]
    chosen = sorted(sorted(both, key=lambda c: -counts[c])[:CURVES])

    def fill(axes: Axes) -> None:
        for color, c in zip(SERIES, chosen, strict=False):
            axes.plot(*_roc_curve(labels == classes[c], score[:, c]), color=color, label=shown(classes[c]))
        _roc_axes(axes)
        axes.legend(loc="lower right")

    which = f"; the {CURVES} most frequent classes" if len(both) > CURVES else ""
    caption = f"Each class against the rest{which}. Upper left is better; the dashed line is chance."
    return [_plot("ROC curve per class", caption, fill)] if chosen else []


def _confusion(classes: Sequence[Any], labels: Array, predicted: Array, note: str) -> Plot:
    import numpy as np

    known = sorted(range(len(classes)), key=lambda c: -int((labels == classes[c]).sum()))
    kept = sorted(known[:MATRIX_CLASSES]) if len(known) > MATRIX_CLASSES else list(range(len(classes)))
    names = [shown(classes[c]) for c in kept] + (["(others)"] if len(kept) < len(known) else [])

    def place(values: Array) -> Array:
        found = np.full(len(values), len(kept))
        for position, c in enumerate(kept):
            found[values == classes[c]] = position
        return found

    width = len(names)
    counts = np.bincount(place(labels) * width + place(predicted), minlength=width**2).reshape(width, width)

    def fill(axes: Axes) -> None:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for y, x in np.ndindex(counts.shape):
            axes.bar(x, 0.96, 0.96, y - 0.48, color=ACCENT if x == y else SECOND, alpha=0.06 + 0.5 * shares[y, x])
            axes.text(x, y, f"{counts[y, x]:,}", ha="center", va="center", fontsize=9 if width <= TENTHS else 6)
        ticks = range(width)
        axes.set(xlabel="Predicted", ylabel="Happened", xlim=(-0.5, width - 0.5), ylim=(width - 0.5, -0.5))
        axes.set(xticks=ticks, yticks=ticks, xticklabels=names, yticklabels=names)
        axes.tick_params(axis="x", rotation=0 if width <= LEVEL_CLASSES else 45)
        axes.grid(visible=False)

    size = min(3.4 + 0.35 * width, 7.6)
    caption = f"Rows of the holdout by what happened and what was predicted. {note}"
    return _plot("Confusion matrix", caption, fill, width=size + 0.8, height=size)


# ---------------------------------------------------------------- regression


def _regression(labels: Array, predictions: Predictions) -> list[Plot]:
    import numpy as np

    actual, predicted = labels.astype(float), predictions.prediction
    residual = actual - predicted
    rows = np.arange(len(actual))
    if len(rows) > CLOUD_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), CLOUD_POINTS, replace=False))
    which = "Each point is a row" if len(rows) == len(actual) else f"{len(rows):,} of {len(actual):,} rows, by lot"

    def against(axes: Axes) -> None:
        ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
        axes.plot(ends, ends, color=MUTED, linestyle="--", linewidth=1)
        _cloud(axes, predicted[rows], actual[rows])
        axes.set(xlabel="Predicted", ylabel="Happened")

    def histogram(axes: Axes) -> None:
        axes.hist(residual, bins=HISTOGRAM_BINS, color=ACCENT, alpha=0.6)
        axes.axvline(0, color=MUTED, linestyle="--", linewidth=1)
        axes.set(xlabel="Happened minus predicted", ylabel="Rows")

    def spread(axes: Axes) -> None:
        axes.axhline(0, color=MUTED, linestyle="--", linewidth=1)
        _cloud(axes, predicted[rows], residual[rows])
        axes.set(xlabel="Predicted", ylabel="Happened minus predicted")

    return [
        _plot("Predicted and happened", f"{which}; on the dashed line the prediction was right.", against),
        _plot("Residuals", "How far off the predictions were: all rows of the holdout.", histogram),
        _plot("Residuals by prediction", f"{which}; a bend or a funnel is something the model has missed.", spread),
    ]


def _cloud(axes: Axes, x: Array, y: Array) -> None:
    axes.plot(x, y, linestyle="none", marker="o", markersize=3, markeredgewidth=0, color=ACCENT, alpha=0.35)


# ---------------------------------------------------------------- features


def _importance(measured: Sequence[Measured]) -> Plot | None:
    found = [m for m in measured if m.subject.startswith(IMPORTANCE)]
    found = sorted(found, key=lambda m: m.figure.value, reverse=True)[:FEATURES]
    if not found:
        return None

    def fill(axes: Axes) -> None:
        names = [shown(m.subject.removeprefix(IMPORTANCE)) for m in found]
        places = range(len(found))
        values = [m.figure.value for m in found]
        axes.barh(places, values, color=ACCENT, alpha=0.75)
        for place, m in zip(places, found, strict=True):
            if m.figure.low is not None and m.figure.high is not None:
                axes.plot([m.figure.low, m.figure.high], [place, place], color=SECOND, linewidth=1.5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(yticks=places, yticklabels=names, ylim=(len(found) - 0.4, -0.6), ylabel="Feature",
                 xlabel=f"Loss of {metric_name(found[0].name)} when the feature is shuffled")  # fmt: skip
        axes.grid(visible=False, axis="y")

    caption = "What the version loses without a feature's information; the thin line spans the repetitions."
    return _plot("Permutation importance", caption, fill, height=1.3 + 0.26 * len(found))


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """Return at most CURVE_POINTS points of a curve, its ends among them."""
    import numpy as np

    keep = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
    return x[keep], y[keep]


def _unit(axes: Axes, *which: str) -> None:
    for axis in which:
        axes.set(**{f"{axis}lim": (-0.02, 1.02)})
