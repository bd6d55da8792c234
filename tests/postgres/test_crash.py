"""Kill in the middle of a statement, run the step again, and the tables are those of a run that nobody disturbed.

Between two statements: test_crash_points.py. Kills of the whole server: test_server_crash.py.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.postgres.children import DieAtShardCommit, LookForTheClientOften, StopInChunk, in_child, wait_for
from tests.postgres.traces import FREEZING, assert_as_undisturbed, copying
from tests.sample_model import World

from ponte.errors import DatabaseUnavailable
from ponte.storage.database import is_transient, transient_faults_marked


@pytest.mark.parametrize("chunk", [1, 2, 4, 8])
def test_killed_in_the_middle_of_a_copy(
    undisturbed: tuple[World, dict[str, object]], tmp_path: Path, chunk: int
) -> None:
    """Shards before the killed one stay, nothing of the killed one does."""
    world, expected = undisturbed
    batch = world.run(run_id="r", until="check")
    sign = tmp_path / "sign"
    child = in_child(world, "score", batch.batch_id, mischief=StopInChunk(chunk, sign))
    wait_for(sign.exists)
    # COPY begins with the first predictions of a shard.
    wait_for(lambda: copying(world) == (chunk > 1))
    child.kill()

    wait_for(lambda: not copying(world))
    committed = world.ask("SELECT coalesce(sum(row_count), 0) FROM ponte.shard WHERE batch_id = :id", id=batch.batch_id)
    assert world.ask(f"SELECT count(*) FROM ponte_data.{batch.prediction_table}") == committed < 350
    assert world.published_checksum() == expected["published"]
    world.run(run_id="r")
    assert_as_undisturbed(world, batch.batch_id, expected)


@pytest.mark.parametrize("number", [1, 2])
def test_killed_when_a_shard_was_about_to_commit(undisturbed: tuple[World, dict[str, object]], number: int) -> None:
    """Its predictions and its row in ponte.shard come together or not at all."""
    world, expected = undisturbed
    batch = world.run(run_id="r", until="check")
    assert in_child(world, "score", batch.batch_id, mischief=DieAtShardCommit(number)).ending() == "killed"

    world.run(run_id="r")
    assert_as_undisturbed(world, batch.batch_id, expected)


def test_the_database_ends_the_session_of_a_copy(undisturbed: tuple[World, dict[str, object]], tmp_path: Path) -> None:
    """pg_terminate_backend in the middle of a COPY is a passing fault: one retry heals it."""
    world, expected = undisturbed
    batch = world.run(run_id="r", until="check")
    sign = tmp_path / "sign"
    child = in_child(world, "score", batch.batch_id, mischief=StopInChunk(2, sign))
    wait_for(lambda: sign.exists() and copying(world))
    ended = world.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE query LIKE 'COPY%FROM STDIN%' AND state = 'active'"
    )
    sign.with_suffix(".go").touch()

    assert ended == [(True,)]
    assert child.ending() not in ("done", "killed")
    world.run(run_id="r")
    assert_as_undisturbed(world, batch.batch_id, expected)


def test_killed_while_the_frozen_rows_are_inserted(slow: tuple[World, dict[str, object]]) -> None:
    """PostgreSQL notices that the client of the first try is gone, lets go of its locks, and the retry freezes anew."""
    world, expected = slow
    child = in_child(world, "freeze", run_id="r", mischief=LookForTheClientOften())
    wait_for(lambda: world.ask(FREEZING))
    child.kill()
    world.execute("DELETE FROM shop.slow")
    wait_for(lambda: not world.ask(FREEZING))
    batch = world.run(run_id="r")
    assert_as_undisturbed(world, batch.batch_id, expected)


def test_every_session_looks_every_ten_seconds_whether_its_client_is_there(trained: World) -> None:
    """On both planes, and for Great Expectations, whose statements hold locks on the frozen rows too."""
    query = "SELECT current_setting('client_connection_check_interval'), current_setting('TimeZone')"
    with trained.db.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        assert cursor.fetchone() == ("10s", "UTC")
    assert trained.rows(query) == [("10s", "UTC")]
    check = '[[checks]]\nexpectation = "expect_column_to_exist"\non_failure = "stop"\ncolumn = "items"\n'
    checked, seen = trained.with_model(checks=check), set()

    def look(connection: sa.Connection) -> None:
        with connection.connection.cursor() as cursor:
            cursor.execute(query)
            seen.add((connection.engine is trained.db.engine, *cursor.fetchone()))

    sa.event.listen(sa.Engine, "begin", look)
    try:
        checked.run(run_id="r", until="check")
    finally:
        sa.event.remove(sa.Engine, "begin", look)
    assert seen == {(True, "10s", "UTC"), (False, "10s", "UTC")}


def test_the_database_ends_the_session_of_a_freeze(slow: tuple[World, dict[str, object]]) -> None:
    world, expected = slow
    errors: list[BaseException] = []

    def freeze() -> None:
        try:
            with transient_faults_marked():
                world.freeze(run_id="r")
        except DatabaseUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=freeze)
    thread.start()
    wait_for(lambda: world.ask(FREEZING))
    world.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    thread.join()
    assert len(errors) == 1
    world.execute("DELETE FROM shop.slow")
    batch = world.run(run_id="r")
    assert_as_undisturbed(world, batch.batch_id, expected)


def test_a_cut_connection_of_the_data_plane_is_a_passing_fault(trained: World) -> None:
    """Whatever ADBC raises when its server session ends in the middle must be worth a retry."""
    from adbc_driver_manager import dbapi

    errors: list[BaseException] = []

    def sleep() -> None:
        with trained.db.adbc() as connection, connection.cursor() as cursor:
            try:
                cursor.execute("SELECT pg_sleep(30)")
                cursor.fetchall()
            except dbapi.Error as error:
                errors.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    wait_for(lambda: trained.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
    trained.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    thread.join()
    assert len(errors) == 1
    assert is_transient(errors[0]), repr(errors[0])


def test_a_later_run_drops_the_tables_of_a_dead_one(trained: World) -> None:
    """They are named in its row of ponte.batch, so that nothing is looked for by its name."""
    older = trained.run(run_id="older", until="score")
    named = trained.rows("SELECT frozen_table, prediction_table FROM ponte.batch")
    assert named == [(older.frozen_table, older.prediction_table)]
    assert set(trained.data_tables()) == set(named[0])

    newer = trained.run(run_id="newer", until="publish")
    assert trained.clean(newer.batch_id)
    assert trained.data_tables() == [newer.prediction_table]
    assert trained.rows("SELECT status, frozen_table, prediction_table FROM ponte.batch ORDER BY batch_id") == [
        ("failed", None, None),
        ("staged", None, newer.prediction_table),
    ]
    assert not trained.clean(newer.batch_id)
