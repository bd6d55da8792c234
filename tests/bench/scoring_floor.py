"""The floor of the scoring benchmark: CPU seconds without which no way can do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil
import pyarrow as pa
from tests.bench.scoring_cases import COLUMNS
from tests.bench.scoring_ways import CORES
from tests.sample_model import World
from threadpoolctl import threadpool_limits

from ponte.embedded import postgres
from ponte.storage.columns import select_list
from ponte.storage.database import Database
from ponte.versions.loading import LoadedVersion
from ponte.versions.signature import to_frame


@dataclass(frozen=True, kw_only=True)
class Floor:
    """CPU seconds without which no way can do: rows leave the server, are predicted, and come back."""

    rows: int
    copy_out: float
    #: The probabilities alone: the label of a row follows from them.
    predict_proba: float
    copy_in: float

    @property
    def rows_per_s(self) -> float:
        """Rows per second when every core does nothing else."""
        return self.rows * CORES / (self.copy_out + self.predict_proba + self.copy_in)


def floor(world: World, loaded: LoadedVersion, rows: int, *, progress: Callable[[str], None]) -> Floor:
    """Measure the floor on the first `rows` of the week, which is published."""
    progress("floor: copy out")
    copy_out = _copy_out_cpu(world.db, rows)
    progress("floor: predict")
    predicted = _predict_cpu(world, loaded, rows)
    progress("floor: copy in")
    return Floor(rows=rows, copy_out=copy_out, predict_proba=predicted, copy_in=_copy_in_cpu(world, rows))


def _copy_out_cpu(db: Database, rows: int) -> float:
    """Return CPU seconds of psql, which throws a binary COPY away row by row in C, and of its server process."""
    url = db.url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = [str(postgres.psql_path()), "-XqAt", "-v", "ON_ERROR_STOP=1", url]
    # numeric is no machine number, so somebody has to convert it.
    columns = ", ".join("amount::float8" if name == "amount" else name for name in COLUMNS)
    query = f"SELECT {columns} FROM bench.sample LIMIT {rows}"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("SET max_parallel_workers_per_gather = 0;\nSELECT pg_backend_pid();\n")
        both = [psutil.Process(client.pid), psutil.Process(int(client.stdout.readline()))]
        before = _cpu(both)
        client.stdin.write(f"\\o /dev/null\nCOPY ({query}) TO STDOUT (FORMAT binary);\n\\o\n\\echo done\n")
        if client.stdout.readline() != "done\n":
            raise RuntimeError("psql did not copy the rows")
        seconds = _cpu(both) - before
        client.stdin.close()
    return seconds


def _predict_cpu(world: World, loaded: LoadedVersion, rows: int) -> float:
    """Return CPU seconds of predict_proba() in one thread, on frames of Ponte's chunk size that are in memory."""
    columns, frames = loaded.version.signature.features, []
    size = world.folder.spec.scoring.chunk_rows
    for chunk in _sample(world, loaded, rows):
        frames += [to_frame(chunk.slice(begin, size), columns) for begin in range(0, chunk.num_rows, size)]
    with threadpool_limits(1):
        begin = time.process_time()
        for frame in frames:
            loaded.estimator.predict_proba(frame)
        return time.process_time() - begin


def _sample(world: World, loaded: LoadedVersion, rows: int) -> Iterator[pa.Table]:
    """Yield the first rows in tables of about a million, each a whole number of chunks."""
    at_once = max(1, 1_000_000 // (size := world.folder.spec.scoring.chunk_rows)) * size
    query = f"SELECT {select_list(loaded.version.signature.features)} FROM bench.sample LIMIT {rows}"
    whole = _read(world.db, query)
    yield from (whole.slice(begin, at_once) for begin in range(0, whole.num_rows, at_once))


def _read(db: Database, query: str) -> pa.Table:
    with db.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetch_arrow_table()


def _copy_in_cpu(world: World, rows: int) -> float:
    """Return CPU seconds to send predictions that are in memory to a table without keys and constraints."""
    parent = f"ponte_data.prediction_{world.folder.name}"
    batch = world.ask("SELECT batch_id FROM ponte.published WHERE model = :model", model=world.folder.name)
    ready = _read(world.db, f"SELECT * FROM {parent} WHERE batch_id = {batch:d} LIMIT {rows:d}")
    world.execute(f"CREATE TABLE bench.copied AS SELECT * FROM {parent} WITH NO DATA")
    with world.db.adbc() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        both = [psutil.Process(), psutil.Process(cursor.fetchone()[0])]
        before = _cpu(both)
        cursor.adbc_ingest("copied", ready, mode="append", db_schema_name="bench")
        connection.commit()
        seconds = _cpu(both) - before
    world.execute("DROP TABLE bench.copied")
    return seconds


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))
