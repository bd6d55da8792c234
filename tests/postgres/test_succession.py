"""From one version to the next: what stops the old one never stops the new one, and each brings its own SQL."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.postgres.test_registry import another, move
from tests.sample_model import AS_OF, FEATURES_SQL, WEEK, Change, World

from ponte import freezing, gate, registry, training, versions
from ponte.errors import AliasMoved, ArtifactRefused, ModelFolderError, PonteError, SignatureMismatch

SCORED = "SELECT model_version, count(*) FROM predictions.visits GROUP BY 1"
ONE_MORE = FEATURES_SQL.replace("v.items,", "v.items, v.items * v.distance AS load,")
THOUSANDFOLD = FEATURES_SQL.replace("v.items,", "v.items * 1000 AS items,")
OTHER_SCALE = {"features.sql": THOUSANDFOLD}


# ---------------------------------------------------------------- a champion that cannot predict any more


def remove_the_model(world: World) -> World:
    (Path(world.store.root.path) / world.champion().path / "model.joblib").unlink()
    return world


def remove_the_folder(world: World) -> World:
    shutil.rmtree(Path(world.store.root.path) / world.champion().path)
    return world


def upgrade_a_library(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    upgraded = {**versions.current_libraries(), "scikit-learn": "99.1"}
    for module in (versions, training):
        monkeypatch.setattr(module, "current_libraries", lambda: upgraded)
    return world


@dataclass(frozen=True)
class End:
    """How a champion came to be of no use, what scoring says then, and what the author changes, if anything."""

    change: Callable[[World, pytest.MonkeyPatch], World]
    says: type[PonteError]
    features: str = FEATURES_SQL + "-- trained again\n"


ENDS = {
    "one more column": End(lambda w, _: w, SignatureMismatch, features=ONE_MORE),
    "one column less": End(
        lambda w, _: w, SignatureMismatch, features=FEATURES_SQL.replace("v.price", "1.5 AS prize, 2.5 AS price")
    ),
    "another library": End(upgrade_a_library, ArtifactRefused),
    "a lost file": End(lambda w, _: remove_the_model(w), ArtifactRefused),
    "a lost folder": End(lambda w, _: remove_the_folder(w), ArtifactRefused),
}


@pytest.mark.parametrize("name", ENDS)
def test_when_a_champion_cannot_score_any_more_its_successor_does(
    trained: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No dead end: scoring is refused, a training run promotes by the bound alone, scoring works again."""
    end = ENDS[name]
    world = end.change(trained.with_model(files={"features.sql": end.features}), monkeypatch)
    with pytest.raises(end.says):
        world.run(run_id="r")
    run = world.train(run_id="next")

    assert world.rows("SELECT name, value FROM ponte.metric WHERE subject = 'champion:1'") == [("readable", 0)]
    assert (run.verdict.passed, run.alias.version) == (True, 2)
    assert [(r.passed, "cannot predict these rows" in r.expected) for r in run.verdict.rules] == [
        (True, False),
        (True, True),
    ]
    world.run(run_id="again")
    assert world.rows(SCORED) == [(2, 350)]


def test_a_champion_whose_predict_raises_on_the_holdout_does_not_block(world: World) -> None:
    """It was fitted before the moon had a shop, and refuses what it does not know."""
    strict = world.folder.text("estimator.py").replace('handle_unknown="ignore"', "")
    world.with_model(files={"estimator.py": strict}).train(run_id="strict")
    world.execute("UPDATE shop.visit SET shop = 'moon' WHERE day >= '2024-01-29' AND visit_id % 7 = 3")
    with pytest.raises(ValueError, match="unknown categories"):
        world.run(run_id="r")
    tolerant = world.with_model()
    run = tolerant.train(run_id="tolerant")

    assert world.rows("SELECT name, value FROM ponte.metric WHERE subject = 'champion:1'") == [("readable", 0)]
    assert run.alias.version == 2
    tolerant.run(run_id="again")
    assert world.rows(SCORED) == [(2, 350)]


def test_a_successor_that_misses_the_bound_is_not_promoted_even_over_a_broken_champion(trained: World) -> None:
    remove_the_model(trained)
    run = trained.with_model(bound="minimum = 0.999").train(run_id="next")

    assert [r.passed for r in run.verdict.rules] == [False, True]
    assert run.alias is None
    assert trained.champion().version == 1


