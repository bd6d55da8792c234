"""Which faults pass by themselves: those of the database are retried, those of data, code and folders are not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from tests.postgres.children import wait_for
from tests.sample_model import AS_OF, VISITS_PER_WEEK, WEEK, World, run_named

from ponte.batches import checking
from ponte.batches import lifecycle as batches
from ponte.checks.validation import CheckResult
from ponte.errors import BatchRejected, DatabaseUnavailable, Fenced, PonteError
from ponte.publishing import pointer, staging
from ponte.snapshots.checking import check_snapshot
from ponte.snapshots.freezing import freeze_snapshot
from ponte.storage.database import Database, is_transient, limit_lock_waits, transient_faults_marked
from ponte.versions.loading import LoadedVersion, Predictions

# ---------------------------------------------------------------- the estimator


@pytest.mark.parametrize("chunk", [1, 2, 4])
@pytest.mark.parametrize("error", [PonteError("no"), MemoryError()], ids=lambda e: type(e).__name__)
def test_an_error_of_the_estimator_keeps_its_type_in_every_chunk(
    trained: World, monkeypatch: pytest.MonkeyPatch, error: Exception, chunk: int
) -> None:
    """From the second chunk on it is raised inside ADBC, whose error would look like a fault of the database.

    An error that may be about single rows does not get so far: the rows are set aside, see test_quarantine.py.
    """
    world = trained.with_model(chunk_rows=100)
    batch = world.run(run_id="r", until="check")
    predict, seen = LoadedVersion.predictions, 0

    def predict_or_raise(loaded: LoadedVersion, rows: Any) -> Predictions:
        nonlocal seen
        seen += "visit_id" in rows.schema.names  # golden rows are no chunk
        if seen == chunk:
            raise error
        return predict(loaded, rows)

    with monkeypatch.context() as patch:
        patch.setattr(LoadedVersion, "predictions", predict_or_raise)
        with pytest.raises(type(error)) as caught, transient_faults_marked():
            world.score(batch.batch_id)
    assert caught.value is error
    assert not is_transient(caught.value)
    assert seen == chunk
    assert world.ask(f"SELECT count(*) FROM ponte_data.{batch.prediction_table}") == 0
    assert world.ask("SELECT count(*) FROM ponte.shard") == 0
    world.run(run_id="r")
    assert world.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK


def test_a_value_that_the_estimator_refuses_in_a_later_chunk_is_no_fault_of_the_database(world: World) -> None:
    estimator = world.folder.text("estimator.py").replace('handle_unknown="ignore"', "")
    budget = "[quarantine]\nbudget = 0.0"
    strict = world.with_model(files={"estimator.py": estimator}, chunk_rows=100, checks=budget)
    strict.train(run_id="t")
    strict.execute("UPDATE shop.visit SET shop = 'moon' WHERE visit_id = 2100 + 340")

    with pytest.raises(BatchRejected, match="rows: ValueError"), transient_faults_marked():
        strict.run(run_id="r")
    assert strict.ask("SELECT count(*) FROM ponte.shard") == 0
    assert strict.rows("SELECT status FROM ponte.batch") == [("rejected",)]


# ---------------------------------------------------------------- the database, while Great Expectations asks it

CHECKS = """
[[checks]]
expectation = "expect_column_values_to_be_between"
on_failure = "stop"
column = "price"
max_value = 1000

