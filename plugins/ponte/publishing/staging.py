"""Stage a scored batch, then flip the pointer behind the fence.

Readers see all of a batch or none of it: what they see changes with one row of `ponte.published`, each time with an
event. A batch that was replaced stays where it is, so that the way back is one row too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.checks import quarantine
from ponte.errors import BatchRejected, Fenced, PonteError, RowsLost, VersionMarkedBad
from ponte.model.folders import ModelFolder
from ponte.publishing import guards
from ponte.publishing.tables import attach_prediction_table, finish_prediction_table
from ponte.storage.database import Database, insert_row, limit_lock_waits, quote, with_lock_retries
from ponte.storage.receipts import Receipt, measured
from ponte.versions import registry

log = logging.getLogger(__name__)

_Accept = Callable[[sa.Connection, Batch], None]

#: Publishing waits this long for a lock before it lets go and tries again; readers queue behind a waiting lock.
LOCK_TIMEOUT = "2s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """What people see now for a window, and what they saw before (None for nothing)."""

    batch_id: int
    previous_batch_id: int | None
    row_count: int


def guard_batch(db: Database, folder: ModelFolder, batch_id: int, *, enforce: bool = True) -> int:
    """Return the number of predictions of a batch that is complete, keyed, constrained, analysed and looks right.

    enforce : False records what the guards find without acting on it, for a batch that a person has asked for.

    Raises RowsLost unless rows frozen = rows scored + rows quarantined, counted in the prediction table itself;
    BatchRejected when more rows are in quarantine than the budget allows, or a guard has tripped: its predictions are
    complete all the same, and `publish_anyway` can show them. Does nothing when the batch was staged before.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "checked")
    if batch.reached("staged"):
        return _scored_rows(db, batch)
    with measured(db, Receipt(model=batch.model, step="guard", batch_id=batch_id, version=batch.version)) as receipt:
        with db.begin() as connection:
            limit_lock_waits(connection, "10s")
            batch = batches.lock(connection, batch_id)
            batches.require(batch, "checked")
            receipt.row_count = require_conservation(connection, batch)
            over_budget = _over_budget(connection, folder, batch)
            if not over_budget and not batch.reached("scored"):
                batches.advance(connection, batch_id, "scored")
        if over_budget:
            raise batches.reject(db, batch, over_budget, at="checked")
        tripped = _stage(db, folder, batch_id, enforce=enforce)
    if tripped:
        fix = "look at ponte.guard_result; to publish it all the same, trigger ponte__publish_batch with a reason"
        raise BatchRejected("a guard has tripped, nothing was published", where=batch.place, got=tripped, fix=fix)
    return receipt.row_count


def _over_budget(connection: sa.Connection, folder: ModelFolder, batch: Batch) -> str:
    """Shards that ran at the same time did not know of each other's rows."""
    assert batch.row_count is not None
    bad = quarantine.count_rows(connection, batch.batch_id)
    allowed = quarantine.allowed_rows(folder.spec.quarantine.budget, batch.row_count)
    return f"{bad} of {batch.row_count} rows were set aside, [quarantine] budget allows {allowed}" * (bad > allowed)


def _stage(db: Database, folder: ModelFolder, batch_id: int, *, enforce: bool) -> str:
    """Finish the prediction table and ask the guards, in one transaction; return what tripped, if it counts."""
    with db.begin() as connection:
        # A late twin may still write to the table. Waiting for it without limit would keep the batch locked.
        limit_lock_waits(connection, "10s")
        batch = batches.lock(connection, batch_id)
        batches.require(batch, "scored")
        if batch.reached("staged"):
            return ""
        version = registry.read_version(connection, batch.model, batch.version)
        finish_prediction_table(connection, batch, version.signature)
        rules = folder.spec.guard
        profile = guards.take_profile(connection, batch, version, rules)
        results = guards.judge(profile, guards.earlier_profiles(connection, batch, rules), rules, as_of=batch.as_of)
        guards.store_results(connection, batch_id, results)
        tripped = "; ".join(str(r) for r in results if r.outcome == "tripped")
        if tripped:
            log.log(logging.ERROR if enforce else logging.WARNING, "guards: %s", tripped)
        if tripped and enforce:
            batches.mark_rejected(connection, batch_id, batches.TRIPPED + tripped, at="scored")
            return tripped
        # A statement plans the partitions it reads before it sees where the pointer leads. So a batch is a partition
        # before anybody may be sent to it, in a transaction of its own.
        attach_prediction_table(connection, batch)
        batches.advance(connection, batch_id, "staged")
    return ""


