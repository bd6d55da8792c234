"""The whole server ends as by a power cut, at a crash point or in the middle of a statement, and starts again.

In a file of their own, because a crash cuts every session of the server, also those of other tests in this process.
Crash points and their choice: tests/postgres/crash_points.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import Cluster
from tests.postgres.children import StopInChunk, in_child, wait_for
from tests.postgres.crash_points import SERVER, chosen_now, kill_and_try_again
from tests.postgres.stages import Stages
from tests.postgres.traces import FREEZING, assert_as_undisturbed, copying
from tests.sample_model import World


@pytest.mark.parametrize(("point", "way"), [(point, way) for point, way in chosen_now() if way == SERVER])
def test_killed_at_a_crash_point(  # noqa: PLR0917 - pytest passes names
    stages: Stages, server: Cluster, tmp_path: Path, crash_report: dict[str, dict[str, str]], point: str, way: str
) -> None:
    """The worker lives on. What it raises, if it minds at all, must be worth a retry; nothing is lost or doubled."""
    crash_report[point][way] = "FAILED"
    crash_report[point][way] = kill_and_try_again(stages, server, tmp_path / "sign", point, way)


def test_a_power_cut_of_the_database_in_the_middle_of_a_copy(
    undisturbed: tuple[World, dict[str, object]], tmp_path: Path, server: Cluster
) -> None:
    """The frozen rows are logged: they survive, and the retry scores the same ones."""
    world, expected = undisturbed
    batch = world.run(run_id="r", until="check")
    sign = tmp_path / "sign"
    child = in_child(world, "score", batch.batch_id, mischief=StopInChunk(2, sign))
    wait_for(lambda: sign.exists() and copying(world))
    server.execute("CHECKPOINT")
    server.crash_and_restart()
    sign.with_suffix(".go").touch()

    assert child.ending() not in ("done", "killed")
    world.execute("DELETE FROM shop.visit WHERE visit_id % 3 = 0")
    world.run(run_id="r")
    assert_as_undisturbed(world, batch.batch_id, expected)


def test_a_power_cut_of_the_database_in_the_middle_of_a_freeze(
    slow: tuple[World, dict[str, object]], server: Cluster
) -> None:
    world, expected = slow
    child = in_child(world, "freeze", run_id="r")
    wait_for(lambda: world.ask(FREEZING))
    server.execute("CHECKPOINT")
    server.crash_and_restart()
    assert child.ending() in {"OperationalError", "DatabaseError"}
    world.execute("DELETE FROM shop.slow")
    batch = world.run(run_id="r")
    assert_as_undisturbed(world, batch.batch_id, expected)
    assert files_of_no_table(world, server) == {}


def files_of_no_table(world: World, server: Cluster) -> dict[str, int]:
    """Return the files of the database with rows that no catalog knows, and their sizes."""
    oid = world.ask("SELECT oid FROM pg_database WHERE datname = current_database()")
    known = {str(row[0]) for row in world.rows("SELECT pg_relation_filenode(oid) FROM pg_class")}
    files = {path.name: path.stat().st_size for path in (server._data / "base" / str(oid)).iterdir()}
    return {name: size for name, size in files.items() if name.isdigit() and size and name not in known}
