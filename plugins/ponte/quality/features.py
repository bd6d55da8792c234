"""What each feature says of the outcome, without the others and without a model: there an outcome in disguise shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ponte.model.spec import ModelSpec, Task
from ponte.quality.baselines import by_group
from ponte.quality.figures import FEATURE, FILLED, MISSING, ONE_OUTCOME, Figure, Measured
from ponte.quality.groups import groups, numbers, places_in_order
from ponte.quality.metrics import area_under_roc, figures_of
from ponte.snapshots.parts import Parts
from ponte.versions.predicting import Output
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Which figure tells what a feature reaches alone.
ALONE: dict[Task, str] = {"binary": "roc_auc", "multiclass": "roc_auc", "regression": "r2"}
#: Chance by which rows may have one outcome so often before that is no chance any more: of a thousand features that
#: know nothing, one in a million models has one that is reported.
CHANCE = 1e-9
#: From here on it is reported how far the rows with (or without) a value have one outcome only.
REPORTED = 0.5


def of_features(spec: ModelSpec, output: Output, signature: Signature, parts: Parts) -> list[Measured]:
    """Return what each feature reaches alone, and where being filled in goes with one outcome."""
    import numpy as np

    measured, name = [], ALONE[spec.task]
    for column in signature.features:
        ways = [_by_its_groups(spec, output, parts, column.name), *_by_its_order(spec.task, parts, column.name)]
        defined = [way for way in ways if not np.isnan(way)]
        reached = max(defined) if defined else float("nan")
        subject, rows = f"{FEATURE}{column.name}", len(parts.holdout.labels)
        measured.append(Measured(subject=subject, name=name, figure=Figure(reached), row_count=rows))
        measured += _by_being_filled(spec.task, parts, column.name)
    return measured


def _by_its_groups(spec: ModelSpec, output: Output, parts: Parts, column: str) -> float:
    """What the mean outcome of its values, or of bins of them, predicts of the holdout."""
    fitting, holdout = groups(parts, column)
    said = by_group(output, parts, fitting, holdout)
    figures = figures_of(output.task, parts.holdout.labels, said, output.classes, quantile=spec.evaluation.quantile)
    return figures.weighted()[ALONE[spec.task]]


def _by_its_order(task: Task, parts: Parts, column: str) -> Iterator[float]:
    """What the order of its values says of the holdout, up or down as it was in the fitting rows; nothing for text.

    Any strictly monotone function of the outcome reaches 1: groups of values would not, where few rows have an outcome
    or an outcome has a long tail. What is missing stands below all or above all, whichever says more of the fitting
    rows.
    """
    import numpy as np
    import pyarrow as pa

    tables = [part.rows.column(column) for part in (parts.fitting, parts.holdout)]
    if pa.types.is_string(tables[0].type):
        return
    known, later = (places_in_order(numbers(values)) for values in tables)
    if len(known) != len(later):  # missing in one of them only: where it stands does not matter in the other
        known, later = known * (3 - len(known)), later * (3 - len(later))
    targets = _targets(task, parts)
    best = []
    for then, now in targets:
        pairs = [(_agreement(task, k, then), _agreement(task, n, now)) for k, n in zip(known, later, strict=True)]
        learned, found = max(pairs, key=lambda pair: abs(np.nan_to_num(pair[0])))
        best.append(found if learned >= 0 else -found)
    mean = float(np.mean(best))
    yield mean * abs(mean) if task == "regression" else (1 + mean) / 2


def _targets(task: Task, parts: Parts) -> list[tuple[Array, Array]]:
    """The outcome in the fitting rows and in the holdout: as it is, or each class against the rest."""
    import numpy as np

    then, now = parts.fitting.labels, parts.holdout.labels
    if task == "regression":
        return [(then.astype(float), now.astype(float))]
    classes = np.unique(then)
    return [(then == c, now == c) for c in (classes[1:] if task == "binary" else classes)]


def _agreement(task: Task, places: Array, outcome: Array) -> float:
    """How far the order of the places is that of the outcome: 1, or −1 when it is the reverse, 0 for nothing.

    2 AUC − 1 of a class against the rest, Spearman's rank correlation for a regression. NaN where it is undefined.
    """
    import numpy as np

    if task != "regression":
        size = int(places.max(initial=-1)) + 2
        counts = [np.bincount(places[rows] + 1, minlength=size).astype(float) for rows in (outcome, ~outcome)]
        return 2 * area_under_roc(*counts) - 1
    from scipy.stats import rankdata

    if not len(places) or np.ptp(places) == 0 or np.ptp(outcome) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(places), rankdata(outcome))[0, 1])


def _by_being_filled(task: Task, parts: Parts, column: str) -> Iterator[Measured]:
    """Where a feature has a value, or none, in rows of one outcome only: a column that somebody fills in afterwards.

    Such a feature may reach little alone, because it is missing in most rows of that outcome too. Not for a regression,
    where hardly two rows have the same outcome.
    """
    import numpy as np
    from scipy.stats import binom

    if task == "regression":
        return
    both = (parts.fitting, parts.holdout)
    labels = np.concatenate([part.labels for part in both])
    missing = np.concatenate([part.rows.column(column).is_null().to_numpy() for part in both])
    for subject, rows in ((FILLED, ~missing), (MISSING, missing)):
        count = int(rows.sum())
        if count in (0, len(labels)):
            continue
        for label in np.unique(labels[rows]):
            share = float((labels == label).mean())
            hits = int((labels[rows] == label).sum())
            lift = (hits / count - share) / (1 - share) if share < 1 else 0.0
            if lift >= REPORTED and binom.sf(hits - 1, count, share) < CHANCE:
                place = f"label={label}"
                figure = Figure(lift)
                yield Measured(
                    subject=f"{subject}{column}", slice=place, name=ONE_OUTCOME, figure=figure, row_count=count
                )