def test_a_champion_that_was_promoted_after_the_evaluation_has_to_be_measured_first(trained: World) -> None:
    run = trained.with_model(files={"features.sql": FEATURES_SQL + "-- next\n"})
    written = run.snapshot(run_id="next")
    version = run.fit(written.snapshot_id, run_id="next").version
    run.judge(version, written.snapshot_id, run_id="before")
    third = another(trained, trained.champion(), "third").version
    move(trained, third, registry.current_alias(trained.db, "visits"), "a person")

    with pytest.raises(AliasMoved, match=f"champion is version {third}, which was not measured") as caught:
        gate.judge(run.db, run.folder, version, written.snapshot_id, run_id="next")
    assert "clear the task evaluate" in str(caught.value)
    assert trained.ask("SELECT count(*) FROM ponte.gate_verdict WHERE run_id = 'next'") == 0
    verdict_id, _ = run.judge(version, written.snapshot_id, run_id="next")
    assert gate.promote(run.db, verdict_id, actor="next").version == version


# ---------------------------------------------------------------- every version brings its own SQL


def test_an_edit_of_features_takes_effect_with_the_version_trained_on_it(
    trained: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Same columns, other values: the champion would be asked in a unit that it never learnt."""
    caplog.set_level(logging.WARNING, "ponte.freezing")
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


def test_going_back_to_a_version_goes_back_to_its_text(trained: World) -> None:
    trained.run(run_id="before")
    seen = trained.published_checksum()
    edited = trained.with_model(files=OTHER_SCALE)
    edited.train(run_id="next")
    move(edited, 1, registry.current_alias(edited.db, "visits"), "a person")
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
        assert world.train(run_id="next").alias.version == 2
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
def test_a_promotion_between_two_tries_of_a_freeze_changes_nothing(trained: World, first_try: str) -> None:
    trained.run(run_id="undisturbed")
    expected = trained.published_checksum()
    FIRST_TRIES[first_try](trained)
    edited = trained.with_model(files=OTHER_SCALE)
    assert edited.train(run_id="next", as_of=AS_OF).alias.version == 2
    batch = edited.run(run_id="r")

    assert batch.version == 1
    assert edited.rows("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=WEEK) == [(batch.batch_id,)]
    assert edited.published_checksum() == expected


def test_a_promotion_between_two_copies_of_a_freeze_changes_nothing(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second copy read another champion than the first, which claimed: the batch keeps the version of the claim."""
    trained.run(run_id="undisturbed")
    expected = trained.published_checksum()
    edited = trained.with_model(files=OTHER_SCALE)
    claim = freezing.batches.claim

    def after_a_twin(*arguments: object, version: int, **named: object) -> object:
        claim(*arguments, version=1, **named)
        return claim(*arguments, version=version, **named)

    edited.train(run_id="next")
    monkeypatch.setattr(freezing.batches, "claim", after_a_twin)
    batch = edited.freeze(run_id="r")
    monkeypatch.undo()
    edited.run(run_id="r")

    assert batch.version == 1
    assert edited.published_checksum() == expected


# ---------------------------------------------------------------- a way out of what broke in passing, or for good


def test_a_fault_of_the_moment_while_the_champion_is_read_does_not_open_the_gate(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that times out says nothing about the champion; evaluate fails and is tried again."""
    world = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
    written = world.snapshot(run_id="second")
    version = world.fit(written.snapshot_id, run_id="second")
    original = type(world.store).read_folder

    def timed_out(store: object, path: str, *arguments: object) -> object:
        if path == world.champion().path:
            raise TimeoutError("the store did not answer")
        return original(store, path, *arguments)

    monkeypatch.setattr(type(world.store), "read_folder", timed_out)
    with pytest.raises(TimeoutError):
        world.judge(version.version, written.snapshot_id, run_id="second")


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
    from ponte import training_sets

    training_sets.claim_training_set(
        world.db, world.folder, as_of=AS_OF, holdout_from=world.windows()[-2].start, run_id="t"
    )
    with pytest.raises(PonteError, match="edited since this run began"):
        world.with_model(files=OTHER_SCALE).snapshot(run_id="t")
