"""The training flow: one version per set of inputs, from rows that were known, kept to the byte."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from tests.postgres.batches.test_fence import at_once
from tests.sample_model import AS_OF, WEEK, World, run_named, write_model

from ponte.decisions import promotion, verdicts
from ponte.errors import ArtifactRefused, TrainingRefused
from ponte.model.folders import load_folder
from ponte.model.spec import METRICS
from ponte.quality import comparison
from ponte.snapshots import lifecycle as snapshots
from ponte.snapshots import parquet
from ponte.snapshots.checking import check_snapshot
from ponte.snapshots.lifecycle import get_snapshot
from ponte.snapshots.parquet import read_snapshot
from ponte.versions.loading import load_version

COUNTS = ("true_positives", "false_positives", "false_negatives", "true_negatives")
TABLES = ("snapshot", "version", "metric", "gate_verdict", "alias_event", "check_result")


def counts(world: World) -> dict[str, int]:
    return {table: world.ask(f"SELECT count(*) FROM ponte.{table}") for table in TABLES}


def test_a_first_run_registers_evaluates_judges_and_promotes_version_1(world: World) -> None:
    run = world.train(run_id="t")

    assert (run.version.version, run.verdict.passed, run.alias.version) == (1, True, 1)
    known = "SELECT count(*) FROM shop.visit WHERE day < :end AND known_at <= :end"
    rows = world.ask(known, end=AS_OF.date())
    assert (run.snapshot.status, run.snapshot.row_count) == ("written", rows)
    # Of the last two days before the holdout the outcome became known when it had begun.
    assert (run.version.train_rows, run.version.purged_rows, run.version.holdout_rows) == (1300, 100, rows - 1400)
    assert (run.version.calibration_rows, run.version.threshold, run.version.classes) == (0, None, (0, 1))
    metrics = world.rows("SELECT subject, name, row_count FROM ponte.metric WHERE slice = '' ORDER BY 1, 2")
    baselines = {"baseline:constant", "baseline:shop"}
    features = {c.name for c in run.version.signature.features}
    assert {subject for subject, _, _ in metrics} == {
        "candidate", *baselines, *(f"difference:{b}" for b in baselines),
        *(f"{kind}:{name}" for kind in ("feature", "importance") for name in features),
    }  # fmt: skip
    assert [m for m in metrics if m[0] == "candidate"] == [
        ("candidate", name, run.version.holdout_rows)
        for name in sorted([*METRICS["binary"], *COUNTS, "rows_per_second"])
    ]
    assert 0.65 < world.ask("SELECT value FROM ponte.metric WHERE subject = 'candidate' AND name = 'roc_auc'") < 1
    assert world.rows("SELECT value FROM ponte.metric WHERE subject = 'baseline:constant' AND name = 'roc_auc'") == [
        (0.5,)
    ]
    assert world.rows("SELECT version, passed, champion_event_id FROM ponte.gate_verdict") == [(1, True, None)]
    event = "SELECT alias, version, previous_version, actor, reason, evidence FROM ponte.alias_event"
    assert world.rows(event) == [("champion", 1, None, "t", "gate passed", {"verdict_id": run.verdict_id})]
    assert world.data_tables() == []


def test_the_same_run_again_changes_nothing(world: World) -> None:
    first = world.train(run_id="t")
    before = counts(world)

    assert world.train(run_id="t") == first
    assert counts(world) == before


def test_another_run_with_the_same_inputs_finds_the_same_version(world: World) -> None:
    """It leaves a snapshot (of the same bytes), its checks, its figures and its verdict; no version, no alias event."""
    first = world.train(run_id="one")
    before = counts(world)
    second = world.train(run_id="two")

    assert second.version == first.version
    assert second.alias == first.alias
    assert second.snapshot.sha256 == first.snapshot.sha256
    assert second.snapshot.path == first.snapshot.path
    added = {table: n - before[table] for table, n in counts(world).items() if n != before[table]}
    assert added == {"snapshot": 1, "metric": before["metric"], "gate_verdict": 1, "check_result": 3}


def test_other_rows_or_another_folder_make_another_version(trained: World) -> None:
    trained.execute("UPDATE shop.visit SET items = items + 1 WHERE visit_id = 7")
    assert trained.train(run_id="other rows").version.version == 2
    changed = trained.with_model(minimum_holdout_rows=201)
    assert changed.train(run_id="other folder").version.version == 3
    assert trained.with_model().train(run_id="as before").version.version == 2


def test_a_worse_challenger_is_registered_and_not_promoted(trained: World) -> None:
    estimator = trained.folder.text("estimator.py")
    estimator = estimator.replace('["items", "price", "distance", "member", "shop_rate"]', '["price"]')
    run = trained.with_model(files={"estimator.py": estimator}).train(run_id="worse")

    assert (run.version.version, run.verdict.passed, run.alias) == (2, False, None)
    assert [r.rule for r in run.verdict.rules] == [
        "roc_auc meets the bound",
        "roc_auc is better than baseline:constant",
        "roc_auc is better than baseline:shop",
        "roc_auc against champion 1",
        "no feature alone reaches a suspicious roc_auc",
    ]
    (against,) = [r for r in run.verdict.rules if r.rule == "roc_auc against champion 1"]
    assert (against.passed, against.evidence["outcome"]) == (False, "worse")
    assert run.verdict.reason.startswith("REFUSED: ")
    assert trained.champion().version == 1
    assert trained.ask("SELECT count(*) FROM ponte.metric WHERE subject = 'champion:1'") == 14
    assert trained.ask("SELECT count(*) FROM ponte.metric WHERE subject = 'difference:champion:1'") == 9
    assert trained.ask("SELECT value FROM ponte.metric WHERE subject = 'champion:1' AND name = 'readable'") == 1


# ---------------------------------------------------------------- what was known when


def labels_of(world: World, snapshot_id: int) -> dict[int, object]:
    table = read_snapshot(world.store, get_snapshot(world.db, snapshot_id))
    return dict(zip(table["visit_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_labels_that_became_known_after_as_of_are_not_used(world: World) -> None:
    """labels.sql itself does not look at as_of; Ponte does, by labelled_at."""
    before = world.snapshot(run_id="before")
    late = world.execute(
        "UPDATE shop.visit SET known_at = :late WHERE visit_id % 10 = 3", late=AS_OF + dt.timedelta(seconds=1)
    )
    after = labels_of(world, world.snapshot(run_id="after").snapshot_id)

    expected = {key: label for key, label in labels_of(world, before.snapshot_id).items() if key % 10 != 3}
    assert late == 350
    assert after == expected
    world.execute("UPDATE shop.visit SET known_at = :moment WHERE visit_id = 3", moment=AS_OF)
    assert labels_of(world, world.snapshot(run_id="at").snapshot_id).keys() - after.keys() == {3}


def test_the_features_of_each_window_see_only_what_was_known_when_it_began(world: World) -> None:
    """Outcomes of the third week are known in it and after it: they reach only the features of later windows."""
    import pyarrow.compute as pc

    third = dt.date(2024, 1, 15)
    before = world.snapshot(run_id="before")
    world.execute("UPDATE shop.visit SET returned = NOT returned WHERE day >= :d AND day < :d + 7", d=third)
    after = world.snapshot(run_id="after")

    changed = set()
    for window in world.windows():
        tables = [
            read_snapshot(world.store, s).filter(pc.field("window_start") == window.start).drop_columns(["label"])
            for s in (before, after)
        ]
        assert tables[0].num_rows > 100
        if not tables[0].equals(tables[1]):
            changed.add(window.start)
    assert changed == {w.start for w in world.windows() if w.start > third}
    assert len(changed) == 3
    windows = world.ask("SELECT windows FROM ponte.snapshot WHERE run_id = 'after'")
    assert (
        [w["as_of"][:10] for w in windows]
        == [w["window_start"] for w in windows]
        == [str(w.start) for w in world.windows()]
    )


# ---------------------------------------------------------------- refusals

CALIBRATED = 'calibration_windows = 1\nthreshold = "f1"'
REFUSALS = {
    "one class": ("UPDATE shop.visit SET returned = true", {}, "has 1 class(es), ['1']; exactly 2 are needed"),
    "one class in the holdout": (
        "UPDATE shop.visit SET returned = false WHERE day >= '2024-01-29'",
        {},
        "the holdout has 1 class(es), ['0']",
    ),
    "other classes in the holdout": (
        "SELECT 1",
        {"label": "CASE WHEN returned THEN 'yes' WHEN day < '2024-01-29' THEN 'no' ELSE 'never' END"},
        "the parts have different classes: {'the fitting part': ['no', 'yes'], 'the holdout': ['never', 'yes']}",
    ),
    "few holdout rows": (
        "SELECT 1",
        {"minimum_holdout_rows": 601},
        "the holdout has 600 labelled rows, 601 are needed",
    ),
    "few calibration rows": (
        "UPDATE shop.visit SET known_at = '2024-01-30' WHERE visit_id % 3 > 0 AND extract(week FROM day) = 4",
        {"training": CALIBRATED},
        "the calibration part has 84 labelled rows, 100 are needed (366 rows were purged: ",
    ),
    "one class in the calibration part": (
        "UPDATE shop.visit SET returned = true WHERE day >= '2024-01-22' AND day < '2024-01-29'",
        {"training": CALIBRATED},
        "the calibration part has 1 class(es), ['1']; exactly 2 are needed",
    ),
    "few values to resample": (
        "SELECT 1",
        {"evaluation": 'resample_by = "window_start"'},
        "the holdout has 2 values of window_start to resample, 10 are needed",
    ),
    "one value too few to resample": (
        "UPDATE shop.visit SET shop = 'shop ' || visit_id % 9",
        {"evaluation": 'resample_by = "shop"'},
        "the holdout has 9 values of shop to resample, 10 are needed",
    ),
    "no row to resample": (
        "DELETE FROM shop.visit WHERE day >= '2024-01-29'",
        {"evaluation": 'resample_by = "window_start"'},
        "the holdout has 0 labelled rows, 200 are needed; the holdout has 0 values of window_start to resample",
    ),
    "no holdout row": ("DELETE FROM shop.visit WHERE day >= '2024-01-29'", {}, "the holdout has 0 labelled rows"),
    "no fitting row": (
        "DELETE FROM shop.visit WHERE day < '2024-01-29'",
        {},
        "the fitting windows have no labelled row",
    ),
    "no row": ("DELETE FROM shop.visit", {}, "no labelled row in any training window"),
    "no row after the end": (
        "DELETE FROM shop.visit",
        {"evaluation": "\n[schedule]\nend = 2024-03-03"},
        "is as_of within the time the source covers (until 2024-03-03, says [schedule] end)?",
    ),
    "no label known": ("UPDATE shop.visit SET known_at = '2030-01-01'", {}, "no labelled row in any training window"),
    "a key twice": (
        "ALTER TABLE shop.visit DROP CONSTRAINT visit_pkey; UPDATE shop.visit SET visit_id = 1 WHERE visit_id = 2",
        {},
        "a key has more than one label",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_training_set_that_supports_no_model_is_refused(trained: World, name: str) -> None:
    change, settings, said = REFUSALS[name]
    trained.execute(change)

    world = trained.with_model(**settings)
    for _ in range(2):  # a retry is refused as well
        with pytest.raises(TrainingRefused) as caught:
            world.train(run_id="t")
    assert said in str(caught.value)
    assert trained.ask("SELECT count(*) FROM ponte.version") == 1
    assert trained.champion().version == 1


def test_a_holdout_of_ten_values_to_resample_is_enough(world: World) -> None:
    world.execute("UPDATE shop.visit SET shop = 'shop ' || visit_id % 10")
    run = world.with_model(evaluation='resample_by = "shop"').train(run_id="t", promote=False)
    own = "SELECT low < value AND value < high FROM ponte.metric WHERE subject = 'candidate' AND name = 'roc_auc'"
    assert run.version.version == 1
    assert world.ask(own)


@pytest.mark.parametrize("file", ["estimator.py", "features.sql", "labels.sql", "model.toml"])
def test_a_folder_that_was_edited_since_its_rows_were_frozen_is_not_trained(world: World, file: str) -> None:
    written = world.snapshot(run_id="t")
    comment = "-- edited\n" if file.endswith(".sql") else "# edited\n"
    path = world.folder.path / file
    path.write_text(path.read_text() + comment)
    edited = replace(world, folder=load_folder(world.folder.path))

    with pytest.raises(TrainingRefused, match=r"edited since this run began[^$]*clear freeze_windows"):
        edited.fit(written.snapshot_id, run_id="t")
    assert world.ask("SELECT count(*) FROM ponte.version") == 0
    assert edited.train(run_id="t#1").alias.version == 1


def test_an_edited_card_does_not_keep_the_rows_from_being_trained_on(world: World) -> None:
    written = world.snapshot(run_id="t")
    (world.folder.path / "README.md").write_text("# Other words\n")

    edited = replace(world, folder=load_folder(world.folder.path))
    assert edited.fit(written.snapshot_id, run_id="t").version == 1


# ---------------------------------------------------------------- the snapshot is the truth


def test_the_same_rows_give_the_same_bytes_in_whatever_order_they_lie(world: World) -> None:
    first = world.snapshot(run_id="one")
    world.execute("CREATE TABLE shop.copy AS SELECT * FROM shop.visit ORDER BY md5(visit_id::text)")
    world.execute("TRUNCATE shop.visit")
    world.execute("INSERT INTO shop.visit SELECT * FROM shop.copy")
    second = world.snapshot(run_id="two")

    assert (first.sha256, first.path) == (second.sha256, second.path)
    world.execute("UPDATE shop.visit SET price = price + 0.01 WHERE visit_id = 5")
    assert world.snapshot(run_id="three").sha256 != first.sha256


def test_training_again_from_the_same_snapshot_predicts_the_same_to_the_bit(world: World) -> None:
    import numpy as np

    written = world.snapshot(run_id="t")
    version = world.fit(written.snapshot_id, run_id="t")
    rows = read_snapshot(world.store, written)
    first = load_version(world.store, version).predictions(rows)
    # A changed card of the estimator makes it another version, fitted on the same bytes by the same code.
    again = world.with_model(files={"estimator.py": world.folder.text("estimator.py") + "# again\n"})
    frozen_again = again.snapshot(run_id="again")
    assert frozen_again.sha256 == written.sha256
    other = again.fit(frozen_again.snapshot_id, run_id="again")
    second = load_version(world.store, other).predictions(rows)

    assert (version.version, other.version) == (1, 2)
    assert np.array_equal(first.score.view("int64"), second.score.view("int64"))
    assert np.array_equal(first.prediction, second.prediction)


@pytest.mark.parametrize("change", ["flip", "truncate", "remove"])
def test_a_changed_snapshot_file_is_refused_by_its_digest(world: World, change: str) -> None:
    written = world.snapshot(run_id="t")
    file = Path(world.store.root.path) / written.path
    content = bytearray(file.read_bytes())
    if change == "remove":
        file.unlink()
    else:
        content[len(content) // 3] ^= 4
        file.write_bytes(content if change == "flip" else content[:-1])

    with pytest.raises(ArtifactRefused, match="is missing" if change == "remove" else f"SHA-256 {written.sha256}"):
        world.fit(written.snapshot_id, run_id="t")
    assert world.ask("SELECT count(*) FROM ponte.version") == 0


def test_a_regression_is_trained_judged_and_promoted(world: World) -> None:
    spend = World(
        db=world.db, store=world.store, folder=write_model(world.folder.path.parent, "spend", task="regression")
    )
    run = spend.train(run_id="t")

    assert run.alias.version == 1
    figures = dict(spend.rows("SELECT name, value FROM ponte.metric WHERE subject = 'candidate'"))
    constant = dict(spend.rows("SELECT name, value FROM ponte.metric WHERE subject = 'baseline:constant'"))
    assert figures.keys() == {"mae", "rmse", "r2", "rows_per_second"}
    assert run.version.classes == ()
    assert run.version.threshold is None
    assert figures["rmse"] < constant["rmse"]


@pytest.mark.parametrize("step", ["check", "write", "evaluate", "judge", "promote"])
def test_two_copies_of_a_training_step_at_once_both_succeed(world: World, step: str) -> None:
    from ponte.snapshots.freezing import freeze_snapshot

    frozen = freeze_snapshot(world.db, world.folder, world.windows(), as_of=AS_OF, run=run_named("t"))
    number = frozen.snapshot_id
    found: dict[str, int] = {}
    steps = {
        "check": lambda: check_snapshot(world.db, world.folder, number),
        "write": lambda: parquet.write_snapshot(world.db, world.store, number),
        "fit": lambda: world.fit(number, run_id="t"),
        "evaluate": lambda: comparison.evaluate(world.db, world.store, world.folder, 1, number),
        "judge": lambda: verdicts.judge(world.db, world.folder, 1, number, run=run_named("t")),
        "promote": lambda: promotion.promote(world.db, found["verdict"], actor="t"),
    }
    for name, action in steps.items():
        results = at_once([action] * (2 if name == step else 1))
        assert [r for r in results if isinstance(r, Exception)] == []
        if name == "judge":
            found["verdict"] = results[0][0]
    assert world.champion().version == 1
    assert world.ask("SELECT count(*) FROM ponte.alias_event") == 1
    world.run(run_id="r", week=WEEK)


def test_a_twin_that_writes_the_snapshot_first_leaves_nothing_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two copies drops the frozen rows while the second is about to read them."""
    frozen = checks_done(world)
    original, twins = parquet._copy_to_parquet, []

    def after_a_twin(*arguments: object) -> int:
        if not twins:
            twins.append(None)
            twins[0] = parquet.write_snapshot(world.db, world.store, frozen)
        return original(*arguments)

    monkeypatch.setattr(parquet, "_copy_to_parquet", after_a_twin)
    assert parquet.write_snapshot(world.db, world.store, frozen) == twins[0]


@pytest.mark.parametrize("status", ["checked", "written"])
def test_a_training_set_that_went_on_is_not_rejected_any_more(world: World, status: str) -> None:
    """A late copy of the check, whose verdict is another one, comes after its twin."""
    number = checks_done(world)
    if status == "written":
        parquet.write_snapshot(world.db, world.store, number)

    snapshots.reject_snapshot(world.db, get_snapshot(world.db, number), "too late")
    after = get_snapshot(world.db, number)
    assert (after.status, after.why) == (status, None)


def checks_done(world: World) -> int:
    """Return the number of a snapshot that is frozen and checked."""
    from ponte.snapshots.freezing import freeze_snapshot

    frozen = freeze_snapshot(world.db, world.folder, world.windows(), as_of=AS_OF, run=run_named("t"))
    check_snapshot(world.db, world.folder, frozen.snapshot_id)
    return frozen.snapshot_id
