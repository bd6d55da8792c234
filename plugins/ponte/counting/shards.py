"""Counts of a shard on their way into `ponte.batch_count`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ponte.counting.bins import Tallies
from ponte.counting.reference import rows_of

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Cursor


def write_counts(writing: Cursor, batch_id: int, shard: int, counted: Sequence[Tallies]) -> None:
    """Insert the counts of a shard, in the transaction of the cursor; nothing when its version has no bins."""
    import pyarrow as pa

    rows = [{"batch_id": batch_id, "shard": shard, **row} for tallies in counted for row in rows_of(tallies)]
    if not rows:
        return
    types: dict[str, pa.DataType] = {
        "batch_id": pa.int64(),
        "shard": pa.int32(),
        "family": pa.string(),
        "column_name": pa.string(),
        "counts": pa.list_(pa.int64()),
        "only_value": pa.int64(),
    }
    table = pa.Table.from_pylist(rows, schema=pa.schema(types))
    writing.adbc_ingest("batch_count", table, mode="append", db_schema_name="ponte")
