"""Every place between two statements or commits of a scoring run: killed there, and tried again, nothing is different.

crash_points.txt names the places. Each test run kills every transaction at one of its points or more, and which, and in
which way, takes turns: within 31 runs each point is killed in each way, see tests/rotation.py. PONTE_CRASH_POINTS=all
takes them all, PONTE_CRASH_POINTS="guard 0" those whose name contains that. PONTE_CRASH_REPORT=report.md, with
ARGS='-n 0', writes what came of each. Kills of the whole server: test_server_crash.py.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import Cluster
from tests.postgres.children import FLOW, Record, head, in_child, run_step
from tests.postgres.crash_points import FILE, SERVER, chosen_now, kill_and_try_again
from tests.postgres.stages import Stages

RECORD = "PONTE_RECORD_CRASH_POINTS=1 make test ARGS=tests/postgres/test_crash_points.py"


@pytest.mark.parametrize(("point", "way"), [(point, way) for point, way in chosen_now() if way != SERVER])
def test_killed_at_a_crash_point(  # noqa: PLR0917 - pytest passes names
    stages: Stages, server: Cluster, tmp_path: Path, crash_report: dict[str, dict[str, str]], point: str, way: str
) -> None:
    """Readers see the older batch or the newer one; after a retry all tables are those of the undisturbed run.

    SIGKILL ends the worker. pg_terminate_backend ends its sessions: the worker lives on, and what it raises, if it
    minds at all, must be worth a retry.
    """
    crash_report[point][way] = "FAILED"
    crash_report[point][way] = kill_and_try_again(stages, server, tmp_path / "sign", point, way)


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


#: What drivers send by themselves: where a transaction begins, with the settings it needs, and what a new connection
#: asks first. Great Expectations asks for the columns of a table too; that is a point, and not counted here.
OF_DRIVERS = re.compile(
    r"BEGIN|ROLLBACK$|SET LOCAL TimeZone|SELECT set_config|show |SELECT (pg_catalog\.)?version\(\)|"
    r"SELECT current_schema\(\)|SELECT (pg_catalog\.)?pg_type$|SELECT pg_catalog\.pg_attribute$",
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
