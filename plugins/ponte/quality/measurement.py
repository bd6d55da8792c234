"""What a fitted version reaches on its holdout: figures with intervals, per slice, beside baselines, per feature.

Everything here follows from the version and its snapshot alone, so it is kept in the version's folder; how the
version compares with the champion of the day is `ponte.quality.comparison`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ponte.model.spec import METRICS, ModelSpec
from ponte.quality.baselines import baselines
from ponte.quality.features import of_features
from ponte.quality.figures import CANDIDATE, IMPORTANCE, Figure, Measured, difference_subject
from ponte.quality.groups import value_names
from ponte.quality.metrics import Figures, figures_of
from ponte.quality.resampling import bootstrap, interval, resampled_weights
from ponte.snapshots.parts import Part, Parts
from ponte.versions.predicting import Fitted, Output, Predictions, predict, predict_features, require_labels
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

#: Rows, at most, on which permutation importance and the speed of predicting are measured.
IMPORTANCE_ROWS = 5_000
IMPORTANCE_REPEATS = 5
SPEED_ROWS = 100_000
SPEED_TRIES = 3
#: Rows, or values of `resample_by`, that it takes to tell chance from difference.
MINIMUM_UNITS = 10
#: Slices of a column, at most: those with the most rows.
SLICES = 50
#: Longer values of a slice are cut, with a digest that keeps them apart.
LONGEST_VALUE = 100


def measure(spec: ModelSpec, fitted: Fitted, signature: Signature, parts: Parts) -> tuple[list[Measured], Predictions]:
    """Return all figures of a fitted estimator, and its predictions of the holdout.

    Raises PonteError when it predicts something that is none of the labels.
    """
    holdout = parts.holdout
    predictions = predict(fitted.estimator, holdout.rows, signature, fitted.output)
    require_labels(predictions, signature, fitted.output)
    subjects = {CANDIDATE: predictions, **baselines(spec, fitted.output, parts)}
    measured = compare(spec, fitted.output, holdout, subjects)
    measured += _slices(spec, fitted.output, holdout, predictions)
    measured += of_features(spec, fitted.output, signature, parts)
    measured += _importances(spec, fitted, signature, holdout)
    speed = _rows_per_second(fitted, signature, holdout)
    rows = min(SPEED_ROWS, len(holdout.labels))
    measured.append(Measured(subject=CANDIDATE, name="rows_per_second", figure=Figure(speed), row_count=rows))
    return _finite(measured), predictions


def compare(spec: ModelSpec, output: Output, part: Part, subjects: Mapping[str, Predictions]) -> list[Measured]:
    """Return the figures of every subject, and of "candidate minus subject", with intervals from paired resamples."""
    measures = {s: _figures_of(spec, output, part.labels, p) for s, p in subjects.items()}
    points = {s: one.weighted() for s, one in measures.items()}
    # A subject without probabilities has fewer figures; what the candidate has none of is compared with nothing.
    names = {s: [m for m in METRICS[spec.task] if m in points[CANDIDATE] and m in points[s]] for s in measures}
    units, weights = _resamples(spec, part)
    draws = bootstrap(measures, names, weights)
    rows, measured = len(part.labels), []
    for subject, figures in points.items():
        for name, value in figures.items():
            drawn = draws[subject].get(name)
            figure = Figure(value) if drawn is None else _with_interval(spec, value, drawn, units)
            measured.append(Measured(subject=subject, name=name, figure=figure, row_count=rows))
        for name in names[subject] if subject != CANDIDATE else ():
            gap = points[CANDIDATE][name] - figures[name]
            figure = _with_interval(spec, gap, draws[CANDIDATE][name] - draws[subject][name], units)
            measured.append(Measured(subject=difference_subject(subject), name=name, figure=figure, row_count=rows))
    return _finite(measured)


def _finite(measured: Sequence[Measured]) -> list[Measured]:
    """Leave out what is undefined: a ROC AUC of rows of one class, an R2 of labels that are all equal."""
    return [m for m in measured if math.isfinite(m.figure.value)]


def _with_interval(spec: ModelSpec, value: float, draws: Array, units: int) -> Figure:
    if not len(draws):
        return Figure(value)
    low, high = interval(draws, spec.evaluation.confidence, units=units)
    return Figure(value, low, high) if math.isfinite(low) and math.isfinite(high) else Figure(value)


def _resamples(spec: ModelSpec, part: Part, rows: Array | None = None) -> tuple[int, Iterator[Array]]:
    """Return how many units there are to draw, and the resamples of the part, or of some of its rows.

    Row by row, or unit by unit with `resample_by`.

    None at all of fewer than MINIMUM_UNITS: an interval from a handful of units is narrow for want of choice.
    """
    units = _units(spec, part, rows)
    count = len(part.labels) if rows is None else len(rows)
    distinct = _distinct(units, count)
    resamples = spec.evaluation.resamples if distinct >= MINIMUM_UNITS else 0
    return distinct, resampled_weights(count, resamples, seed=spec.training.seed, units=units)


def _units(spec: ModelSpec, part: Part, rows: Array | None) -> Array | None:
    import numpy as np

    if spec.evaluation.resample_by is None:
        return None
    names = value_names(part.rows.column(spec.evaluation.resample_by))
    return np.unique(names if rows is None else names[rows], return_inverse=True)[1]


def unit_count(spec: ModelSpec, part: Part) -> int:
    """Return how many units of the part there are to draw: rows, or distinct values of `resample_by`."""
    return _distinct(_units(spec, part, None), len(part.labels))


def _distinct(units: Array | None, row_count: int) -> int:
    return row_count if units is None else int(units.max(initial=-1)) + 1


def _figures_of(spec: ModelSpec, output: Output, labels: Array, predictions: Predictions) -> Figures:
    return figures_of(output.task, labels, predictions, output.classes, quantile=spec.evaluation.quantile)


def _taken(predictions: Predictions, rows: Array) -> Predictions:
    return Predictions(predictions.prediction[rows], None if predictions.score is None else predictions.score[rows])


def _slices(spec: ModelSpec, output: Output, part: Part, predictions: Predictions) -> list[Measured]:
    """Figures of the candidate per value of each declared column; the gate's metric with its interval."""
    measured = []
    for column in spec.evaluation.slices:
        values = value_names(part.rows.column(column))
        for value, rows in _largest_groups(values, spec.evaluation.slice_rows):
            one = _figures_of(spec, output, part.labels[rows], _taken(predictions, rows))
            units, weights = _resamples(spec, part, rows)
            draws = bootstrap({CANDIDATE: one}, {CANDIDATE: [spec.gate.metric]}, weights)[CANDIDATE]
            for name, point in one.weighted().items():
                figure = Figure(point)
                if name in draws:
                    figure = _with_interval(spec, point, draws[name], units)
                place = f"{column}={value if len(value) <= LONGEST_VALUE else _shortened(value)}"
                measured.append(Measured(subject=CANDIDATE, slice=place, name=name, figure=figure, row_count=len(rows)))
    return measured


