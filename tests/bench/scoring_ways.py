"""The ways to score that the benchmark holds side by side. Every figure leaves process start and imports out."""

from __future__ import annotations

import datetime as dt
import importlib
import inspect
import io
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

import pandas as pd
import psutil
import sqlalchemy as sa
from tests.bench.scoring_cases import Server
from tests.sample_model import WEEK, World
from upath import UPath

from ponte.batches.lifecycle import Batch
from ponte.model.folders import load_folder
from ponte.scoring.plan import Shard, plan_shards
from ponte.scoring.shards import score_shard
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.versions.loading import LoadedVersion, load_version

CORES = os.cpu_count() or 1
NAIVE_ROWS = 50_000
#: Seconds after which a worker that did not come up is given up.
_START_TIMEOUT = 300


class WrongResultError(Exception):
    """What was written is not what should have been; figures of such a run mean nothing."""


# ---------------------------------------------------------------- Ponte


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker process needs to score shards."""

    url: str
    artifacts: str
    folder: Path
    batch_id: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Worked:
    """What one worker process did."""

    rows: int
    begin: float
    end: float
    cpu: float
    #: Of the whole machine meanwhile.
    machine_cpu: float
    start_rss: int
    peak_rss: int


@dataclass(kw_only=True)
class Flow:
    """One run of the whole scoring flow."""

    workers: int
    rows: int
    shards: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    worker_cpu: float = 0.0
    server_cpu: float = 0.0
    #: What neither the workers nor the server used while they scored: much of it means that the figures are too low.
    other_cpu: float = 0.0
    start_rss: int = 0
    peak_rss: int = 0

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds["score"]

    @property
    def share(self) -> float:
        """Seconds of what stands around scoring, per second of scoring."""
        return sum(self.seconds[step] for step in ("freeze", "check", "publish")) / self.seconds["score"]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note the seconds of a step."""
        begin = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - begin


def run_flow(server: Server, world: World, rows: int, workers: int) -> Flow:
    """Freeze, check, score, guard and publish the week; raises WrongResultError unless all of it is there."""
    flow = Flow(workers=workers, rows=rows)
    with flow.timed("freeze"):
        batch = world.freeze(run_id=f"{workers} workers")
    with flow.timed("check"):
        world.check(batch.batch_id)
    with flow.timed("plan"):
        shards = plan_shards(world.db, world.folder, batch.batch_id)
    server.execute("CHECKPOINT")
    cpu, busy = server.cpu_seconds(), min(workers, len(shards))
    worked = _score(job_of(world, batch, workers=busy), shards, busy)
    flow.server_cpu = server.cpu_seconds() - cpu
    flow.shards = len(shards)
    flow.seconds["score"] = max(w.end for w in worked) - min(w.begin for w in worked)
    flow.worker_cpu = sum(w.cpu for w in worked)
    flow.other_cpu = max(0.0, max(w.machine_cpu for w in worked) - flow.worker_cpu - flow.server_cpu)
    flow.start_rss, flow.peak_rss = max(w.start_rss for w in worked), max(w.peak_rss for w in worked)
    with flow.timed("guard"):
        world.guard(batch.batch_id)
    with flow.timed("publish"):
        world.publish(batch.batch_id)
    require_whole(world, rows)
    world.clean(batch.batch_id)
    return flow


def require_whole(world: World, rows: int) -> None:
    """Raise WrongResultError unless readers see exactly the keys of the source."""
    sums = "SELECT count(*), bit_xor(hashint8extended(event_id, 0)), sum(event_id) FROM"
    expected = world.rows(f"{sums} bench.event WHERE day >= :week", week=WEEK)
    got = world.rows(f"{sums} predictions.{world.folder.name} WHERE window_start = :week", week=WEEK)
    if got != expected or got[0][0] != rows:
        raise WrongResultError(f"published {got}, source {expected}, asked for {rows} rows")


