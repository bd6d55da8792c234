"""The fence: whoever claimed a window last is the only one who can publish it."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from tests.postgres.children import in_child
from tests.sample_model import EMPTY_WEEK, NEXT_WEEK, NOW, STEPS, VISITS_PER_WEEK, WEEK, World

from ponte.batches import lifecycle as batches
from ponte.errors import Fenced
from ponte.publishing import pointer
from ponte.scoring.plan import plan_shards
from ponte.scoring.shards import score_shard

PUBLISHED = "SELECT window_start, b.run_id FROM ponte.published JOIN ponte.batch b USING (batch_id, window_start)"


@pytest.mark.parametrize("reached", STEPS[:4])
def test_every_later_step_of_an_older_run_is_fenced(trained: World, reached: str) -> None:
    older = trained.run(run_id="older", until=reached)
    newer = trained.freeze(run_id="newer")

    with pytest.raises(Fenced, match="superseded by run newer"):
        trained.freeze(run_id="older")
    for step in STEPS[1:5]:
        with pytest.raises(Fenced, match="superseded by run newer"):
            getattr(trained, step)(older.batch_id)
    assert trained.rows(PUBLISHED) == []
    assert trained.rows("SELECT epoch, run_id FROM ponte.claim") == [(2, "newer")]
    trained.run(run_id="newer")
    assert trained.rows("SELECT DISTINCT batch_id FROM predictions.visits") == [(newer.batch_id,)]


def test_a_shard_that_was_under_way_when_the_window_was_claimed_cannot_be_planned_again(trained: World) -> None:
    older = trained.run(run_id="older", until="check")
    (shard,) = plan_shards(trained.db, trained.folder, older.batch_id)
    trained.freeze(run_id="newer")

    with pytest.raises(Fenced):
        score_shard(trained.db, trained.store, trained.folder, older.batch_id, shard, now=NOW)
    assert trained.ask("SELECT count(*) FROM ponte.shard") == 0


def test_a_published_run_cannot_publish_again_over_a_newer_one(trained: World) -> None:
    """The zombie whose batch is no failure, because people once saw it: only the epoch tells that it is late."""
    older = trained.run(run_id="older", until="publish")
    newer = trained.run(run_id="newer")

    with pytest.raises(Fenced, match="a newer run owns the window") as caught:
        trained.publish(older.batch_id)
    assert all(part in str(caught.value) for part in ("epoch 1 of run older", "epoch 2 of run newer", str(WEEK)))
    assert trained.rows("SELECT DISTINCT batch_id FROM predictions.visits") == [(newer.batch_id,)]
    assert trained.ask("SELECT count(*) FROM ponte.publication_event") == 2


def test_a_claim_between_the_last_look_and_the_flip_fences(trained: World) -> None:
    """The newest epoch is read under a lock inside the publishing transaction, not before it."""
    older = trained.run(run_id="older", until="guard")
    flip = pointer._flip

    def claimed_meanwhile(*args: object, **kwargs: object) -> object:
        trained.freeze(run_id="newer")
        return flip(*args, **kwargs)

    with patch.object(pointer, "_flip", claimed_meanwhile), pytest.raises(Fenced):
        trained.publish(older.batch_id)
    assert trained.rows(PUBLISHED) == []


def test_a_claim_waits_for_a_publication_under_way(trained: World) -> None:
    """Publishing holds the claim's row: the newer run then finds a published batch, and does not mark it failed."""
    older = trained.run(run_id="older", until="guard")
    attach, claimed = pointer.attach_prediction_table, []

    def claim_meanwhile(connection: object, batch: batches.Batch) -> None:
        newer = threading.Thread(target=lambda: claimed.append(trained.freeze(run_id="newer")))
        newer.start()
        newer.join(0.5)
        assert newer.is_alive()
        claimed.append(newer)
        attach(connection, batch)

    with patch.object(pointer, "attach_prediction_table", claim_meanwhile):
        trained.publish(older.batch_id)
    claimed[0].join()
    assert batches.get_batch(trained.db, older.batch_id).status == "staged"
    assert trained.rows(PUBLISHED) == [(WEEK, "older")]
    trained.run(run_id="newer")
    assert trained.rows(PUBLISHED) == [(WEEK, "newer")]


def test_other_windows_are_not_fenced(trained: World) -> None:
    trained.run(run_id="one", until="guard")
    trained.with_model(checks="[guard]\nwait_minutes = 0").run(run_id="two", week=NEXT_WEEK)  # it waits for nobody
    trained.run(run_id="one")

    assert sorted(trained.rows(PUBLISHED)) == [(WEEK, "one"), (NEXT_WEEK, "two")]


def test_a_retry_of_the_same_run_keeps_its_epoch(trained: World) -> None:
    first = trained.freeze(run_id="r")
    again = trained.freeze(run_id="r")

    assert first == again
    assert trained.rows("SELECT epoch FROM ponte.claim") == [(1,)]


def at_once(actions: list[Callable[[], object]]) -> list[object]:
    """Start all actions at the same moment, each in a thread; return results and exceptions."""
    start = threading.Barrier(len(actions), timeout=30)

    def run(action: Callable[[], object]) -> object:
        start.wait()
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - the caller looks at every one
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


