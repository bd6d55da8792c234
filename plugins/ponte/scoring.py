"""Score one shard: stream the frozen rows through the estimator into the batch's prediction table.

A shard is a range of pages of the frozen table, so shards neither overlap nor leave a gap, and need no index. Its
predictions and its row in `ponte.shard` commit together: killed half-way nothing is there, run twice the second copy
finds the committed row. Memory holds one chunk, whatever the size of the batch.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte import batches, registry
from ponte.artifacts import ArtifactStore
from ponte.batches import Batch
from ponte.catalog import ModelFolder
from ponte.database import DATA_SCHEMA, Database, quote
from ponte.errors import PonteError, RowsLost
from ponte.prediction_tables import create_prediction_table
from ponte.predictions import as_labels, score_column
from ponte.receipts import Receipt, measured
from ponte.signature import require_same, select_list
from ponte.versions import LoadedVersion, load_version

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Pages `[first_page, end_page)` of a frozen table."""

    shard: int
    first_page: int
    end_page: int


def split_pages(*, row_count: int, page_count: int, shard_rows: int) -> list[Shard]:
    """Return shards that cover every page once, each of about `shard_rows` rows; none for an empty table.

    >>> split_pages(row_count=250, page_count=10, shard_rows=100)[1]
    Shard(shard=1, first_page=4, end_page=7)
    """
    if not row_count:
        return []
    count = min(page_count, -(-row_count // shard_rows))
    bounds = [-(-page_count * n // count) for n in range(count + 1)]
    return [Shard(shard=n, first_page=first, end_page=end) for n, (first, end) in enumerate(pairwise(bounds))]


def plan_shards(db: Database, folder: ModelFolder, batch_id: int) -> list[Shard]:
    """Return the shards of a checked batch, at least one, after making its empty prediction table.

    Raises SignatureMismatch when the frozen columns are not those of the batch's version.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "checked")
    version = registry.get_version(db, batch.model, batch.version)
    assert batch.columns is not None
    assert batch.row_count is not None
    assert batch.page_count is not None
    require_same(
        (*version.signature.key, *version.signature.features), batch.columns, model=batch.model, version=batch.version
    )
    create_prediction_table(db, batch, version)
    shards = split_pages(
        row_count=batch.row_count, page_count=batch.page_count, shard_rows=folder.spec.scoring.shard_rows
    )
    # An empty batch that the model allows is one empty shard, so that it takes the same way as any other.
    return shards or [Shard(shard=0, first_page=0, end_page=0)]


def score_shard(
    db: Database, store: ArtifactStore, folder: ModelFolder, batch_id: int, shard: Shard, *, now: dt.datetime
) -> int:
    """Score the rows of a shard and return how many there are; does nothing when the shard was committed before.

    Raises Fenced when a newer run claimed the window, ArtifactRefused when the version's files are not what was
    registered, RowsLost when fewer or more rows were written than read.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "checked")
    done = _committed_rows(db, batch_id, shard)
    if done is not None:
        log.info("shard %d was committed before: %d rows", shard.shard, done)
        return done
    with measured(db, Receipt(model=batch.model, step="score", batch_id=batch_id, version=batch.version)) as receipt:
        version = registry.get_version(db, batch.model, batch.version)
        allowed = registry.allows_other_libraries(db, version)
        loaded = load_version(store, version, other_libraries_allowed=allowed)
        try:
            receipt.row_count = _stream(db, loaded, batch, shard, chunk_rows=folder.spec.scoring.chunk_rows, now=now)
        except Exception:
            # Airflow may run a task twice at once; when the twin committed first, its rows are the rows.
            receipt.row_count = _committed_rows(db, batch_id, shard)
            if receipt.row_count is None:
                raise
    return receipt.row_count


def _stream(
    db: Database, loaded: LoadedVersion, batch: Batch, shard: Shard, *, chunk_rows: int, now: dt.datetime
) -> int:
    import pyarrow as pa

    signature = loaded.version.signature
    assert batch.prediction_table is not None
    query = (
        f"SELECT {select_list((*signature.key, *signature.features))} FROM {quote(*batches.frozen_name(batch))} "
        f"WHERE ctid >= '({shard.first_page:d},0)'::tid AND ctid < '({shard.end_page:d},0)'::tid"
    )
    with db.adbc() as source, db.adbc() as target, source.cursor() as reading, target.cursor() as writing:
        reading.execute(query)
        chunks = _predicted(_rechunked(reading.fetch_record_batch(), chunk_rows), loaded, batch, now)
        first = next(chunks, None)
        rows = 0
        if first is not None:
            counted = _Counter(first, chunks)
            reader = pa.RecordBatchReader.from_batches(first.schema, counted)
            try:
                written = writing.adbc_ingest(batch.prediction_table, reader, mode="append", db_schema_name=DATA_SCHEMA)
            except Exception:
                if counted.error is not None:
                    raise counted.error from None
                raise
            rows = counted.rows
            if written != rows:
                raise RowsLost(
                    "rows were lost on the way", where=batch.place, got=f"{written} written", expected=f"{rows} read"
                )
        # Same transaction as the rows. A twin that committed first breaks the primary key, and all of this rolls back.
        writing.execute(
            "INSERT INTO ponte.shard (batch_id, shard, first_page, end_page, row_count) "
            f"VALUES ({batch.batch_id:d}, {shard.shard:d}, {shard.first_page:d}, {shard.end_page:d}, {rows:d})"
        )
        target.commit()
    return rows


class _Counter:
    """Iterate over chunks, count their rows, and keep what was raised: ADBC makes an error of its own out of it."""

    def __init__(self, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> None:
        self.rows = 0
        self.error: Exception | None = None
        self._chunks = chain([first], rest)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for chunk in self._chunks:
                self.rows += chunk.num_rows
                yield chunk
        except Exception as error:
            self.error = error
            raise


def _rechunked(reader: pa.RecordBatchReader, chunk_rows: int) -> Iterator[pa.Table]:
    """Yield tables of `chunk_rows` rows (the last one may be shorter)."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in reader:
        rest = batch
        while (missing := chunk_rows - sum(b.num_rows for b in held)) <= rest.num_rows:
            yield pa.Table.from_batches([*held, rest.slice(0, missing)])
            held, rest = [], rest.slice(missing)
        held.append(rest)
    if held:
        yield pa.Table.from_batches(held)


def _predicted(
    chunks: Iterator[pa.Table], loaded: LoadedVersion, batch: Batch, now: dt.datetime
) -> Iterator[pa.RecordBatch]:
    """Yield, for each chunk of frozen rows, the rows of the prediction table."""
    import pyarrow as pa

    for chunk in chunks:
        if not chunk.num_rows:
            continue
        predictions = loaded.predict(chunk)
        rows = chunk.num_rows
        columns: dict[str, Any] = {
            "batch_id": pa.repeat(pa.scalar(batch.batch_id, pa.int64()), rows),
            "window_start": pa.repeat(pa.scalar(batch.window_start, pa.date32()), rows),
            **{c.name: chunk.column(c.name).combine_chunks() for c in loaded.version.signature.key},
            "prediction": as_labels(predictions.prediction, loaded.version.signature, loaded.version.task),
        }
        scores = score_column(predictions)
        if scores is not None:
            columns[scores[0]] = scores[1]
        columns["scored_at"] = pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), rows)
        yield pa.RecordBatch.from_pydict(columns)


def _committed_rows(db: Database, batch_id: int, shard: Shard) -> int | None:
    query = sa.text(
        "SELECT row_count, first_page, end_page FROM ponte.shard WHERE batch_id = :batch AND shard = :shard"
    )
    with db.begin() as connection:
        row = connection.execute(query, {"batch": batch_id, "shard": shard.shard}).one_or_none()
    if row is None:
        return None
    if (row.first_page, row.end_page) != (shard.first_page, shard.end_page):
        got = f"pages {shard.first_page} to {shard.end_page}"
        expected = f"pages {row.first_page} to {row.end_page}, as committed before"
        raise PonteError(
            "a shard was planned anew", where=f"batch {batch_id}, shard {shard.shard}", got=got, expected=expected
        )
    return int(row.row_count)
