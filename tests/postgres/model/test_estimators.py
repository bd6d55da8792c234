"""Estimators of all kinds against the database: without probabilities, with types of their own, refused early."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sample_model import ESTIMATOR, NEXT_WEEK, WEEK, World, write_model

from ponte.errors import ModelFolderError, TrainingRefused
from ponte.model.inspection import inspect_folder
from ponte.model.spec import METRICS
from ponte.training import versioning

BY_LABELS = {
    "binary": {"accuracy", "precision", "recall", "f1"},
    "multiclass": {"accuracy", "balanced_accuracy", "f1"},
}
COUNTS = {"true_positives", "false_positives", "false_negatives", "true_negatives"}
#: The metric is one of labels, so with probabilities and without are possible; every version becomes champion.
F1: dict[str, Any] = {
    "metric": "f1",
    "bound": "minimum = 0.2",
    "gate": 'beats_baseline = false\nchampion_indistinguishable = "promote"\nchampion_worse = "promote"',
}
CANDIDATE = "SELECT name FROM ponte.metric WHERE version = :v AND subject = 'candidate' AND slice = ''"
CHAMPION = "SELECT name FROM ponte.metric WHERE version = :v AND subject = 'difference:champion:1'"


def estimator(kind: str, module: str = "linear_model") -> dict[str, str]:
    """Return an estimator.py whose last step is of that kind."""
    text = ESTIMATOR.format(kind=kind)
    return {"estimator.py": text.replace("from sklearn.linear_model", f"from sklearn.{module}")}


def names(world: World, query: str, version: int = 1) -> set[str]:
    return {name for (name,) in world.rows(query, v=version)}


@pytest.mark.parametrize(
    ("task", "kind", "module", "label"),
    [
        ("binary", "LinearSVC", "svm", "returned::int"),
        ("binary", "RidgeClassifier", "linear_model", "returned"),
        ("multiclass", "Perceptron", "linear_model", None),
    ],
)
def test_without_probabilities_labels_are_judged_and_published_and_scores_are_null(
    world: World, task: str, kind: str, module: str, label: str | None
) -> None:
    settings = {**F1, **({"label": label} if label else {})}
    folder = write_model(world.folder.path.parent, "spending", task=task, files=estimator(kind, module), **settings)
    spending = World(db=world.db, store=world.store, folder=folder)
    run = spending.train(run_id="t")
    spending.run(run_id="r")

    assert (run.version.version, run.alias and run.alias.version) == (1, 1)
    own = BY_LABELS[task] | (COUNTS if task == "binary" else set())
    assert names(spending, CANDIDATE) == {*own, "rows_per_second"}
    scores = "score" if task == "binary" else "scores"
    seen = spending.rows(f"SELECT prediction, {scores} FROM predictions.spending WHERE window_start = :w", w=WEEK)
    assert len(seen) == 350
    assert {score for _, score in seen} == {None}
    assert {prediction for prediction, _ in seen} == set(run.version.classes)
    # The next one is held against it.
    again = spending.with_model(task=task, files=estimator(kind, module), minimum_holdout_rows=201, **settings)
    assert again.train(run_id="again").version.version == 2
    assert names(spending, CHAMPION, 2) == BY_LABELS[task]


@pytest.mark.parametrize("first", ["LogisticRegression", "RidgeClassifier"])
def test_champion_and_challenger_of_which_one_has_probabilities_are_compared_by_labels(
    world: World, first: str
) -> None:
    kinds = [first, *({"LogisticRegression", "RidgeClassifier"} - {first})]
    for number, kind in enumerate(kinds, 1):
        model = world.with_model(files=estimator(kind), **F1)
        run = model.train(run_id=kind)
        assert (run.version.version, run.alias and run.alias.version) == (number, number)
        model.run(run_id=f"score {kind}", week=(WEEK, NEXT_WEEK)[number - 1])
    found = names(world, CANDIDATE, 1 + kinds.index("LogisticRegression"))
    assert found == {*METRICS["binary"], *COUNTS, "rows_per_second"}
    assert names(world, CHAMPION, 2) == BY_LABELS["binary"]
    scored = "SELECT model_version, count(*), count(score) FROM predictions.visits GROUP BY 1 ORDER BY 1"
    assert world.rows(scored) == [(n, 350, 350 * (kind == "LogisticRegression")) for n, kind in enumerate(kinds, 1)]


def test_champion_without_probabilities_is_not_compared_by_a_metric_of_scores(world: World) -> None:
    world.with_model(files=estimator("RidgeClassifier"), **F1).train(run_id="labels")
    run = world.with_model().train(run_id="scores")
    [rule] = [r for r in run.verdict.rules if r.rule == "roc_auc against champion 1"]
    assert (rule.passed, rule.got, run.alias) == (False, "no difference: champion 1 gives no probabilities", None)


def test_metric_of_scores_is_refused_before_anything_is_trained(world: World) -> None:
    written = world.snapshot(run_id="t")
    model = world.with_model(files=estimator("LinearSVC", "svm"))
    for refused in (
        lambda: inspect_folder(world.db, model.folder),
        lambda: model.train(run_id="t2"),
    ):
        with pytest.raises(
            ModelFolderError, match=r"LinearSVC has no predict_proba.* → use accuracy, precision, recall"
        ):
            refused()
    assert written.snapshot_id == 1
    assert world.rows("SELECT version FROM ponte.version") == []


def test_calibrated_svm_has_scores(world: World) -> None:
    training = 'calibration = "sigmoid"\ncalibration_windows = 1\nthreshold = "f1"'
    model = world.with_model(files=estimator("LinearSVC", "svm"), training=training)
    run = model.train(run_id="t")
    model.run(run_id="r")
    assert run.verdict.passed
    assert world.rows("SELECT count(score), bool_and(score > 0 AND score < 1) FROM predictions.visits") == [(350, True)]


# ---------------------------------------------------------------- types

AS_TEXT = '''
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder


def as_text(frame):
    """A whole number as its author may write it."""
    return frame[["items", "member"]].astype(str)


def build_estimator():
    encoder = OneHotEncoder(handle_unknown="ignore")
    return make_pipeline(FunctionTransformer(as_text), encoder, LogisticRegression())
'''


#: What a snapshot of a release of before says of its frames.
OF_BEFORE = {
    1: "columns - 'types'",
    2: """columns || '{"types": 2}'""",
    3: """columns - 'nullable_integers' || '{"types": 3}'""",
}


@pytest.mark.parametrize("rule", [1, 2, 3, 4])
def test_predictions_do_not_depend_on_the_chunk_when_whole_numbers_become_text(
    world: World, rule: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first rule of dtypes they did: a chunk without NULL said '3' where others said '3.0'.

    Versions of before keep their rule; those that are trained now have the fourth.
    """
    nullable = f"nullable_integers = {str(rule == 3).lower()}"
    settings: dict[str, Any] = {"files": {"estimator.py": AS_TEXT}, "bound": "minimum = 0.5", "training": nullable}
    one = world.with_model(chunk_rows=65_536, **settings)
    if rule in OF_BEFORE:
        written = one.snapshot(run_id="t")
        world.execute("ALTER TABLE ponte.snapshot DISABLE TRIGGER written_is_final")
        world.execute(f"UPDATE ponte.snapshot SET columns = {OF_BEFORE[rule]}")
        if rule == 1:
            with pytest.raises(TrainingRefused, match="depends on the rows beside it"):
                one.fit(written.snapshot_id, run_id="t")
            monkeypatch.setattr(versioning, "require_same_in_pieces", lambda *_, **__: None)  # nobody asked, then
        version = one.fit(written.snapshot_id, run_id="t")
        one.set_champion(version.version)
    else:
        version = one.train(run_id="t").version
        one.set_champion(version.version)
    assert version.signature.types == rule

    one.run(run_id="one chunk")
    whole = world.published_checksum()
    many = world.with_model(chunk_rows=3, **settings)
    many.run(run_id="many chunks")
    assert (world.published_checksum() == whole) == (rule != 1)


