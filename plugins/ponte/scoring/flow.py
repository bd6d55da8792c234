"""The way of rows: read, predicted, written.

All three overlap, each a few chunks ahead of the next, so memory holds these few chunks whatever the size of the batch.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from ponte.batches.lifecycle import Batch
from ponte.checks import quarantine
from ponte.checks.quarantine import Unscored
from ponte.counting.bins import Tallies
from ponte.counting.shards import write_counts
from ponte.errors import RowsLost
from ponte.estimation.estimates import Estimation
from ponte.scoring.ahead import Ahead
from ponte.scoring.plan import Shard
from ponte.scoring.scorer import Scored, Scorer
from ponte.storage.columns import select_list
from ponte.storage.database import Database
from ponte.versions.isolation import in_words

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager.dbapi import Cursor


log = logging.getLogger(__name__)

#: A chunk holds no more rows than fit into this many bytes, whatever `chunk_rows` says.
CHUNK_BYTES = 32 * 2**20
#: Chunks that a stage may be ahead of the next one.
AHEAD = 2


@dataclass(slots=True, kw_only=True)
class Flow:
    """The way of rows: read ahead, predicted ahead, written; and what was seen on the way."""

    scorer: Scorer
    #: Quoted name of the table that is read, and which of its rows.
    source: str
    condition: str
    #: Schema and table that predictions are written to.
    target: tuple[str, str]
    #: Where an error happened, for its message.
    place: str
    chunk_rows: int
    threads: int
    now: dt.datetime
    #: How many rows may be set aside.
    allowed: int
    read: int = 0
    predicted: int = 0
    unscored: list[Unscored] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    #: What the predicting side raised: ADBC makes an error of its own out of it.
    error: BaseException | None = None

    def run(self, db: Database) -> int:
        """Write the predictions and what goes with them in one transaction; return how many."""
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
                raise RowsLost("rows were lost on the way", where=self.place, got=got)
            self.finish(writing, written)
            target.commit()
        return written

    def finish(self, writing: Cursor, written: int) -> None:
        """Write what commits with the rows; a twin that committed first makes it raise, and all rolls back."""
        raise NotImplementedError

    def seen(self, chunk: pa.Table) -> None:
        """Take note of rows that were read."""

    def answered(self, rows: pa.RecordBatch) -> None:
        """Take note of predictions that are being written."""

    def scored(self, scored: Scored) -> None:
        """Take note of what the scorer said."""

    def _chunks(self, reading: Cursor) -> Iterator[pa.Table]:
        signature = self.scorer.version.signature
        columns = select_list((*signature.key, *signature.features))
        reading.execute(f"SELECT {columns} FROM {self.source} WHERE {self.condition}")
        for chunk in rechunked(reading.fetch_record_batch(), rows=self.chunk_rows, byte_count=CHUNK_BYTES):
            self.read += chunk.num_rows
            self.seen(chunk)
            yield chunk

    def _predictions(self, chunks: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
        from threadpoolctl import threadpool_limits

        # OpenMP's limit holds for the thread that sets it. BLAS gets one thread: a second would spin for milliseconds
        # after every small product, which cost a third of the time, and the other stages have use for the core.
        with threadpool_limits({"openmp": self.threads, "blas": 1}):
            for chunk in chunks:
                scored = self.scorer.score(chunk, now=self.now, allowed=self.allowed - len(self.unscored))
                self.unscored += scored.unscored
                self.kinds += scored.kinds
                self.scored(scored)
                for rows in scored.predictions:
                    self.predicted += rows.num_rows
                    yield rows

    def _write(self, writing: Cursor, predictions: Iterator[pa.RecordBatch]) -> int:
        import pyarrow as pa

        schema, table = self.target
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
            for rows in predictions:
                self.answered(rows)
                yield rows
        except BaseException as error:
            self.error = error
            raise


@dataclass(slots=True, kw_only=True)
class ShardFlow(Flow):
    """The way of a shard's rows: its counts, its rows in quarantine and its row in `ponte.shard` commit with them."""

    batch: Batch
    shard: Shard
    #: Of what is read, and of what is predicted.
    features: Tallies
    answers: Tallies
    #: Of what is predicted; None when the model does not estimate its quality.
    estimation: Estimation | None

    def seen(self, chunk: pa.Table) -> None:
        """Count the features."""
        self.features.add(chunk)

    def scored(self, scored: Scored) -> None:
        """Add up the errors that are to be expected."""
        if self.estimation is not None:
            for errors in scored.expected_errors:
                self.estimation.add_errors(errors)

    def answered(self, rows: pa.RecordBatch) -> None:
        """Count the predictions."""
        self.answers.add(rows)
        if self.estimation is not None:
            self.estimation.add(rows)

    def finish(self, writing: Cursor, written: int) -> None:
        """Write quarantine, the shard's row, and counts."""
        self._set_aside(writing)
        # Same transaction as the rows. A twin that committed first breaks the primary key, and all rolls back.
        writing.execute(
            "INSERT INTO ponte.shard (batch_id, shard, first_page, end_page, row_count) VALUES "
            f"({self.batch.batch_id:d}, {self.shard.shard:d}, {self.shard.first_page:d}, {self.shard.end_page:d}, "
            f"{written:d})"
        )
        write_counts(writing, self.batch.batch_id, self.shard.shard, (self.features, self.answers))
        if self.estimation is not None:
            self.estimation.write(writing, self.batch.batch_id, self.shard.shard)

    def _set_aside(self, writing: Cursor) -> None:
        if not self.unscored:
            return
        # What the estimator said of each is in the quarantine; its words may hold values, and a key is one.
        said = in_words(self.kinds)
        log.warning("%d rows of shard %d cannot be scored: %s", len(self.unscored), self.shard.shard, said)
        key, number = self.scorer.version.signature.key, self.shard.shard
        quarantine.insert_unscored(
            writing,
            self.source,
            key,
            batch_id=self.batch.batch_id,
            shard=number,
            pages=self.condition,
            rows=self.unscored,
        )
        query = f"SELECT count(*) FROM ponte.quarantine WHERE batch_id = {self.batch.batch_id:d} AND shard = {number:d}"
        writing.execute(query)
        inserted = (writing.fetchone() or (0,))[0]
        if inserted != len(self.unscored):
            got, expected = f"{inserted} rows in quarantine", f"{len(self.unscored)} that could not be scored"
            raise RowsLost("rows were lost on the way", where=self.place, got=got, expected=expected)


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