def require_conservation(connection: sa.Connection, batch: Batch) -> int:
    """Return the number of predictions; raises RowsLost unless frozen = predicted + quarantined, and no shard lacks.

    Raises PonteError when the predictions were dropped.
    """
    own = quote(*batches.prediction_name(batch))
    # The scorer's, and often it is the promoter who counts: a view of that name would run with the promoter's rights.
    connection.exec_driver_sql(f"LOCK TABLE ONLY {own} IN ACCESS SHARE MODE")
    kind = sa.text("SELECT relkind = 'r' FROM pg_class WHERE oid = CAST(:name AS regclass)")
    if not connection.execute(kind, {"name": own}).scalar_one():
        raise PonteError("the predictions are no table", where=batch.place, got=own, fix="score the window again")
    present = connection.exec_driver_sql(f"SELECT count(*) FROM {own}").scalar_one()
    committed, quarantined = connection.execute(
        sa.text(
            "SELECT (SELECT coalesce(sum(row_count), 0) FROM ponte.shard WHERE batch_id = :id), "
            "(SELECT count(*) FROM ponte.quarantine WHERE batch_id = :id)"
        ),
        {"id": batch.batch_id},
    ).one()
    if not (present == committed and present + quarantined == batch.row_count):
        raise RowsLost(
            "rows frozen are not rows predicted plus rows quarantined; nothing was published",
            where=batch.place,
            got=f"{present} predictions, {committed} in committed shards, {quarantined} quarantined",
            expected=f"{batch.row_count} rows frozen",
            fix="clear the score tasks of this run",
        )
    return int(present)


