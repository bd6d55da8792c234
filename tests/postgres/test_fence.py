"""The fence: whoever claimed a window last is the only one who can publish it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from tests.postgres.children import in_child
from tests.sample_model import NEXT_WEEK, NOW, STEPS, WEEK, World

from ponte import batches, publishing, scoring
from ponte.errors import Fenced

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
    (shard,) = scoring.plan_shards(trained.db, trained.folder, older.batch_id)
    trained.freeze(run_id="newer")

    with pytest.raises(Fenced):
        scoring.score_shard(trained.db, trained.store, trained.folder, older.batch_id, shard, now=NOW)
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
    flip = publishing._flip

    def claimed_meanwhile(*args: object, **kwargs: object) -> object:
        trained.freeze(run_id="newer")
        return flip(*args, **kwargs)

    with patch.object(publishing, "_flip", claimed_meanwhile), pytest.raises(Fenced):
        trained.publish(older.batch_id)
    assert trained.rows(PUBLISHED) == []


def test_a_claim_waits_for_a_publication_under_way(trained: World) -> None:
    """Publishing holds the claim's row: the newer run then finds a published batch, and does not mark it failed."""
    older = trained.run(run_id="older", until="guard")
    attach, claimed = publishing.attach_prediction_table, []

    def claim_meanwhile(connection: object, batch: batches.Batch) -> None:
        newer = threading.Thread(target=lambda: claimed.append(trained.freeze(run_id="newer")))
        newer.start()
        newer.join(0.5)
        assert newer.is_alive()
        claimed.append(newer)
        attach(connection, batch)

    with patch.object(publishing, "attach_prediction_table", claim_meanwhile):
        trained.publish(older.batch_id)
    claimed[0].join()
    assert batches.get_batch(trained.db, older.batch_id).status == "staged"
    assert trained.rows(PUBLISHED) == [(WEEK, "older")]
    trained.run(run_id="newer")
    assert trained.rows(PUBLISHED) == [(WEEK, "newer")]


def test_other_windows_are_not_fenced(trained: World) -> None:
    trained.run(run_id="one", until="guard")
    trained.run(run_id="two", week=NEXT_WEEK)
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


@pytest.mark.parametrize(("runs", "rounds"), [(2, 12), (5, 8)])
def test_many_runs_of_one_window_at_once_publish_exactly_one_batch(trained: World, runs: int, rounds: int) -> None:
    fenced = 0
    for number in range(rounds):
        results = at_once(
            [lambda n=n, number=number: trained.run(run_id=f"{number}-{n}", until="publish") for n in range(runs)]
        )
        losers = [r for r in results if isinstance(r, Exception)]
        assert [type(r) for r in losers] == [Fenced] * len(losers), losers
        assert len(losers) < runs
        fenced += len(losers)
        _assert_one_whole_batch(trained, {r.batch_id for r in results if isinstance(r, batches.Batch)})
    assert fenced >= rounds / 2


def test_processes_that_run_one_window_at_once_publish_exactly_one_batch(trained: World) -> None:
    for number in range(3):
        children = [in_child(trained, "run", run_id=f"{number}-{n}", until="publish") for n in range(3)]
        endings = [child.ending() for child in children]

        assert set(endings) <= {"done", "Fenced"}
        assert "done" in endings
        _assert_one_whole_batch(trained, None)


def _assert_one_whole_batch(world: World, winners: set[int] | None) -> None:
    counts = world.rows("SELECT count(*), count(DISTINCT visit_id), count(DISTINCT batch_id) FROM predictions.visits")
    assert counts == [(350, 350, 1)]
    ((shown, epoch),) = world.rows("SELECT batch_id, epoch FROM ponte.published")
    assert world.rows("SELECT epoch FROM ponte.claim") == [(epoch,)]
    assert winners is None or shown in winners
