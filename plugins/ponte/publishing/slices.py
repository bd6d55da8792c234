"""The columns of `[evaluation] slices`, kept per row beside the predictions: no other feature outlives the batch.

Realised quality is measured by their values, weeks after the frozen rows are gone. Only the monitor reads them, and
they go with the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.errors import PonteError
from ponte.storage.columns import Column
from ponte.storage.database import DATA_SCHEMA, Database, leave_for_later, limit_lock_waits, quote

#: A reading of the monitor may hold a table; the next call finds it free.
LOCK_TIMEOUT = "2s"

_OWNER = sa.text("""SELECT relowner::regrole::text, pg_has_role(relowner, 'USAGE') FROM pg_class
    WHERE oid = CAST(:name AS regclass)""")

_NAME_TABLE = sa.text("UPDATE ponte.batch SET slice_table = :name WHERE batch_id = :id")
_FORGET_TABLE = sa.text("UPDATE ponte.batch SET slice_table = NULL WHERE batch_id = :id")

_COLUMN_NAMES = sa.text("""SELECT attname FROM pg_attribute
    WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum""")

_LEFT = sa.text("""SELECT batch_id, slice_table FROM ponte.batch
    WHERE model = :model AND slice_table IS NOT NULL AND prediction_table IS NULL ORDER BY batch_id""")


def create_slice_table(connection: sa.Connection, batch: Batch, key: Sequence[Column], slices: Sequence[str]) -> None:
    """Make the empty table of a locked batch in the caller's transaction, unless none of `slices` is a feature of it.

    Columns of the key are in the predictions already. Does nothing when the table was made before, or the batch has
    gone on without one.
    """
    assert batch.columns is not None
    names = [column.name for column in key]
    kept = [c.name for c in batch.columns if c.name in slices and c.name not in names]
    if not kept or batch.slice_table is not None or batch.status != "checked":
        return
    name = f"{batch.model}__slice_{batch.batch_id}"
    own = quote(DATA_SCHEMA, name)
    connection.execute(_NAME_TABLE, {"name": name, "id": batch.batch_id})
    columns = ", ".join(quote(column) for column in (*names, *kept))
    frozen = quote(*batches.frozen_name(batch))
    connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {own} AS SELECT {columns} FROM {frozen} WITH NO DATA")
    require_ours(connection, batch, own)
    connection.exec_driver_sql(f"GRANT SELECT ON {own} TO ponte_monitor")


def fill_slice_table(connection: sa.Connection, batch: Batch) -> None:
    """Copy the columns from the frozen rows, in the transaction of the caller, who does so once."""
    if batch.slice_table is None:
        return
    own = quote(DATA_SCHEMA, batch.slice_table)
    columns = ", ".join(quote(name) for name in connection.execute(_COLUMN_NAMES, {"name": own}).scalars())
    frozen = quote(*batches.frozen_name(batch))
    connection.exec_driver_sql(f"INSERT INTO {own} ({columns}) SELECT {columns} FROM {frozen}")


def drop_slice_tables(db: Database, model: str) -> int:
    """Drop the tables of batches whose predictions are gone; return how many."""
    with db.begin() as connection:
        left = connection.execute(_LEFT, {"model": model}).all()
    dropped = 0
    for batch_id, name in left:
        try:
            with db.begin() as connection:
                limit_lock_waits(connection, LOCK_TIMEOUT)
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(DATA_SCHEMA, name)}")
                dropped += connection.execute(_FORGET_TABLE, {"id": batch_id}).rowcount
        except sa.exc.DBAPIError as error:
            leave_for_later(error, f"batch {batch_id}")
    return dropped


def require_ours(connection: sa.Connection, batch: Batch, relation: str) -> None:
    """Raise PonteError unless we own it: other roles may make tables here, with triggers that would run as us."""
    owner, ours = connection.execute(_OWNER, {"name": relation}).one()
    if not ours:
        fix = "find out who made it and why, then drop it"
        raise PonteError(f"{relation} is somebody else's", where=batch.place, got=f"owner {owner}", fix=fix)
