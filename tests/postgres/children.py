"""Steps in processes of their own, which tests kill: by SIGKILL, at a statement or in the middle of one.

The processes are forked from a server that has everything imported and no connection, so that one costs 30 ms.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.sample_model import World

import ponte

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

    def kill(self) -> None:
        """End the process as the kernel's out-of-memory killer does."""
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.ending() == "killed"


def in_child(
    world: World, method: str, *arguments: Any, mischief: Callable[[], None] | None = None, **named: Any
) -> Child:
    """Start `world.method(…)` in a process, after `mischief()`, a picklable function that prepares its death there."""
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
    method: str,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    from upath import UPath

    from ponte.artifacts import ArtifactStore
    from ponte.catalog import load_folder
    from ponte.database import Database

    url, artifacts, folder = where
    world = World(db=Database(url), store=ArtifactStore(UPath(artifacts)), folder=load_folder(Path(folder)))
    if mischief is not None:
        mischief()
    try:
        getattr(world, method)(*arguments, **named)
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


# ---------------------------------------------------------------- mischief


@dataclass(frozen=True)
class DieAtStatement:
    """SIGKILL this process when it is about to send its n-th statement or COMMIT (from 1), on whichever connection."""

    number: int

    def __call__(self) -> None:
        import sqlalchemy as sa
        from adbc_driver_manager import dbapi

        seen = 0

        def count(*_: object, **__: object) -> None:
            nonlocal seen
            seen += 1
            if seen == self.number:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(sa.Engine, "before_cursor_execute", count)
        sa.event.listen(sa.Engine, "commit", count)
        for owner, name in ((dbapi.Cursor, "execute"), (dbapi.Cursor, "adbc_ingest"), (dbapi.Connection, "commit")):
            setattr(owner, name, _counted(getattr(owner, name), count))


def _counted(function: Callable[..., Any], count: Callable[[], None]) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        count()
        return function(*arguments, **named)

    return counted


@dataclass(frozen=True)
class DieAfterCommit:
    """SIGKILL this process right after its n-th COMMIT (from 1): the database knows, nobody was told."""

    number: int

    def __call__(self) -> None:
        from sqlalchemy.dialects.postgresql import psycopg2

        commit, seen = psycopg2.PGDialect_psycopg2.do_commit, 0

        def commit_and_die(*arguments: Any) -> None:
            nonlocal seen
            commit(*arguments)
            seen += 1
            if seen == self.number:
                os.kill(os.getpid(), signal.SIGKILL)

        psycopg2.PGDialect_psycopg2.do_commit = commit_and_die


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
        from ponte.versions import LoadedVersion

        predict, seen = LoadedVersion.predict, 0

        def predict_or_sleep(loaded: LoadedVersion, rows: Any) -> Any:
            nonlocal seen
            # Loading a version predicts its golden rows first; those are no chunk.
            seen += "visit_id" in rows.schema.names
            if seen == self.number:
                self.sign.touch()
                wait_for(lambda: self.sign.with_suffix(".go").exists())
            return predict(loaded, rows)

        LoadedVersion.predict = predict_or_sleep


@dataclass(frozen=True)
class DieWhileWriting:
    """SIGKILL this process while it writes a version: the artifact folder stands, the registry row does not."""

    def __call__(self) -> None:
        from ponte.artifacts import ArtifactStore

        write = ArtifactStore.write_folder

        def write_and_die(*arguments: Any) -> None:
            write(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        ArtifactStore.write_folder = write_and_die


@dataclass(frozen=True)
class LookForTheClientOften:
    """Let the server notice within a moment, not within ten seconds, that this process is gone."""

    def __call__(self) -> None:
        from ponte.database import SESSION

        interval = "client_connection_check_interval="
        assert f"{interval}10s" in SESSION["options"]
        SESSION["options"] = SESSION["options"].replace(f"{interval}10s", f"{interval}100ms")