def _shortened(value: str) -> str:
    return f"{value[:LONGEST_VALUE]}… ({hashlib.sha256(value.encode()).hexdigest()[:8]})"


def _largest_groups(values: Array, minimum_rows: int) -> list[tuple[str, Array]]:
    import numpy as np

    known, group = np.unique(values, return_inverse=True)
    found = [(str(value), np.flatnonzero(group == number)) for number, value in enumerate(known)]
    found = [(value, rows) for value, rows in found if len(rows) >= minimum_rows]
    return sorted(found, key=lambda pair: -len(pair[1]))[:SLICES]


# ---------------------------------------------------------------- features


def _importances(spec: ModelSpec, fitted: Fitted, signature: Signature, part: Part) -> list[Measured]:
    """How much worse the gate's metric gets when a feature is shuffled; the interval is that of the repetitions."""
    from sklearn.inspection import permutation_importance

    metric, output = spec.gate.metric, fitted.output
    sign = 1 if METRICS[spec.task][metric] else -1

    def worth(estimator: Any, features: Any, labels: Array) -> float:
        said = predict_features(estimator, features, output)
        return sign * _figures_of(spec, output, labels, said).weighted()[metric]

    rows = _sample(len(part.labels), IMPORTANCE_ROWS, spec.training.seed)
    found = permutation_importance(
        fitted.estimator, part.features.iloc[rows], part.labels[rows], scoring=worth,
        n_repeats=IMPORTANCE_REPEATS, random_state=spec.training.seed,
    )  # fmt: skip
    return [
        Measured(
            subject=f"{IMPORTANCE}{column.name}",
            name=metric,
            figure=Figure(float(drops.mean()), float(drops.min()), float(drops.max())),
            row_count=len(rows),
        )
        for column, drops in zip(signature.features, found.importances, strict=True)
    ]


def _sample(count: int, most: int, seed: int) -> Array:
    import numpy as np

    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _rows_per_second(fitted: Fitted, signature: Signature, part: Part) -> float:
    """Best speed of a predict call, without reading and writing; the first call, which loads code, is not counted."""
    rows = part.rows.slice(0, SPEED_ROWS)
    predict(fitted.estimator, rows.slice(0, 1), signature, fitted.output)
    seconds = []
    for _ in range(SPEED_TRIES):
        begin = time.perf_counter()
        predict(fitted.estimator, rows, signature, fitted.output)
        seconds.append(time.perf_counter() - begin)
    return rows.num_rows / max(min(seconds), 1e-9)
