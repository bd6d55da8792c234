"""Stage a scored batch, unseen: count its rows, give them their key, ask the guards, attach its table."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.checks import quarantine
from ponte.errors import BatchRejected, PonteError, RowsLost
from ponte.estimation import estimates
from ponte.guards import profiles, rules
from ponte.guards.waiting import require_earlier_finished
from ponte.model.folders import ModelFolder
from ponte.publishing.slices import fill_slice_table
from ponte.publishing.tables import attach_prediction_table, finish_prediction_table
from ponte.storage.database import Database, limit_lock_waits, quote
from ponte.storage.receipts import Receipt, recorded
from ponte.versions import registry

log = logging.getLogger(__name__)

_IS_TABLE = sa.text("SELECT relkind = 'r' FROM pg_class WHERE oid = CAST(:name AS regclass)")

_COMMITTED_AND_QUARANTINED = sa.text("""SELECT
    (SELECT coalesce(sum(row_count), 0) FROM ponte.shard WHERE batch_id = :id),
    (SELECT count(*) FROM ponte.quarantine WHERE batch_id = :id)""")


def guard_batch(db: Database, folder: ModelFolder, batch_id: int, *, enforce: bool = True) -> int:
    """Return the number of predictions of a batch that is complete, keyed, constrained, analysed and looks right.

    enforce : False records what the guards find without acting on it, for a batch that a person has asked for; it
    waits for nobody either.

    Raises WindowsUnfinished while a batch that it would be compared with is still being scored, see
    `require_earlier_finished`; RowsLost unless rows frozen = rows scored + rows quarantined, counted in the prediction
    table itself; BatchRejected when more rows are in quarantine than the budget allows, or a guard has tripped: its
    predictions are complete all the same, and `publish_anyway` can show them. Does nothing when the batch was staged
    before.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "checked")
    if batch.reached("staged"):
        return _scored_rows(db, batch)
    if enforce:
        require_earlier_finished(db, batch, folder.spec.guard)
    with recorded(db, Receipt(model=batch.model, step="guard", batch_id=batch_id, version=batch.version)) as receipt:
        with db.begin() as connection:
            limit_lock_waits(connection, "10s")
            batch = batches.lock(connection, batch_id)
            batches.require(batch, "checked")
            receipt.row_count = require_conservation(connection, batch)
            over_budget = _over_budget(connection, folder, batch)
            if not over_budget and not batch.reached("scored"):
                fill_slice_table(connection, batch)
                batches.advance(connection, batch_id, "scored")
        if over_budget:
            raise batches.reject(db, batch, over_budget, by="budget", at="checked")
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
        limits = folder.spec.guard
        profile = profiles.take_profile(connection, batch, version, limits)
        estimates.finish(connection, batch_id, version.task)
        results = rules.judge(profile, profiles.earlier_profiles(connection, batch, limits), limits, as_of=batch.as_of)
        rules.store_results(connection, batch_id, results)
        tripped = "; ".join(str(r) for r in results if r.outcome == "tripped")
        if tripped:
            log.log(logging.ERROR if enforce else logging.WARNING, "guards: %s", tripped)
        if tripped and enforce:
            why = f"a guard has tripped: {tripped}"
            batches.mark_rejected(connection, batch_id, why, by="guard", at="scored")
            return tripped
        # A statement plans the partitions it reads before it sees where the pointer leads. So a batch is a partition
        # before anybody may be sent to it, in a transaction of its own.
        attach_prediction_table(connection, batch)
        batches.advance(connection, batch_id, "staged")
    return ""


def lock_table(connection: sa.Connection, batch: Batch, name: str) -> None:
    """Keep a table, by its quoted name, as it is until the transaction ends; raises PonteError when it is no table.

    It is the scorer's, and often another role reads it: a view of that name would run with the rights of that role.
    """
    connection.exec_driver_sql(f"LOCK TABLE ONLY {name} IN ACCESS SHARE MODE")
    if not connection.execute(_IS_TABLE, {"name": name}).scalar_one():
        raise PonteError("the predictions are no table", where=batch.place, got=name, fix="score the window again")


def require_conservation(connection: sa.Connection, batch: Batch) -> int:
    """Return the number of predictions; raises RowsLost unless frozen = predicted + quarantined, and no shard lacks.

    Raises PonteError when the predictions were dropped.
    """
    own = quote(*batches.prediction_name(batch))
    lock_table(connection, batch, own)
    present = connection.exec_driver_sql(f"SELECT count(*) FROM {own}").scalar_one()
    committed, quarantined = connection.execute(_COMMITTED_AND_QUARANTINED, {"id": batch.batch_id}).one()
    if not (present == committed and present + quarantined == batch.row_count):
        raise RowsLost(
            "rows frozen are not rows predicted plus rows quarantined; nothing was published",
            where=batch.place,
            got=f"{present} predictions, {committed} in committed shards, {quarantined} quarantined",
            expected=f"{batch.row_count} rows frozen",
            fix="clear the score tasks of this run",
        )
    return int(present)


def _scored_rows(db: Database, batch: Batch) -> int:
    with db.begin() as connection:
        return require_conservation(connection, batch)
