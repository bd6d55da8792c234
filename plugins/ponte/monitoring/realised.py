"""Realised quality: what the predictions of a batch turned out to be worth, by the age of their labels.

Figures of one batch and maturity are a function of the labels that were seen by a moment, that of the newest reading:
of one key the newest label, if it was known before `window_end + maturity`. So it does not matter when they are
computed, how often, or whether readings before were missed. They are written when the labels have changed, and once
more when nothing but corrections can change them any longer; what was written is never overwritten.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.model.folders import ModelFolder
from ponte.model.spec import METRICS, OF_INTERVALS, OF_LABELS, ModelSpec
from ponte.model.windows import midnight
from ponte.monitoring.labels import read_batch_labels
from ponte.monitoring.outcomes import Outcomes, read_outcomes
from ponte.publishing.staging import lock_table
from ponte.quality.measurement import MINIMUM_UNITS, SLICES, shortened
from ponte.quality.metrics import Figures, figures_of
from ponte.quality.resampling import bootstrap, interval, resampled_weights
from ponte.storage.database import DATA_SCHEMA, Database, insert_rows, quote
from ponte.storage.receipts import Receipt, recorded
from ponte.versions import registry

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

#: Rows, at most, that are resampled; the spread of more follows from that of so many.
INTERVAL_ROWS = 50_000

# A batch whose labels have changed since it was measured, or that has no figures of a maturity yet, or no final ones
# although it could. `moment` is that of the newest reading, or of a correction after it.
_DUE = """SELECT b.batch_id, known.moment, known.labels_from FROM ponte.batch b
    JOIN LATERAL (
        SELECT greatest(r.as_of, (SELECT max(l.seen_at) FROM ponte.label_seen l
                                  WHERE l.batch_id = b.batch_id AND l.origin = 'feedback')) AS moment, r.labels_from
        FROM ponte.label_read r WHERE r.batch_id = b.batch_id AND r.state = 'read' ORDER BY r.as_of DESC LIMIT 1
    ) known ON true
    LEFT JOIN LATERAL (SELECT max(as_of) AS moment FROM ponte.realised WHERE batch_id = b.batch_id) done ON true
    WHERE b.prediction_table IS NOT NULL AND {which} AND (
        EXISTS (SELECT FROM unnest(CAST(:days AS integer[])) AS m (days) WHERE NOT EXISTS (
            SELECT FROM ponte.realised f WHERE f.batch_id = b.batch_id AND f.maturity_days = m.days
            AND (f.final OR known.moment < (b.window_end + m.days)::timestamp AT TIME ZONE 'UTC')))
        OR EXISTS (SELECT FROM ponte.label_read r WHERE r.batch_id = b.batch_id AND r.as_of > done.moment
                   AND r.new_labels + r.changed_labels + r.withdrawn_labels > 0)
        OR EXISTS (SELECT FROM ponte.label_seen l WHERE l.batch_id = b.batch_id AND l.origin = 'feedback'
                   AND l.seen_at > done.moment)
    )
    ORDER BY b.batch_id"""
_DUE_OF_MODEL = sa.text(_DUE.format(which="b.model = :model"))
_DUE_OF_BATCH = sa.text(_DUE.format(which="b.batch_id = :id"))

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.realised'), hashtext(:model))")

_NEWEST = """SELECT DISTINCT ON (maturity_days) maturity_days, label_digest, final FROM {table}
    WHERE {column} = :id AND slice_column = '' ORDER BY maturity_days, as_of DESC"""


def measure(db: Database, folder: ModelFolder) -> dict[str, int]:
    """Measure every batch of the model whose labels have changed; return how many batches, and how many figures."""
    values = {"model": folder.name, "days": list(folder.spec.monitoring.maturities)}
    with db.begin() as connection:
        due = [row.batch_id for row in connection.execute(_DUE_OF_MODEL, values)]
    counts = [measure_batch(db, folder, batch_id) for batch_id in due]
    return {"batches": sum(count > 0 for count in counts), "figures": sum(counts)}


def measure_batch(db: Database, folder: ModelFolder, batch_id: int) -> int:
    """Measure one batch and write the figures that are new; return how many. Twins take turns."""
    maturities = sorted(set(folder.spec.monitoring.maturities))
    with db.begin() as connection:
        connection.execute(_LOCK, {"model": folder.name})
        due = connection.execute(_DUE_OF_BATCH, {"id": batch_id, "days": maturities}).one_or_none()
        if due is None:
            return 0
        batch = batches.read_batch(connection, batch_id)
        beside = [(DATA_SCHEMA, batch.slice_table)] if batch.slice_table else []
        for name in (batches.prediction_name(batch), *beside):
            lock_table(connection, batch, quote(*name))
        with recorded(
            db, Receipt(model=batch.model, step="measure", batch_id=batch_id, version=batch.version)
        ) as receipt:
            moments = [midnight(batch.window_end) + dt.timedelta(days=days) for days in maturities]
            version = registry.read_version(connection, batch.model, batch.version)
            outcomes = read_outcomes(db, folder.spec, batch, version, as_of=due.moment, moments=moments)
            receipt.row_count = len(outcomes.label_ids)
            measured = Measured(
                table="ponte.realised",
                id="batch_id",
                about={
                    "batch_id": batch_id,
                    "model": batch.model,
                    "window_start": batch.window_start,
                    "version": batch.version,
                    "labels_from": due.labels_from,
                    "as_of": due.moment,
                },
                maturities=list(zip(maturities, moments, strict=True)),
            )
            return write_figures(connection, folder.spec, outcomes, measured)


def last_figures(db: Database, folder: ModelFolder, batch_ids: Sequence[int], *, now: dt.datetime) -> None:
    """Read the labels of batches once more and measure them, before their predictions are dropped.

    Labels that cannot be read do not keep the predictions: the figures are then those of the labels seen before.
    """
    for batch_id in batch_ids:
        reading = read_batch_labels(db, folder, batch_id, now=now)
        if reading is not None and reading.labels_from is None:
            log.warning("batch %d: its last figures are of the labels seen before: %s", batch_id, reading.why)
        measure_batch(db, folder, batch_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Whose figures are written, and where."""

    table: str
    #: The column that says whose they are.
    id: str
    #: What every row says: the id, model, window_start, version, labels_from, and as_of, of the labels.
    about: Mapping[str, Any]
    #: Days, and the moment that they end at, ascending.
    maturities: Sequence[tuple[int, dt.datetime]]


