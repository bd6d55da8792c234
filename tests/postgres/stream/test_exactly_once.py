"""Each request is answered once, or set aside once, wherever a worker ends; nothing ends them for ever."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import rotation
from tests.conftest import Cluster
from tests.postgres.children import At, Record, in_child, wait_for
from tests.postgres.stream.waiting import (
    answers,
    as_role,
    assert_each_once,
    enqueue,
    enqueue_many,
    list_of,
    notes,
    open_queue,
    set_aside,
    waiting,
    worker_of,
)
from tests.sample_model import World

from ponte.schema import roles
from ponte.stream import taking, worker
from ponte.versions.loading import LoadedVersion

#: Two takes.
COUNT, MOST = 8, 5


def work_off(world: World) -> None:
    """Answer what waits; which statements that takes does not depend on how long it takes."""
    worker.PROGRESS = worker.FOLDERS = 1e9
    working = worker_of(world, most=MOST)
    while working.step():
        pass


def ask_again(world: World) -> None:
    """Put the same requests into the queue again, whose answers are gone."""
    world.execute("TRUNCATE ponte_data.live_visits, ponte.stream_take")
    enqueue_many(world, COUNT)


def test_killed_before_any_statement_or_after_any_commit_nothing_is_lost_or_doubled(
    trained: World, server: Cluster, tmp_path: Path
) -> None:
    """By SIGKILL, or by the end of its sessions, which it survives. The points are those of an undisturbed run."""
    file = tmp_path / "points"
    open_queue(trained)
    enqueue_many(trained, COUNT)
    assert in_child(trained, work_off, mischief=Record("work", file)).ending() == "done"
    assert_each_once(trained, COUNT)
    points = file.read_text(encoding="utf-8").splitlines()
    of_takes = [n for n, point in enumerate(points) if "ponte.request" in point or "ponte.stream_take" in point]
    takes = points[of_takes[0] :]
    assert sum("after COMMIT" in point for point in takes) >= 2
    chosen = rotation.turn([(p, way) for p in points for way in ("SIGKILL", "sessions")], rotation.number())
    chosen += [(takes[n], "SIGKILL") for n in range(rotation.number() % 4, len(takes), 4)]
    for number, (point, way) in enumerate(chosen):
        ask_again(trained)
        sign = tmp_path / f"sign-{number}"
        child = in_child(
            trained, work_off, mischief=At("work", point, sign, signal.SIGKILL if way == "SIGKILL" else None)
        )
        if way == "SIGKILL":
            assert child.ending() == "killed"
        else:
            wait_for(sign.exists)
            end_sessions(trained, server)
            sign.with_suffix(".go").touch()
            assert child.ending() in {"done", "OperationalError", "InterfaceError"}
        assert waiting(trained) + len(answers(trained)) == COUNT, point
        work_off(trained)
        assert_each_once(trained, COUNT)


def end_sessions(world: World, server: Cluster) -> None:
    """End all sessions of workers."""
    server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{world.db.url.database}' AND usename = '{roles.STREAM}'"
    )


@dataclass(frozen=True)
class Poisonous:
    """A row with items = 66 kills the process that predicts it, as a fault of a library in C does."""

    def __call__(self) -> None:
        predict = LoadedVersion.predictions

        def predict_or_die(loaded: LoadedVersion, rows: Any) -> Any:
            if 66 in list_of(rows.column("items")):
                os.kill(os.getpid(), signal.SIGKILL)
            return predict(loaded, rows)

        LoadedVersion.predictions = predict_or_die


def test_a_row_that_kills_workers_is_set_aside_after_four_and_no_other(trained: World) -> None:
    """The first death is of all that were taken with it, the last two of it alone."""
    open_queue(trained)
    enqueue_many(trained, 2)
    poison = enqueue(trained, items=66)
    trained.execute("UPDATE ponte.request SET key = '{\"visit_id\": 3}' WHERE features->>'items' = '66'")
    endings = []
    while waiting(trained):
        endings.append(in_child(trained, work_off, mischief=Poisonous()).ending())
        assert len(endings) < 10
    assert endings.count("killed") == taking.DEATHS
    assert set_aside(trained, "request_id::text, kind, features->>'items'") == [(poison, "ends its worker", "66")]
    assert "4 workers have died" in set_aside(trained)[0][2]
    assert sorted(answers(trained, "visit_id")) == [1, 2]
    worker_of(trained)  # and its notes are swept
    trained.execute("UPDATE ponte.stream_take SET at = at - interval '1 hour'")
    with trained.db.begin() as connection:
        taking.sweep(connection)
    assert notes(trained) == 0


def test_what_nobody_foresaw_is_found_in_the_same_way_without_a_death(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_queue(trained)
    enqueue_many(trained, 40)
    poison = enqueue(trained, items=66)
    from ponte.stream import answers as writing

    answer = writing.answer

    def fail(scorer: Any, rows: Any) -> Any:
        if 66 in list_of(rows.column("items")):
            raise ZeroDivisionError
        return answer(scorer, rows)

    monkeypatch.setattr(writing, "answer", fail)
    working = worker_of(trained)
    for _ in range(20):
        working.step()
    assert waiting(trained) == 0
    assert [row[:2] for row in set_aside(trained)] == [(poison, "ends its worker")]
    assert sorted(answers(trained, "visit_id")) == list(range(1, 41))


def test_two_workers_share_what_waits(trained: World) -> None:
    open_queue(trained)
    enqueue_many(trained, 600)
    workers = [worker_of(trained, most=20) for _ in range(2)]
    ends = [threading.Thread(target=until_empty, args=(trained, w)) for w in workers]
    for end in ends:
        end.start()
    for end in ends:
        end.join()
    assert_each_once(trained, 600)
    assert notes(trained) == 0


def until_empty(world: World, working: worker.Worker) -> None:
    while waiting(world):
        working.step()


def test_a_worker_waits_for_a_database_that_is_away_and_goes_on(
    trained: World, server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions are ended, and for a while it gets no others."""
    monkeypatch.setattr(worker, "FIRST_WAIT", 0.01)
    open_queue(trained)
    stop = threading.Event()
    working = worker_of(trained)
    running = threading.Thread(target=working.run, args=(stop,))
    running.start()
    try:
        enqueue_many(trained, 3)
        wait_for(lambda: not waiting(trained))
        cut_off(trained, server)
        wait_for(lambda: not waiting(trained))
        assert running.is_alive()
    finally:
        stop.set()
        running.join()
    assert_each_once(trained, 4)


