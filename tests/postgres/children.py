"""Steps in processes of their own, which tests kill: by SIGKILL, at a crash point or in the middle of a statement.

The processes are forked from a server that has everything imported and no connection, so that one costs 30 ms.

A crash point is a place between two statements or commits. `observe` tells of each one that a step passes, from
outside: the library has no hook for it, so in production it costs nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.sample_model import NEXT_WEEK, NOW, World

import ponte
from ponte.batches import lifecycle as batches
from ponte.scoring.plan import Shard, plan_shards, split_pages
from ponte.scoring.shards import score_shard
from ponte.storage.database import transient_faults_marked

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.postgres.preload"])
#: Long enough for a busy machine, short enough for a hanging test.
PATIENCE = 20.0


@dataclass(frozen=True)
class Child:
    """A process that runs one method of a world."""

    process: ForkServerProcess
    report: Path

    def ending(self) -> str:
        """Wait for the end and return how it came: "done", "killed", or the name of the exception."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, "the child hangs"
        if self.process.exitcode == -signal.SIGKILL:
            return "killed"
        return self.report.read_text()

    def go_on(self) -> None:
        """Let the process go on after SIGSTOP, if it is still there."""
        if self.process.is_alive():
            os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process as the kernel's out-of-memory killer does."""
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.ending() == "killed"


def in_child(
    world: World,
    method: str | Callable[..., object],
    *arguments: Any,
    mischief: Callable[[], None] | None = None,
    **named: Any,
) -> Child:
    """Start `world.method(…)`, or `method(world, …)`, in a process.

    mischief : a picklable function that is called there first, and prepares the death of the process.
    """
    report = Path(world.store.root.path).parent / f"child-{time.monotonic_ns()}"
    where = (
        str(world.db.url.render_as_string(hide_password=False)),
        str(world.store.root.path),
        str(world.folder.path),
    )
    return Child(process_of(_run, where, report, mischief, method, arguments, named), report)


def process_of(function: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """Start `function(*arguments)` in a process."""
    _start_server()
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


@cache
def _start_server() -> None:
    """Start the server that forks; Python 3.11 preloads nothing that it does not find on PYTHONPATH."""
    paths = [str(Path(ponte.__file__).parents[1]), str(Path(__file__).parents[2])]
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(paths)):
        forkserver.ensure_running()


