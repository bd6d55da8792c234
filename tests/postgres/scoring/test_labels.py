"""Labels and keys of every type that a model may have, from the source to what readers see."""

from __future__ import annotations

import pytest
from tests.sample_model import WEEK, World, write_model

from ponte.errors import PonteError

YES_NO = "CASE WHEN returned THEN 'yes' ELSE 'no' END"
TYPE = (
    "SELECT data_type FROM information_schema.columns WHERE table_schema = 'predictions' AND table_name = 'visits' "
    "AND column_name = 'prediction'"
)


def with_predictions(world: World, kind: str, expression: str, **settings: object) -> World:
    """Return a world whose estimator predicts `expression` of what scikit-learn predicts, `found`."""
    plain = world.with_model(**settings).folder.text("estimator.py")
    odd = plain.replace(
        "def build_estimator",
        f"class Odd({kind}):\n    def predict(self, rows):\n        found = super().predict(rows)\n"
        f"        return {expression}\n\n\ndef build_estimator",
    ).replace(f"columns, {kind}()", "columns, Odd()")
    assert odd.count("Odd") == 2
    return world.with_model(files={"estimator.py": odd}, **settings)


#: Label expression, what predict() makes of scikit-learn's array, type that readers see, and the two labels in Python.
BINARY: dict[str, tuple[str, str, str, tuple[object, object]]] = {
    "integer": ("returned::int", "found", "bigint", (0, 1)),
    "smallint": ("returned::int::smallint", "found", "bigint", (0, 1)),
    "integer, predicted as int32": ("returned::int", "found.astype('int32')", "bigint", (0, 1)),
    "integer, predicted as uint8": ("returned::int", "found.astype('uint8')", "bigint", (0, 1)),
    "integer, predicted as boolean": ("returned::int", "found.astype(bool)", "bigint", (0, 1)),
    "integer, predicted as whole floats": ("returned::int", "found.astype(float)", "bigint", (0, 1)),
    "integer other than 0 and 1": ("returned::int * 3 + 4", "found", "bigint", (4, 7)),
    "boolean": ("returned", "found", "boolean", (False, True)),
    "boolean, predicted as integer": ("returned", "found.astype(int)", "boolean", (False, True)),
    "boolean, predicted as objects": ("returned", "found.astype(object)", "boolean", (False, True)),
    "text": (YES_NO, "found", "text", ("no", "yes")),
    "text, predicted as fixed width": (YES_NO, "found.astype(str)", "text", ("no", "yes")),
}


@pytest.mark.parametrize("name", BINARY)
def test_predictions_have_the_type_of_the_label(world: World, name: str) -> None:
    label, expression, kind, (negative, positive) = BINARY[name]
    typed = with_predictions(world, "LogisticRegression", expression, label=label)
    typed.train(run_id="t")
    typed.run(run_id="r")

    assert typed.rows(TYPE) == [(kind,)]
    found = typed.rows("SELECT DISTINCT prediction, score > 0.5 FROM predictions.visits ORDER BY 2")
    assert [(type(p), p, is_positive) for p, is_positive in found] == [
        (type(negative), negative, False),
        (type(positive), positive, True),
    ]


@pytest.mark.parametrize("expression", ["found", "found.astype('float32')", "found.round().astype('int64')"])
def test_predictions_of_a_regression_are_double_precision(world: World, expression: str) -> None:
    spend = World(
        db=world.db, store=world.store, folder=write_model(world.folder.path.parent, "spend", task="regression")
    )
    spend = with_predictions(spend, "Ridge", expression, task="regression")
    spend.train(run_id="t")
    spend.run(run_id="r")

    assert spend.rows(TYPE.replace("visits", "spend")) == [("double precision",)]
    whole = "SELECT bool_and(prediction = round(prediction)), count(*) FROM predictions.spend"
    assert spend.rows(whole) == [("int64" in expression, 350)]


def test_a_regression_of_whole_numbers_predicts_numbers(world: World) -> None:
    spend = World(
        db=world.db,
        store=world.store,
        folder=write_model(world.folder.path.parent, "spend", task="regression", label="round(spent)::int"),
    )
    spend.train(run_id="t")
    spend.run(run_id="r")

    assert spend.rows(TYPE.replace("visits", "spend")) == [("double precision",)]
    assert spend.ask("SELECT count(*) FROM predictions.spend WHERE prediction <> round(prediction)") > 300


@pytest.mark.parametrize(
    ("label", "expression", "said"),
    [
        ("returned::int", "found + 0.5", "predict() returned no labels"),
        ("returned", "['yes'] * len(found)", "predict() returned no labels"),
        ("returned::int", "['yes'] * len(found)", "predict() returned no labels"),
        ("returned::int", "found[:-1]", "predict() returned the wrong shape"),
    ],
    ids=["a half", "text for a boolean", "text for an integer", "one too few"],
)
def test_predictions_that_are_no_labels_are_refused_when_the_version_is_trained(
    world: World, label: str, expression: str, said: str
) -> None:
    wrong = with_predictions(world, "LogisticRegression", expression, label=label)
    with pytest.raises(PonteError) as caught:
        wrong.train(run_id="t")
    assert said in str(caught.value)
    assert wrong.ask("SELECT count(*) FROM ponte.version") == 0


def test_a_key_of_a_day_and_a_text_works_end_to_end(world: World) -> None:
    features = world.folder.text("features.sql").replace("v.visit_id,", "v.day, 'visit ' || v.visit_id AS code,")
    labels = world.folder.text("labels.sql").replace("visit_id,", "day, 'visit ' || visit_id AS code,")
    files = {"features.sql": features, "labels.sql": labels}
    keyed = world.with_model(files=files, key='["day", "code"]', shard_rows=200, chunk_rows=40)
    keyed.train(run_id="t")
    batch = keyed.run(run_id="r")

    rows = "SELECT day, code FROM predictions.visits"
    source = "SELECT day, 'visit ' || visit_id FROM shop.visit WHERE day >= :week AND day < :week + 7"
    assert sorted(keyed.rows(rows)) == sorted(keyed.rows(source, week=WEEK))
    columns = "SELECT attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(indkey)"
    primary = f"{columns} WHERE indisprimary AND indrelid = 'ponte_data.{batch.prediction_table}'::regclass"
    assert {name for (name,) in keyed.rows(primary)} == {"batch_id", "day", "code"}
    assert keyed.rows(f"SELECT count(*), count(DISTINCT code) FROM ({rows}) AS r") == [(350, 350)]
    keyed.run(run_id="again")
    assert keyed.ask("SELECT count(*) FROM predictions.visits") == 350