def write_figures(connection: sa.Connection, spec: ModelSpec, outcomes: Outcomes, of: Measured) -> int:
    """Write the figures of each maturity whose labels have changed, or that has become final; return how many."""
    as_of, known = of.about["as_of"], sa.text(_NEWEST.format(table=of.table, column=of.id))
    newest = {row.maturity_days: row for row in connection.execute(known, {"id": of.about[of.id]})}
    found: list[dict[str, Any]] = []
    figures: dict[int, list[dict[str, Any]]] = {}
    for place, (days, moment) in enumerate(of.maturities):
        counted = (outcomes.label_ids > 0) & (outcomes.passed <= place)
        digest, final, before = _digest(outcomes.label_ids[counted]), as_of >= moment, newest.get(days)
        same = before is not None and before.label_digest == digest and before.final == final
        # Labels that count for no maturity, as those that came too late, are marked as looked at by the last one.
        if same and (found or place + 1 < len(of.maturities)):
            continue
        if digest not in figures:
            figures[digest] = _figures(spec, outcomes, counted)
        row = {**of.about, "maturity_days": days, "final": final, "label_digest": digest}
        found += [{**row, **figure} for figure in figures[digest]]
    insert_rows(connection, of.table, found)
    return len(found)


def _digest(label_ids: Array) -> int:
    """Return what tells sets of labels apart: a row of `ponte.label_seen` never changes."""
    import numpy as np

    ids = np.sort(label_ids).astype("<i8").tobytes()
    return int.from_bytes(hashlib.blake2b(ids, digest_size=8).digest(), "little", signed=True)


# ---------------------------------------------------------------- figures