def _run(  # noqa: PLR0917 - called by process_of, which passes no names
    where: tuple[str, str, str],
    report: Path,
    mischief: Callable[[], None] | None,
    method: str | Callable[..., object],
    arguments: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    from upath import UPath

    from ponte.model.folders import load_folder
    from ponte.storage.artifacts import ArtifactStore
    from ponte.storage.database import Database

    url, artifacts, folder = where
    world = World(db=Database(url), store=ArtifactStore(UPath(artifacts)), folder=load_folder(Path(folder)))
    if mischief is not None:
        mischief()
    try:
        if isinstance(method, str):
            getattr(world, method)(*arguments, **named)
        else:
            method(world, *arguments, **named)
    except Exception as error:  # noqa: BLE001 - the parent asks which
        report.write_text(type(error).__name__)
    else:
        report.write_text("done")


def wait_for(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


# ---------------------------------------------------------------- the scoring flow, as its tasks run it

#: `World.score` does what two tasks do.
FLOW = ("freeze", "check", "plan", "score", "guard", "publish", "clean")


def run_step(
    world: World, step: str, batch_id: int | None, *, run_id: str, shards: Sequence[Shard] | None = None
) -> int:
    """Run one step for NEXT_WEEK as its task does, passing faults marked; return the id of the batch.

    shards : what `plan` has returned, as XCom hands it to the score tasks.
    """
    with transient_faults_marked():
        if step == "freeze":
            return world.freeze(run_id=run_id, week=NEXT_WEEK).batch_id
        assert batch_id is not None
        if step == "plan":
            plan_shards(world.db, world.folder, batch_id)
        elif step == "score":
            for shard in shards or shards_of(world, batch_id):
                score_shard(world.db, world.store, world.folder, batch_id, shard, now=NOW)
        else:
            getattr(world, step)(batch_id)
    return batch_id


def shards_of(world: World, batch_id: int) -> list[Shard]:
    """Return what `plan` returns for a batch that is not empty."""
    batch = batches.get_batch(world.db, batch_id)
    assert batch.row_count is not None
    assert batch.page_count is not None
    rows = world.folder.spec.scoring.shard_rows
    return split_pages(row_count=batch.row_count, page_count=batch.page_count, shard_rows=rows)


def run_flow(
    world: World,
    *,
    run_id: str,
    first: str = "freeze",
    batch_id: int | None = None,
    shards: Sequence[Shard] | None = None,
) -> int:
    """Run the steps from `first` on for NEXT_WEEK; return the id of the batch. Without `shards` they are asked for."""
    for step in FLOW[FLOW.index(first) :]:
        batch_id = run_step(world, step, batch_id, run_id=run_id, shards=shards)
    assert batch_id is not None
    return batch_id


# ---------------------------------------------------------------- crash points

_VERB = re.compile(r"(CREATE(?: OR REPLACE)?(?: TEMPORARY)? \w+|COMMENT ON \w+|(?:DROP|ALTER) \w+|\w+)", re.IGNORECASE)
_RELATION = re.compile(
    r"\b(?:FROM|INTO|UPDATE|TABLE|VIEW|COLUMN|ANALYZE|COPY)\b[ (]*(?:IF (?:NOT )?EXISTS )?"
    r"(?!SELECT\b)((?:[a-z_]\w*\.)?[a-z_]\w*)",
    re.IGNORECASE,
)


def head(statement: str) -> str:
    """Return the verb of a statement and the first relation it names, without its values and numbers.

    >>> head('INSERT INTO "ponte_data"."visits__frozen_12" SELECT 1')
    'INSERT ponte_data.visits__frozen_N'
    >>> head("SELECT ponte.is_bad(%(model)s, 'x')")
    'SELECT ponte.is_bad(?, ?)'
    """
    text = " ".join(re.sub(r"--.*", "", statement).split())
    text = re.sub(r"%\(\w+\)s|'[^']*'|\b\d+\b", "?", text.replace('"', "").replace(" . ", "."))
    verb = _VERB.match(text)
    assert verb, statement
    relations = _RELATION.findall(text)
    # Functions and common table expressions have no dot; what people look for has one.
    named = next((r for r in relations if "." in r), relations[0] if relations else None)
    what = named or text[verb.end() :][:60].strip()
    return re.sub(r"\d+", "N", f"{verb[0]} {what}".strip())


def observe(step: str, tell: Callable[[str], None]) -> None:
    """Call `tell(name)` at every crash point that this process passes from now on.

    The control plane: before each statement and COMMIT, and after each COMMIT. The data plane: the same, and each time
    that one of the threads that read, predict and write hands a chunk over or takes one. A name is the step, the
    thread unless it is the main one, a number within these, and what comes next.
    """
    numbers: Counter[str] = Counter()

    def point(what: str) -> None:
        thread = threading.current_thread().name
        place = f"{step} {thread}" if thread in _THREADS.values() else step
        numbers[place] += 1
        tell(f"{place} {numbers[place]:02d} {what}")

    _observe_control_plane(point)
    _observe_data_plane(point)
    _observe_chunks(point)


def _around(owner: Any, name: str, point: Callable[[str], None], before: Callable[..., str], after: str = "") -> None:
    function = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        point(before(*arguments, **named))
        result = function(*arguments, **named)
        if after:
            point(after)
        return result

    setattr(owner, name, wrapped)


def _observe_control_plane(point: Callable[[str], None]) -> None:
    import sqlalchemy as sa
    from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

    def before_statement(_: object, __: object, statement: str, ___: object, ____: object, many: bool) -> None:
        if not many:
            point(f"before {head(statement)}")

    def execute_many(_: object, cursor: Any, statement: str, rows: Any, __: object = None) -> None:
        for row in rows:  # as psycopg2 does it
            point(f"before {head(statement)}")
            cursor.execute(statement, row)

    sa.event.listen(sa.Engine, "before_cursor_execute", before_statement)
    PGDialect_psycopg2.do_executemany = execute_many
    _around(PGDialect_psycopg2, "do_commit", point, lambda *_: "before COMMIT", "after COMMIT")


def _observe_data_plane(point: Callable[[str], None]) -> None:
    from adbc_driver_manager import dbapi

    plane = "the data plane"

    def ingest(_: object, table: str, *__: object, db_schema_name: str, **___: object) -> str:
        return f"before {head(f'COPY {db_schema_name}.{table}')} on {plane}"

    commit = f"COMMIT of {plane}"
    _around(dbapi.Connection, "commit", point, lambda *_: f"before {commit}", f"after {commit}")
    _around(dbapi.Cursor, "execute", point, lambda _, statement, **__: f"before {head(statement)} on {plane}")
    _around(dbapi.Cursor, "adbc_ingest", point, ingest)


#: The threads of a shard, by what they iterate over.
_THREADS = {"_chunks": "reader", "_predictions": "predictor"}


def _observe_chunks(point: Callable[[str], None]) -> None:
    from ponte.scoring.ahead import Ahead

    begin, received = Ahead.__init__, Ahead._received

    def begin_named(ahead: Any, items: Any, **named: Any) -> None:
        begin(ahead, items, **named)
        ahead._thread.name = _THREADS[items.__name__]

    def received_observed(ahead: Any) -> Iterator[Any]:
        for item in received(ahead):
            point(f"has a chunk from the {ahead._thread.name}")
            yield item

    Ahead.__init__, Ahead._received = begin_named, received_observed
    _around(Ahead, "_put", point, lambda ahead, _: f"before handing on what the {ahead._thread.name} has made")


@dataclass(frozen=True)
class Record:
    """Write the name of every crash point that this process passes to a file."""

    step: str
    file: Path

    def __call__(self) -> None:
        def write(name: str) -> None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")

        observe(self.step, write)


@dataclass(frozen=True)
class At:
    """At the crash point `name`: SIGKILL or SIGSTOP this process, or, without a signal, wait.

    It waits until the file `sign` + ".go" is there; `sign` itself says that the point was reached.
    """

    step: str
    name: str
    sign: Path
    signal: int | None = None

    def __call__(self) -> None:
        def act(name: str) -> None:
            if name != self.name:
                return
            self.sign.touch()
            if self.signal is not None:
                os.kill(os.getpid(), self.signal)
            else:
                wait_for(self.sign.with_suffix(".go").exists)

        observe(self.step, act)


# ---------------------------------------------------------------- mischief


@dataclass(frozen=True)
class DieAtShardCommit:
    """SIGKILL this process when it is about to commit for the n-th time (from 1) on the data plane."""

    number: int

    def __call__(self) -> None:
        from adbc_driver_manager import dbapi

        commit, seen = dbapi.Connection.commit, 0

        def die_or_commit(connection: dbapi.Connection) -> None:
            nonlocal seen
            seen += 1
            if seen == self.number:
                os.kill(os.getpid(), signal.SIGKILL)
            commit(connection)

        dbapi.Connection.commit = die_or_commit


@dataclass(frozen=True)
class StopInChunk:
    """Say "I am in chunk n" (from 1) by making the file `sign`, then sleep; earlier chunks are on their way."""

    number: int
    sign: Path

    def __call__(self) -> None:
        from ponte.versions.loading import LoadedVersion

        predict, seen = LoadedVersion.predictions, 0

        def predict_or_sleep(loaded: LoadedVersion, rows: Any) -> Any:
            nonlocal seen
            # Loading a version predicts its golden rows first; those are no chunk.
            seen += "visit_id" in rows.schema.names
            if seen == self.number:
                self.sign.touch()
                wait_for(lambda: self.sign.with_suffix(".go").exists())
            return predict(loaded, rows)

        LoadedVersion.predictions = predict_or_sleep


@dataclass(frozen=True)
class DieWhileWriting:
    """SIGKILL this process while it writes a version: the artifact folder stands, the registry row does not."""

    def __call__(self) -> None:
        from ponte.storage.artifacts import ArtifactStore

        write = ArtifactStore.write_folder

        def write_and_die(*arguments: Any) -> None:
            write(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        ArtifactStore.write_folder = write_and_die


@dataclass(frozen=True)
class LookForTheClientOften:
    """Let the server notice within a moment, not within ten seconds, that this process is gone."""

    def __call__(self) -> None:
        from ponte.storage.database import SESSION

        interval = "client_connection_check_interval="
        assert f"{interval}10s" in SESSION["options"]
        SESSION["options"] = SESSION["options"].replace(f"{interval}10s", f"{interval}100ms")
