"""What people see of a window: one row of `ponte.published`, moved behind the fence, each time with an event.

Readers see all of a batch or none of it. A batch that was replaced stays where it is, so the way back is one row too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.checks import quarantine
from ponte.errors import Fenced, PonteError, VersionMarkedBad
from ponte.model.spec import WindowRule
from ponte.model.windows import Window, window_starting
from ponte.publishing.staging import require_conservation
from ponte.publishing.tables import attach_prediction_table
from ponte.storage.database import Database, insert_row, limit_lock_waits, quote, with_lock_retries
from ponte.storage.receipts import Receipt, recorded
from ponte.versions import aliases, marks, registry

_Accept = Callable[[sa.Connection, Batch], None]
#: Publishing waits this long for a lock before it lets go and tries again; readers queue behind a waiting lock.
LOCK_TIMEOUT = "2s"

_HAS_TRIPPED = sa.text("""SELECT EXISTS (
    SELECT FROM ponte.guard_result WHERE batch_id = :batch_id AND outcome = 'tripped')""")

_CLAIM = "SELECT epoch, run_id FROM ponte.claim WHERE model = :model AND window_start = :window"
_UNLOCKED_CLAIM, _LOCKED_CLAIM = sa.text(_CLAIM), sa.text(f"{_CLAIM} FOR UPDATE")

_SHOWN = sa.text("SELECT batch_id FROM ponte.published WHERE model = :model AND window_start = :window")

_SHOWN_WINDOW = sa.text("""SELECT b.window_start AS start, b.window_end AS end, b.as_of
    FROM ponte.published p JOIN ponte.batch b USING (batch_id)
    WHERE p.model = :model AND p.window_start = :window""")

_SHOWN_BEFORE = sa.text("""SELECT previous_batch_id FROM ponte.publication_event
    WHERE batch_id = :batch ORDER BY event_id DESC LIMIT 1""")

_CHANGES = sa.text("""SELECT e.event_id, e.window_start, e.batch_id, e.previous_batch_id, e.row_count, e.rollback_id,
        b.version
    FROM ponte.publication_event e JOIN ponte.batch b USING (batch_id)
    WHERE (e.rollback_id = :rollback_id
           OR e.event_id = (SELECT max(event_id) FROM ponte.publication_event WHERE batch_id = :batch_id))
    AND e.batch_id IS DISTINCT FROM e.previous_batch_id
    ORDER BY e.window_start""")

_POINT_TO = sa.text("""INSERT INTO ponte.published (model, window_start, batch_id, epoch)
    VALUES (:model, :window, :batch, :epoch)
    ON CONFLICT (model, window_start) DO UPDATE SET batch_id = :batch, epoch = :epoch, at = now()""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """What people see now for a window, and what they saw before (None for nothing)."""

    batch_id: int
    previous_batch_id: int | None
    row_count: int


def shown_window(connection: sa.Connection, rule: WindowRule, model: str, first: dt.date) -> Window:
    """Return the window that begins on a day: as people see it if they do, else by the rule of the model.

    A window that was published keeps its bounds and its as_of, whatever `[window]` says by now. Raises WindowError when
    people see no window that begins then, and none begins then by the rule.
    """
    shown = connection.execute(_SHOWN_WINDOW, {"model": model, "window": first}).mappings().one_or_none()
    return window_starting(rule, first) if shown is None else Window(**shown)