def _figures(spec: ModelSpec, outcomes: Outcomes, counted: Array) -> list[dict[str, Any]]:
    """Return the figures of the whole batch, and of each value of a slice that has enough labels."""
    import numpy as np

    names = [m for m in METRICS[outcomes.output.task] if _is_measured(m, spec, outcomes)]
    names += OF_INTERVALS if outcomes.predictions.low is not None else ()
    rows = np.flatnonzero(counted)
    found = _measured(spec, outcomes, rows, names, with_interval=names, row_count=len(counted))
    gate = [name for name in names if name == spec.gate.metric]
    for column, (numbers, values) in outcomes.slices.items():
        labelled = np.bincount(numbers[rows], minlength=len(values))
        large = [n for n in np.argsort(-labelled, kind="stable")[:SLICES] if labelled[n] >= spec.evaluation.slice_rows]
        for number in large:
            own = _measured(
                spec,
                outcomes,
                rows[numbers[rows] == number],
                names,
                with_interval=gate,
                row_count=int((numbers == number).sum()),
            )
            found += [{**one, "slice_column": column, "slice_value": shortened(values[number])} for one in own]
    return found


def _is_measured(metric: str, spec: ModelSpec, outcomes: Outcomes) -> bool:
    if outcomes.output.task == "regression":
        return metric != "pinball" or spec.evaluation.quantile is not None
    return metric in OF_LABELS or outcomes.predictions.score is not None


def _measured(
    spec: ModelSpec,
    outcomes: Outcomes,
    rows: Array,
    names: Sequence[str],
    *,
    with_interval: Sequence[str],
    row_count: int,
) -> list[dict[str, Any]]:
    known = rows if outcomes.output.task == "regression" else rows[outcomes.labels[rows] >= 0]
    counts = {
        "labelled_rows": len(known),
        "feedback_rows": int(outcomes.feedback[known].sum()),
        "other_rows": len(rows) - len(known),
        "row_count": row_count,
        "slice_column": "",
        "slice_value": "",
    }
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    if len(known):
        values = _of(spec, outcomes, known).weighted()
        intervals = _intervals(spec, outcomes, known, values, with_interval)
    found = []
    for name in names:
        value = values.get(name, math.nan)
        low, high = intervals.get(name, (math.nan, math.nan))
        bounded = all(map(math.isfinite, (value, low, high)))
        found.append(
            {
                **counts,
                "metric": name,
                "value": value if math.isfinite(value) else None,
                "low": low if bounded else None,
                "high": high if bounded else None,
            }
        )
    return found


def _of(spec: ModelSpec, outcomes: Outcomes, rows: Array) -> Figures:
    said, output = outcomes.predictions.take(rows), outcomes.output
    return figures_of(output.task, outcomes.labels[rows], said, output.classes, quantile=spec.evaluation.quantile)


def _intervals(
    spec: ModelSpec, outcomes: Outcomes, rows: Array, values: dict[str, float], names: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Return the intervals of figures, as those of the holdout are made; none of fewer than MINIMUM_UNITS.

    Of more than INTERVAL_ROWS rows so many are resampled, and the deviations shrunk by the root of what share of the
    units that is (m out of n bootstrap: the spread of such a figure falls with the root of its rows).
    """
    import numpy as np

    units = np.arange(len(rows)) if outcomes.units is None else np.unique(outcomes.units[rows], return_inverse=True)[1]
    count = int(units.max(initial=-1)) + 1
    if count < MINIMUM_UNITS or not names:
        return {}
    seed, evaluation = spec.training.seed, spec.evaluation
    taken, share = np.arange(len(rows)), 1.0
    if len(rows) > INTERVAL_ROWS:
        order = np.random.default_rng(seed).permutation(count)
        together = np.bincount(units, minlength=count)[order].cumsum()
        most = max(MINIMUM_UNITS, int((together <= INTERVAL_ROWS).sum()))
        taken, share = np.flatnonzero(np.isin(units, order[:most])), most / count
    one = _of(spec, outcomes, rows[taken])
    drawn = np.unique(units[taken], return_inverse=True)[1]
    weights = resampled_weights(
        len(taken), evaluation.resamples, seed=seed, units=None if outcomes.units is None else drawn
    )
    centre = one.weighted()
    draws = bootstrap({"": one}, {"": names}, weights)[""]
    return {
        name: interval(values[name] + (draws[name] - centre[name]) * share**0.5, evaluation.confidence, units=count)
        for name in names
    }