def job_of(world: World, batch: Batch, *, workers: int) -> Job:
    """Return what the worker processes need for the batch."""
    return Job(
        url=world.db.url.render_as_string(hide_password=False),
        artifacts=str(world.store.root),
        folder=world.folder.path,
        batch_id=batch.batch_id,
        threads=max(1, CORES // workers),
    )


def _score(job: Job, shards: Sequence[Shard], workers: int) -> list[Worked]:
    """Deal the shards out to fresh worker processes, which begin at the same moment."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_hold, initargs=(barrier,)) as pool:
        # A worker that waits at the barrier takes no second share, so each process gets one.
        shares = [pool.submit(work, job, shards[n::workers]) for n in range(workers)]
        return [share.result() for share in shares]


_barrier: Barrier | None = None


def _hold(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - a barrier reaches a process only while it starts
    _barrier = barrier


def work(job: Job, shards: Sequence[Shard]) -> Worked:
    """Score the shards one after the other, in a worker process that has everything imported by then."""
    import_all()
    if _barrier is not None:
        _barrier.wait(_START_TIMEOUT)
    start_rss, machine, cpu, begin = _peak_rss(), _machine_cpu(), time.process_time(), time.perf_counter()
    rows = sum(score_one(job, shard) for shard in shards)
    end = time.perf_counter()
    return Worked(
        rows=rows,
        begin=begin,
        end=end,
        cpu=time.process_time() - cpu,
        machine_cpu=_machine_cpu() - machine,
        start_rss=start_rss,
        peak_rss=_peak_rss(),
    )


def score_one(job: Job, shard: Shard) -> int:
    """Call the inner function of the score task."""
    takes_threads = "threads" in inspect.signature(score_shard).parameters
    more: dict[str, Any] = {"threads": job.threads} if takes_threads else {}
    store, folder = ArtifactStore(UPath(job.artifacts)), load_folder(job.folder)
    now = dt.datetime.now(dt.UTC)
    return score_shard(Database(job.url), store, folder, job.batch_id, shard, now=now, **more)


def import_all() -> None:
    """Import what scoring imports by the way: a task pays for it too, once, but it says nothing about rows."""
    drivers = ("adbc_driver_postgresql.dbapi", "sqlalchemy.dialects.postgresql.psycopg2", "psycopg2.extras")
    for name in (*drivers, "joblib", "pyarrow.parquet", "sklearn.ensemble", "sklearn.pipeline"):
        importlib.import_module(name)


def _machine_cpu() -> float:
    """Return the busy CPU seconds of all cores since the machine started."""
    times = psutil.cpu_times()._asdict()
    guest = ("guest", "guest_nice")  # counted in user and nice too
    return float(sum(spent for name, spent in times.items() if name not in ("idle", "iowait", *guest)))


def _peak_rss() -> int:
    """Return the peak RSS of this process in KiB. ru_maxrss would count the parent's before exec too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# ---------------------------------------------------------------- by hand


def load(world: World) -> LoadedVersion:
    """Return the champion, ready to predict."""
    return load_version(world.store, world.champion())


def naive(world: World, loaded: LoadedVersion, rows: int, driver: str) -> float:
    """Return rows per second of what pandas does by default, on the first NAIVE_ROWS.

    driver : "postgresql" for the one that SQLAlchemy 2.1 takes by itself, psycopg 3; "postgresql+psycopg2".
    """
    rows = min(rows, NAIVE_ROWS)
    engine = sa.create_engine(world.db.url.set(drivername=driver), poolclass=sa.NullPool)
    with engine.connect():
        pass  # the import of the driver is no part of it
    begin = time.perf_counter()
    frame = pd.read_sql(f"SELECT * FROM bench.sample LIMIT {rows}", engine)
    features = frame.drop(columns="event_id")
    out = _prediction_rows(frame["event_id"])
    out["prediction"] = loaded.estimator.predict(features)
    out["score"] = loaded.estimator.predict_proba(features)[:, 1]
    out.to_sql("naive", engine, schema="bench", index=False)
    seconds = time.perf_counter() - begin
    _require_same(world, "bench.naive", rows)
    return rows / seconds


def _prediction_rows(keys: pd.Series[int]) -> pd.DataFrame:
    """Return the columns beside prediction and score that a row needs to be told from those of another run."""
    return pd.DataFrame({"batch_id": 1, "window_start": WEEK, "event_id": keys, "scored_at": pd.Timestamp.now("UTC")})


def handwritten(world: World, loaded: LoadedVersion) -> tuple[int, float]:
    """Return rows of bench.sample, and rows per second of COPY → CSV → pandas → CSV → COPY."""
    world.execute(
        "CREATE TABLE bench.handwritten (batch_id bigint, window_start date, event_id bigint, scored_at timestamptz, "
        "prediction bigint, score double precision)"
    )
    begin = time.perf_counter()
    frame = pd.read_csv(_copy_out(world.db, "COPY bench.sample TO STDOUT (FORMAT csv, HEADER)"))
    score = loaded.estimator.predict_proba(frame.drop(columns="event_id"))[:, 1]
    out = _prediction_rows(frame["event_id"])
    out["prediction"], out["score"] = (score > 0.5).astype(int), score
    _copy_in(world.db, "COPY bench.handwritten FROM STDIN (FORMAT csv)", out)
    seconds = time.perf_counter() - begin
    _require_same(world, "bench.handwritten", len(frame))
    return len(frame), len(frame) / seconds


def _copy_out(db: Database, statement: str) -> io.BytesIO:
    buffer = io.BytesIO()
    with db.begin() as connection:
        connection.connection.cursor().copy_expert(statement, buffer)
    buffer.seek(0)
    return buffer


def _copy_in(db: Database, statement: str, frame: pd.DataFrame) -> None:
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, header=False)
    buffer.seek(0)
    with db.begin() as connection:
        connection.connection.cursor().copy_expert(statement, buffer)


def _require_same(world: World, table: str, rows: int) -> None:
    """Drop the table; raises WrongResultError unless it holds what Ponte has published for the same keys.

    read_csv rounds the last bit of a number, which may move a row across a split of a tree.
    """
    query = (
        f"SELECT count(*), avg(abs(mine.score - theirs.score)), avg((mine.prediction <> theirs.prediction)::int) "
        f"FROM {table} AS mine JOIN predictions.{world.folder.name} AS theirs USING (event_id) "
        f"WHERE theirs.window_start = :week"
    )
    [(count, far, other)] = world.rows(query, week=WEEK)
    if count != rows or far > 1e-6 or other > 1e-4:
        raise WrongResultError(f"{table}: {count} of {rows} rows, scores differ by {far}, predictions by {other}")
    world.execute(f"DROP TABLE {table}")