[[checks]]
expectation = "expect_table_row_count_to_be_between"
on_failure = "stop"
min_value = 1
"""


@contextmanager
def sessions_of_expectations_end(world: World, *, at: int) -> Iterator[list[str]]:
    """Let PostgreSQL end every session of Great Expectations from its statement `at` (from 1) on; 0 for none.

    Once would prove little: Great Expectations tries what failed twice more.
    """
    sent: list[str] = []

    def end(connection: sa.Connection, _: object, statement: str, *__: object) -> None:
        if connection.engine is world.db.engine:
            return
        sent.append(statement)
        if 0 < at <= len(sent):
            pid = connection.connection.dbapi_connection.info.backend_pid
            assert world.ask("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)

    sa.event.listen(sa.Engine, "before_cursor_execute", end)
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", end)


def test_a_session_lost_at_any_statement_of_the_expectations_is_a_passing_fault(trained: World) -> None:
    """Great Expectations makes a result of every exception; a batch must not be rejected for it."""
    world = trained.with_model(checks=CHECKS)
    with sessions_of_expectations_end(world, at=0) as sent:
        world.run(run_id="whole", until="check")
    assert len(sent) >= 3
    faults = 0
    for number in range(1, len(sent) + 1):
        batch = world.freeze(run_id=f"r{number}")
        try:
            with sessions_of_expectations_end(world, at=number), transient_faults_marked():
                world.check(batch.batch_id)
        except DatabaseUnavailable:
            faults += 1
            assert batches.get_batch(world.db, batch.batch_id).status == "frozen"
            assert world.rows("SELECT 1 FROM ponte.check_result WHERE batch_id = :id", id=batch.batch_id) == []
        world.check(batch.batch_id)
        assert batches.get_batch(world.db, batch.batch_id).status == "checked"
    assert faults >= 3


def test_a_training_set_whose_checks_lost_the_database_is_not_rejected(world: World) -> None:
    checked = world.with_model(checks=CHECKS)
    with sessions_of_expectations_end(checked, at=0) as sent:
        checked.snapshot(run_id="whole")
    with (
        pytest.raises(DatabaseUnavailable),
        transient_faults_marked(),
        sessions_of_expectations_end(checked, at=len(sent)),
    ):
        checked.snapshot(run_id="t")
    assert world.rows("SELECT status FROM ponte.snapshot WHERE run_id = 't'") == [("frozen",)]
    assert checked.train(run_id="t").alias.version == 1


# ---------------------------------------------------------------- twins that are late


def failing() -> tuple[list[CheckResult], list[Any]]:
    result = CheckResult(
        position=0, expectation="expect_column_to_exist", arguments={}, on_failure="stop", outcome="failed"
    )
    return [result], []


@pytest.mark.parametrize("twin", ["check", "score", "guard", "publish", "clean"])
@pytest.mark.parametrize("late", ["finds a failure", "finds what is there"])
def test_a_late_copy_of_the_check_cannot_reject_what_its_twin_let_go_on(
    trained: World, monkeypatch: pytest.MonkeyPatch, twin: str, late: str
) -> None:
    """The twin may even have published and dropped the frozen rows while the late copy looked at them."""
    world = trained.with_model(checks=CHECKS)
    batch = world.freeze(run_id="r")
    validate = checking.validate
    reached: list[Any] = []

    def after_the_twin(db: Database, folder: Any, table: str) -> tuple[list[CheckResult], list[Any]]:
        monkeypatch.undo()
        reached.append(world.run(run_id="r", until=twin))
        reached.append(world.rows("SELECT * FROM ponte.check_result ORDER BY position"))
        return failing() if late == "finds a failure" else validate(db, folder, table)

    monkeypatch.setattr(checking, "validate", after_the_twin)
    world.check(batch.batch_id)

    assert batches.get_batch(world.db, batch.batch_id) == reached[0]
    assert world.rows("SELECT * FROM ponte.check_result ORDER BY position") == reached[1]
    world.run(run_id="r")
    assert world.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK


@pytest.mark.parametrize("late", ["finds a failure", "finds what is there"])
def test_a_late_copy_of_the_check_of_a_training_set_cannot_reject_it(
    world: World, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    frozen = freeze_snapshot(world.db, world.folder, world.windows(), as_of=AS_OF, run=run_named("t"))
    validate = checking.validate

    def after_the_twin(db: Database, folder: Any, table: str) -> tuple[list[CheckResult], list[Any]]:
        monkeypatch.undo()
        world.snapshot(run_id="t")
        return failing() if late == "finds a failure" else validate(db, folder, table)

    monkeypatch.setattr("ponte.snapshots.checking.validate", after_the_twin)
    check_snapshot(world.db, world.folder, frozen.snapshot_id)
    assert world.rows("SELECT status, why FROM ponte.snapshot") == [("written", None)]
    assert set(world.rows("SELECT outcome FROM ponte.check_result")) == {("passed",)}
    assert world.train(run_id="t").alias.version == 1


@pytest.mark.parametrize("reached", ["check", "score", "guard", "publish", "clean"])
def test_a_batch_that_went_on_is_not_rejected_any_more(trained: World, reached: str) -> None:
    batch = trained.run(run_id="r", until=reached)
    batches.reject(trained.db, batch, "too late", by="check")

    assert batches.get_batch(trained.db, batch.batch_id) == batch
    trained.run(run_id="r")
    assert trained.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK


# ---------------------------------------------------------------- locks


@contextmanager
def holding(world: World, statement: str) -> Iterator[None]:
    """Another session that has run `statement` and does not end its transaction."""
    with world.db.engine.connect() as connection:
        connection.exec_driver_sql(statement)
        yield


def short_waits(monkeypatch: pytest.MonkeyPatch, timeout: str) -> None:
    for module in (staging, pointer):
        monkeypatch.setattr(module, "limit_lock_waits", lambda connection, _: limit_lock_waits(connection, timeout))
    monkeypatch.setattr("ponte.storage.database.time.sleep", lambda _: None)


LOCKS: dict[str, tuple[str, str]] = {
    "guard": ("score", "LOCK TABLE ponte_data.{0.prediction_table} IN ROW EXCLUSIVE MODE"),  # a twin that writes to it
    "publish": ("guard", "SELECT FROM ponte.claim FOR UPDATE"),  # a claim under way
}


@pytest.mark.parametrize("step", LOCKS)
def test_a_step_that_waits_for_a_lock_gives_up_and_can_be_tried_again(
    trained: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before, statement = LOCKS[step]
    batch = trained.run(run_id="r", until=before)
    short_waits(monkeypatch, "50ms")

    with holding(trained, statement.format(batch)):
        outcome = finished(lambda: getattr(trained, step)(batch.batch_id))
    assert isinstance(outcome, sa.exc.OperationalError), outcome
    assert "lock timeout" in str(outcome)
    assert is_transient(outcome)
    trained.run(run_id="r")
    assert trained.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK


def test_a_newer_run_claims_the_window_while_the_guard_of_an_older_one_waits(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard holds its batch, the claim passes it over, and the fence stops the older run where it publishes."""
    older = trained.run(run_id="older", until="score")
    short_waits(monkeypatch, "30s")
    guarded: list[object] = []
    with holding(trained, f"LOCK TABLE ponte_data.{older.prediction_table} IN ROW EXCLUSIVE MODE"):
        guard = threading.Thread(target=lambda: guarded.append(trained.guard(older.batch_id)))
        guard.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'"
        wait_for(lambda: trained.ask(waiting))
        newer = finished(lambda: trained.freeze(run_id="newer"))
        assert not guarded
    guard.join(20)

    assert isinstance(newer, batches.Batch), newer
    assert newer.epoch == older.epoch + 1
    assert guarded == [VISITS_PER_WEEK]
    with pytest.raises(Fenced, match="a newer run owns the window"):
        trained.publish(older.batch_id)
    assert trained.rows("SELECT * FROM ponte.published") == []
    trained.run(run_id="newer")
    assert trained.rows("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=WEEK) == [(newer.batch_id,)]


def finished(action: Callable[[], object], *, within: float = 10) -> object:
    """Return what the action returns or raises; fails the test, instead of hanging it, when it waits for ever."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(action())
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(within)
    assert outcome, "it waits for ever"
    return outcome[0]