def publish(db: Database, batch_id: int, *, actor: str, reason: str) -> Publication:
    """Show the staged batch to readers, in one short transaction behind the fence.

    Publishing what is published already changes nothing. Raises Fenced when a newer run claimed the window,
    VersionMarkedBad when a person has marked the version meanwhile, RowsLost when the rows do not add up.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "staged")
    return _publish(db, batch, actor=actor, reason=reason)


def changes(db: Database, *, batch_id: int | None = None, rollback_id: int | None = None) -> dict[str, Any] | None:
    """Return what people see anew since the batch was published, or since the rollback; None when nothing changed.

    As JSON for whoever is scheduled on it: `{version, rollback_id, windows}`, rollback_id None without one, and for
    each window `{window_start, batch_id, previous_batch_id, rows, publication_event_id}`, previous_batch_id None when
    people saw nothing before. The same at every repetition.
    """
    with db.begin() as connection:
        found = connection.execute(_CHANGES, {"batch_id": batch_id, "rollback_id": rollback_id}).all()
    if not found:
        return None
    windows = [
        {
            "window_start": str(row.window_start),
            "batch_id": row.batch_id,
            "previous_batch_id": row.previous_batch_id,
            "rows": row.row_count,
            "publication_event_id": row.event_id,
        }
        for row in found
    ]
    return {"version": found[0].version, "rollback_id": found[0].rollback_id, "windows": windows}


def prepare_publication(db: Database, batch_id: int, *, model: str) -> None:
    """Make a batch that a guard rejected a partition, before `publish_anyway` may send anybody to it, see `_stage`.

    Does nothing to any other batch. Raises PonteError when there is no such batch of the model.
    """
    batch = _batch_of(db, batch_id, model)
    if batch.status == "rejected" and batch.rejected_by == "guard":
        with db.begin() as connection:
            limit_lock_waits(connection, LOCK_TIMEOUT)
            attach_prediction_table(connection, batches.lock(connection, batch_id))


def _batch_of(db: Database, batch_id: int, model: str) -> Batch:
    batch = batches.get_batch(db, batch_id)
    if batch.model != model:
        raise PonteError("the batch is another model's", where=batch.place, expected=f"a batch of {model}")
    return batch


def publish_anyway(
    db: Database, batch_id: int, *, model: str, run_id: str, actor: str, reason: str, new_normal: bool = False
) -> Publication:
    """Show a batch that a guard rejected and `prepare_publication` has prepared, because a person says so.

    new_normal : later windows are compared only with windows from this one on.

    The reason is kept. A repetition changes nothing. Raises PonteError when no guard has rejected the batch, and what
    `publish` raises.
    """
    values = {"batch_id": batch_id, "run_id": run_id, "actor": actor, "reason": reason}

    def accept(connection: sa.Connection, batch: Batch) -> None:
        _require_rejected_by_guard(connection, batch)
        insert_row(connection, "ponte.guard_override", values, unless="batch_id")
        if new_normal:
            normal = {"model": batch.model, "window_start": batch.window_start, "batch_id": batch_id}
            insert_row(connection, "ponte.normal_event", normal | {"actor": actor, "reason": reason}, unless="batch_id")
        batches.accept(connection, batch_id)

    return _publish(db, _batch_of(db, batch_id, model), actor=actor, reason=reason, accept=accept)


def _publish(db: Database, batch: Batch, *, actor: str, reason: str, accept: _Accept | None = None) -> Publication:
    started = Receipt(model=batch.model, step="publish", batch_id=batch.batch_id, version=batch.version)
    with recorded(db, started) as receipt:
        done = with_lock_retries(lambda: _flip(db, batch.batch_id, actor=actor, reason=reason, accept=accept))
        receipt.row_count = done.row_count
    return done


def _flip(db: Database, batch_id: int, *, actor: str, reason: str, accept: _Accept | None) -> Publication:
    """Show the batch behind the fence; `accept` may first let a rejected one go on, in the same transaction."""
    with db.begin() as connection:
        limit_lock_waits(connection, LOCK_TIMEOUT)
        batch = batches.read_batch(connection, batch_id)
        aliases.lock_alias(connection, batch.model)  # no mark and no rollback comes between the question and the flip
        values = {"model": batch.model, "window": batch.window_start, "batch": batch_id, "epoch": batch.epoch}
        _require_newest(batch, connection.execute(_LOCKED_CLAIM, values).one())
        batch = batches.lock(connection, batch_id)  # as it is now: retention may have decided meanwhile
        if accept is not None:
            accept(connection, batch)
            batch = batches.read_batch(connection, batch_id)
        batches.require(batch, "staged")
        previous = connection.execute(_SHOWN, values).scalar_one_or_none()
        if previous == batch_id:
            rows = require_conservation(connection, batch)
            before = connection.execute(_SHOWN_BEFORE, values).scalar_one()
            return Publication(batch_id=batch_id, previous_batch_id=before, row_count=rows)
        _require_unmarked(connection, batch)
        return show(connection, batch, epoch=batch.epoch, actor=actor, reason=reason)


def foresee_publication(db: Database, batch_id: int, *, model: str) -> Batch:
    """Return the batch if `publish_anyway` would show it now, and raise what that raises if not; nothing is written.

    Whether its rows add up is not looked at.
    """
    batch = _batch_of(db, batch_id, model)
    with db.read_only() as connection:
        values = {"model": model, "window": batch.window_start}
        _require_newest(batch, connection.execute(_UNLOCKED_CLAIM, values).one())
        _require_rejected_by_guard(connection, batch)
        if connection.execute(_SHOWN, values).scalar_one_or_none() != batch_id:
            _require_unmarked(connection, batch)
    return batch


def _require_newest(batch: Batch, newest: sa.Row[Any]) -> None:
    """Raise Fenced unless the batch's run is the newest that has claimed the window."""
    if newest.epoch != batch.epoch:
        raise Fenced(
            "a newer run owns the window; this one published nothing",
            where=batch.place,
            got=f"epoch {batch.epoch} of run {batch.run_id}",
            expected=f"epoch {newest.epoch} of run {newest.run_id}",
            fix="nothing to do: the newer run publishes",
        )


