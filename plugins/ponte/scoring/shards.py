"""Score one shard: stream the frozen rows through the estimator into the batch's prediction table.

A shard is a range of pages of the frozen table, so shards neither overlap nor leave a gap, and need no index. Its
predictions, its rows in quarantine and its row in `ponte.shard` commit together: killed half-way nothing is there, run
twice the second copy finds the committed row. Reading, predicting and writing overlap, each a few chunks ahead of the
next, so memory holds these few chunks whatever the size of the batch.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.checks import quarantine
from ponte.checks.quarantine import Unscored
from ponte.errors import PonteError, RowsLost
from ponte.model.folders import ModelFolder
from ponte.publishing.tables import create_prediction_table
from ponte.scoring.ahead import Ahead
from ponte.scoring.memory import keep_freed_memory
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database, or_of_a_twin, quote
from ponte.storage.receipts import Receipt, measured
from ponte.versions import registry
from ponte.versions.isolation import TooManyUnscored, isolate
from ponte.versions.loading import LoadedVersion, load_registered
from ponte.versions.predicting import Predictions, as_labels, score_column
from ponte.versions.signature import require_same, select_list

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager.dbapi import Cursor

log = logging.getLogger(__name__)

#: A chunk holds no more rows than fit into this many bytes, whatever `chunk_rows` says.
CHUNK_BYTES = 32 * 2**20
#: Chunks that a stage may be ahead of the next one.
AHEAD = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Pages `[first_page, end_page)` of a frozen table."""

    shard: int
    #: How many shards the batch has.
    shards: int = 1
    first_page: int
    end_page: int

    @property
    def condition(self) -> str:
        """The SQL condition that selects its rows."""
        return f"ctid >= '({self.first_page:d},0)'::tid AND ctid < '({self.end_page:d},0)'::tid"


