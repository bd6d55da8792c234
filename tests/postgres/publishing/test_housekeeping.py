"""What may go goes, whatever was interrupted; what people see, or may still go back to, stays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from tests.postgres.batches.test_fence import at_once
from tests.sample_model import AS_OF, FEATURES_SQL, LATER, NEXT_WEEK, WEEK, World, midnight, run_named, write_model

from ponte.decisions import rollback
from ponte.errors import BatchRejected, PonteError
from ponte.guards import rules as guard_rules
from ponte.guards.rules import GuardResult
from ponte.model.spec import Retention
from ponte.publishing import janitor, retention
from ponte.snapshots.checking import check_snapshot
from ponte.snapshots.freezing import freeze_snapshot
from ponte.storage.database import lock_decisions

THIRD_WEEK, FOURTH_WEEK = dt.date(2024, 2, 26), dt.date(2024, 3, 4)
WEEKS = (WEEK, NEXT_WEEK, THIRD_WEEK, FOURTH_WEEK)


def names(*kinds_and_ids: tuple[str, int]) -> list[str]:
    return sorted(f"visits__{kind}_{n}" for kind, n in kinds_and_ids)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a lock longer than a moment: in life it is seconds."""
    monkeypatch.setattr(janitor, "LOCK_TIMEOUT", "200ms")


@contextmanager
def session(world: World) -> Iterator[sa.Connection]:
    """Yield another session, in a transaction."""
    with world.db.engine.connect() as connection:
        connection.begin()
        yield connection


# ---------------------------------------------------------------- janitor


def _reject_by_check(world: World) -> None:
    stop = '[[checks]]\nexpectation = "expect_table_row_count_to_be_between"\nmin_value = 1000\n'
    with pytest.raises(BatchRejected):
        world.with_model(checks=stop).run(run_id="r")
    world.with_model()


def _reject_by_guard(world: World) -> None:
    tripped = GuardResult(guard="row_count", outcome="tripped", got="few rows", expected="more", evidence={})
    with patch.object(guard_rules, "judge", lambda *_, **__: [tripped]), pytest.raises(BatchRejected, match="a guard"):
        world.run(run_id="r")


def _until(step: str) -> Callable[[World], object]:
    return lambda world: world.run(run_id="r", until=step)


#: How far batch 2 of the week came → (what it did, what is left while it is the newest, status, what is left after a
#: newer run claimed the window, status).
STATES: dict[str, tuple[Callable[[World], object], set[str], str, set[str], str]] = {
    "freezing": (_until("freeze"), {"frozen"}, "frozen", set(), "failed"),
    "checked": (_until("check"), {"frozen"}, "checked", set(), "failed"),
    "scored": (_until("score"), {"frozen", "prediction"}, "checked", set(), "failed"),
    "staged": (_until("guard"), {"frozen", "prediction"}, "staged", set(), "failed"),
    "rejected by a check": (_reject_by_check, {"frozen"}, "rejected", set(), "rejected"),
    "rejected by a guard": (_reject_by_guard, {"frozen", "prediction"}, "rejected", set(), "rejected"),
    "published, not cleaned": (_until("publish"), {"prediction"}, "staged", {"prediction"}, "staged"),
    "published and cleaned": (_until("clean"), {"prediction"}, "staged", {"prediction"}, "staged"),
}


@pytest.mark.parametrize("state", STATES)
def test_the_tables_of_a_batch_stay_while_it_can_go_on_and_go_when_it_cannot(trained: World, state: str) -> None:
    """The newest rejected one stays too: its checks name the SQL that finds the rows, a person may publish it."""
    does, newest, status, over, status_over = STATES[state]
    trained.run(run_id="other week", week=NEXT_WEEK)
    does(trained)
    other = ("prediction", 1)
    before = len(trained.data_tables())

    expected = names(other, *((kind, 2) for kind in newest))
    assert janitor.sweep(trained.db, "visits") == before - len(expected)
    assert trained.data_tables() == expected
    assert trained.ask("SELECT status FROM ponte.batch WHERE batch_id = 2") == status
    assert janitor.sweep(trained.db, "visits") == 0

    why = trained.ask("SELECT why FROM ponte.batch WHERE batch_id = 2")
    trained.freeze(run_id="newer")
    assert janitor.sweep(trained.db, "visits") == len(newest - over)
    assert trained.data_tables() == names(other, ("frozen", 3), *((kind, 2) for kind in over))
    [(found, why_now, frozen, prediction)] = trained.rows(
        "SELECT status, why, frozen_table, prediction_table FROM ponte.batch WHERE batch_id = 2"
    )
    assert found == status_over
    assert why_now == (why or ("superseded by run newer" if status_over == "failed" else None))
    assert (frozen, prediction) == (None, "visits__prediction_2" if over else None)
    assert janitor.sweep(trained.db, "visits") == 0
    trained.run(run_id="newer")
    assert trained.ask("SELECT count(*) FROM predictions.visits") == 700


