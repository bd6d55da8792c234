"""What a fitted version reaches on its holdout: figures with intervals, per slice, beside baselines, per feature.

Everything here follows from the version and its snapshot alone, so it is kept in the version's folder; how the
version compares with the champion of the day is `ponte.quality.comparison`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ponte.model.spec import METRICS, OF_INTERVALS, ModelSpec
from ponte.quality.baselines import baselines
from ponte.quality.features import of_features
from ponte.quality.figures import CANDIDATE, CHANGED, IMPORTANCE, UNUSED, Figure, Measured, difference_subject
from ponte.quality.groups import value_names
from ponte.quality.metrics import Figures, figures_of
from ponte.quality.resampling import bootstrap, interval, resampled_weights
from ponte.snapshots.parts import Part, Parts
from ponte.versions.predicting import (
    Fitted,
    Output,
    Predictions,
    differing,
    predict,
    predict_features,
    require_labels,
)
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

#: Rows, at most, on which permutation importance and the speed of predicting are measured.
IMPORTANCE_ROWS = 5_000
IMPORTANCE_REPEATS = 5
#: Rows on which each feature is tried once before, to see which ones matter most, and which ones not at all.
TRIAL_ROWS = 1_000
SPEED_ROWS = 100_000
SPEED_TRIES = 3
#: Rows, or values of `resample_by`, that it takes to tell chance from difference.
MINIMUM_UNITS = 10
#: Slices of a column, at most: those with the most rows.
SLICES = 50
#: Longer values of a slice are cut, with a digest that keeps them apart.
LONGEST_VALUE = 100


def measure(
    spec: ModelSpec,
    fitted: Fitted,
    signature: Signature,
    parts: Parts,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Measured], Predictions]:
    """Return all figures of a fitted estimator, and its predictions of the holdout.

    clock : seconds, for the time that importances may take.
    Raises PonteError when it predicts something that is none of the labels.
    """
    holdout = parts.holdout
    predictions = predict(fitted.estimator, holdout.rows, signature, fitted.output)
    require_labels(predictions, signature, fitted.output)
    subjects = {CANDIDATE: predictions, **baselines(spec, fitted.output, parts)}
    measured = compare(spec, fitted.output, holdout, subjects)
    measured += _slices(spec, fitted.output, holdout, predictions)
    measured += of_features(spec, fitted.output, signature, parts)
    measured += _importances(spec, fitted, signature, holdout, clock)
    speed = _rows_per_second(fitted, signature, holdout)
    rows = min(SPEED_ROWS, len(holdout.labels))
    measured.append(Measured(subject=CANDIDATE, name="rows_per_second", figure=Figure(speed), row_count=rows))
    return _finite(measured), predictions


def compare(spec: ModelSpec, output: Output, part: Part, subjects: Mapping[str, Predictions]) -> list[Measured]:
    """Return the figures of every subject, and of "candidate minus subject", with intervals from paired resamples."""
    measures = {s: _figures_of(spec, output, part.labels, p) for s, p in subjects.items()}
    points = {s: one.weighted() for s, one in measures.items()}
    # A subject without probabilities has fewer figures; what the candidate has none of is compared with nothing.
    every = (*METRICS[spec.task], *OF_INTERVALS)
    names = {s: [m for m in every if m in points[CANDIDATE] and m in points[s]] for s in measures}
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


def _slices(spec: ModelSpec, output: Output, part: Part, predictions: Predictions) -> list[Measured]:
    """Figures of the candidate per value of each declared column; the gate's metric with its interval."""
    measured = []
    for column in spec.evaluation.slices:
        values = value_names(part.rows.column(column))
        for value, rows in _largest_groups(values, spec.evaluation.slice_rows):
            one = _figures_of(spec, output, part.labels[rows], predictions.take(rows))
            units, weights = _resamples(spec, part, rows)
            draws = bootstrap({CANDIDATE: one}, {CANDIDATE: [spec.gate.metric]}, weights)[CANDIDATE]
            for name, point in one.weighted().items():
                figure = Figure(point)
                if name in draws:
                    figure = _with_interval(spec, point, draws[name], units)
                place = f"{column}={shortened(value)}"
                measured.append(Measured(subject=CANDIDATE, slice=place, name=name, figure=figure, row_count=len(rows)))
    return measured


def shortened(value: str) -> str:
    """Return the value of a slice, or its beginning with a digest that keeps it apart from others."""
    if len(value) <= LONGEST_VALUE:
        return value
    return f"{value[:LONGEST_VALUE]}… ({hashlib.sha256(value.encode()).hexdigest()[:8]})"


