"""A run that is made again under the id of a deleted one does its work; a repetition of a run finds what it has done.

Ids of backfills follow from the date; a deletion, `airflow db clean` or a new metadata database free them.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.sample_model import FEATURES_SQL, LATER, NEXT_WEEK, WEEK, World, run_named

from ponte.decisions import approvals, rollback, verdicts
from ponte.errors import BatchRejected, Fenced
from ponte.publishing import pointer
from ponte.scoring.window import stage_window
from ponte.storage.runs import Run

ID = "backfill__2024-02-12T06:00:00+00:00"
FIRST, AGAIN = Run(ID, f"{ID}@2024-02-12T06:00:01.000001+00:00#0"), Run(ID, f"{ID}@2024-02-12T06:00:01.000002+00:00#0")
KEYS = "SELECT run_id, run_key FROM ponte.{} ORDER BY 1, 2"


def correct(world: World) -> None:
    """Correct the source: other features, other outcomes, and one row is gone."""
    world.execute(
        "UPDATE shop.visit SET items = coalesce(items, 0) + 3, returned = NOT returned WHERE visit_id % 5 = 0"
    )
    world.execute("DELETE FROM shop.visit WHERE visit_id = 2200")


def succeed(trained: World) -> World:
    """Return the world after version 2, of the same rows, became champion by hand."""
    next_one = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
    assert next_one.train(run_id="second").version.version == 2
    next_one.set_champion(2, run_id="by hand")
    return next_one


# ---------------------------------------------------------------- scoring


def test_a_window_is_scored_anew_from_the_corrected_source(trained: World) -> None:
    first = trained.run(run_id=FIRST)
    before = trained.published_checksum()
    correct(trained)
    repeated = trained.run(run_id=FIRST)
    assert (repeated.batch_id, trained.published_checksum()) == (first.batch_id, before), "a retry finds its batch"

    again = trained.run(run_id=AGAIN)
    assert again.batch_id != first.batch_id
    assert trained.run(run_id=AGAIN).batch_id == again.batch_id, "and a retry of this one finds its own"
    assert trained.published_checksum() != before
    assert trained.ask("SELECT count(*) FROM predictions.visits WHERE visit_id = 2200") == 0
    assert trained.rows(KEYS.format("batch")) == [(ID, FIRST.key), (ID, AGAIN.key)]
    assert trained.rows("SELECT epoch, run_id FROM ponte.claim") == [(2, ID)]


def test_an_unfinished_batch_of_the_deleted_run_is_ended_and_says_by_what(trained: World) -> None:
    first = trained.run(run_id=FIRST, until="score")
    trained.run(run_id=AGAIN)
    [(status, why)] = trained.rows("SELECT status, why FROM ponte.batch WHERE batch_id = :id", id=first.batch_id)
    assert (status, why) == ("failed", f"superseded by run {ID}, which was cleared or made again")
    with pytest.raises(Fenced):
        trained.guard(first.batch_id)


# ---------------------------------------------------------------- training


def test_a_version_is_trained_on_the_corrected_source(trained: World) -> None:
    first = trained.snapshot(run_id=FIRST)
    correct(trained)
    assert trained.snapshot(run_id=FIRST) == first, "a retry finds its snapshot"

    run = trained.train(run_id=AGAIN)
    assert run.snapshot.snapshot_id != first.snapshot_id
    assert trained.snapshot(run_id=AGAIN) == run.snapshot, "and a retry of this one finds its own"
    assert run.snapshot.sha256 != first.sha256
    assert run.version.version == 2
    assert run.version.run_id == ID
    assert trained.rows(f"{KEYS.format('snapshot')} LIMIT 2") == [(ID, FIRST.key), (ID, AGAIN.key)]


def test_a_snapshot_whose_run_was_deleted_while_it_froze_is_left_alone(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ponte.snapshots.freezing._freeze_windows", _die)
        with pytest.raises(RuntimeError):
            trained.snapshot(run_id=FIRST)
    assert trained.snapshot(run_id=AGAIN).status == "written"
    states = "SELECT run_key, status FROM ponte.snapshot WHERE run_id = :id ORDER BY snapshot_id"
    assert trained.rows(states, id=ID) == [(FIRST.key, "freezing"), (AGAIN.key, "written")]
    assert trained.snapshot(run_id=FIRST).status == "written", "a retry goes on"


def _die(*_: object) -> None:
    raise RuntimeError


def test_the_gate_is_asked_anew(trained: World) -> None:
    snapshot_id = trained.champion().snapshot_id
    first = verdicts.judge(trained.db, trained.folder, 1, snapshot_id, run=FIRST)
    stricter = trained.with_model(bound="minimum = 0.999")
    assert verdicts.judge(trained.db, stricter.folder, 1, snapshot_id, run=FIRST) == first

    number, verdict = verdicts.judge(trained.db, stricter.folder, 1, snapshot_id, run=AGAIN)
    assert number != first[0]
    assert (first[1].passed, verdict.passed) == (True, False)
    assert trained.rows(f"{KEYS.format('gate_verdict')} LIMIT 2") == [(ID, FIRST.key), (ID, AGAIN.key)]


def test_an_answer_is_kept_for_each(trained: World) -> None:
    def answer(run: Run) -> int:
        said = {"actor": "a person", "reason": "test", "answered_at": LATER}
        return approvals.record_approval(trained.db, 1, "approved", run=run, **said)  # type: ignore[arg-type]

    first, again = answer(FIRST), answer(AGAIN)
    assert first != again
    assert (answer(FIRST), answer(AGAIN)) == (first, again)
    assert trained.rows(KEYS.format("approval")) == [(ID, FIRST.key), (ID, AGAIN.key)]


# ---------------------------------------------------------------- deciding by hand


def test_a_version_is_made_champion_again(trained: World) -> None:
    """Under its old id the promotion said "version 1", and the champion was version 2."""
    world = succeed(trained)
    first = world.set_champion(1, run_id=FIRST)
    second = world.set_champion(2)
    assert world.set_champion(1, run_id=FIRST) == first, "a retry, whatever was decided since"
    assert world.champion().version == 2

    again = world.set_champion(1, run_id=AGAIN)
    assert again.event_id > second.event_id
    assert world.champion().version == 1
    evidence = world.ask("SELECT evidence FROM ponte.alias_event WHERE event_id = :id", id=again.event_id)
    assert evidence == {"by_hand_in_run": ID, "run_key": AGAIN.key, "allow_bad": False}


def test_a_promotion_of_before_there_were_keys_is_found_by_its_run_id(trained: World) -> None:
    world = succeed(trained)
    world.execute(
        "INSERT INTO ponte.alias_event (model, alias, version, previous_version, previous_event_id, actor, reason, "
        "evidence) SELECT model, alias, 1, 2, event_id, 'a person', 'test', "
        """jsonb_build_object('by_hand_in_run', 'old', 'allow_bad', false) FROM ponte.alias_event """
        "ORDER BY event_id DESC LIMIT 1"
    )
    written = world.ask("SELECT max(event_id) FROM ponte.alias_event")
    world.set_champion(2)
    assert world.set_champion(1, run_id="old").event_id == written
    assert world.set_champion(1, run_id=Run("old", "old@2024-02-12T06:00:01.000001+00:00#0")).event_id > written


def test_a_version_is_marked_again(trained: World) -> None:
    trained.mark(1, "bad", run_id=FIRST)
    trained.mark(1, "not bad", run_id="sorry")
    trained.mark(1, "bad", run_id=FIRST)
    bad = "SELECT ponte.is_bad('visits', 1)"
    assert trained.ask(bad) is False, "a retry"

    trained.mark(1, "bad", run_id=AGAIN)
    assert trained.ask(bad) is True
    marked = "SELECT run_id, run_key FROM ponte.version_mark WHERE mark = 'bad' ORDER BY mark_id"
    assert trained.rows(marked) == [(ID, FIRST.key), (ID, AGAIN.key)]


def test_a_rollback_is_carried_out_again_with_windows_scored_anew(trained: World) -> None:
    world = succeed(trained)
    world.run(run_id="by 2")
    done = world.roll_back(1, run_id=FIRST, windows=[WEEK], mark_bad=True)
    world.roll_back(2, run_id="undo", windows=[WEEK], allow_bad=True)
    world.mark(2, "not bad", run_id="sorry")
    shown = "SELECT DISTINCT model_version FROM predictions.visits"
    assert world.roll_back(1, run_id=FIRST, windows=[WEEK], mark_bad=True) == done, "a retry"
    assert world.rows(shown) == [(2,)]

    # NEXT_WEEK has no batch of version 1 yet.
    again = world.roll_back(1, run_id=AGAIN, windows=[WEEK, NEXT_WEEK], mark_bad=True)
    assert again.rollback_id > done.rollback_id
    assert world.rows(shown) == [(1,)]
    assert world.champion().version == 1
    assert world.ask("SELECT ponte.is_bad('visits', 2)") is True
    kept = "SELECT run_id, run_key FROM ponte.rollback WHERE run_id = :run ORDER BY rollback_id"
    assert world.rows(kept, run=ID) == [(ID, FIRST.key), (ID, AGAIN.key)]
    evidence = "SELECT evidence FROM ponte.alias_event ORDER BY event_id DESC LIMIT 1"
    assert world.ask(evidence) == {"rollback_run": ID, "run_key": AGAIN.key}


def test_a_rollback_does_not_take_what_the_deleted_run_has_scored(trained: World) -> None:
    world = succeed(trained)
    options: dict[str, Any] = {"every_window": False, "allow_bad": False, "allow_hindsight": False, "now": LATER}
    plan = rollback.plan_rollback(world.db, world.store, world.folder, 1, windows=[WEEK], **options)
    stage(world, run=FIRST)
    with pytest.raises(Fenced, match="this rollback has not scored a window"):
        rollback.roll_back(world.db, plan, run=AGAIN, actor="a person", reason="test")
    assert rollback.roll_back(world.db, plan, run=FIRST, actor="a person", reason="test").to_version == 1


def stage(world: World, *, run: Run) -> None:
    """Score the week with version 1, unseen."""
    stage_window(world.db, world.store, world.folder, 1, WEEK, run=run, now=LATER, allow_hindsight=False)


def test_a_batch_is_published_all_the_same_by_a_run_under_an_old_id(scored: World) -> None:
    """A batch has one override, whoever repeats it; the id of its run keeps no other batch from having one too."""
    world = scored.with_model(checks="[guard]\nminimum_batches = 1\n")
    world.execute("DELETE FROM shop.visit WHERE day >= :day AND visit_id % 5 <> 0", day=NEXT_WEEK)
    overridden = []
    for name in ("one", "other"):
        with pytest.raises(BatchRejected, match="a guard has tripped"):
            world.run(run_id=name, week=NEXT_WEEK)
        batch_id = world.ask("SELECT max(batch_id) FROM ponte.batch")
        pointer.prepare_publication(world.db, batch_id, model="visits")
        for _ in range(2):
            pointer.publish_anyway(world.db, batch_id, model="visits", run_id=ID, actor="a person", reason="a holiday")
        overridden.append((batch_id, ID))
        assert world.ask("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=NEXT_WEEK) == batch_id
    assert world.rows("SELECT batch_id, run_id FROM ponte.guard_override ORDER BY 1") == overridden


# ---------------------------------------------------------------- one law for all tables


def test_no_table_is_unique_by_the_id_of_a_run(world: World) -> None:
    """Each that is unique by run is so by its key, and has the id beside it, for people."""
    unique = (
        "SELECT DISTINCT i.indrelid::regclass::text FROM pg_index i JOIN pg_attribute a "
        "ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
        "JOIN pg_class c ON c.oid = i.indrelid "
        "WHERE c.relnamespace = 'ponte'::regnamespace AND i.indisunique AND a.attname = :column ORDER BY 1"
    )
    assert world.rows(unique, column="run_id") == []
    tables = ["alarm_event", "approval", "batch", "gate_verdict", "rollback", "snapshot", "version_mark"]
    assert world.rows(unique, column="run_key") == [(f"ponte.{table}",) for table in tables]
    both = "SELECT table_name FROM information_schema.columns WHERE table_schema = 'ponte' AND column_name = :column"
    have = {column: {row[0] for row in world.rows(both, column=column)} for column in ("run_id", "run_key")}
    assert have["run_key"] == set(tables)
    assert have["run_key"] <= have["run_id"]


def test_a_run_of_a_test_has_its_id_as_key() -> None:
    assert run_named("r") == Run("r", "r")
    assert run_named(FIRST) is FIRST