def test_a_batch_that_failed_while_it_was_the_newest_is_swept(trained: World) -> None:
    trained.run(run_id="r", until="score")
    trained.execute("UPDATE ponte.batch SET status = 'failed', why = 'by hand'")
    assert janitor.sweep(trained.db, "visits") == 2
    assert trained.data_tables() == []
    assert trained.rows("SELECT status, why FROM ponte.batch") == [("failed", "by hand")]


def test_a_batch_that_the_claim_has_passed_over_is_marked_when_it_is_swept(trained: World) -> None:
    """A step of it held its row at that moment."""
    older = trained.run(run_id="older", until="check")
    with session(trained) as connection:
        connection.execute(sa.text("SELECT FROM ponte.batch WHERE batch_id = 1 FOR UPDATE"))
        trained.freeze(run_id="newer")
        assert trained.ask("SELECT status FROM ponte.batch WHERE batch_id = 1") == "checked"
        assert janitor.sweep(trained.db, "visits") == 0, "somebody holds it still"
    assert janitor.sweep(trained.db, "visits") >= 1
    assert trained.rows("SELECT status, why FROM ponte.batch WHERE batch_id = 1") == [
        ("failed", "superseded by a newer run")
    ]
    with pytest.raises(PonteError, match="the batch is over"):
        trained.score(older.batch_id)


def test_a_table_that_somebody_reads_is_left_to_the_next_sweep(trained: World) -> None:
    old = trained.run(run_id="old", until="score")
    trained.run(run_id="older week", week=NEXT_WEEK, until="score")
    trained.freeze(run_id="new")
    trained.freeze(run_id="new", week=NEXT_WEEK)
    with session(trained) as reader:
        reader.exec_driver_sql(f"SELECT count(*) FROM ponte_data.{old.prediction_table}")
        assert janitor.sweep(trained.db, "visits") == 3, "all of the other week, and the frozen rows of this one"
        assert old.prediction_table in trained.data_tables()
        assert trained.ask("SELECT prediction_table FROM ponte.batch ORDER BY batch_id LIMIT 1") == old.prediction_table
    assert janitor.sweep(trained.db, "visits") == 1
    assert trained.data_tables() == names(("frozen", 3), ("frozen", 4))


def test_a_table_that_is_gone_already_is_no_fault(trained: World) -> None:
    old = trained.run(run_id="old", until="score")
    trained.freeze(run_id="new")
    trained.execute(f"DROP TABLE ponte_data.{old.frozen_table}")
    janitor.sweep(trained.db, "visits")
    assert trained.data_tables() == names(("frozen", 2))


def test_other_models_are_swept_by_their_own_runs(trained: World) -> None:
    other = World(db=trained.db, store=trained.store, folder=write_model(trained.folder.path.parent, "other"))
    other.train(run_id="t")
    other.run(run_id="old", until="score")
    other.freeze(run_id="new")
    assert janitor.sweep(trained.db, "visits") == 0
    assert janitor.sweep(trained.db, "other") == 2


def freeze_training(world: World, run_id: str) -> int:
    frozen = freeze_snapshot(world.db, world.folder, world.windows(), as_of=AS_OF, run=run_named(run_id))
    return frozen.snapshot_id


