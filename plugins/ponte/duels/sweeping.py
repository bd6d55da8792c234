"""What duels left behind: rows of their own, predictions that nothing can be measured with any more.

Each table is named in `ponte.duel_batch` before it exists, as those of batches are in theirs.
"""

from __future__ import annotations

import sqlalchemy as sa

from ponte.publishing.janitor import DUEL_HOURS, LOCK_TIMEOUT
from ponte.storage.database import (
    DATA_SCHEMA,
    Database,
    leave_for_later,
    limit_lock_waits,
    quote,
    table_exists,
)

_CLOSE_LATE = sa.text(f"""UPDATE ponte.duel_batch SET status = 'failed', finished_at = clock_timestamp(),
    why = 'it was not finished within {DUEL_HOURS} hours'
    WHERE model = :model AND status = 'open' AND opened_at <= clock_timestamp() - interval '{DUEL_HOURS} hours'""")

# Its predictions go with those that they are compared with.
_LEFT = """SELECT d.duel_id, d.own_rows, d.frozen_table,
        CASE WHEN d.status = 'failed' OR b.prediction_table IS NULL THEN d.prediction_table END AS prediction_table
    FROM ponte.duel_batch d JOIN ponte.batch b USING (batch_id)
    WHERE {which} AND d.status <> 'open' AND (d.frozen_table IS NOT NULL
        OR (d.prediction_table IS NOT NULL AND (d.status = 'failed' OR b.prediction_table IS NULL)))
    ORDER BY 1"""
_LEFT_OF_MODEL = sa.text(_LEFT.format(which="d.model = :model"))
_LEFT_OF_DUEL = sa.text(_LEFT.format(which="d.duel_id = :id"))

_LOCK = sa.text("SELECT FROM ponte.duel_batch WHERE duel_id = :id FOR NO KEY UPDATE")
_FORGET = sa.text("""UPDATE ponte.duel_batch SET frozen_table = NULL,
    prediction_table = CASE WHEN prediction_table = :prediction_table THEN NULL ELSE prediction_table END
    WHERE duel_id = :id""")


def sweep_duels(db: Database, model: str) -> int:
    """Close duels that were never finished, and drop the tables of those that are over; return how many tables."""
    with db.begin() as connection:
        connection.execute(_CLOSE_LATE, {"model": model})
        left = [row.duel_id for row in connection.execute(_LEFT_OF_MODEL, {"model": model})]
    return sum(_sweep(db, duel_id) for duel_id in left)


def _sweep(db: Database, duel_id: int) -> int:
    try:
        with db.begin() as connection:
            limit_lock_waits(connection, LOCK_TIMEOUT)
            connection.execute(_LOCK, {"id": duel_id})
            row = connection.execute(_LEFT_OF_DUEL, {"id": duel_id}).one_or_none()
            if row is None:  # opened again meanwhile
                return 0
            names = [row.frozen_table if row.own_rows else None, row.prediction_table]
            dropped = sum(_drop(connection, name) for name in names if name is not None)
            connection.execute(_FORGET, {"id": duel_id, "prediction_table": row.prediction_table})
            return dropped
    except sa.exc.DBAPIError as error:
        return leave_for_later(error, f"duel {duel_id}")


def _drop(connection: sa.Connection, name: str) -> int:
    there = table_exists(connection, DATA_SCHEMA, name)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(DATA_SCHEMA, name)}")
    return int(there)