def _require_rejected_by_guard(connection: sa.Connection, batch: Batch) -> None:
    tripped = connection.execute(_HAS_TRIPPED, {"batch_id": batch.batch_id}).scalar_one()
    if not tripped or not (batch.status == "rejected" or batch.reached("staged")):
        got = f"status {batch.status}" + (f": {batch.why}" if batch.why else "")
        fix = "a batch that its checks rejected has no predictions: mend the source or the rule and score it again"
        raise PonteError("no guard has rejected this batch", where=batch.place, got=got, fix=fix)


def _require_unmarked(connection: sa.Connection, batch: Batch) -> None:
    if marks.has_bad_mark(connection, batch.model, batch.version):
        raise VersionMarkedBad(
            "the version was marked bad since it scored this batch; nothing was published",
            where=f"{batch.place}, version {batch.version}",
            fix=f"trigger {batch.model}__score again: it takes another version",
        )


def show(
    connection: sa.Connection, batch: Batch, *, epoch: int, actor: str, reason: str, rollback_id: int | None = None
) -> Publication:
    """Point `published` to a staged batch and append the event, in the caller's transaction, behind its fence.

    Raises RowsLost when the rows do not add up.
    """
    rows = require_conservation(connection, batch)
    attach_prediction_table(connection, batch)
    quarantine.settle(
        connection,
        batch.batch_id,
        registry.read_version(connection, batch.model, batch.version).signature.key,
        model=batch.model,
        window_start=batch.window_start,
        predictions=quote(*batches.prediction_name(batch)),
    )
    values = {"model": batch.model, "window": batch.window_start, "batch": batch.batch_id, "epoch": epoch}
    previous: int | None = connection.execute(_SHOWN, values).scalar_one_or_none()
    connection.execute(_POINT_TO, values)
    event = {
        "model": batch.model,
        "window_start": batch.window_start,
        "batch_id": batch.batch_id,
        "previous_batch_id": previous,
        "row_count": rows,
        "actor": actor,
        "reason": reason,
        "rollback_id": rollback_id,
    }
    insert_row(connection, "ponte.publication_event", event)
    return Publication(batch_id=batch.batch_id, previous_batch_id=previous, row_count=rows)