CARRIED_BY_NO_FAMILY = {
    "float8[]": "ARRAY[1.5, 2.5]::float8[]",
    "text[]": "ARRAY['a']",
    "jsonb": "'{}'::jsonb",
    "json": "'{}'::json",
    "bytea": "'x'::bytea",
    "interval": "interval '1 day'",
}


@pytest.mark.parametrize(("kind", "value"), CARRIED_BY_NO_FAMILY.items(), ids=CARRIED_BY_NO_FAMILY)
def test_column_of_a_type_that_no_family_carries_is_refused_by_name(world: World, kind: str, value: str) -> None:
    text = world.folder.text("features.sql").replace("v.items,", f"{value} AS vector, v.items,")
    with pytest.raises(ModelFolderError) as caught:
        inspect_folder(world.db, world.with_model(files={"features.sql": text}).folder)
    [problem] = caught.value.problems
    assert str(problem).startswith(
        f"features.sql: vector: has type {kind} → cast it to one of: bool, bpchar, date, float4"
    )


def test_name_is_a_text_and_no_array(world: World) -> None:
    """PostgreSQL says of the type `name`, too, that it has elements."""
    text = world.folder.text("features.sql").replace("v.shop,", "v.shop::name AS shop,")
    found = inspect_folder(world.db, world.with_model(files={"features.sql": text}).folder)
    assert {c.name: c.family for c in found.features}["shop"] == "text"