def publish(db: Database, batch_id: int, *, actor: str, reason: str) -> Publication:
    """Show the staged batch to readers, in one short transaction behind the fence.

    Publishing what is published already changes nothing. Raises Fenced when a newer run claimed the window,
    VersionMarkedBad when a person has marked the version meanwhile, RowsLost when the rows do not add up.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "staged")
    return _publish(db, batch, actor=actor, reason=reason)


def prepare_publication(db: Database, batch_id: int, *, model: str) -> None:
    """Make a batch that a guard rejected a partition, before `publish_anyway` may send anybody to it, see `_stage`.

    Does nothing to any other batch. Raises PonteError when there is no such batch of the model.
    """
    batch = _batch_of(db, batch_id, model)
    if (batch.why or "").startswith(batches.TRIPPED):
        with db.begin() as connection:
            limit_lock_waits(connection, LOCK_TIMEOUT)
            attach_prediction_table(connection, batches.lock(connection, batch_id))


def _batch_of(db: Database, batch_id: int, model: str) -> Batch:
    batch = batches.get_batch(db, batch_id)
    if batch.model != model:
        raise PonteError("the batch is another model's", where=batch.place, expected=f"a batch of {model}")
    return batch


def publish_anyway(db: Database, batch_id: int, *, model: str, run_id: str, actor: str, reason: str) -> Publication:
    """Show a batch that a guard rejected and `prepare_publication` has prepared, because a person says so.

    The reason is kept. A repetition changes nothing. Raises PonteError when no guard has rejected the batch, and what
    `publish` raises.
    """
    values = {"batch_id": batch_id, "run_id": run_id, "actor": actor, "reason": reason}

    def accept(connection: sa.Connection, batch: Batch) -> None:
        query = sa.text(
            "SELECT EXISTS (SELECT FROM ponte.guard_result WHERE batch_id = :batch_id AND outcome = 'tripped')"
        )
        tripped = connection.execute(query, values).scalar_one()
        if not tripped or not (batch.status == "rejected" or batch.reached("staged")):
            got = f"status {batch.status}" + (f": {batch.why}" if batch.why else "")
            fix = "a batch that its checks rejected has no predictions: mend the source or the rule and score it again"
            raise PonteError("no guard has rejected this batch", where=batch.place, got=got, fix=fix)
        insert_row(connection, "ponte.guard_override", values, unless="batch_id")
        batches.accept(connection, batch_id)

    return _publish(db, _batch_of(db, batch_id, model), actor=actor, reason=reason, accept=accept)


def _publish(db: Database, batch: Batch, *, actor: str, reason: str, accept: _Accept | None = None) -> Publication:
    started = Receipt(model=batch.model, step="publish", batch_id=batch.batch_id, version=batch.version)
    with measured(db, started) as receipt:
        done = with_lock_retries(lambda: _flip(db, batch.batch_id, actor=actor, reason=reason, accept=accept))
        receipt.row_count = done.row_count
    return done


def _flip(db: Database, batch_id: int, *, actor: str, reason: str, accept: _Accept | None) -> Publication:
    """Show the batch behind the fence; `accept` may first let a rejected one go on, in the same transaction."""
    with db.begin() as connection:
        limit_lock_waits(connection, LOCK_TIMEOUT)
        batch = batches.read_batch(connection, batch_id)
        registry.lock_alias(connection, batch.model)  # no mark and no rollback comes between the question and the flip
        values = {"model": batch.model, "window": batch.window_start, "batch": batch_id, "epoch": batch.epoch}
        newest = connection.execute(
            sa.text("SELECT epoch, run_id FROM ponte.claim WHERE model = :model AND window_start = :window FOR UPDATE"),
            values,
        ).one()
        if newest.epoch != batch.epoch:
            raise Fenced(
                "a newer run owns the window; this one published nothing",
                where=batch.place,
                got=f"epoch {batch.epoch} of run {batch.run_id}",
                expected=f"epoch {newest.epoch} of run {newest.run_id}",
                fix="nothing to do: the newer run publishes",
            )
        batch = batches.lock(connection, batch_id)  # as it is now: retention may have decided meanwhile
        if accept is not None:
            accept(connection, batch)
            batch = batches.read_batch(connection, batch_id)
        batches.require(batch, "staged")
        query = sa.text("SELECT batch_id FROM ponte.published WHERE model = :model AND window_start = :window")
        previous = connection.execute(query, values).scalar_one_or_none()
        if previous == batch_id:
            rows = require_conservation(connection, batch)
            query = sa.text(
                "SELECT previous_batch_id FROM ponte.publication_event "
                "WHERE batch_id = :batch ORDER BY event_id DESC LIMIT 1"
            )
            before = connection.execute(query, values).scalar_one()
            return Publication(batch_id=batch_id, previous_batch_id=before, row_count=rows)
        if registry.has_bad_mark(connection, batch.model, batch.version):
            raise VersionMarkedBad(
                "the version was marked bad since it scored this batch; nothing was published",
                where=f"{batch.place}, version {batch.version}",
                fix=f"trigger {batch.model}__score again: it takes another version",
            )
        return show(connection, batch, epoch=batch.epoch, actor=actor, reason=reason)


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
    query = sa.text("SELECT batch_id FROM ponte.published WHERE model = :model AND window_start = :window")
    previous: int | None = connection.execute(query, values).scalar_one_or_none()
    connection.execute(
        sa.text(
            "INSERT INTO ponte.published (model, window_start, batch_id, epoch) "
            "VALUES (:model, :window, :batch, :epoch) "
            "ON CONFLICT (model, window_start) DO UPDATE SET batch_id = :batch, epoch = :epoch, at = now()"
        ),
        values,
    )
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


def _scored_rows(db: Database, batch: Batch) -> int:
    with db.begin() as connection:
        return require_conservation(connection, batch)