#: PONTE_FENCE_ROUNDS=200 takes some minutes.
ROUNDS = int(os.environ.get("PONTE_FENCE_ROUNDS", "8"))
QUARANTINE = """
[quarantine]
budget = 0.2
[[checks]]
expectation = "expect_column_values_to_not_be_null"
column = "items"
on_failure = "quarantine"
"""


@dataclass(frozen=True)
class Case:
    """A window that runs fight for."""

    week: dt.date
    checks: str = ""
    published: int = 0
    set_aside: int = 0


CASES = {
    "full": Case(WEEK, published=VISITS_PER_WEEK),
    "empty": Case(EMPTY_WEEK),
    "with rows set aside": Case(WEEK, QUARANTINE, published=VISITS_PER_WEEK - 16, set_aside=16),
}


def fight(world: World, case: Case, *, runs: int, rounds: int) -> tuple[int, int]:
    """Let runs of one window start at once; return how often one ended as Fenced, and how often one published."""
    fenced = published = 0
    for number in range(rounds):
        results = at_once(
            [
                lambda n=n, number=number: world.run(run_id=f"{number}-{n}", week=case.week, until="publish")
                for n in range(runs)
            ]
        )
        losers = [r for r in results if isinstance(r, Exception)]
        assert [type(r) for r in losers] == [Fenced] * len(losers), losers
        winners = {r.batch_id for r in results if isinstance(r, batches.Batch)}
        assert winners, "nobody published"
        assert_one_whole_batch(world, case, winners)
        fenced, published = fenced + len(losers), published + len(winners)
    return fenced, published


def assert_one_whole_batch(world: World, case: Case, winners: set[int] | None = None) -> None:
    """Readers see the rows of one batch, that of the newest claim; nothing was written twice, nothing is lost."""
    week = {"week": case.week}
    counts = "SELECT count(*), count(DISTINCT visit_id), count(DISTINCT batch_id) FROM predictions.visits "
    expected = (case.published, case.published, int(case.published > 0))
    assert world.rows(f"{counts} WHERE window_start = :week", **week) == [expected]
    ((shown, epoch),) = world.rows("SELECT batch_id, epoch FROM ponte.published WHERE window_start = :week", **week)
    assert world.rows("SELECT epoch FROM ponte.claim WHERE window_start = :week", **week) == [(epoch,)]
    assert winners is None or shown in winners
    # Every batch that people have seen adds up, and only the one they see now has open entries.
    assert world.rows(
        "SELECT DISTINCT b.row_count - e.row_count, (SELECT count(*) FROM ponte.quarantine q "
        "WHERE q.batch_id = b.batch_id) FROM ponte.publication_event e JOIN ponte.batch b USING (batch_id) "
        "WHERE b.window_start = :week",
        **week,
    ) == [(case.set_aside, case.set_aside)]
    open_entries = (
        "SELECT count(*), count(DISTINCT key) FROM ponte.quarantine WHERE batch_id = :id AND closed_at IS NULL"
    )
    assert world.rows(open_entries, id=shown) == [(case.set_aside, case.set_aside)]


@pytest.mark.parametrize("runs", [2, 5])
@pytest.mark.parametrize("name", CASES)
def test_many_runs_of_one_window_at_once_publish_exactly_one_batch(trained: World, name: str, runs: int) -> None:
    world = trained.with_model(empty="allow", checks=CASES[name].checks)
    fenced, published = fight(world, CASES[name], runs=runs, rounds=ROUNDS)
    assert fenced + published == runs * ROUNDS
    assert fenced >= ROUNDS / 4, "they hardly met"


@pytest.mark.parametrize("name", CASES)
def test_the_same_window_twice_in_a_row_shows_the_second_run_and_repeats_nothing(trained: World, name: str) -> None:
    """A repetition of a run is a no-op; another run replaces what people see."""
    case = CASES[name]
    world = trained.with_model(empty="allow", checks=case.checks)
    first = world.run(run_id="first", week=case.week)
    assert_one_whole_batch(world, case, {first.batch_id})
    assert world.run(run_id="first", week=case.week) == first
    assert world.ask("SELECT count(*) FROM ponte.publication_event") == 1
    seen = world.published_checksum(case.week)

    second = world.run(run_id="second", week=case.week)
    assert_one_whole_batch(world, case, {second.batch_id})
    assert world.published_checksum(case.week) == seen
    assert world.rows("SELECT batch_id, previous_batch_id FROM ponte.publication_event ORDER BY event_id") == [
        (first.batch_id, None),
        (second.batch_id, first.batch_id),
    ]


def test_without_the_fence_the_fight_is_lost(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: a mutant that lets every epoch publish is found out."""
    monkeypatch.setattr(pointer, "_require_newest", lambda *_: None)
    monkeypatch.setattr(batches, "require", lambda *_: None)  # else the older one stops before
    older = trained.run(run_id="older", until="guard")
    trained.run(run_id="newer", until="publish")
    trained.publish(older.batch_id)
    with pytest.raises(AssertionError):
        assert_one_whole_batch(trained, CASES["full"])


def test_processes_that_run_one_window_at_once_publish_exactly_one_batch(trained: World) -> None:
    for number in range(3):
        children = [in_child(trained, "run", run_id=f"{number}-{n}", until="publish") for n in range(3)]
        endings = [child.ending() for child in children]

        assert set(endings) <= {"done", "Fenced"}
        assert "done" in endings
        assert_one_whole_batch(trained, CASES["full"])
