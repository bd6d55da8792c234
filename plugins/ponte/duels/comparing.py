"""Champion and challenger on the same labelled rows: pure functions over arrays, paired resamples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.model.spec import METRICS, ModelSpec
from ponte.monitoring.outcomes import Outcomes
from ponte.quality.measurement import MINIMUM_UNITS
from ponte.quality.metrics import Figures, figures_of
from ponte.quality.resampling import bootstrap, interval, resampled_weights
from ponte.versions.predicting import Output, Predictions

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Rows, at most, that are resampled; the spread of more follows from that of so many.
INTERVAL_ROWS = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Rows that both have predicted and whose label counts. All arrays of shape (n,) but the scores."""

    labels: Array
    champion: Predictions
    challenger: Predictions
    #: Number of what is resampled as a whole.
    units: Array
    #: Tells sets of labels apart.
    digest: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A figure of both, and challenger minus champion with its interval; None where none was computed."""

    metric: str
    champion: float
    challenger: float
    low: float | None
    high: float | None

    @property
    def difference(self) -> float:
        return self.challenger - self.champion


def pairs_of(champion: Outcomes, challenger: Outcomes, *, place: int) -> Pairs:
    """Return the rows of a window that both have predicted, whose label counts at the maturity of that place."""
    import numpy as np

    places = []
    for one in (champion, challenger):
        counted = (one.label_ids > 0) & (one.passed <= place)
        if one.output.task != "regression":
            counted &= one.labels >= 0
        places.append(np.flatnonzero(counted))
    mine, theirs = places
    # A label belongs to one key of the batch, so its number tells which rows are the same.
    ids, left, right = np.intersect1d(
        champion.label_ids[mine], challenger.label_ids[theirs], assume_unique=True, return_indices=True
    )
    rows, other_rows = mine[left], theirs[right]
    units = np.arange(len(rows)) if champion.units is None else champion.units[rows]
    digest = hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=8).digest()
    return Pairs(
        labels=champion.labels[rows],
        champion=champion.predictions.take(rows),
        challenger=challenger.predictions.take(other_rows),
        units=units,
        digest=int.from_bytes(digest, "little", signed=True),
    )


def together(parts: Sequence[Pairs]) -> Pairs:
    """Return the rows of all windows. What is resampled as a whole is so within its window."""
    import numpy as np

    units, first = [], 0
    for part in parts:
        numbers = np.unique(part.units, return_inverse=True)[1]
        units.append(numbers + first)
        first += int(numbers.max(initial=-1)) + 1
    return Pairs(
        labels=np.concatenate([part.labels for part in parts]),
        champion=_joined([part.champion for part in parts]),
        challenger=_joined([part.challenger for part in parts]),
        units=np.concatenate(units),
        digest=0,
    )


def compare(spec: ModelSpec, output: Output, pairs: Pairs, *, confidence: float) -> list[Compared]:
    """Return every metric that both have, with the interval of its difference; none of no rows.

    Resamples are paired: both are measured under the same weights. None where fewer than MINIMUM_UNITS are drawn. Of
    more than INTERVAL_ROWS rows so many are resampled, and the deviations shrunk by the root of their share.
    """
    import numpy as np

    if not len(pairs):
        return []
    one, two = (_figures(spec, output, pairs, p) for p in (pairs.champion, pairs.challenger))
    mine, theirs = one.weighted(), two.weighted()
    names = [m for m in METRICS[spec.task] if m in mine and m in theirs and math.isfinite(theirs[m] - mine[m])]
    units = np.unique(pairs.units, return_inverse=True)[1]
    count = int(units.max()) + 1
    intervals: dict[str, tuple[float, float]] = {}
    if count >= MINIMUM_UNITS:
        intervals = _intervals(spec, output, pairs, units, names, confidence=confidence)
    found = []
    for name in names:
        low, high = intervals.get(name, (math.nan, math.nan))
        bounded = math.isfinite(low) and math.isfinite(high)
        ends = {"low": low if bounded else None, "high": high if bounded else None}
        found.append(Compared(metric=name, champion=mine[name], challenger=theirs[name], **ends))
    return found


def _intervals(
    spec: ModelSpec, output: Output, pairs: Pairs, units: Array, names: Sequence[str], *, confidence: float
) -> dict[str, tuple[float, float]]:
    import numpy as np

    count, seed = int(units.max()) + 1, spec.training.seed
    rows, share = np.arange(len(pairs)), 1.0
    if len(pairs) > INTERVAL_ROWS:
        order = np.random.default_rng(seed).permutation(count)
        filled = np.bincount(units, minlength=count)[order].cumsum()
        most = max(MINIMUM_UNITS, int((filled <= INTERVAL_ROWS).sum()))
        rows, share = np.flatnonzero(np.isin(units, order[:most])), most / count
    taken = Pairs(
        labels=pairs.labels[rows],
        champion=pairs.champion.take(rows),
        challenger=pairs.challenger.take(rows),
        units=np.unique(units[rows], return_inverse=True)[1],
        digest=0,
    )
    both = {"champion": _figures(spec, output, taken, taken.champion)}
    both["challenger"] = _figures(spec, output, taken, taken.challenger)
    weights = resampled_weights(len(taken), spec.evaluation.resamples, seed=seed, units=taken.units)
    draws = bootstrap(both, dict.fromkeys(both, names), weights)
    gaps = {name: draws["challenger"][name] - draws["champion"][name] for name in names}
    if share < 1:
        centre = {who: one.weighted() for who, one in both.items()}
        whole = {who: _figures(spec, output, pairs, getattr(pairs, who)).weighted() for who in both}
        for name in names:
            middle = centre["challenger"][name] - centre["champion"][name]
            gaps[name] = whole["challenger"][name] - whole["champion"][name] + (gaps[name] - middle) * share**0.5
    return {name: interval(gaps[name], confidence, units=count) for name in names}


def _figures(spec: ModelSpec, output: Output, pairs: Pairs, said: Predictions) -> Figures:
    return figures_of(output.task, pairs.labels, said, output.classes, quantile=spec.evaluation.quantile)


def _joined(parts: Sequence[Predictions]) -> Predictions:
    import numpy as np

    scores = [part.score for part in parts if part.score is not None]
    return Predictions(
        np.concatenate([part.prediction for part in parts]),
        np.concatenate(scores) if len(scores) == len(parts) else None,
    )