def _largest_groups(values: Array, minimum_rows: int) -> list[tuple[str, Array]]:
    import numpy as np

    known, group = np.unique(values, return_inverse=True)
    found = [(str(value), np.flatnonzero(group == number)) for number, value in enumerate(known)]
    found = [(value, rows) for value, rows in found if len(rows) >= minimum_rows]
    return sorted(found, key=lambda pair: -len(pair[1]))[:SLICES]


# ---------------------------------------------------------------- features


def _importances(
    spec: ModelSpec, fitted: Fitted, signature: Signature, part: Part, clock: Callable[[], float]
) -> list[Measured]:
    """How much worse the gate's metric gets when a feature is shuffled, and which features change no prediction.

    The interval is that of the repetitions. At most `importance_seconds` by `clock`, give or take one call: first each
    feature is shuffled once on a few rows, in at most half of the time; then those that cost most there are measured
    first. A feature is measured as a whole or not at all, so that its figures do not depend on the time; the log names
    the others.
    """
    begin, seconds = clock(), spec.evaluation.importance_seconds
    names = [column.name for column in signature.features]
    few = _Shuffling(spec, fitted, part.take(_sample(len(part.labels), TRIAL_ROWS, spec.training.seed)))
    tried: dict[str, tuple[float, float]] = {}
    for position, name in enumerate(names):
        if clock() - begin >= seconds / 2:
            break
        tried[name] = few.loss((position, 0), name)
    all_rows = _Shuffling(spec, fitted, part.take(_sample(len(part.labels), IMPORTANCE_ROWS, spec.training.seed)))
    unused = {name for name, (_, changed) in tried.items() if not changed}
    found: dict[str, Figure] = {}
    # A metric may be undefined on a few rows.
    cost = {name: lost if math.isfinite(lost) else 0.0 for name, (lost, _) in tried.items()}
    for name in sorted(names, key=lambda name: -cost.get(name, 0.0)):
        drops: list[float] = []
        while len(drops) < IMPORTANCE_REPEATS and clock() - begin < seconds:
            lost, changed = all_rows.loss((names.index(name), 1 + len(drops)), name)
            drops.append(lost)
            unused -= {name} if changed else set()
        if len(drops) == IMPORTANCE_REPEATS:
            found[name] = Figure(sum(drops) / len(drops), min(drops), max(drops))
    left_out, untried = ([n for n in names if n not in done] for done in (found, tried))
    _say_what_is_missing(left_out, untried, [n for n in names if n in unused], seconds)
    rows, metric = all_rows.count, spec.gate.metric
    measured = [Measured(subject=f"{IMPORTANCE}{n}", name=metric, figure=found[n], row_count=rows)
                for n in names if n in found]  # fmt: skip
    return measured + [
        Measured(subject=f"{UNUSED}{n}", name=CHANGED, figure=Figure(0.0), row_count=rows if n in found else few.count)
        for n in names if n in unused
    ]  # fmt: skip


def _say_what_is_missing(
    left_out: Sequence[str], untried: Sequence[str], unused: Sequence[str], seconds: float
) -> None:
    limit = f"[evaluation] importance_seconds = {seconds:g}"
    if left_out:
        log.warning("%s: the importance of %d features was not measured: %s", limit, len(left_out), ", ".join(left_out))
    if untried:
        log.warning("%s: nor was it seen whether predictions depend on %s", limit, ", ".join(untried))
    if unused:
        log.warning(
            "no prediction depends on %s: the estimator does not look at them (a selector of columns by dtype that "
            "misses them?), or does not need them",
            ", ".join(unused),
        )


class _Shuffling:
    """What shuffling a feature does to the predictions of some rows."""

    def __init__(self, spec: ModelSpec, fitted: Fitted, part: Part) -> None:
        self.count = len(part.labels)
        self._spec, self._fitted, self._part = spec, fitted, part
        self._before = predict_features(fitted.estimator, part.features, fitted.output)
        self._worth = self._worth_of(self._before)

    def loss(self, draw: tuple[int, int], name: str) -> tuple[float, float]:
        """Return how much worse the gate's metric gets, and the share of rows whose prediction changes.

        draw : numbers the feature and the repetition; with the model's seed it decides the order.
        """
        import numpy as np

        order = np.random.default_rng((self._spec.training.seed, *draw)).permutation(self.count)
        features = self._part.features.copy()
        features[name] = features[name].array.take(order)
        now = predict_features(self._fitted.estimator, features, self._fitted.output)
        changed = differing(self._before, now, self._fitted.output)
        return self._worth - self._worth_of(now), float(changed.mean()) if self.count else 0.0

    def _worth_of(self, said: Predictions) -> float:
        metric = self._spec.gate.metric
        value = _figures_of(self._spec, self._fitted.output, self._part.labels, said).weighted()[metric]
        return value if METRICS[self._spec.task][metric] else -value


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
