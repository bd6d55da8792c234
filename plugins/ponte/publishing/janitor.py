"""What may go: tables that dead runs left behind, and predictions past the retention of their model.

Each table is named in a row of `ponte` before it exists, so nothing is ever looked for by its name. A crash at any
point leaves work for the next call, never a table that nobody knows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.model.folders import ModelFolder
from ponte.model.spec import Retention
from ponte.publishing.tables import drop_prediction_table
from ponte.storage.database import (
    DATA_SCHEMA,
    Database,
    is_transient,
    limit_lock_waits,
    lock_decisions,
    quote,
    table_exists,
)

log = logging.getLogger(__name__)

#: A statement of a run that is late may still hold a table; the next call finds it free.
LOCK_TIMEOUT = "2s"


def tidy(db: Database, folder: ModelFolder, *, retention: bool = True) -> dict[str, int]:
    """Sweep, and apply the retention of the model if asked to; return `{dropped_tables, retired_batches}`."""
    dropped = sweep(db, folder.name)
    retired = retire(db, folder.name, folder.spec.retention) if retention else 0
    return {"dropped_tables": dropped, "retired_batches": retired}


# ---------------------------------------------------------------- janitor


def sweep(db: Database, model: str) -> int:
    """Drop the tables of runs of a model that can go on no more; return how many.

    These are the batches of windows that a newer run has claimed, unless people have seen them, and the frozen rows of
    those that people have seen.
    """
    with db.begin() as connection:
        over = sa.text(
            "SELECT batch_id FROM (SELECT b.*, b.epoch < c.epoch OR b.status = 'failed' AS ended, "
            "EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id) AS seen "
            "FROM ponte.batch b JOIN ponte.claim c USING (model, window_start) WHERE b.model = :model) AS b "
            "WHERE (frozen_table IS NOT NULL AND (seen OR ended)) "
            "OR (prediction_table IS NOT NULL AND ended AND NOT seen) ORDER BY 1"
        )
        left = list(connection.execute(over, {"model": model}).scalars())
    return sum(_drop_of_batch(db, batch_id) for batch_id in left)


def sweep_training_sets(db: Database, model: str) -> int:
    """Drop the tables of training sets older than the newest one of the model that was written; return how many."""
    with db.begin() as connection:
        stale = sa.text(
            "SELECT snapshot_id FROM ponte.snapshot WHERE model = :model AND frozen_table IS NOT NULL "
            "AND snapshot_id < (SELECT max(snapshot_id) FROM ponte.snapshot "
            "WHERE model = :model AND status = 'written') ORDER BY 1"
        )
        left = list(connection.execute(stale, {"model": model}).scalars())
    return sum(_drop_of_training_set(db, snapshot_id) for snapshot_id in left)


def _drop_of_batch(db: Database, batch_id: int) -> int:
    dropped = 0
    try:
        with db.begin() as connection:
            limit_lock_waits(connection, LOCK_TIMEOUT)
            batch = batches.lock(connection, batch_id)
            seen = connection.execute(
                sa.text("SELECT EXISTS (SELECT FROM ponte.publication_event WHERE batch_id = :id)"), {"id": batch_id}
            ).scalar_one()
            frozen = batch.frozen_table
            # The claim passes over a batch whose row a step held at that moment; it is over all the same.
            connection.execute(
                sa.text(
                    "UPDATE ponte.batch SET frozen_table = NULL, "
                    "status = CASE WHEN :seen OR status = 'rejected' THEN status ELSE 'failed' END, "
                    "why = coalesce(why, CASE WHEN NOT :seen THEN 'superseded by a newer run' END) "
                    "WHERE batch_id = :id"
                ),
                {"seen": seen, "id": batch_id},
            )
            dropped += 0 if frozen is None else _drop(connection, frozen)
        if not seen and batch.prediction_table is not None:
            # It may be a partition already. Nothing goes on with a batch that has failed, or whose window is taken.
            dropped += drop_prediction_table(db, batch.model, batch.prediction_table)
            with db.begin() as connection:
                forget = sa.text("UPDATE ponte.batch SET prediction_table = NULL WHERE batch_id = :id")
                connection.execute(forget, {"id": batch_id})
    except sa.exc.DBAPIError as error:
        _later(error, f"batch {batch_id}")
    return dropped


def _drop_of_training_set(db: Database, snapshot_id: int) -> int:
    try:
        with db.begin() as connection:
            limit_lock_waits(connection, LOCK_TIMEOUT)
            lock = sa.text("SELECT frozen_table FROM ponte.snapshot WHERE snapshot_id = :id FOR UPDATE")
            name = connection.execute(lock, {"id": snapshot_id}).scalar_one()
            if name is None:
                return 0
            dropped = _drop(connection, name)
            connection.execute(
                sa.text(
                    "UPDATE ponte.snapshot SET frozen_table = NULL, "
                    "status = CASE WHEN status = 'rejected' THEN status ELSE 'failed' END, "
                    "why = coalesce(why, 'superseded by a newer training run') WHERE snapshot_id = :id"
                ),
                {"id": snapshot_id},
            )
            return dropped
    except sa.exc.DBAPIError as error:
        return _later(error, f"training set {snapshot_id}")


def _drop(connection: sa.Connection, name: str) -> int:
    """Return how many tables it dropped: a table gets its name before it is made."""
    there = table_exists(connection, DATA_SCHEMA, name)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(DATA_SCHEMA, name)}")
    return int(there)


def _later(error: sa.exc.DBAPIError, what: str) -> int:
    """Leave a table that somebody still uses to the next call."""
    if not is_transient(error):
        raise error
    log.info("the tables of %s are in use: the next run drops them", what)
    return 0


# ---------------------------------------------------------------- retention


@dataclass(frozen=True, kw_only=True, slots=True)
class _Victim:
    batch_id: int
    window_start: object
    relation: str
    row_count: int
    published: bool
    why: str


def retire(db: Database, model: str, rules: Retention) -> int:
    """Drop the predictions that the retention of the model gives up; return how many batches.

    First it is decided and recorded, in one transaction under the lock of decisions, so that no rollback picks a batch
    that is about to go; then the partitions are detached, which blocks no reader, and dropped. What people see for the
    newest window is never among them.
    """
    with db.begin() as connection:
        lock_decisions(connection, model)
        victims = _replaced(connection, model, rules) + _past(connection, model, rules)
        retired = sum(_record(connection, model, victim) for victim in victims)
    with db.begin() as connection:
        query = sa.text(
            "SELECT relation FROM ponte.retention_event WHERE model = :model "
            "AND to_regclass(format('ponte_data.%I', relation)) IS NOT NULL ORDER BY event_id"
        )
        pending = list(connection.execute(query, {"model": model}).scalars())
    for relation in pending:
        try:
            drop_prediction_table(db, model, relation)
        except sa.exc.DBAPIError as error:
            with db.begin() as connection:
                there = table_exists(connection, DATA_SCHEMA, relation)
            if there:  # else a twin was faster
                _later(error, relation)
    return retired


_SEEN = (
    "SELECT b.batch_id, b.window_start, b.prediction_table AS relation, p.batch_id IS NOT NULL AS published, "
    "(SELECT e.row_count FROM ponte.publication_event e WHERE e.batch_id = b.batch_id ORDER BY event_id DESC LIMIT 1) "
    "AS row_count, (SELECT max(e.event_id) FROM ponte.publication_event e WHERE e.batch_id = b.batch_id) AS seen "
    "FROM ponte.batch b LEFT JOIN ponte.published p USING (batch_id) "
    "WHERE b.model = :model AND b.prediction_table IS NOT NULL"
)


def _replaced(connection: sa.Connection, model: str, rules: Retention) -> list[_Victim]:
    if rules.replaced_batches is None:
        return []
    query = sa.text(
        f"SELECT * FROM (SELECT s.*, row_number() OVER (PARTITION BY window_start ORDER BY seen DESC) AS place "
        f"FROM ({_SEEN}) AS s WHERE seen IS NOT NULL AND NOT published) AS ranked WHERE place > :keep ORDER BY batch_id"
    )
    rows = connection.execute(query, {"model": model, "keep": rules.replaced_batches}).all()
    return [_victim(row, f"replaced_batches = {rules.replaced_batches}") for row in rows]


def _past(connection: sa.Connection, model: str, rules: Retention) -> list[_Victim]:
    if rules.weeks is None:
        return []
    query = sa.text(
        f"SELECT * FROM ({_SEEN}) AS s WHERE seen IS NOT NULL AND window_start < "
        "(SELECT max(window_start) FROM ponte.published WHERE model = :model) - 7 * CAST(:weeks AS integer) "
        "ORDER BY batch_id"
    )
    rows = connection.execute(query, {"model": model, "weeks": rules.weeks}).all()
    return [_victim(row, f"weeks = {rules.weeks}") for row in rows]


def _victim(row: sa.Row[tuple[object, ...]], why: str) -> _Victim:
    return _Victim(
        batch_id=row.batch_id,
        window_start=row.window_start,
        relation=row.relation,
        row_count=row.row_count,
        published=row.published,
        why=why,
    )


def _record(connection: sa.Connection, model: str, victim: _Victim) -> int:
    """Return 1, or 0 when another rule has retired the batch already."""
    values = {**{name: getattr(victim, name) for name in _Victim.__dataclass_fields__}, "model": model}
    inserted = connection.execute(
        sa.text(
            "INSERT INTO ponte.retention_event "
            "(model, window_start, batch_id, relation, row_count, byte_count, published, why) "
            "VALUES (:model, :window_start, :batch_id, :relation, :row_count, "
            "coalesce(pg_total_relation_size(to_regclass(format('ponte_data.%I', CAST(:relation AS text)))), 0), "
            ":published, :why) ON CONFLICT (batch_id) DO NOTHING"
        ),
        values,
    )
    if inserted.rowcount:
        connection.execute(sa.text("UPDATE ponte.batch SET prediction_table = NULL WHERE batch_id = :batch_id"), values)
        connection.execute(sa.text("DELETE FROM ponte.published WHERE batch_id = :batch_id"), values)
    close = "UPDATE ponte.quarantine SET closed_at = clock_timestamp(), resolution = 'retired' "
    connection.execute(sa.text(close + "WHERE batch_id = :batch_id AND closed_at IS NULL"), values)
    return inserted.rowcount
