"""The loop of a notebook: rows, tries beside earlier tries, versions to ask and to compare, a verdict given again."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.door import ponte
from tests.sample_model import AS_OF, ESTIMATOR, FEATURES_SQL, World

from ponte.errors import ArtifactRefused, PonteError, SignatureMismatch, StackError, TrainingRefused
from ponte.notebook import compare, frame, judge, load_version, try_model, trying
from ponte.notebook.tries import forget
from ponte.snapshots.parts import split
from ponte.versions.loading import load_version as load

DAY = str(AS_OF.date())
TASKS = ("binary", "multiclass", "regression")
THREE_PARTS = 'calibration_windows = 1\ncalibration = "sigmoid"'
#: An estimator whose class is in the folder, as scikit-learn has none.
OWN_CLASS = """
from sklearn.dummy import DummyClassifier


class Careful(DummyClassifier):
    pass


def build_estimator():
    return Careful(strategy="prior")
"""


def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "tries"


# ---------------------------------------------------------------- rows


def test_the_frame_holds_just_the_rows_of_the_parts_as_the_estimator_gets_them(notebook: World) -> None:
    world = notebook.with_model(training=THREE_PARTS)
    found = frame("visits", DAY)
    snapshot = world.snapshot(run_id="really")
    from ponte.snapshots.parquet import read_snapshot

    parts = split(read_snapshot(world.store, snapshot), snapshot)
    assert parts.purged_rows > 0
    assert found.attrs["purged_rows"] == parts.purged_rows
    named = {"fit": parts.fitting, "calibration": parts.calibration, "holdout": parts.holdout}
    assert list(found["part"].unique()) == list(named)
    for name, part in named.items():
        rows = found[found["part"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[found.attrs["features"]], part.features, check_categorical=False)
        assert rows["label"].tolist() == part.labels.tolist()
        assert rows["visit_id"].tolist() == part.rows.column("visit_id").to_pylist()
        assert [d.date() for d in rows["window_start"]] == part.rows.column("window_start").to_pylist()
    assert found.columns.tolist() == ["window_start", "part", "visit_id", *found.attrs["features"], "label"]


def test_a_column_that_is_called_part_keeps_its_name(notebook: World) -> None:
    notebook.with_model(files={"features.sql": FEATURES_SQL.replace("items,", "items, items AS part,", 1)})
    found = frame("visits", DAY)
    assert set(found["part_"]) == {"fit", "holdout"}
    assert found["part"].dropna().equals(found["items"].dropna())


def test_frozen_rows_are_found_again_until_something_decides_otherwise(notebook: World, tmp_path: Path) -> None:
    rows = len(frame("visits", DAY))
    assert stat.S_IMODE(home(tmp_path).stat().st_mode) == 0o700
    [path] = home(tmp_path).glob("visits/*")
    assert {stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)} == {0o700}
    notebook.execute("DELETE FROM shop.visit WHERE visit_id % 2 = 0")
    assert len(frame("visits", DAY)) == rows
    notebook.with_model(
        training="seed = 3",
        gate="leakage_alarm = 0.9",
        files={"estimator.py": ESTIMATOR.format(kind="LogisticRegression") + "# edited\n"},
    )
    assert len(frame("visits", DAY)) == rows, "what makes another estimator makes no other rows"
    assert len(frame("visits", DAY, fresh=True)) == pytest.approx(rows / 2, abs=2)
    kept = list(home(tmp_path).glob("visits/*"))
    assert [p.name for p in kept] == [path.name]
    edits: list[dict[str, object]] = [
        {"files": {"features.sql": FEATURES_SQL + "-- edited\n"}},
        {"training": THREE_PARTS},
        {"training": "nullable_integers = true"},
        {"checks": '[[checks]]\nexpectation = "expect_column_to_exist"\ncolumn = "items"'},
    ]
    for number, edit in enumerate(edits, 2):
        notebook.with_model(**edit)
        frame("visits", DAY)
        assert len(list(home(tmp_path).glob("visits/*"))) == number, edit


def test_frozen_rows_are_removed_after_14_days_and_on_demand(
    notebook: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in (DAY, "2024-02-19"):
        frame("visits", day)
    old, new = sorted(home(tmp_path).glob("visits/*"))
    long_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=14, seconds=1)).timestamp()
    os.utime(old, (long_ago, long_ago))
    frame("visits", "2024-02-05")
    assert not old.exists()
    assert new.exists()
    assert forget(home(tmp_path), "others") == 0
    for name in ("..", "../tries/visits", "*"):  # what is removed is below the name of a model, and nowhere else
        with pytest.raises(PonteError, match="no name of a model"):
            forget(home(tmp_path), name)
    assert ponte("try", "visits", "--clean") == 0
    assert capsys.readouterr().out == "Removed the frozen rows of 2 trainings.\n"
    assert list(home(tmp_path).glob("visits/*")) == []


def test_what_refuses_a_training_refuses_a_try_and_leaves_nothing(notebook: World, tmp_path: Path) -> None:
    check = '[[checks]]\nexpectation = "expect_column_values_to_be_between"\ncolumn = "price"\nmax_value = 1'
    notebook.with_model(checks=check)
    with pytest.raises(TrainingRefused, match="expect_column_values_to_be_between"):
        try_model("visits", DAY)
    assert list(home(tmp_path).glob("visits/*")) == list(home(tmp_path).glob("visits/.*")) == []
    assert notebook.ask("SELECT count(*) FROM ponte.snapshot") == 1
    assert notebook.ask("SELECT count(*) FROM ponte.check_result WHERE expectation LIKE 'expect%'") == 0


# ---------------------------------------------------------------- tries


@pytest.mark.parametrize("task", TASKS)
def test_a_try_is_compared_with_the_tries_before_it_on_the_same_rows(notebook: World, task: str) -> None:
    world = notebook.with_model(task=task, resamples=100)
    first = try_model("visits", DAY)
    other = ESTIMATOR.format(kind="Lasso" if task == "regression" else "RidgeClassifier")
    other = (
        other
        if task == "regression"
        else ESTIMATOR.format(kind="LogisticRegression").replace("LogisticRegression()", "LogisticRegression(C=0.001)")
    )
    (world.folder.path / "estimator.py").write_text(other, encoding="utf-8")
    second = try_model("visits", DAY)
    assert (first.number, second.number) == (1, 2)
    by_subject = {
        s: f.set_index("name")["value"] for s, f in second.figures[second.figures.slice == ""].groupby("subject")
    }
    one = first.figures.query("subject == 'candidate' and slice == ''").set_index("name")["value"]
    metric = world.folder.spec.gate.metric
    assert by_subject["try:1"][metric] == one[metric]
    assert by_subject["difference:try:1"][metric] == pytest.approx(by_subject["candidate"][metric] - one[metric])
    assert by_subject["difference:try:1"][metric] != 0
    text, page = str(second), second._repr_html_()
    for shown in (text, page):
        assert "try 1" in shown
        assert "visits, try 2 on the rows as of 2024-02-12" in shown
    assert "&lt;h1&gt;visits &lt;small&gt;a try&lt;/small&gt;" in page


def test_the_latest_tries_of_the_same_task_and_classes_are_those_compared(
    notebook: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "COMPARED", 1)
    usual: dict[str, object] = {"resamples": 100}
    turned: dict[str, object] = {"resamples": 100, "training": "positive = 0"}
    compared = []
    for edit in (usual, turned, usual, usual):
        notebook.with_model(**edit)
        compared.append({m.subject for m in try_model("visits", DAY).measured if m.subject.startswith("try:")})
    assert compared == [set(), set(), {"try:1"}, {"try:3"}], "what has turned its score is no earlier try of this one"


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize("task", TASKS)
def test_a_version_predicts_a_frame_as_it_predicts_the_rows_of_the_database(notebook: World, task: str) -> None:
    world = notebook.with_model(task=task, training="nullable_integers = false", resamples=100)
    version = world.train(run_id=task, promote=False)
    rows = frame("visits", DAY)
    rows = rows[rows["part"] == "holdout"].sample(frac=1, random_state=0)
    asked = load_version("visits", version.version.version)
    parts = split(world_rows(world, version.snapshot), version.snapshot)
    expected = load(world.store, version.version).predictions(parts.holdout.rows)
    order = rows.index - rows.index.min()
    np.testing.assert_array_equal(asked.predict(rows), expected.prediction[order])
    said = asked.score(rows)
    assert (said is None) is (task == "regression")
    if said is not None:
        np.testing.assert_array_equal(said, expected.score[order])
    assert asked.features == rows.attrs["features"]


def world_rows(world: World, snapshot):
    from ponte.snapshots.parquet import read_snapshot

    return read_snapshot(world.store, snapshot)


def test_classes_of_the_folder_are_there_and_what_is_not_the_version_is_refused(
    notebook: World, tmp_path: Path
) -> None:
    world = notebook.with_model(files={"estimator.py": OWN_CLASS}, bound="minimum = 0.1")
    number = world.train(run_id="own", promote=False).version.version
    (world.folder.path / "estimator.py").write_text("def build_estimator():\n    raise NotImplementedError\n")
    assert type(load_version("visits", number).estimator).__name__ == "Careful"
    assert load_version("visits").version.version == 1, "the champion, when nobody says which"
    with pytest.raises(PonteError, match=r"one of \[1, 2\]"):
        load_version("visits", 3)
    [model] = (tmp_path / "artifacts").glob(f"visits/versions/{number}-*/model.joblib")
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ArtifactRefused, match=r"changed file model\.joblib"):
        load_version("visits", number)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns=["items", "shop"]), "shop, items"),
        (lambda f: f.assign(items="many"), "column 'items' \\(integer\\) holds"),
        (lambda f: f.assign(price=object()), "column 'price' \\(number\\) holds object"),
    ],
)
def test_a_frame_of_other_columns_is_refused_by_name(notebook: World, change, said: str) -> None:
    with pytest.raises(SignatureMismatch, match=said):
        load_version("visits", 1).predict(change(frame("visits", DAY)))


def test_versions_are_compared_with_what_a_reader_has_to_know(notebook: World, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = ESTIMATOR.format(kind="LogisticRegression").replace("LogisticRegression()", "LogisticRegression(C=0.5)")
    sql = FEATURES_SQL.replace("items,", "items, items + 1 AS more,", 1)
    notebook.with_model(files={"estimator.py": changed}).train(run_id="other estimator", promote=False)
    notebook.with_model(files={"features.sql": sql}).train(run_id="other rows", promote=False)
    found = compare("visits", 1, 2)
    assert found.notes == []
    assert ("logisticregression__C", "1.0", "0.5") in found.tables["Parameters"]
    assert list(found.diffs) == ["estimator.py"]
    assert "Features" not in found.tables
    other = compare("visits", 2, 3)
    assert other.tables["Features"] == [("more", "–", "integer")]
    assert "+" in other.diffs["features.sql"]
    assert ["measured on different rows" in note for note in other.notes] == [True]
    monkeypatch.setattr("ponte.versions.loading.current_libraries", lambda: {"python": "3.1.0"})
    assert "trained with other libraries" in str(compare("visits", 1, 2))
    for shown in (str(found), found._repr_html_()):
        assert "LogisticRegression(C=0.5)" in shown
        assert "ROC AUC" in shown


# ---------------------------------------------------------------- judging again


@pytest.mark.parametrize(
    ("mode", "outcome", "champion", "next_step"),
    [
        ("auto", "promote", 2, ""),
        ("auto", "keep", 1, "The gate refused"),
        ("approval", "promote", 1, "A person has to agree: the DAG ponte__promote"),
    ],
)
def test_an_edit_of_the_gate_needs_a_verdict_and_no_training(
    notebook: World, mode: str, outcome: str, champion: int, next_step: str
) -> None:
    keep = {"training": "seed = 7", "gate": 'champion_indistinguishable = "keep"', "resamples": 100}
    assert notebook.with_model(**keep).train(run_id="second").alias is None
    counted = "SELECT (SELECT count(*) FROM ponte.version), (SELECT count(*) FROM ponte.snapshot)"
    before = notebook.rows(counted)
    notebook.with_model(**{**keep, "gate": f'champion_indistinguishable = "{outcome}"', "promotion": mode})
    judged = judge("visits")
    assert notebook.rows(counted) == before
    assert judged.verdict.version == 2
    assert judged.next_step.startswith(next_step)
    assert bool(judged.next_step) is (champion == 1)
    assert notebook.champion().version == champion
    said = "SELECT verdict_id, version, passed FROM ponte.gate_verdict ORDER BY verdict_id"
    assert notebook.rows(said)[-1] == (judged.verdict_id, 2, outcome == "promote")
    assert len(notebook.rows(said)) == 3


def test_a_version_is_judged_again_beside_the_champion_of_now(notebook: World) -> None:
    for seed in (7, 8):
        world = notebook.with_model(training=f"seed = {seed}", resamples=100)
        world.train(run_id=f"seed {seed}", promote=seed == 8)
    assert notebook.champion().version == 3
    judged = judge("visits", 2)
    assert any("against champion 3" in rule.rule for rule in judged.verdict.rules)
    with pytest.raises(PonteError, match="no such version"):
        judge("visits", 0)


def test_who_has_no_name_on_the_system_can_judge_too(notebook: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    keep = {"gate": 'champion_indistinguishable = "keep"', "resamples": 100}
    notebook.with_model(**keep, training="seed = 7").train(run_id="second")
    notebook.with_model(**{**keep, "gate": 'champion_indistinguishable = "promote"'}, training="seed = 7")
    monkeypatch.setattr("getpass.getuser", nameless)
    assert judge("visits").alias is not None
    assert notebook.ask("SELECT actor FROM ponte.alias_event ORDER BY event_id DESC LIMIT 1") == "unknown"


def test_schedule_guard_tags_and_description_need_neither_a_training_nor_a_verdict(notebook: World) -> None:
    toml = notebook.folder.path / "model.toml"
    text = toml.read_text(encoding="utf-8").replace("Will the visitor come back?", "Another description")
    text = text.replace('task = "binary"', 'task = "binary"\ntags = ["new"]', 1)
    toml.write_text(f'{text}\n[schedule]\nscore = "0 7 * * 1"\n[guard]\nrow_count_minimum = 0.7\n', encoding="utf-8")
    from dataclasses import replace

    from ponte.model.folders import get_folder

    world = replace(notebook, folder=get_folder(toml.parents[1], "visits"))
    assert world.folder.digest() != notebook.champion().spec_digest
    batch = world.run(run_id="after the edit")
    assert world.rows("SELECT DISTINCT batch_id, model_version FROM predictions.visits") == [(batch.batch_id, 1)]
    assert world.ask("SELECT count(*) FROM ponte.version") == world.ask("SELECT count(*) FROM ponte.gate_verdict") == 1


# ---------------------------------------------------------------- the command line, and no stack at all


def test_the_commands_say_what_the_functions_return(notebook: World, capsys: pytest.CaptureFixture[str]) -> None:
    world = notebook.with_model(training="seed = 7", resamples=100, gate='champion_indistinguishable = "keep"')

    def told(*words: object, status: int = 0) -> str:
        assert ponte(*words) == status
        return capsys.readouterr().out

    assert "Nothing was registered" in told("try", "visits", "--as-of", DAY)
    tried = json.loads(told("try", "visits", "--as-of", DAY, "--json"))
    assert (tried["model"], tried["try"]) == ("visits", 2)
    world.train(run_id="second")
    assert json.loads(told("versions", "visits", "--json"))[0]["champion"] is True
    assert told("versions", "visits").splitlines()[1].split()[:2] == ["1", "champion"]
    assert json.loads(told("compare", "visits", 1, 2, "--json"))["versions"] == [1, 2]
    assert "The gate refused" in told("judge", "visits", 2, status=1)
    assert json.loads(told("judge", "visits", "--json", status=1))["champion"] is False


def test_without_a_stack_it_says_what_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_PONTE", "PONTE_ADMIN"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PONTE_HOME", str(tmp_path))
    with pytest.raises(StackError, match=r"\./ponte up"):
        frame("flight_delay")
    with pytest.raises(PonteError, match="no name of a model"):
        frame(3)  # type: ignore[arg-type]
