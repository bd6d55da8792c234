"""Every place between two statements or commits of a scoring run: killed there, and tried again, nothing is different.

crash_points.txt names the places. One test run kills at a sample of them; with PONTE_CRASH_POINTS=all at all of them,
with PONTE_CRASH_POINTS="guard 0" at those whose name contains that. With PONTE_CRASH_REPORT=report.md it writes what
came of each.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Cluster
from tests.postgres.children import FLOW, At, Record, head, in_child, run_flow, run_step, wait_for
from tests.postgres.stages import RUN, Stages
from tests.sample_model import World

FILE = Path(__file__).with_name("crash_points.txt")
POINTS = FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []
RECORD = "PONTE_RECORD_CRASH_POINTS=1 make test ARGS=tests/postgres/test_crash_points.py"

#: How to kill, and which part of the points a test run takes: one in so many, from a random one on.
WAYS = {"SIGKILL": 11, "pg_terminate_backend": 20, "immediate": 20}


def chosen() -> list[tuple[str, str]]:
    """Return the points to be killed at, each with the way."""
    wanted = os.environ.get("PONTE_CRASH_POINTS", "")
    if wanted:
        return [(point, way) for point in POINTS for way in WAYS if wanted == "all" or wanted in point]
    return [(point, way) for way, stride in WAYS.items() for point in POINTS[random.randrange(stride) :: stride]]  # noqa: S311


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, dict[str, str]]]:
    """What came of each point, by way; written at the end when PONTE_CRASH_REPORT says where."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    yield found
    if path := os.environ.get("PONTE_CRASH_REPORT"):
        lines = [f"| crash point | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
        lines += [
            f"| {point} | {' | '.join(found[point].get(way, '') for way in WAYS)} |"
            for point in POINTS
            if point in found
        ]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def kill(way: str, world: World, server: Cluster) -> None:
    """End all sessions of the database, or the server."""
    if way == "pg_terminate_backend":
        world.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    else:
        server.crash_and_restart()


@pytest.mark.parametrize(("point", "way"), chosen())
def test_killed_at_a_crash_point(  # noqa: PLR0917 - pytest passes names
    stages: Stages, server: Cluster, tmp_path: Path, report: dict[str, dict[str, str]], point: str, way: str
) -> None:
    """Readers see the older batch or the newer one; after a retry all tables are those of the undisturbed run.

    SIGKILL ends the worker. pg_terminate_backend ends its sessions, `immediate` the server: the worker lives on, and
    what it raises, if it minds at all, must be worth a retry.
    """
    step, sign = point.split(maxsplit=1)[0], tmp_path / "sign"
    report[point][way] = "FAILED"
    with stages.before(step) as world:
        mischief = At(step, point, sign, signal.SIGKILL if way == "SIGKILL" else None)
        child = in_child(world, run_step, *stages.arguments(step), mischief=mischief, **stages.named(step))
        if way == "SIGKILL":
            ending = child.ending()
            assert ending == "killed"
        else:
            wait_for(sign.exists)
            kill(way, world, server)
            sign.with_suffix(".go").touch()
            ending = child.ending()
            assert ending in {"done", "DatabaseUnavailable"}
        stages.assert_readers_see_a_whole_batch(world)
        _, batch_id = stages.arguments(step)
        run_flow(world, run_id=RUN, first=step, batch_id=batch_id)
        stages.assert_as_undisturbed(world)
    report[point][way] = ending


def test_an_undisturbed_run_passes_every_crash_point_and_no_other(
    stages: Stages, server: Cluster, tmp_path: Path
) -> None:
    """The list is complete: what the workers see is what it names, and what the server has executed too."""
    file = tmp_path / "points"
    with stages.before("freeze") as world:
        database = world.db.url.database
        server.execute(f"ALTER DATABASE {database} SET log_statement = 'all'")
        log = server._data / "server.log"
        begin = log.stat().st_size
        for step in FLOW:
            child = in_child(
                world, run_step, *stages.arguments(step), mischief=Record(step, file), **stages.named(step)
            )
            assert child.ending() == "done"
        with log.open(encoding="utf-8", errors="replace") as text:
            text.seek(begin)
            executed = statements(text.read())
        stages.assert_as_undisturbed(world)

    passed = sorted(file.read_text(encoding="utf-8").splitlines(), key=place)
    if os.environ.get("PONTE_RECORD_CRASH_POINTS"):
        FILE.write_text("\n".join(passed) + "\n", encoding="utf-8")
    known = FILE.read_text(encoding="utf-8").splitlines()
    assert passed == known, f"crash points have changed; if that was meant: {RECORD}"
    assert executed == Counter(filter(None, map(executed_at, known)))


def place(point: str) -> tuple[int, str, int]:
    """Return what sorts the points: the steps in order, in each the main thread first."""
    step, thread, number = re.match(r"(\w+) (\w*?) ?(\d+) ", point).groups()
    return FLOW.index(step), thread, int(number)


#: What drivers send by themselves: where a transaction begins, and what a new connection asks first. Great Expectations
#: asks for the columns of a table too; that is a point, and not counted here.
OF_DRIVERS = re.compile(
    r"BEGIN|ROLLBACK$|show |SELECT (pg_catalog\.)?version\(\)|SELECT current_schema\(\)|SELECT (pg_catalog\.)?pg_type$"
    r"|SELECT pg_catalog\.pg_attribute$",
    re.IGNORECASE,
)


def statements(log: str) -> Counter[str]:
    """Return the statements in a log of the server, without those of the drivers."""
    entries = re.split(r"^(?=\d{4}-\d\d-\d\d )", log, flags=re.MULTILINE)
    found = [re.search(r"LOG:  (?:statement|execute [^:]*): (.*)", e, re.DOTALL) for e in entries]
    return Counter(h for f in found if f and not OF_DRIVERS.match(h := head(f[1])))


def executed_at(point: str) -> str | None:
    """Return what the server executes after a point; the data plane reads by COPY, whatever it is asked."""
    before = re.search(r" before (?!handing)(.*?)( (?:on|of) the data plane)?$", point)
    if before is None or OF_DRIVERS.match(before[1]):
        return None
    return before[1].replace("SELECT ", "COPY ", 1) if before[2] else before[1]
