"""The prediction table: conserves rows, refuses impossible scores, prunes, and fits the longest model name."""

from __future__ import annotations

from typing import get_args

import pytest
import sqlalchemy as sa
from tests.sample_model import NEXT_WEEK, WEEK, World, write_model

from ponte.errors import RowsLost
from ponte.model.spec import Task
from ponte.storage.prediction_columns import RESERVED_COLUMNS


@pytest.mark.parametrize("step", ["guard", "publish"])
@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM ponte_data.{} WHERE visit_id % 350 = 7",
        "DELETE FROM ponte.shard WHERE batch_id = :id",
        "UPDATE ponte.shard SET row_count = row_count + 1 WHERE batch_id = :id",
        "UPDATE ponte.batch SET row_count = row_count + 1 WHERE batch_id = :id",
        "INSERT INTO ponte.quarantine (batch_id, key, reasons, content) VALUES (:id, '{{}}', '[]', '{{}}')",
    ],
    ids=["a prediction", "a shard", "a row of a shard", "a frozen row", "a row both scored and quarantined"],
)
def test_a_batch_whose_rows_do_not_add_up_is_not_published(scored: World, step: str, loss: str) -> None:
    seen = scored.published_checksum()
    batch = scored.run(run_id="r", until={"guard": "score", "publish": "guard"}[step])
    changed = scored.execute(loss.format(batch.prediction_table), **({"id": batch.batch_id} if ":id" in loss else {}))

    assert changed == 1
    with pytest.raises(RowsLost, match=r"expected: 35[01] rows frozen"):
        getattr(scored, step)(batch.batch_id)
    assert scored.published_checksum() == seen
    assert scored.ask("SELECT count(*) FROM ponte.publication_event") == 1


def test_quarantined_rows_count_as_not_lost(trained: World) -> None:
    batch = trained.run(run_id="r", until="score")
    table = f"ponte_data.{batch.prediction_table}"
    trained.execute(
        "INSERT INTO ponte.quarantine (batch_id, key, reasons, content) "
        f"SELECT batch_id, to_jsonb(visit_id), '[]', '{{}}' FROM {table} ORDER BY visit_id LIMIT 3"
    )
    trained.execute(f"DELETE FROM {table} WHERE visit_id IN (SELECT visit_id FROM {table} ORDER BY 1 LIMIT 3)")
    trained.execute("UPDATE ponte.shard SET row_count = 347")
    trained.run(run_id="r")

    assert trained.ask("SELECT count(*) FROM predictions.visits") == 347
    assert trained.rows("SELECT rows_frozen, rows_scored, rows_quarantined FROM ponte.batch_overview") == [
        (350, 347, 3)
    ]


@pytest.mark.parametrize("score", ["'NaN'", "-0.01", "1.01", "'Infinity'"])
def test_a_score_that_is_no_probability_is_refused(trained: World, score: str) -> None:
    batch = trained.run(run_id="r", until="score")

    with pytest.raises(sa.exc.IntegrityError, match="score_is_probability"):
        trained.execute(f"UPDATE ponte_data.{batch.prediction_table} SET score = {score} WHERE visit_id % 350 = 0")


@pytest.mark.parametrize("value", ["'NaN'", "'Infinity'", "'-Infinity'", "NULL"])
def test_a_regression_that_is_no_number_is_refused(world: World, value: str) -> None:
    spend = World(
        db=world.db, store=world.store, folder=write_model(world.folder.path.parent, "spend", task="regression")
    )
    spend.train(run_id="t")
    batch = spend.run(run_id="r", until="score")

    with pytest.raises(sa.exc.IntegrityError, match=r"prediction_is_finite|not-null"):
        spend.execute(f"UPDATE ponte_data.{batch.prediction_table} SET prediction = {value} WHERE visit_id % 350 = 0")


@pytest.mark.parametrize("task", get_args(Task))
def test_every_column_of_the_predictions_that_is_no_key_is_a_reserved_name(world: World, task: str) -> None:
    """A key of that name would meet it, in the first batch of a version that has been trained and promoted."""
    folder = write_model(world.folder.path.parent, "shown", task=task, gate="beats_baseline = false")
    shown = World(db=world.db, store=world.store, folder=folder)
    shown.train(run_id="t")
    shown.run(run_id="r", until="score")

    columns = "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:name AS regclass) AND attnum > 0"
    for relation in ("predictions.shown", "predictions.shown_latest", "ponte_data.prediction_shown"):
        found = {name for (name,) in shown.rows(columns, name=relation)}
        assert {"window_start", "visit_id", "prediction", "batch_id"} <= found
        assert found - RESERVED_COLUMNS == {"visit_id"}


def test_a_reader_who_names_the_window_touches_one_partition(scored: World) -> None:
    """Of three partitions, one of them of a batch that is published no more."""
    batch = scored.run(run_id="new")
    scored.run(run_id="new", week=NEXT_WEEK)
    query = "EXPLAIN SELECT * FROM predictions.visits WHERE window_start = DATE '{}'"

    plan = "\n".join(row[0] for row in scored.rows(query.format(WEEK)))
    assert "visits__prediction_" in plan
    scanned = {word for word in plan.replace("_pkey", "").split() if word.startswith("visits__prediction_")}
    others = scored.rows("SELECT prediction_table FROM ponte.batch WHERE window_start <> :week", week=WEEK)
    assert batch.prediction_table in scanned
    assert not scanned & {name for (name,) in others}
    bare = f"EXPLAIN SELECT * FROM ponte_data.prediction_visits WHERE window_start = '{NEXT_WEEK}'"
    assert "".join(r[0] for r in scored.rows(bare)).count("Scan on") == 1


def test_a_model_name_of_40_characters_works_end_to_end(world: World) -> None:
    """PostgreSQL cuts identifiers at 63 bytes without a word; two names that differ only at their end must not meet."""
    for number, end in enumerate("ab", 1):
        name = "m" * 39 + end
        long = World(db=world.db, store=world.store, folder=write_model(world.folder.path.parent, name))
        long.train(run_id="t")
        # As if this were one of the last of ten thousand million batches.
        long.execute(f"ALTER TABLE ponte.batch ALTER batch_id RESTART WITH {9_999_999_000 + number}")
        batch = long.run(run_id="r")

        assert batch.prediction_table == f"{name}__prediction_{batch.batch_id}"
        assert len(batch.prediction_table) == 63
        for view in (name, f"{name}_latest"):
            assert long.rows(f"SELECT count(*), min(batch_id) FROM predictions.{view}") == [(350, batch.batch_id)]
        assert long.data_tables()[-1] == batch.prediction_table
