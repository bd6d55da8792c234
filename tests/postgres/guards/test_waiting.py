"""Guards wait for the batches of earlier windows that they compare with, and a run that is dead frees them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cluster, Template
from tests.postgres.children import wait_for
from tests.sample_model import FEATURES_SQL, NEXT_WEEK, VISITS_PER_WEEK, WEEK, World, write_model

from ponte.batches import lifecycle as batches
from ponte.errors import BatchRejected, Fenced, PonteError, WindowsUnfinished
from ponte.guards.waiting import require_earlier_finished
from ponte.publishing import janitor, pointer
from ponte.storage.runs import Run

FOUR_WEEKS = tuple(WEEK + dt.timedelta(weeks=n) for n in range(4))
BROKEN = "UPDATE shop.visit SET items = 0, distance = 500, member = false WHERE day >= :day"
VERDICT = "SELECT guard, outcome, got, expected, evidence::text FROM ponte.guard_result WHERE batch_id = :id ORDER BY 1"
STATUSES = ("freezing", "frozen", "checked", "scored", "staged")


def score_beside_each_other(world: World) -> None:
    """Freeze, check and score four weeks, of which the last is broken, each in a run of its own: batches 1 to 4."""
    world.execute(BROKEN, day=FOUR_WEEKS[3])
    for step in (world.check, world.score):
        for week in FOUR_WEEKS:
            step(world.freeze(run_id=f"r{week}", week=week).batch_id)


@pytest.fixture(scope="module")
def beside_template(
    server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    folder = tmp_path_factory.mktemp("beside")
    with trained_template.after(server, folder, score_beside_each_other) as found:
        yield found


@pytest.fixture
def beside(server: Cluster, beside_template: Template, tmp_path: Path) -> Iterator[World]:
    """Four weeks have been scored and nobody has asked the guards yet."""
    with beside_template.copy(server, tmp_path) as world:
        yield world


def finish(world: World, order: Sequence[int]) -> list[int]:
    """Guard and publish the batches; who is first in `order` takes each step that it may. Return who had to wait."""
    waited, left = [], list(order)
    while left:
        for batch_id in left:
            try:
                world.guard(batch_id)
            except WindowsUnfinished:
                waited.append(batch_id)
                continue
            except BatchRejected:
                pass
            else:
                world.publish(batch_id)
            left.remove(batch_id)
            break
        else:
            pytest.fail(f"{left} wait for each other")
    return waited


def test_weeks_scored_beside_each_other_get_the_verdict_of_weeks_scored_one_after_the_other(
    server: Cluster, beside_template: Template, tmp_path: Path
) -> None:
    orders = [(1, 2, 3, 4), (4, 3, 2, 1), (4, 1, 2, 3), (3, 4, 2, 1), (2, 4, 1, 3)]
    found = []
    for number, order in enumerate(orders):
        with beside_template.copy(server, tmp_path / str(number)) as world:
            waited = finish(world, order)
            assert bool(waited) == (order != orders[0])
            published = world.rows("SELECT window_start FROM ponte.published ORDER BY 1")
            assert published == [(week,) for week in FOUR_WEEKS[:3]]
            found.append([world.rows(VERDICT, id=batch_id) for batch_id in (1, 2, 3, 4)])
    assert ("mean_score", "tripped") in [row[:2] for row in found[0][3]]
    assert found == [found[0]] * len(orders)


# ---------------------------------------------------------------- who is waited for


def status(value: str) -> Callable[[World], object]:
    def change(world: World) -> None:
        world.freeze(run_id="earlier")
        said = ", why = 'a reason', rejected_by = 'check'" if value == "rejected" else ", why = 'a reason'"
        world.execute(f"UPDATE ponte.batch SET status = :status{said}, row_count = 1", status=value)

    return change


def published(world: World, *weeks: dt.date) -> None:
    for week in weeks or (WEEK,):
        world.run(run_id="earlier", week=week)


def published_and_claimed_again(world: World) -> None:
    published(world)
    world.freeze(run_id="again")


def claimed_again_and_failed(world: World) -> None:
    """The batch of the older claim is held by a step at that moment, so it is passed over."""
    batch = world.freeze(run_id="earlier")
    world.freeze(run_id="again")
    world.execute("UPDATE ponte.batch SET status = 'frozen', why = NULL WHERE batch_id = :id", id=batch.batch_id)
    world.execute("UPDATE ponte.batch SET status = 'failed', why = 'x' WHERE batch_id > :id", id=batch.batch_id)


def shown_by_a_rollback(world: World) -> None:
    """The claim has moved on, and no batch is of its epoch."""
    published_and_claimed_again(world)
    world.execute("UPDATE ponte.claim SET epoch = epoch + 1")


def of_another_model(world: World) -> None:
    other = replace(world, folder=write_model(world.folder.path.parent, "others"))
    other.train(run_id="t")
    other.freeze(run_id="earlier")


#: → (what is there, the window asked for, `[guard] batches`, who is waited for)
WAITS: dict[str, tuple[Callable[[World], object], dt.date, int, str]] = {
    **{name: (status(name), NEXT_WEEK, 8, f"run earlier is {name}") for name in STATUSES},
    "rejected": (status("rejected"), NEXT_WEEK, 8, ""),
    "failed": (status("failed"), NEXT_WEEK, 8, ""),
    "published": (published, NEXT_WEEK, 8, ""),
    "claimed again": (published_and_claimed_again, NEXT_WEEK, 8, "batch 2 of run again is frozen"),
    "fenced off": (claimed_again_and_failed, NEXT_WEEK, 8, ""),
    "rolled back": (shown_by_a_rollback, NEXT_WEEK, 8, ""),
    "nobody": (lambda _: None, NEXT_WEEK, 8, ""),
    "a later window": (lambda world: world.freeze(run_id="later", week=FOUR_WEEKS[2]), NEXT_WEEK, 8, ""),
    "another model": (of_another_model, NEXT_WEEK, 8, ""),
    "further back than is compared": (
        lambda world: (published(world, NEXT_WEEK), world.freeze(run_id="earlier")), FOUR_WEEKS[2], 1, ""
    ),
    "the last that is compared": (
        lambda world: (published(world, NEXT_WEEK), world.freeze(run_id="earlier")), FOUR_WEEKS[2], 2, "run earlier"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WAITS)
def test_guard_waits_for_the_batches_that_it_would_be_compared_with(trained: World, case: str) -> None:
    change, week, count, awaited = WAITS[case]
    change(trained)
    world = trained.with_model(checks=f"[guard]\nbatches = {count}\nminimum_batches = 1")
    batch = world.freeze(run_id="asks", week=week)
    if not awaited:
        require_earlier_finished(world.db, batch, world.folder.spec.guard)
        assert world.ask("SELECT waits_since FROM ponte.batch WHERE run_id = 'asks'") is None
        return
    with pytest.raises(WindowsUnfinished, match=awaited):
        require_earlier_finished(world.db, batch, world.folder.spec.guard)


def test_after_its_time_guard_fails_and_names_batch_and_run_whatever_became_of_the_task_meanwhile(
    beside: World,
) -> None:
    """The time is counted from the first time that it had to wait, over retries."""
    with pytest.raises(WindowsUnfinished):
        beside.guard(2)
    since = beside.ask("SELECT waits_since FROM ponte.batch WHERE batch_id = 2")
    with pytest.raises(WindowsUnfinished):
        beside.guard(2)
    assert beside.ask("SELECT waits_since FROM ponte.batch WHERE batch_id = 2") == since
    beside.execute("UPDATE ponte.batch SET waits_since = waits_since - interval '60 minutes' WHERE batch_id = 2")
    with pytest.raises(PonteError, match=r"wait_minutes = 60; nothing was published") as caught:
        beside.guard(2)
    assert not isinstance(caught.value, WindowsUnfinished)
    assert f"window {WEEK}: batch 1 of run r{WEEK} is checked" in str(caught.value)
    # Nothing has happened to it: once the earlier one is finished it goes on.
    world = beside.with_model(checks="[guard]\nwait_minutes = 61")
    with pytest.raises(WindowsUnfinished):
        world.guard(2)
    finish(beside, (1, 2))
    assert beside.ask("SELECT count(*) FROM ponte.published") == 2


def test_without_a_time_to_wait_a_batch_is_judged_beside_what_people_see(beside: World) -> None:
    world = beside.with_model(checks='[guard]\ncolumns = "off"\nwait_minutes = 0')
    world.guard(4)
    assert world.ask("SELECT outcome FROM ponte.guard_result WHERE guard = 'row_count'") == "skipped"


# ---------------------------------------------------------------- a run that has ended


def attempt(number: int, week: dt.date = WEEK) -> Run:
    """Return the run as Airflow names it after so many clearings."""
    return Run(f"r{week}", f"r{week}#{number}" if number else f"r{week}")


def end(world: World, run: Run) -> None:
    """What `clean_up` of that run does."""
    janitor.tidy(world.db, world.folder, run=run)


@pytest.mark.parametrize("reached", STATUSES)
def test_a_dead_run_frees_the_others_and_a_cleared_task_goes_on_where_it_stopped(beside: World, reached: str) -> None:
    stops = {"scored": lambda: beside.guard(1), "staged": lambda: beside.guard(1)}
    stops.get(reached, lambda: None)()
    beside.execute("UPDATE ponte.batch SET status = :status WHERE batch_id = 1", status=reached)
    tables = beside.data_tables()
    end(beside, attempt(0))
    end(beside, attempt(0))

    assert beside.rows("SELECT status, why FROM ponte.batch_overview WHERE batch_id = 1") == [
        ("failed", "its run ended before it was published")
    ]
    assert batches.get_batch(beside.db, 1).stopped_in == reached
    assert beside.data_tables() == tables
    beside.guard(2)  # waits no more
    # A step of the attempt that has ended, which nobody looks at any more, does not bring it back.
    batches.go_on(beside.db, 1, run=attempt(0))
    with pytest.raises(PonteError, match="has ended without publishing it"):
        beside.publish(1)

    batches.go_on(beside.db, 1, run=attempt(1))
    batches.go_on(beside.db, 1, run=attempt(1))
    end(beside, attempt(0))  # late
    batch = batches.get_batch(beside.db, 1)
    assert (batch.status, batch.stopped_in, batch.why) == (reached, None, None)
    end(beside, attempt(1))
    assert batches.get_batch(beside.db, 1).stopped_in == reached


def test_a_run_that_goes_on_publishes_all_of_its_rows(trained: World) -> None:
    batch_id = trained.freeze(run_id=attempt(0)).batch_id
    trained.check(batch_id)
    end(trained, attempt(0))
    for number, step in enumerate((trained.score, trained.guard, trained.publish), 1):
        with pytest.raises(PonteError, match="clear the failed task of that run"):
            step(batch_id)
        batches.go_on(trained.db, batch_id, run=attempt(number))
        step(batch_id)
        end(trained, attempt(number))
    assert trained.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK
    # What was published stays so.
    end(trained, attempt(3))
    assert trained.rows("SELECT status, why, frozen_table FROM ponte.batch") == [("staged", None, None)]


def test_what_was_rejected_stays_rejected_when_its_run_ends(beside: World) -> None:
    finish(beside, (1, 2, 3, 4))
    before = beside.rows("SELECT * FROM ponte.batch WHERE batch_id = 4")
    end(beside, attempt(0, FOUR_WEEKS[3]))
    batches.go_on(beside.db, 4, run=attempt(1, FOUR_WEEKS[3]))
    assert beside.ask("SELECT status FROM ponte.batch WHERE batch_id = 4") == "rejected"
    with pytest.raises(BatchRejected):
        beside.guard(4)
    assert beside.rows("SELECT * FROM ponte.batch WHERE batch_id = 4")[0][0] == before[0][0]


@pytest.mark.parametrize("ended", [False, True], ids=["at work", "ended"])
def test_nothing_goes_on_once_a_newer_run_has_the_window(beside: World, ended: bool) -> None:
    """Another run, or the same one whose rows are frozen anew: the batch is over, and its tables go."""
    if ended:
        end(beside, attempt(0))
    newer = beside.freeze(run_id=attempt(1)).batch_id
    batches.go_on(beside.db, 1, run=attempt(2))
    with pytest.raises(Fenced, match="superseded by run"):
        beside.guard(1)
    end(beside, attempt(0))
    rows = beside.rows("SELECT status, stopped_in, frozen_table, prediction_table FROM ponte.batch WHERE batch_id = 1")
    assert rows == [("failed", None, None, None)]
    assert batches.get_batch(beside.db, newer).status == "frozen"


def test_a_rollback_fences_off_a_window_whose_run_has_ended(trained: World) -> None:
    """Else a cleared task could show later what the version left had predicted."""
    second = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
    second.train(run_id="second")
    batch_id = second.run(run_id="dead", until="guard").batch_id
    second.execute("UPDATE ponte.batch SET version = 2")
    end(second, Run("dead", "dead"))
    second.roll_back(1, run_id="back", every_window=True)
    batches.go_on(second.db, batch_id, run=Run("dead", "dead#1"))
    with pytest.raises(Fenced):
        second.publish(batch_id)


def test_the_end_of_a_run_takes_nothing_from_a_publication_that_is_under_way(
    beside: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan of `publish` may still be at work when `clean_up` runs: it wins, or it publishes nothing."""
    beside.guard(1)
    with ThreadPoolExecutor(1) as threads:
        with beside.db.begin() as connection:
            batch = batches.lock(connection, 1)
            pointer.show(connection, batch, epoch=batch.epoch, actor="orphan", reason="test")
            ending: Any = threads.submit(end, beside, attempt(0))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_for(lambda: beside.ask(waiting))
        ending.result()
    assert beside.rows("SELECT status, why FROM ponte.batch WHERE batch_id = 1") == [("staged", None)]