def cut_off(world: World, server: Cluster) -> None:
    """For a moment workers have no database, and something is put into the queue."""
    server.execute(f"ALTER ROLE {roles.STREAM} CONNECTION LIMIT 0")
    try:
        end_sessions(world, server)
        enqueue(world, key={"visit_id": 4})
        time.sleep(0.3)
        assert waiting(world) == 1
    finally:
        server.execute(f"ALTER ROLE {roles.STREAM} CONNECTION LIMIT -1")


@dataclass(frozen=True)
class Slow:
    """Says that it predicts, by making the file `sign`, and goes on when `sign` + ".go" is there."""

    sign: Path

    def __call__(self) -> None:
        predict = LoadedVersion.predictions

        def predict_slowly(loaded: LoadedVersion, rows: Any) -> Any:
            if "visit_id" in rows.schema.names:  # the golden rows have no key
                self.sign.touch()
                wait_for(self.sign.with_suffix(".go").exists)
            return predict(loaded, rows)

        LoadedVersion.predictions = predict_slowly


def test_sigterm_lets_a_worker_finish_what_it_took(trained: World, tmp_path: Path) -> None:
    open_queue(trained)
    enqueue_many(trained, COUNT)
    sign = tmp_path / "sign"
    child = in_child(trained, run_as_command, mischief=Slow(sign))
    wait_for(sign.exists)
    os.kill(child.process.pid, signal.SIGTERM)
    time.sleep(0.1)
    sign.with_suffix(".go").touch()
    assert child.ending() == "done"
    assert len(answers(trained)) == MOST
    assert waiting(trained) == COUNT - MOST
    assert notes(trained) == 0


def run_as_command(world: World) -> None:
    """Work as `./ponte work` does."""
    db = as_role(world, roles.STREAM).db
    folder = world.folder.path / "model.toml"
    folder.write_text(folder.read_text() + "[serving]\napi = true\n")
    worker.run(db, world.store, world.folder.path.parent, most=MOST)