def split_pages(*, row_count: int, page_count: int, shard_rows: int) -> list[Shard]:
    """Return shards that cover every page once, each of about `shard_rows` rows; none for an empty table.

    >>> split_pages(row_count=250, page_count=10, shard_rows=100)[1]
    Shard(shard=1, shards=3, first_page=4, end_page=7)
    """
    if not row_count:
        return []
    count = min(page_count, -(-row_count // shard_rows))
    bounds = [-(-page_count * n // count) for n in range(count + 1)]
    return [
        Shard(shard=n, shards=count, first_page=first, end_page=end) for n, (first, end) in enumerate(pairwise(bounds))
    ]


def threads_for(shard: Shard, *, slots: int) -> int:
    """Return how many threads a shard may compute with, when `slots` shards run at once: its part of the cores."""
    import joblib

    cores: int = joblib.cpu_count()
    return max(1, cores // max(1, min(shard.shards, slots)))


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
    _require_same_plan(db, batch, shards)
    # An empty batch that the model allows is one empty shard, so that it takes the same way as any other.
    return shards or [Shard(shard=0, first_page=0, end_page=0)]


def _require_same_plan(db: Database, batch: Batch, shards: Iterable[Shard]) -> None:
    """Raise PonteError when shards were committed that are none of these: rows would be scored twice, or never."""
    query = sa.text("SELECT shard, first_page, end_page FROM ponte.shard WHERE batch_id = :id")
    with db.begin() as connection:
        committed = {tuple(row) for row in connection.execute(query, {"id": batch.batch_id})}
    if committed - {(s.shard, s.first_page, s.end_page) for s in shards} - {(0, 0, 0)}:
        fix = "set shard_rows back to what it was, or clear freeze_batch: the rows are frozen and planned anew"
        raise PonteError("shards were planned otherwise before", where=batch.place, fix=fix)


def score_shard(
    db: Database,
    store: ArtifactStore,
    folder: ModelFolder,
    batch_id: int,
    shard: Shard,
    *,
    now: dt.datetime,
    threads: int = 1,
) -> int:
    """Score the rows of a shard and return how many predictions there are; does nothing when it was committed before.

    threads : how many OpenMP and Arrow may use. Rows that the estimator cannot score are set aside; with more of
    them than `[quarantine] budget` leaves, the batch is rejected.

    Raises Fenced when a newer run claimed the window, BatchRejected, ArtifactRefused when the version's files are not
    what was registered, RowsLost when fewer or more rows were written than read.
    """
    import pyarrow as pa

    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "checked")
    done = _committed_rows(db, batch_id, shard)
    if done is not None:
        log.info("shard %d was committed before: %d rows", shard.shard, done)
        return done

    def committed() -> int | None:
        found = _committed_rows(db, batch_id, shard)
        if found is None:
            batches.require(batches.get_batch(db, batch_id), "checked")  # fenced off, and its tables swept away?
        return found

    pa.set_cpu_count(threads)
    keep_freed_memory()
    with measured(db, Receipt(model=batch.model, step="score", batch_id=batch_id, version=batch.version)) as receipt:
        version = registry.get_version(db, batch.model, batch.version)
        loaded = load_registered(db, store, version)
        stream = _Stream(loaded, batch, shard, folder.spec.scoring.chunk_rows, threads, now, _budget(db, folder, batch))
        try:
            receipt.row_count = or_of_a_twin(lambda: stream.run(db), committed)
        except TooManyUnscored as error:
            raise batches.reject(db, batch, _too_many(error, batch, folder), at="checked") from error
    return receipt.row_count


def _budget(db: Database, folder: ModelFolder, batch: Batch) -> int:
    """Return how many more rows of the batch may be set aside."""
    assert batch.row_count is not None
    with db.begin() as connection:
        used = quarantine.count_rows(connection, batch.batch_id)
    return quarantine.allowed_rows(folder.spec.quarantine.budget, batch.row_count) - used


def _too_many(error: Exception, batch: Batch, folder: ModelFolder) -> str:
    budget = folder.spec.quarantine.budget
    return f"more rows cannot be scored than [quarantine] budget = {budget:g} of {batch.row_count} rows leaves: {error}"


@dataclass(slots=True)
class _Stream:
    """The way of a shard's rows: read ahead, predicted ahead, written; and what was seen on the way."""

    loaded: LoadedVersion
    batch: Batch
    shard: Shard
    chunk_rows: int
    threads: int
    now: dt.datetime
    #: How many rows may be set aside.
    allowed: int
    #: scikit-learn's, as they were when the version was loaded.
    settings: dict[str, Any] = field(default_factory=dict)
    read: int = 0
    predicted: int = 0
    unscored: list[Unscored] = field(default_factory=list)
    #: What the predicting side raised: ADBC makes an error of its own out of it.
    error: BaseException | None = None

    def run(self, db: Database) -> int:
        """Write the predictions of the shard in one transaction; return how many."""
        import sklearn

        # scikit-learn's settings hold for one thread; loading the version may have changed those of this one.
        self.settings = sklearn.get_config()
        stop = threading.Event()
        with (
            db.adbc() as source,
            db.adbc() as target,
            source.cursor() as reading,
            target.cursor() as writing,
            Ahead(self._chunks(reading), depth=AHEAD, stop=stop, cancel=reading.adbc_cancel) as chunks,
            Ahead(self._predictions(chunks), depth=AHEAD, stop=stop) as predictions,
        ):
            written = self._write(writing, predictions)
            if not written == self.predicted == self.read - len(self.unscored):
                got = f"{self.read} read, {self.predicted} predicted, {written} written, {len(self.unscored)} set aside"
                raise RowsLost("rows were lost on the way", where=self.batch.place, got=got)
            self._set_aside(writing)
            # Same transaction as the rows. A twin that committed first breaks the primary key, and all rolls back.
            writing.execute(
                "INSERT INTO ponte.shard (batch_id, shard, first_page, end_page, row_count) VALUES "
                f"({self.batch.batch_id:d}, {self.shard.shard:d}, {self.shard.first_page:d}, {self.shard.end_page:d}, "
                f"{written:d})"
            )
            target.commit()
        return written

    def _chunks(self, reading: Cursor) -> Iterator[pa.Table]:
        signature = self.loaded.version.signature
        reading.execute(
            f"SELECT {select_list((*signature.key, *signature.features))} "
            f"FROM {quote(*batches.frozen_name(self.batch))} WHERE {self.shard.condition}"
        )
        for chunk in rechunked(reading.fetch_record_batch(), rows=self.chunk_rows, byte_count=CHUNK_BYTES):
            self.read += chunk.num_rows
            yield chunk

    def _predictions(self, chunks: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
        import sklearn
        from threadpoolctl import threadpool_limits

        # OpenMP's limit holds for the thread that sets it. BLAS gets one thread: a second would spin for milliseconds
        # after every small product, which cost a third of the time, and the other stages have use for the core.
        with sklearn.config_context(**self.settings), threadpool_limits({"openmp": self.threads, "blas": 1}):
            for chunk in chunks:
                isolated = isolate(self.loaded.predict, chunk, allowed=self.allowed - len(self.unscored))
                key = self.loaded.version.signature.key
                for rows, error in isolated.unscored:
                    keys = rows.select([c.name for c in key]).to_pylist()
                    self.unscored += [Unscored(k, error) for k in keys]
                for rows, predictions in isolated.scored:
                    self.predicted += rows.num_rows
                    yield self._prediction_rows(rows, predictions)

    def _prediction_rows(self, rows: pa.Table, predictions: Predictions) -> pa.RecordBatch:
        """Return rows of the prediction table, without the columns that have a default there."""
        import pyarrow as pa

        version = self.loaded.version
        columns: dict[str, Any] = {c.name: rows.column(c.name).combine_chunks() for c in version.signature.key}
        columns["prediction"] = as_labels(predictions.prediction, version.signature, version.task)
        scores = score_column(predictions)
        if scores is not None:
            columns[scores[0]] = scores[1]
        columns["scored_at"] = pa.repeat(pa.scalar(self.now, pa.timestamp("us", tz="UTC")), rows.num_rows)
        return pa.RecordBatch.from_pydict(columns)

    def _write(self, writing: Cursor, predictions: Iterator[pa.RecordBatch]) -> int:
        import pyarrow as pa

        schema, table = batches.prediction_name(self.batch)
        first = next(predictions, None)
        if first is None:
            return 0
        reader = pa.RecordBatchReader.from_batches(first.schema, self._watched(chain([first], predictions)))
        try:
            return writing.adbc_ingest(table, reader, mode="append", db_schema_name=schema)
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    def _watched(self, predictions: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from predictions
        except BaseException as error:
            self.error = error
            raise

    def _set_aside(self, writing: Cursor) -> None:
        if not self.unscored:
            return
        log.warning("%d rows of shard %d cannot be scored: %s", len(self.unscored), self.shard.shard, self.unscored[0])
        key, number = self.loaded.version.signature.key, self.shard.shard
        quarantine.insert_unscored(
            writing,
            quote(*batches.frozen_name(self.batch)),
            key,
            batch_id=self.batch.batch_id,
            shard=number,
            pages=self.shard.condition,
            rows=self.unscored,
        )
        query = f"SELECT count(*) FROM ponte.quarantine WHERE batch_id = {self.batch.batch_id:d} AND shard = {number:d}"
        writing.execute(query)
        inserted = (writing.fetchone() or (0,))[0]
        if inserted != len(self.unscored):
            got, expected = f"{inserted} rows in quarantine", f"{len(self.unscored)} that could not be scored"
            raise RowsLost("rows were lost on the way", where=self.batch.place, got=got, expected=expected)


def rechunked(batches_read: Iterable[pa.RecordBatch], *, rows: int, byte_count: int) -> Iterator[pa.Table]:
    """Yield the same rows as tables of `rows` rows, fewer when these would be more than about `byte_count` bytes."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    held_rows = held_bytes = 0
    for batch in batches_read:
        rest = batch
        while rest.num_rows:
            row_bytes = max(1, rest.nbytes // rest.num_rows)
            part = rest.slice(0, max(1, min(rows - held_rows, (byte_count - held_bytes) // row_bytes)))
            held.append(part)
            held_rows, held_bytes = held_rows + part.num_rows, held_bytes + part.num_rows * row_bytes
            rest = rest.slice(part.num_rows)
            if held_rows >= rows or held_bytes + row_bytes > byte_count:
                yield pa.Table.from_batches(held)
                held, held_rows, held_bytes = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


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
