"""Each version is measured on features of its own SQL, on the same rows; what cannot be scored is not promoted."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sample_model import AS_OF, FEATURES_SQL, LABELS_SQL, TrainingRun, World, run_named

from ponte.errors import PonteError
from ponte.publishing import janitor
from ponte.snapshots.files import read_parquet
from ponte.snapshots.freezing import freeze_snapshot
from ponte.snapshots.lifecycle import get_snapshot
from ponte.snapshots.parquet import read_snapshot

OWN = "SELECT value FROM ponte.metric WHERE version = 1 AND subject = 'candidate' AND name = :n AND slice = ''"
CHAMPION = "SELECT value, row_count FROM ponte.metric WHERE version = 2 AND subject = 'champion:1' AND name = :n"
#: Names and types stay, the values are others, and what matters most is gone.
OTHER_VALUES = (
    FEATURES_SQL.replace("v.distance", "v.distance * 1000 AS distance")
    .replace("v.member", "(v.visit_id % 2 = 0) AS member")
    .replace("v.items", "v.items * 0 + 4 AS items")
)
ONE_MORE = FEATURES_SQL.replace("v.distance", "v.distance, (v.visit_id % 7)::int AS noise").replace(
    "v.items", "0 AS items"
)
ONE_LESS = FEATURES_SQL.replace("v.price", "1.5 AS prize, 2.5 AS price")


def against(run: TrainingRun) -> Any:
    [rule] = [r for r in run.verdict.rules if r.rule.startswith("roc_auc against champion")]
    return rule


@pytest.mark.parametrize("text", [OTHER_VALUES, ONE_MORE, ONE_LESS], ids=["other values", "one more", "one less"])
def test_the_figures_of_a_champion_do_not_depend_on_the_sql_of_its_successor(trained: World, text: str) -> None:
    """The same weeks: to the last bit what the champion was measured at when it was trained."""
    world = trained.with_model(files={"features.sql": text}, gate="", bound="minimum = 0.5")
    run = world.train(run_id="next")

    for name in ("roc_auc", "log_loss", "brier", "f1"):
        assert world.rows(CHAMPION, n=name) == [(world.ask(OWN, n=name), run.version.holdout_rows)]
    worse = text != ONE_LESS
    assert (against(run).evidence["outcome"] == "worse", run.alias is None) == (worse, True)
    assert world.champion().version == 1


def test_what_is_kept_beside_a_snapshot_is_what_the_champion_was_measured_on(trained: World) -> None:
    before = trained.ask("SELECT sha256 FROM ponte.snapshot WHERE snapshot_id = 1")
    world = trained.with_model(files={"features.sql": OTHER_VALUES})
    snapshot = world.snapshot(run_id="next")
    theirs = read_parquet(world.store.read_verified(snapshot.champion_path, snapshot.champion_sha256))
    first = read_snapshot(world.store, get_snapshot(world.db, 1))
    holdout = first.filter([day >= snapshot.holdout_from for day in first["window_start"].to_pylist()])

    assert theirs.num_rows == snapshot.champion_rows == holdout.num_rows
    assert theirs.equals(holdout.select(theirs.column_names))
    assert (snapshot.champion_version, snapshot.champion_table, snapshot.champion_why) == (1, None, None)
    assert world.data_tables() == []
    # What belongs to the version does not depend on who is champion.
    assert trained.with_model().snapshot(run_id="the same text").sha256 == before


def test_a_champion_of_the_same_text_needs_nothing_more(trained: World) -> None:
    run = trained.with_model(minimum_holdout_rows=201).train(run_id="next")
    found = trained.rows("SELECT champion_version, champion_table, champion_path, champion_rows, champion_why FROM "
                         "ponte.snapshot WHERE snapshot_id = :id", id=run.snapshot.snapshot_id)  # fmt: skip
    assert found == [(1, None, None, None, None)]
    assert against(run).evidence["outcome"] == "indistinguishable"


def test_training_again_beside_another_champion_finds_the_same_version(trained: World) -> None:
    edited = trained.with_model(files={"features.sql": OTHER_VALUES})
    edited.set_champion(edited.train(run_id="second").version.version)
    again = trained.with_model().train(run_id="third")
    assert (again.version.version, again.snapshot.champion_version) == (1, 2)
    assert again.snapshot.champion_path is not None


def test_versions_are_compared_on_the_rows_that_both_texts_return(trained: World) -> None:
    fewer = FEATURES_SQL.rstrip() + "\n    AND v.visit_id % 10 <> 3\n"
    narrow = trained.with_model(files={"features.sql": fewer}).train(run_id="narrow")
    assert trained.rows(CHAMPION, n="roc_auc")[0][1] == narrow.version.holdout_rows < 600
    trained.set_champion(narrow.version.version)
    wide = trained.with_model(minimum_holdout_rows=199).train(run_id="wide")
    rows = trained.ask("SELECT row_count FROM ponte.metric WHERE version = :v AND subject = 'champion:2' AND "
                       "name = 'roc_auc'", v=wide.version.version)  # fmt: skip
    assert rows == narrow.version.holdout_rows < wide.version.holdout_rows


# ---------------------------------------------------------------- what cannot be compared


FAULTS = {
    "a column that is gone": (
        "ALTER TABLE shop.visit DROP COLUMN price",
        ("v.price", "1.5 AS price"),
        "column v.price",
    ),
    "a key that comes twice": (
        "INSERT INTO shop.twice VALUES (2)",
        None,
        "its features.sql returns a key twice",
    ),
    "a value that fails": (
        "CREATE OR REPLACE FUNCTION shop.risky(i integer) RETURNS integer LANGUAGE sql AS 'SELECT 1 / (i * 0)'",
        None,
        "its features.sql does not work any more: DivisionByZero",
    ),
}
#: The champion's own text: what it calls is changed later.
CALLS = {
    "a column that is gone": FEATURES_SQL,
    "a key that comes twice": FEATURES_SQL.replace("WHERE v.day >=", "CROSS JOIN shop.twice WHERE v.day >="),
    "a value that fails": FEATURES_SQL.replace("v.items", "shop.risky(v.items) AS items"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_champion_whose_sql_does_not_work_any_more_leaves_the_verdict_undecided(world: World, name: str) -> None:
    world.execute("CREATE TABLE shop.twice AS SELECT 1 AS n")
    world.execute("CREATE FUNCTION shop.risky(i integer) RETURNS integer LANGUAGE sql AS 'SELECT i'")
    world.with_model(files={"features.sql": CALLS[name]}).train(run_id="first")
    change, repaired, why = FAULTS[name]
    world.execute(change)
    edited = FEATURES_SQL.replace(*repaired) if repaired else FEATURES_SQL
    run = world.with_model(files={"features.sql": edited}).train(run_id="next")

    assert (run.verdict.outcome, run.alias) == ("undecided", None)
    assert why in against(run).got
    assert why in world.ask("SELECT champion_why FROM ponte.snapshot WHERE snapshot_id = :id",
                            id=run.snapshot.snapshot_id)  # fmt: skip
    assert world.data_tables() == []


def test_a_champion_of_after_the_freezing_is_compared_only_if_its_features_are_there(trained: World) -> None:
    edited = trained.with_model(files={"features.sql": OTHER_VALUES})
    other = edited.train(run_id="other", promote=False).version.version
    third = trained.with_model(files={"features.sql": FEATURES_SQL + "-- third\n"})
    written = third.snapshot(run_id="third")
    version = third.fit(written.snapshot_id, run_id="third").version
    trained.set_champion(other)
    _, verdict = third.judge(version, written.snapshot_id, run_id="third")

    [rule] = [r for r in verdict.rules if "champion 2" in r.rule]
    assert verdict.outcome in ("undecided", "refused")
    assert (rule.outcome, rule.evidence) == ("undecided", {"outcome": "unreadable"})
    assert "it became champion after the windows were frozen" in rule.got
    trained.set_champion(1)
    assert third.judge(version, written.snapshot_id, run_id="back")[1].outcome != "undecided"


def test_the_janitor_drops_what_a_dead_run_froze_for_a_champion(trained: World) -> None:
    edited = trained.with_model(files={"features.sql": OTHER_VALUES})
    dead = freeze_snapshot(edited.db, edited.folder, edited.windows(), as_of=AS_OF, run=run_named("dead"))
    assert len(trained.data_tables()) == 2
    edited.snapshot(run_id="next")
    assert janitor.sweep_snapshots(trained.db, "visits") == 2
    assert trained.data_tables() == []
    assert get_snapshot(trained.db, dead.snapshot_id).champion_table is None


# ---------------------------------------------------------------- what readers of the predictions rely on

IN_WORDS = LABELS_SQL.format(label="CASE WHEN returned THEN 'yes' ELSE 'no' END")
ON_DAYS = {
    "features.sql": FEATURES_SQL.replace("v.visit_id,", "v.visit_id, v.day AS on_day,"),
    "labels.sql": LABELS_SQL.format(label="returned::int").replace("visit_id,", "visit_id, day AS on_day,"),
}
CHANGED: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "the type of the label": ({"labels.sql": IN_WORDS}, {}, "prediction text"),
    "the classes": ({"labels.sql": LABELS_SQL.format(label="returned::int + 1")}, {}, "classes 1, 2"),
    "the key": (ON_DAYS, {"key": '["visit_id", "on_day"]'}, "on_day date"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_version_that_does_not_fit_the_published_predictions_is_refused(scored: World, name: str) -> None:
    files, settings, got = CHANGED[name]
    world = scored.with_model(files=files, **settings)
    run = world.train(run_id="next")
    [rule] = [r for r in run.verdict.rules if r.rule == "key, label and classes are those of the published predictions"]

    assert (rule.outcome, run.verdict.outcome, run.alias) == ("refused", "refused", None)
    assert got in rule.got
    assert "folder of its own" in rule.expected
    if name != "the classes":  # these a person may let through: they can be scored
        with pytest.raises(PonteError, match=r"(?s)the key or the label is no longer.*folder of its own"):
            world.set_champion(run.version.version)
    assert scored.champion().version == 1


def test_a_version_that_fits_passes_that_rule(scored: World) -> None:
    run = scored.with_model(minimum_holdout_rows=201).train(run_id="next")
    assert run.verdict.rules[0].passed
    assert run.alias.version == 2
