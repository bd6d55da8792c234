"""From one version to the next: what stops the old one never stops the new one, and each brings its own SQL."""

from __future__ import annotations

import datetime as dt
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.postgres.versions.test_registry import another, move
from tests.sample_model import AS_OF, FEATURES_SQL, LATER, WEEK, Change, TrainingRun, World, run_named

from ponte.batches import freezing
from ponte.batches.lifecycle import Pin
from ponte.decisions import approvals, promotion, verdicts
from ponte.errors import AliasMoved, ArtifactRefused, BatchRejected, ModelFolderError, PonteError, SignatureMismatch
from ponte.model.windows import midnight
from ponte.storage.database import Database
from ponte.training import candidate
from ponte.versions import aliases, loading, marks
from ponte.versions.registry import Version

READABLE = "SELECT name, value FROM ponte.metric WHERE subject = 'champion:1' AND name = 'readable'"
#: Lets something fail for the moment.
Fault = Callable[[World, pytest.MonkeyPatch], None]
SCORED = "SELECT model_version, count(*) FROM predictions.visits GROUP BY 1"
THOUSANDFOLD = FEATURES_SQL.replace("v.items,", "v.items * 1000 AS items,")
OTHER_SCALE = {"features.sql": THOUSANDFOLD}


# ---------------------------------------------------------------- a champion that cannot predict any more


def remove_the_model(world: World) -> World:
    (Path(world.store.root.path) / world.champion().path / "model.joblib").unlink()
    return world


def remove_the_folder(world: World) -> World:
    shutil.rmtree(Path(world.store.root.path) / world.champion().path)
    return world


def damage_the_model(world: World) -> World:
    file = Path(world.store.root.path) / world.champion().path / "model.joblib"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    return world


