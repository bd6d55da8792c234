"""What dead and finished runs left behind.

Each table is named in a row of `ponte` before it exists, so nothing is ever looked for by its name. A crash at any
point leaves work for the next call, never a table that nobody knows.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.model.folders import ModelFolder
from ponte.publishing.retention import LastFigures, retire
from ponte.publishing.slices import drop_slice_tables
from ponte.publishing.tables import drop_prediction_table
from ponte.storage.database import (
    DATA_SCHEMA,
    Database,
    leave_for_later,
    limit_lock_waits,
    quote,
    table_exists,
)
from ponte.storage.runs import Run

log = logging.getLogger(__name__)

#: A statement of a run that is late may still hold a table; the next call finds it free.
LOCK_TIMEOUT = "2s"

_LEFT_BATCHES = sa.text("""SELECT batch_id
    FROM (
        SELECT b.*, b.epoch < c.epoch OR b.status = 'failed' AND b.stopped_in IS NULL AS ended,
               EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id) AS seen
        FROM ponte.batch b JOIN ponte.claim c USING (model, window_start)
        WHERE b.model = :model
    ) AS b
    WHERE (frozen_table IS NOT NULL AND (seen OR ended)) OR (prediction_table IS NOT NULL AND ended AND NOT seen)
    ORDER BY 1""")

_LEFT_SNAPSHOTS = sa.text("""SELECT snapshot_id FROM ponte.snapshot
    WHERE model = :model AND num_nonnulls(frozen_table, champion_table) > 0
    AND snapshot_id < (SELECT max(snapshot_id) FROM ponte.snapshot WHERE model = :model AND status = 'written')
    ORDER BY 1""")

#: How long an open duel keeps the frozen rows that it reads.
DUEL_HOURS = 24
_IS_READ = sa.text(f"""SELECT EXISTS (SELECT FROM ponte.duel_batch d JOIN ponte.batch b USING (batch_id)
    WHERE batch_id = :id AND d.status = 'open' AND d.frozen_table = b.frozen_table
    AND d.opened_at > clock_timestamp() - interval '{DUEL_HOURS} hours')""")

_IS_SEEN = sa.text("SELECT EXISTS (SELECT FROM ponte.publication_event WHERE batch_id = :id)")

# The claim passes over a batch whose row a step held at that moment; it is over all the same.
_END_BATCH = sa.text("""UPDATE ponte.batch SET frozen_table = NULL, stopped_in = NULL,
    status = CASE WHEN :seen OR status = 'rejected' THEN status ELSE 'failed' END,
    why = coalesce(why, CASE WHEN NOT :seen THEN 'superseded by a newer run' END)
    WHERE batch_id = :id""")

_FORGET_PREDICTIONS = sa.text("UPDATE ponte.batch SET prediction_table = NULL WHERE batch_id = :id")

_LOCKED_TABLES = sa.text("""SELECT frozen_table, champion_table FROM ponte.snapshot
    WHERE snapshot_id = :id FOR UPDATE""")

_END_SNAPSHOT = sa.text("""UPDATE ponte.snapshot SET frozen_table = NULL, champion_table = NULL,
    status = CASE WHEN status = 'rejected' THEN status ELSE 'failed' END,
    why = coalesce(why, 'superseded by a newer training run')
    WHERE snapshot_id = :id""")


def tidy(
    db: Database,
    folder: ModelFolder,
    *,
    run: Run | None = None,
    retention: bool = True,
    last_figures: LastFigures | None = None,
) -> dict[str, int]:
    """Sweep, and apply the retention of the model if asked to; return `{dropped_tables, retired_batches}`.

    run : the run that ends with this. The batch that it leaves unfinished fails first: others wait for it.
    last_figures : see `retire`.
    """
    if run is not None and batches.end_run(db, folder.name, run=run):
        log.warning("the run ends without publishing its batch; clearing the failed task goes on with it")
    dropped = sweep(db, folder.name)
    retired = retire(db, folder.name, folder.spec.retention, last_figures=last_figures) if retention else 0
    dropped += drop_slice_tables(db, folder.name)
    return {"dropped_tables": dropped, "retired_batches": retired}


def sweep(db: Database, model: str) -> int:
    """Drop the tables of runs of a model that can go on no more; return how many.

    These are the batches of windows that a newer run has claimed, unless people have seen them, and the frozen rows of
    those that people have seen.
    """
    with db.begin() as connection:
        left = list(connection.execute(_LEFT_BATCHES, {"model": model}).scalars())
    return sum(_drop_of_batch(db, batch_id) for batch_id in left)


def sweep_snapshots(db: Database, model: str) -> int:
    """Drop the tables of snapshots older than the newest one of the model that was written; return how many."""
    with db.begin() as connection:
        left = list(connection.execute(_LEFT_SNAPSHOTS, {"model": model}).scalars())
    return sum(_drop_of_snapshot(db, snapshot_id) for snapshot_id in left)


def _drop_of_batch(db: Database, batch_id: int) -> int:
    dropped = 0
    try:
        with db.begin() as connection:
            limit_lock_waits(connection, LOCK_TIMEOUT)
            batch = batches.lock(connection, batch_id)
            if connection.execute(_IS_READ, {"id": batch_id}).scalar_one():
                log.info("a duel reads the frozen rows of batch %d: a later run drops them", batch_id)
                return 0
            seen = connection.execute(_IS_SEEN, {"id": batch_id}).scalar_one()
            frozen = batch.frozen_table
            connection.execute(_END_BATCH, {"seen": seen, "id": batch_id})
            dropped += 0 if frozen is None else _drop(connection, frozen)
        if not seen and batch.prediction_table is not None:
            # It may be a partition already. Nothing goes on with a batch that has failed, or whose window is taken.
            dropped += drop_prediction_table(db, batch.model, batch.prediction_table)
            with db.begin() as connection:
                connection.execute(_FORGET_PREDICTIONS, {"id": batch_id})
    except sa.exc.DBAPIError as error:
        leave_for_later(error, f"batch {batch_id}")
    return dropped


def _drop_of_snapshot(db: Database, snapshot_id: int) -> int:
    try:
        with db.begin() as connection:
            limit_lock_waits(connection, LOCK_TIMEOUT)
            names = [n for n in connection.execute(_LOCKED_TABLES, {"id": snapshot_id}).one() if n is not None]
            if not names:
                return 0
            dropped = sum(_drop(connection, name) for name in names)
            connection.execute(_END_SNAPSHOT, {"id": snapshot_id})
            return dropped
    except sa.exc.DBAPIError as error:
        return leave_for_later(error, f"snapshot {snapshot_id}")


def _drop(connection: sa.Connection, name: str) -> int:
    """Return how many tables it dropped: a table gets its name before it is made."""
    there = table_exists(connection, DATA_SCHEMA, name)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(DATA_SCHEMA, name)}")
    return int(there)