def test_training_tables_go_when_a_newer_training_set_was_written(world: World) -> None:
    """Until then each may be continued; the rejected one is what somebody looks at."""
    frozen, checked = freeze_training(world, "frozen"), freeze_training(world, "checked")
    check_snapshot(world.db, world.folder, checked)
    rejected = freeze_training(world, "rejected")
    world.execute("UPDATE ponte.snapshot SET status = 'rejected', why = 'bad' WHERE snapshot_id = :id", id=rejected)
    assert janitor.sweep_snapshots(world.db, "visits") == 0
    assert len(world.data_tables()) == 3
    world.train(run_id="written")
    later = freeze_training(world, "later")

    assert janitor.sweep_snapshots(world.db, "visits") == 3
    assert world.data_tables() == names(("training", later))
    kept = dict(world.rows("SELECT snapshot_id, (status, why, frozen_table)::text FROM ponte.snapshot"))
    assert kept[frozen] == kept[checked] == '(failed,"superseded by a newer training run",)'
    assert kept[rejected] == "(rejected,bad,)"
    assert world.ask("SELECT status FROM ponte.snapshot WHERE snapshot_id = :id", id=later) == "frozen"
    assert janitor.sweep_snapshots(world.db, "visits") == 0


def test_a_training_table_in_use_is_left_to_the_next_sweep(world: World) -> None:
    old = freeze_training(world, "old")
    world.train(run_id="written")
    with session(world) as reader:
        reader.exec_driver_sql(f"SELECT count(*) FROM ponte_data.visits__training_{old}")
        assert janitor.sweep_snapshots(world.db, "visits") == 0
        assert world.ask("SELECT status FROM ponte.snapshot WHERE snapshot_id = :id", id=old) == "frozen"
    assert janitor.sweep_snapshots(world.db, "visits") == 1


def test_every_run_sweeps_also_one_that_claimed_nothing(trained: World) -> None:
    trained.run(run_id="old", until="score")
    trained.freeze(run_id="new")
    assert janitor.tidy(trained.db, trained.folder) == {"dropped_tables": 2, "retired_batches": 0}
    trained.run(run_id="new", until="publish")
    assert janitor.tidy(trained.db, trained.folder) == {"dropped_tables": 1, "retired_batches": 0}


# ---------------------------------------------------------------- retention

EVENTS = "SELECT batch_id, window_start, published, why, row_count FROM ponte.retention_event ORDER BY event_id"


def partitions(world: World) -> list[int]:
    """Return the batches whose predictions are there."""
    return sorted(int(t.rpartition("_")[2]) for t in world.data_tables() if "prediction" in t)


def retire(world: World, **rules: Any) -> int:
    return retention.retire(world.db, "visits", Retention(**rules))


@pytest.mark.parametrize(
    ("keep", "left"), [(None, [1, 2, 3, 4]), (0, [4]), (1, [3, 4]), (2, [2, 3, 4]), (9, [1, 2, 3, 4])]
)
def test_of_the_batches_that_were_replaced_the_newest_are_kept(
    trained: World, keep: int | None, left: list[int]
) -> None:
    for run_id in "abcd":
        trained.run(run_id=run_id)
    assert retire(trained, replaced_batches=keep) == 4 - len(left)
    assert partitions(trained) == left
    assert trained.rows("SELECT DISTINCT batch_id FROM predictions.visits") == [(4,)]
    gone = [n for n in (1, 2, 3) if n not in left]
    assert trained.rows(EVENTS) == [(n, WEEK, False, f"replaced_batches = {keep}", 350) for n in gone]
    assert trained.rows("SELECT batch_id FROM ponte.batch WHERE prediction_table IS NULL ORDER BY 1") == [
        (n,) for n in gone
    ]
    assert retire(trained, replaced_batches=keep) == 0