def upgrade_a_library(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    upgraded = {**loading.current_libraries(), "scikit-learn": "99.1"}
    for module in (loading, candidate):
        monkeypatch.setattr(module, "current_libraries", lambda: upgraded)
    return world


@dataclass(frozen=True)
class End:
    """How a champion came to be of no use, what scoring says then, and what the author changes, if anything."""

    change: Callable[[World, pytest.MonkeyPatch], World]
    says: type[PonteError]
    features: str = FEATURES_SQL + "-- trained again\n"


ENDS = {
    "another library": End(upgrade_a_library, ArtifactRefused),
    "a lost file": End(lambda w, _: remove_the_model(w), ArtifactRefused),
    "a damaged file": End(lambda w, _: damage_the_model(w), ArtifactRefused),
    "a lost folder": End(lambda w, _: remove_the_folder(w), ArtifactRefused),
}


def assert_undecided(world: World, run: TrainingRun, why: str) -> None:
    """Nothing promotes by itself; a person does, by the answer to a question or by hand."""
    (against,) = [r for r in run.verdict.rules if r.rule == "roc_auc against champion 1"]
    assert (run.verdict.outcome, run.alias) == ("undecided", None)
    assert run.verdict.reason.startswith("UNDECIDED: roc_auc against champion 1: cannot be compared: ")
    assert why in against.got
    assert world.rows("SELECT name, value FROM ponte.metric WHERE subject = 'champion:1'") == [("readable", 0)]
    stored = world.rows("SELECT passed, outcome FROM ponte.gate_verdict WHERE verdict_id = :id", id=run.verdict_id)
    assert stored == [(False, "undecided")]
    assert world.champion().version == 1
    answer = approvals.record_approval(
        world.db,
        run.verdict_id,
        "approved",
        run=run_named("next"),
        actor="a person",
        reason="it works",
        answered_at=LATER,
    )
    assert promotion.promote(world.db, run.verdict_id, actor="next", approval_id=answer).version == 2


@pytest.mark.parametrize("name", ENDS)
def test_when_a_champion_cannot_score_any_more_a_person_lets_its_successor(
    trained: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No dead end: scoring is refused, a training run leaves it to a person, scoring works again."""
    end = ENDS[name]
    world = end.change(trained.with_model(files={"features.sql": end.features}), monkeypatch)
    with pytest.raises(end.says):
        world.run(run_id="r")
    assert_undecided(world, world.train(run_id="next"), "its files cannot predict these rows any more")
    world.run(run_id="again")
    assert world.rows(SCORED) == [(2, 350)]


def test_a_champion_whose_predict_raises_on_the_holdout_does_not_block(world: World) -> None:
    """It was fitted before the moon had a shop, and refuses what it does not know."""
    strict = world.folder.text("estimator.py").replace('handle_unknown="ignore"', "")
    world.with_model(files={"estimator.py": strict}).train(run_id="strict")
    world.execute("UPDATE shop.visit SET shop = 'moon' WHERE day >= '2024-01-29' AND visit_id % 7 = 3")
    with pytest.raises(BatchRejected, match="rows: ValueError"):
        world.run(run_id="r")
    tolerant = world.with_model()
    assert_undecided(tolerant, tolerant.train(run_id="tolerant"), "its files cannot predict these rows any more")
    tolerant.run(run_id="again")
    assert world.rows(SCORED) == [(2, 350)]


def test_a_candidate_whose_holdout_the_champion_has_learned_from_is_not_let_through(trained: World) -> None:
    """An older training by hand: no row is left to compare on, and that is no fault of the champion."""
    older = trained.with_model(files={"features.sql": FEATURES_SQL + "-- older\n"}, training="")
    run = older.train(run_id="old", as_of=midnight(dt.date(2024, 1, 29)), promote=False)

    found = "SELECT name, value, row_count FROM ponte.metric WHERE version = 2 AND subject = 'champion:1'"
    assert trained.rows(found) == [("readable", 1.0, 0)]
    rule = next(r for r in run.verdict.rules if "champion 1" in r.rule)
    assert (rule.got, rule.passed) == ("no difference", False)


def test_a_successor_that_misses_the_bound_is_not_promoted_even_over_a_broken_champion(trained: World) -> None:
    remove_the_model(trained)
    run = trained.with_model(bound="minimum = 0.999").train(run_id="next")

    assert [r.rule for r in run.verdict.rules if r.outcome == "refused"] == ["roc_auc meets the bound"]
    assert (run.verdict.outcome, run.alias) == ("refused", None)
    assert trained.champion().version == 1


def test_a_champion_that_was_promoted_after_the_evaluation_has_to_be_measured_first(trained: World) -> None:
    run = trained.with_model(files={"features.sql": FEATURES_SQL + "-- next\n"})
    written = run.snapshot(run_id="next")
    version = run.fit(written.snapshot_id, run_id="next").version
    run.judge(version, written.snapshot_id, run_id="before")
    third = another(trained, trained.champion(), "third").version
    move(trained, third, aliases.current_alias(trained.db, "visits"), "a person")

    with pytest.raises(AliasMoved, match=f"champion is version {third}, which was not measured") as caught:
        verdicts.judge(run.db, run.folder, version, written.snapshot_id, run=run_named("next"))
    assert "clear the task evaluate" in str(caught.value)
    assert trained.ask("SELECT count(*) FROM ponte.gate_verdict WHERE run_id = 'next'") == 0
    # That one has the files of another: measured, and of no use.
    verdict_id, verdict = run.judge(version, written.snapshot_id, run_id="next")
    assert verdict.outcome == "undecided"
    assert promotion.promote(run.db, verdict_id, actor="next") is None


# ---------------------------------------------------------------- a champion that has learned from the holdout


@pytest.fixture
def forest(world: World) -> World:
    """A champion that knows by heart what it was fitted on: four weeks of six."""
    text = world.folder.text("estimator.py").replace("LogisticRegression()", "RandomForestClassifier(n_estimators=50)")
    made = f"{text}\n\nfrom sklearn.ensemble import RandomForestClassifier\n"
    forest = world.with_model(files={"estimator.py": made})
    forest.set_champion(forest.train(run_id="forest", promote=False).version.version)
    return world


def with_four_holdout_weeks(world: World, **settings: object) -> World:
    """Return a world whose model is measured on two more weeks, which the champion was fitted on."""
    text = (world.with_model(**settings).folder.path / "model.toml").read_text()
    return world.with_model(files={"model.toml": text.replace("holdout_windows = 2", "holdout_windows = 4")})


ROWS_BY_SUBJECT = "SELECT DISTINCT row_count FROM ponte.metric WHERE version = 2 AND subject = :s AND slice = ''"


def test_a_champion_is_compared_only_on_windows_that_it_was_not_fitted_on(forest: World) -> None:
    run = with_four_holdout_weeks(forest).train(run_id="next")
    (against,) = [r for r in run.verdict.rules if r.rule == "roc_auc against champion 1"]

    assert (run.version.version, run.version.holdout_rows) == (2, 1300)
    assert forest.rows(ROWS_BY_SUBJECT, s="candidate") == [(1300,)]
    for subject in ("champion:1", "difference:champion:1"):
        assert forest.rows(ROWS_BY_SUBJECT, s=subject) == [(600,)]
    value = "SELECT value FROM ponte.metric WHERE version = :v AND subject = :s AND name = 'roc_auc' AND slice = ''"
    # The champion's own holdout is what is left of the candidate's.
    theirs = forest.ask(value, v=1, s="candidate")
    assert forest.ask(value, v=2, s="champion:1") == pytest.approx(theirs)
    assert against.evidence["outcome"] != "worse"
    assert (run.verdict.passed, run.alias.version) == (True, 2)


def test_a_champion_that_was_fitted_on_nearly_all_of_the_holdout_cannot_be_compared(forest: World) -> None:
    run = with_four_holdout_weeks(forest, minimum_holdout_rows=601).train(run_id="next")
    (refused,) = [r for r in run.verdict.rules if not r.passed]

    assert (refused.rule, refused.got) == ("roc_auc against champion 1", "no difference")
    assert forest.rows("SELECT name, value, row_count FROM ponte.metric WHERE subject LIKE '%champion:1'") == [
        ("readable", 1, 600)
    ]
    assert run.alias is None
    assert forest.champion().version == 1


# ---------------------------------------------------------------- every version brings its own SQL


def test_an_edit_of_features_takes_effect_with_the_version_trained_on_it(
    trained: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Same columns, other values: the champion would be asked in a unit that it never learnt."""
    caplog.set_level(logging.WARNING, "ponte.batches.freezing")
    trained.run(run_id="before")
    seen = trained.published_checksum()
    assert caplog.messages == []
    edited = trained.with_model(files=OTHER_SCALE)
    batch = edited.run(run_id="edited")

    assert edited.ask("SELECT batch_id FROM ponte.published") == batch.batch_id
    assert edited.published_checksum() == seen
    assert caplog.messages == ["features.sql was edited since version 1 was trained; its own text is used"]
    edited.train(run_id="next")
    batch = edited.run(run_id="new", until="check")
    frozen = f"SELECT min(items), max(items) FROM ponte_data.{batch.frozen_table}"
    assert edited.rows(frozen) == [(0, 7000)]
    edited.run(run_id="new")
    assert edited.rows(SCORED) == [(2, 350)]
    assert len(caplog.messages) == 1


def test_going_back_to_a_version_goes_back_to_its_text(scored: World) -> None:
    seen = scored.published_checksum()
    edited = scored.with_model(files=OTHER_SCALE)
    edited.train(run_id="next")
    move(edited, 1, aliases.current_alias(edited.db, "visits"), "a person")
    batch = edited.run(run_id="back")

    assert edited.ask("SELECT batch_id FROM ponte.published") == batch.batch_id
    assert edited.published_checksum() == seen


@pytest.mark.parametrize("file", ["labels.sql", "estimator.py"])
def test_scoring_needs_nothing_that_only_training_needs(trained: World, file: str) -> None:
    broken = trained.with_model(files={file: "this is broken"})
    broken.run(run_id="r")

    assert broken.rows(SCORED) == [(1, 350)]
    with pytest.raises(ModelFolderError, match=file):
        broken.train(run_id="t")


COMPENSATED: dict[str, tuple[str, str, type[PonteError], str]] = {
    "a dropped column": (
        "ALTER TABLE shop.visit DROP COLUMN price",
        FEATURES_SQL.replace("v.price", "1.5 AS price"),
        ModelFolderError,
        "column v.price does not exist",
    ),
    "a retyped column": (
        "ALTER TABLE shop.visit ALTER items TYPE text",
        FEATURES_SQL.replace("v.items", "v.items::integer"),
        SignatureMismatch,
        "column 'items' was integer and is text now",
    ),
}


@pytest.mark.parametrize("adapted", [False, True], ids=["folder as it was", "folder adapted"])
@pytest.mark.parametrize("name", COMPENSATED)
def test_a_changed_source_column_is_refused_by_name_before_anything_is_claimed(
    trained: World, name: str, adapted: bool
) -> None:
    """It breaks the version's own text; an edit of the folder repairs it with the next version only."""
    change, repaired, error, said = COMPENSATED[name]
    trained.execute(change)
    world = trained.with_model(files={"features.sql": repaired} if adapted else None)

    with pytest.raises(error, match=said):
        world.run(run_id="r")
    assert world.ask("SELECT (SELECT count(*) FROM ponte.batch) + (SELECT count(*) FROM ponte.claim)") == 0
    if adapted:
        why = said if error is ModelFolderError else "its features.sql returns other columns now: " + said
        assert_undecided(world, world.train(run_id="next"), why)
        world.run(run_id="again")
        assert world.rows(SCORED) == [(2, 350)]


def fail_after_the_claim(world: World) -> None:
    def fail(*_: object) -> int:
        raise sa.exc.OperationalError("INSERT", {}, Exception("the connection was lost"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freezing, "_freeze_rows", fail)
        with pytest.raises(sa.exc.OperationalError):
            world.freeze(run_id="r")


FIRST_TRIES: dict[str, Change] = {
    "that failed after the claim": fail_after_the_claim,
    "that froze the rows": lambda world: world.freeze(run_id="r"),
}


@pytest.mark.parametrize("first_try", FIRST_TRIES)
def test_a_promotion_between_two_tries_of_a_freeze_changes_nothing(scored: World, first_try: str) -> None:
    expected = scored.published_checksum()
    FIRST_TRIES[first_try](scored)
    edited = scored.with_model(files=OTHER_SCALE)
    assert edited.train(run_id="next", as_of=AS_OF).alias.version == 2
    batch = edited.run(run_id="r")

    assert batch.version == 1
    assert edited.rows("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=WEEK) == [(batch.batch_id,)]
    assert edited.published_checksum() == expected


def test_a_promotion_between_two_copies_of_a_freeze_changes_nothing(
    scored: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second copy read another champion than the first, which claimed: the batch keeps the version of the claim."""
    expected = scored.published_checksum()
    edited = scored.with_model(files=OTHER_SCALE)
    claim = freezing.batches.claim

    def after_a_twin(*arguments: object, choose: Callable[[], Pin], **named: object) -> object:
        claim(*arguments, choose=lambda: Pin(version=1, reason="test", hindsight=False), **named)
        return claim(*arguments, choose=choose, **named)

    edited.train(run_id="next")
    monkeypatch.setattr(freezing.batches, "claim", after_a_twin)
    batch = edited.freeze(run_id="r")
    monkeypatch.undo()
    edited.run(run_id="r")

    assert batch.version == 1
    assert edited.published_checksum() == expected


# ---------------------------------------------------------------- a way out of what broke in passing, or for good


class StoreError(Exception):
    """What the client of an object store raises: no OSError."""


def let_the_store_fail(error: Exception) -> Fault:
    def fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        original, champion = type(world.store).read_folder, world.champion().path

        def read_folder(store: object, path: str, *arguments: object) -> object:
            if path == champion:
                raise error
            return original(store, path, *arguments)

        monkeypatch.setattr(type(world.store), "read_folder", read_folder)

    return fail


def let_the_database_fail(_: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = marks.allows_other_libraries

    def allows_other_libraries(db: Database, version: Version) -> bool:
        if version.version == 1:
            raise sa.exc.OperationalError("SELECT", {}, Exception("the connection was lost"))
        return original(db, version)

    monkeypatch.setattr(marks, "allows_other_libraries", allows_other_libraries)


FAULTS: dict[str, tuple[Fault, type[Exception]]] = {
    "a store that times out": (let_the_store_fail(TimeoutError("the store did not answer")), TimeoutError),
    "a store that refuses": (let_the_store_fail(StoreError("slow down")), StoreError),
    "a database that is away": (let_the_database_fail, sa.exc.OperationalError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_moment_while_the_champion_is_read_does_not_open_the_gate(
    trained: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing about the champion; evaluate fails and is tried again."""
    fail, error = FAULTS[name]
    world = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
    written = world.snapshot(run_id="second")
    version = world.fit(written.snapshot_id, run_id="second")
    with monkeypatch.context() as patch:
        fail(world, patch)
        with pytest.raises(error):
            world.judge(version.version, written.snapshot_id, run_id="second")
    assert world.ask("SELECT count(*) FROM ponte.metric WHERE version = 2") == 0

    world.judge(version.version, written.snapshot_id, run_id="second")
    assert world.rows(READABLE) == [("readable", 1)]


def test_training_again_on_the_same_inputs_replaces_a_damaged_version(trained: World) -> None:
    damaged = trained.champion()
    remove_the_model(trained)
    run = trained.train(run_id="again")
    assert (run.version.version, run.version.train_key != damaged.train_key) == (damaged.version + 1, True)
    assert trained.train(run_id="once more").version.version == run.version.version


def test_a_superseded_batch_that_the_claim_passed_over_is_cleaned_up(trained: World) -> None:
    old = trained.run(run_id="old", until="check")
    trained.freeze(run_id="new")
    trained.execute("UPDATE ponte.batch SET status = 'checked', why = NULL WHERE batch_id = :id", id=old.batch_id)
    assert trained.clean(old.batch_id)


def test_a_folder_that_was_edited_before_a_retry_of_the_freeze_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.snapshots import lifecycle as snapshots

    snapshots.claim_snapshot(
        world.db,
        world.folder,
        as_of=AS_OF,
        calibration_from=None,
        holdout_from=world.windows()[-2].start,
        run=run_named("t"),
    )
    with pytest.raises(PonteError, match="edited since this run began"):
        world.with_model(files=OTHER_SCALE).snapshot(run_id="t")
