"""A model of three classes, from its labels to what readers see."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.sample_model import WEEK, World, write_model

from ponte.model.spec import METRICS

CODES = "CASE WHEN spent < 20 THEN 30 WHEN spent < 40 THEN 10 ELSE 20 END"
LABELS = {"text": ({}, ["low", "much", "some"], "text"), "integer": ({"label": CODES}, [10, 20, 30], "bigint")}


@pytest.mark.parametrize("kind", LABELS)
def test_three_classes_are_trained_judged_scored_and_published(world: World, kind: str) -> None:
    settings, classes, sql_type = LABELS[kind]
    folder = write_model(world.folder.path.parent, "spending", task="multiclass", **settings)
    spending = World(db=world.db, store=world.store, folder=folder)
    run = spending.train(run_id="t")
    batch = spending.run(run_id="r")

    assert run.alias.version == 1
    assert spending.rows("SELECT task, classes, threshold FROM ponte.version") == [("multiclass", classes, None)]
    own = "SELECT name FROM ponte.metric WHERE subject = 'candidate' AND slice = ''"
    assert {name for (name,) in spending.rows(own)} == {*METRICS["multiclass"], "rows_per_second"}
    against = (
        "SELECT value, low, high FROM ponte.metric WHERE subject = 'difference:baseline:constant' AND name = :name"
    )
    [(_, _, high)] = spending.rows(against, name="log_loss")
    assert high < 0, "lower is better, beyond doubt"

    columns = (
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'predictions' AND table_name = 'spending' ORDER BY ordinal_position"
    )
    assert spending.rows(columns)[2:4] == [("prediction", sql_type), ("scores", "ARRAY")]
    seen = spending.rows("SELECT prediction, scores FROM predictions.spending WHERE window_start = :w", w=WEEK)
    assert len(seen) == 350
    assert {prediction for prediction, _ in seen} == set(classes)
    for prediction, scores in seen:
        assert sum(scores) == pytest.approx(1, abs=1e-12)
        assert prediction == classes[scores.index(max(scores))]

    table = f"ponte_data.{batch.prediction_table}"
    for wrong in ("{1.5,-0.5,0}", "{0.5,NaN,0.5}", "{1.1,0,0}"):
        with pytest.raises(sa.exc.IntegrityError, match="scores_are_probabilities"):
            spending.execute(f"UPDATE {table} SET scores = :wrong WHERE visit_id % 350 = 0", wrong=wrong)


def test_two_classes_are_refused(world: World) -> None:
    from ponte.errors import TrainingRefused

    folder = write_model(world.folder.path.parent, "spending", task="multiclass", label="(spent < 20)::int")
    with pytest.raises(TrainingRefused, match=r"the holdout has 2 class\(es\), \['0', '1'\]; at least 3 are needed"):
        World(db=world.db, store=world.store, folder=folder).train(run_id="t")