def test_newest_is_what_people_saw_last_in_each_window_for_itself(trained: World) -> None:
    """Also when a rollback has shown an older batch again."""
    for run_id in "ab":
        trained.run(run_id=run_id, week=NEXT_WEEK)
    trained.run(run_id="a")
    again = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
    again.train(run_id="second")
    trained.run(run_id="b")
    trained.run(run_id="c")
    again.roll_back(1, run_id="back", windows=[WEEK])
    shown = trained.ask("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=WEEK)
    last_seen = trained.ask(
        "SELECT batch_id FROM ponte.publication_event WHERE window_start = :w AND batch_id <> :shown "
        "ORDER BY event_id DESC LIMIT 1", w=WEEK, shown=shown
    )  # fmt: skip
    assert retire(trained, replaced_batches=1) == 1
    assert partitions(trained) == sorted([1, 2, shown, last_seen])


@pytest.mark.parametrize(("weeks", "left"), [(None, WEEKS), (1, WEEKS[2:]), (2, WEEKS[1:]), (3, WEEKS), (50, WEEKS)])
def test_windows_past_their_time_are_dropped_whole_and_shown_no_more(
    scored: World, weeks: int | None, left: tuple[dt.date, ...]
) -> None:
    for week in WEEKS:
        scored.run(run_id="r", week=week)
    sizes = dict(
        scored.rows(
            "SELECT prediction_table, pg_total_relation_size('ponte_data.' || prediction_table) FROM ponte.batch"
        )
    )
    gone = [n for n, week in ((1, WEEK), *enumerate(WEEKS, 2)) if week not in left]

    assert retire(scored, weeks=weeks) == len(gone)
    windows = "SELECT window_start, count(*) FROM predictions.visits GROUP BY 1 ORDER BY 1"
    assert scored.rows(windows) == [(week, 350) for week in left]
    assert [w for (w,) in scored.rows("SELECT window_start FROM ponte.published ORDER BY 1")] == list(left)
    assert partitions(scored) == [n for n in range(1, 6) if n not in gone]
    week_of = {1: WEEK, **dict(enumerate(WEEKS, 2))}
    assert scored.rows(EVENTS) == [(n, week_of[n], n != 1, f"weeks = {weeks}", 350) for n in gone]
    recorded = dict(scored.rows("SELECT relation, byte_count FROM ponte.retention_event"))
    assert recorded == {t: size for t, size in sizes.items() if int(t.rpartition("_")[2]) in gone}
    assert all(size > 0 for size in recorded.values())
    assert scored.ask("SELECT count(*) FROM predictions.visits_latest") == 350
    assert retire(scored, weeks=weeks) == 0


@pytest.mark.parametrize("rules", [{"weeks": 1}, {"replaced_batches": 0}, {"weeks": 1, "replaced_batches": 0}])
def test_what_people_see_for_the_newest_window_is_never_dropped(scored: World, rules: dict[str, int]) -> None:
    scored.run(run_id="b")
    scored.run(run_id="unseen", week=NEXT_WEEK, until="guard")
    for _ in range(2):
        retire(scored, **rules)
    assert scored.rows("SELECT DISTINCT batch_id FROM predictions.visits") == [(2,)]
    assert 3 in partitions(scored), "what nobody has seen yet is no business of the retention"


def test_a_batch_that_two_rules_give_up_is_retired_once(scored: World) -> None:
    for week in WEEKS:
        scored.run(run_id="r", week=week)
    assert retire(scored, replaced_batches=0, weeks=2) == 2
    assert scored.rows(EVENTS) == [
        (1, WEEK, False, "replaced_batches = 0", 350),
        (2, WEEK, True, "weeks = 2", 350),
    ]


def test_a_model_without_retention_keeps_everything(trained: World) -> None:
    for run_id in "ab":
        trained.run(run_id=run_id)
    assert trained.folder.spec.retention == Retention()
    assert janitor.tidy(trained.db, trained.folder)["retired_batches"] == 0
    assert partitions(trained) == [1, 2]


def test_other_models_keep_theirs(trained: World) -> None:
    other = World(db=trained.db, store=trained.store, folder=write_model(trained.folder.path.parent, "other"))
    other.train(run_id="t")
    for world in (trained, other):
        for run_id in "ab":
            world.run(run_id=run_id)
    assert retire(trained, replaced_batches=0, weeks=1) == 1
    assert other.ask("SELECT count(*) FROM ponte_data.prediction_other") == 700


def test_a_run_retires_what_its_own_publication_has_replaced(trained: World) -> None:
    world = trained.with_model(checks="[retention]\nreplaced_batches = 0")
    world.run(run_id="a")
    world.run(run_id="b", until="publish")
    assert janitor.tidy(world.db, world.folder) == {"dropped_tables": 1, "retired_batches": 1}


def test_what_people_saw_then_is_still_told_after_its_rows_are_gone(scored: World) -> None:
    then = scored.ask("SELECT clock_timestamp()")
    scored.run(run_id="b")
    retire(scored, replaced_batches=0)
    assert scored.rows("SELECT batch_id FROM ponte.published_at('visits', :then)", then=then) == [(1,)]
    [(status, published, rows)] = scored.rows(
        "SELECT status, published, rows_scored FROM ponte.batch_overview WHERE batch_id = 1"
    )
    assert (status, published, rows) == ("staged", False, 350)


# ---------------------------------------------------------------- interruptions


def test_what_was_decided_and_not_dropped_is_dropped_by_the_next_call(trained: World) -> None:
    for week in WEEKS[:3]:
        trained.run(run_id="r", week=week)
    with patch.object(retention, "drop_prediction_table", side_effect=RuntimeError), pytest.raises(RuntimeError):
        retire(trained, weeks=1)
    assert partitions(trained) == [1, 2, 3]
    assert trained.rows("SELECT DISTINCT batch_id FROM predictions.visits ORDER BY 1") == [(2,), (3,)]
    assert retire(trained) == 0, "even when the rule has gone meanwhile"
    assert partitions(trained) == [2, 3]
    assert len(trained.rows(EVENTS)) == 1


@contextmanager
def short_waits(world: World) -> Iterator[None]:
    """Dropping waits a moment for a lock, where it would wait ten seconds."""

    def shorten(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> tuple[str, Any]:
        return statement.replace("lock_timeout = '10s'", "lock_timeout = '300ms'"), parameters

    sa.event.listen(world.db.engine, "before_cursor_execute", shorten, retval=True)
    try:
        yield
    finally:
        sa.event.remove(world.db.engine, "before_cursor_execute", shorten)


DETACHING = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"


def test_a_reader_in_a_long_transaction_keeps_its_rows_and_the_partition_goes_later(trained: World) -> None:
    for week in WEEKS[:3]:
        trained.run(run_id="r", week=week)
    seen = "SELECT window_start, count(*) FROM predictions.visits GROUP BY 1 ORDER BY 1"
    with session(trained) as reader:
        reader.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert len(reader.exec_driver_sql(seen).all()) == 3
        with short_waits(trained):
            assert retire(trained, weeks=1) == 1
        assert 1 in partitions(trained), "left for later"
        assert trained.ask(DETACHING) == 1
        # Its own view of the world is whole, and everybody else's is the new one; nobody waits.
        assert len(reader.exec_driver_sql(seen).all()) == 3
        with session(trained) as other:
            other.exec_driver_sql("SET LOCAL statement_timeout = '2s'")
            assert [row[0] for row in other.exec_driver_sql(seen)] == [NEXT_WEEK, THIRD_WEEK]
        trained.run(run_id="r", week=FOURTH_WEEK, until="publish")
    assert retire(trained) == 0
    assert partitions(trained) == [2, 3, 4]
    assert trained.ask(DETACHING) == 0
    assert [row[0] for row in trained.rows(seen)] == [NEXT_WEEK, THIRD_WEEK, FOURTH_WEEK]


def test_several_partitions_wait_for_one_reader_and_all_go_after_it(trained: World) -> None:
    """PostgreSQL lets only one of them be detached at a time: the others have to wait for their turn."""
    for week in WEEKS:
        trained.run(run_id="r", week=week)
    with session(trained) as reader, short_waits(trained):
        reader.exec_driver_sql("SELECT count(*) FROM predictions.visits")
        assert retire(trained, weeks=1) == 2
        assert retire(trained, weeks=1) == 0
        assert partitions(trained) == [1, 2, 3, 4]
    retire(trained, weeks=1)
    assert partitions(trained) == [3, 4]


def test_a_detached_partition_that_was_not_dropped_is_dropped_by_the_next_call(trained: World) -> None:
    for run_id in "ab":
        trained.run(run_id=run_id)

    def die(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DROP TABLE"):
            raise KeyboardInterrupt

    sa.event.listen(trained.db.engine, "before_cursor_execute", die)
    with pytest.raises(KeyboardInterrupt):
        retire(trained, replaced_batches=0)
    sa.event.remove(trained.db.engine, "before_cursor_execute", die)
    assert (
        trained.ask("SELECT count(*) FROM pg_inherits WHERE inhparent = 'ponte_data.prediction_visits'::regclass") == 1
    )
    assert partitions(trained) == [1, 2]
    retire(trained, replaced_batches=0)
    assert partitions(trained) == [2]


def test_two_that_retire_at_once_both_succeed(trained: World) -> None:
    for run_id in "abcdef":
        trained.run(run_id=run_id)
    done = at_once([lambda: retire(trained, replaced_batches=0)] * 2)
    assert sorted(done, key=str) == [0, 5]
    assert partitions(trained) in ([6], [5, 6]), "a partition that both went for may be left for later"
    retire(trained)
    assert partitions(trained) == [6]


# ---------------------------------------------------------------- rollback


def test_a_rollback_to_a_batch_that_was_retired_scores_it_anew(trained: World) -> None:
    first = trained.run(run_id="a")
    expected = trained.published_checksum()
    second = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
    second.train(run_id="second")
    second.run(run_id="b")
    options: dict[str, Any] = {"every_window": False, "allow_bad": False, "allow_hindsight": False, "now": LATER}
    plan = rollback.plan_rollback(second.db, second.store, second.folder, 1, windows=[WEEK], **options)
    assert (plan.kept, plan.rescore) == ({str(WEEK): first.batch_id}, [])
    retire(second, replaced_batches=0)
    plan = rollback.plan_rollback(second.db, second.store, second.folder, 1, windows=[WEEK], **options)
    assert (plan.kept, plan.rescore) == ({}, [str(WEEK)])
    second.roll_back(1, run_id="back", windows=[WEEK])
    assert second.published_checksum() == expected
    assert second.rows("SELECT DISTINCT model_version FROM predictions.visits") == [(1,)]


def test_a_window_that_was_dropped_can_be_scored_again_and_goes_again(trained: World) -> None:
    world = trained.with_model(checks="[retention]\nweeks = 1")
    for week in WEEKS:
        world.run(run_id="r", week=week)
    assert world.rows("SELECT window_start FROM ponte.published ORDER BY 1") == [(THIRD_WEEK,), (FOURTH_WEEK,)]
    again = world.run(run_id="again", until="publish")
    assert world.ask("SELECT count(*) FROM predictions.visits WHERE window_start = :w", w=WEEK) == 350
    assert janitor.tidy(world.db, world.folder) == {"dropped_tables": 1, "retired_batches": 1}
    assert world.rows(EVENTS)[-1][:3] == (again.batch_id, WEEK, True)


def test_retention_decides_nothing_while_somebody_else_decides(trained: World) -> None:
    """Both take the lock of decisions first, so no rollback picks a batch that is about to go."""
    for run_id in "ab":
        trained.run(run_id=run_id)
    with session(trained) as deciding:
        lock_decisions(deciding, "visits")
        with session(trained) as waiting, patch.object(type(trained.db), "begin", lambda _: _given(waiting)):
            waiting.exec_driver_sql("SET LOCAL lock_timeout = '200ms'")
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                retire(trained, replaced_batches=0)
    assert trained.rows(EVENTS) == []


@contextmanager
def _given(connection: sa.Connection) -> Iterator[sa.Connection]:
    yield connection


def test_the_newest_window_is_that_of_the_model_and_not_the_run(trained: World) -> None:
    """A backfill of an old window drops nothing that a run of the newest would have kept."""
    trained.run(run_id="r", week=FOURTH_WEEK)
    world = trained.with_model(checks="[retention]\nweeks = 2")
    world.run(run_id="r", week=NEXT_WEEK)
    assert [w for (w,) in world.rows("SELECT window_start FROM ponte.published ORDER BY 1")] == [NEXT_WEEK, FOURTH_WEEK]
    world.run(run_id="r", week=WEEK)
    assert [w for (w,) in world.rows("SELECT window_start FROM ponte.published ORDER BY 1")] == [NEXT_WEEK, FOURTH_WEEK]
    assert midnight(FOURTH_WEEK) > midnight(NEXT_WEEK)


# ---------------------------------------------------------------- what people saw, and see no more


def test_a_window_that_retention_has_dropped_is_not_published_any_more_from_then_on(trained: World) -> None:
    """`published_at` of now says what `ponte.published` says; of a moment before, what people saw then."""
    third = WEEK + dt.timedelta(days=14)
    for week in (WEEK, third):
        trained.run(run_id=str(week), week=week)
    then = trained.ask("SELECT clock_timestamp()")
    assert retire(trained, weeks=1) == 1
    at = "SELECT window_start, batch_id FROM ponte.published_at('visits', :moment)"
    now = trained.ask("SELECT clock_timestamp()")
    assert trained.rows(at, moment=then) == [(WEEK, 1), (third, 2)]
    assert trained.rows(at, moment=now) == trained.rows("SELECT window_start, batch_id FROM ponte.published")
    assert trained.rows(at, moment=now) == [(third, 2)]

    trained.run(run_id="backfill", week=WEEK, until="publish")
    later = trained.ask("SELECT clock_timestamp()")
    assert trained.rows(at, moment=later) == [(WEEK, 3), (third, 2)]
    assert trained.rows(at, moment=now) == [(third, 2)]
