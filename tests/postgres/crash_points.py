"""Which crash points a test run kills at, in which way, and what has to hold then.

crash_points.txt names every place between two statements or commits of a scoring run; test_crash_points.py holds the
list against the library. Until a transaction commits, nothing of it is there: wherever it is killed, the tables are
the same, and after its COMMIT they are the others. So every run kills every transaction, and what takes turns is where
in it and how (tests/rotation.py): before one of its statements, before its COMMIT, after it, or, where threads read,
predict and write, when one hands a chunk over.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from tests import rotation
from tests.conftest import Cluster
from tests.postgres.children import At, in_child, run_flow, run_step, wait_for
from tests.postgres.stages import RUN, Stages
from tests.sample_model import World

FILE = Path(__file__).with_name("crash_points.txt")
POINTS = FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []

#: `immediate` ends the whole server, so it has a file of its own: test_server_crash.py.
SERVER = "immediate"
WAYS = ("SIGKILL", "pg_terminate_backend", SERVER)


def transactions(points: Sequence[str]) -> list[list[str]]:
    """Return the points, cut after every COMMIT; the threads that hand chunks over commit nothing and are one each."""
    found: list[list[str]] = []
    place, committed = None, True
    for point in points:
        before, place = place, place_of(point)
        if committed or place != before:
            found.append([])
        found[-1].append(point)
        committed = " after COMMIT" in point
    return found


def place_of(point: str) -> str:
    """Return the step of a point, and its thread unless that is the main one.

    >>> place_of("score reader 01 before SELECT ponte_data.visits__frozen_N on the data plane")
    'score reader'
    """
    found = re.match(r"(\D+) \d+ ", point)
    assert found, point
    return found[1]


def chosen(points: Sequence[str], number: int) -> list[tuple[str, str]]:
    """Return the points that run `number` kills at, each with the way.

    At least one of every transaction; in rotation.RUNS runs every point in every way. Transactions that follow each
    other are in different ways in one run.
    """
    found = []
    for shift, transaction in enumerate(transactions(points)):
        found += rotation.turn([(point, way) for point in transaction for way in WAYS], number + shift)
    return found


def some_of_each_step(points: Sequence[str], number: int) -> list[str]:
    """Return the points at which a zombie stands still in run `number`: in rotation.RUNS runs at every point."""
    steps = dict.fromkeys(point.split(maxsplit=1)[0] for point in points)
    return [p for step in steps for p in rotation.turn([p for p in points if p.startswith(f"{step} ")], number)]


def chosen_now() -> list[tuple[str, str]]:
    """Return the points of this run, or those that PONTE_CRASH_POINTS asks for, each with the way."""
    wanted = os.environ.get("PONTE_CRASH_POINTS", "")
    if wanted:
        return [(point, way) for point in POINTS for way in WAYS if wanted == "all" or wanted in point]
    return chosen(POINTS, rotation.number())


def kill_and_try_again(stages: Stages, server: Cluster, sign: Path, point: str, way: str) -> str:
    """Kill at a point, try again, and return how the worker that was killed has ended.

    Readers see the older batch or the newer one; after the retry all tables are those of the undisturbed run.
    """
    step = point.split(maxsplit=1)[0]
    with stages.before(step) as world:
        mischief = At(step, point, sign, signal.SIGKILL if way == "SIGKILL" else None)
        child = in_child(world, run_step, *stages.arguments(step), mischief=mischief, **stages.named(step))
        if way == "SIGKILL":
            ending = child.ending()
            assert ending == "killed"
        else:
            wait_for(sign.exists)
            _end_sessions(way, world, server)
            sign.with_suffix(".go").touch()
            ending = child.ending()
            assert ending in {"done", "DatabaseUnavailable"}
        stages.assert_readers_see_a_whole_batch(world)
        _, batch_id = stages.arguments(step)
        run_flow(world, run_id=RUN, first=step, batch_id=batch_id)
        stages.assert_as_undisturbed(world)
    return ending


def _end_sessions(way: str, world: World, server: Cluster) -> None:
    """End all sessions of the database, or the server."""
    if way == SERVER:
        server.crash_and_restart()
    else:
        world.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
