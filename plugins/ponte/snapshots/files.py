"""Rows of a query as a Parquet file that says itself what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ponte.storage.database import Database

if TYPE_CHECKING:
    import pyarrow as pa

#: Key of the Parquet file's metadata.
DESCRIPTION = "ponte"


def copy_to_parquet(db: Database, query: str, description: Mapping[str, Any], path: str) -> int:
    """Write the rows of a query to a local file, with the description as its metadata; return how many there were."""
    import pyarrow.parquet as pq

    rows = 0
    with db.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        schema = reader.schema.with_metadata({DESCRIPTION: json.dumps(description, sort_keys=True)})
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                rows += batch.num_rows
    return rows


def read_parquet(content: bytes) -> pa.Table:
    """Return the rows of a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(content))
