"""A broken column stops the batch before people see it, until a person says that it is the new normal."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tests.sample_model import NEXT_WEEK, WEEK, World

from ponte.errors import BatchRejected, ModelFolderError
from ponte.model.inspection import inspect_folder
from ponte.publishing import pointer

THIRD_WEEK = dt.date(2024, 2, 26)
NO_DISTANCE = "UPDATE shop.visit SET distance = NULL WHERE day >= '2024-02-19'"
COLUMNS = "SELECT outcome, got, evidence FROM ponte.guard_result WHERE batch_id = :id AND guard = 'columns'"


def published(world: World, *, week: dt.date, run_id: str = "r") -> tuple[bool, str, str, dict[str, Any]]:
    """Score the week; return whether it was published, and what the guard of columns said."""
    batch = world.run(run_id=run_id, week=week, until="score")
    try:
        world.guard(batch.batch_id)
        world.publish(batch.batch_id)
        shown = True
    except BatchRejected:
        shown = False
    [(outcome, got, evidence)] = world.rows(COLUMNS, id=batch.batch_id)
    return shown, outcome, got, evidence


def publish_anyway(world: World, *, new_normal: bool) -> None:
    batch_id = world.ask("SELECT max(batch_id) FROM ponte.batch")
    pointer.prepare_publication(world.db, batch_id, model="visits")
    for _ in range(2):  # a retry
        pointer.publish_anyway(
            world.db, batch_id, model="visits", run_id="p", actor="ann", reason="no meters", new_normal=new_normal
        )


@pytest.mark.parametrize(
    ("guard", "shown", "outcome"),
    [
        pytest.param("", False, "tripped", id="by default"),
        pytest.param('columns = "warn"', True, "warned", id="only told"),
        pytest.param('columns = "off"', True, "skipped", id="off"),
        pytest.param('column_overrides = { distance = "off" }', True, "passed", id="off for this column"),
        pytest.param('column_overrides = { distance = "warn" }', True, "warned", id="told for this column"),
        pytest.param('column_overrides = { price = "off" }', False, "tripped", id="off for another column"),
        pytest.param('columns = "off"\ncolumn_overrides = { distance = "reject" }', False, "tripped", id="only this"),
    ],
)
def test_a_column_that_became_null_stops_the_batch_as_the_model_says(
    trained: World, guard: str, shown: bool, outcome: str
) -> None:
    world = trained.with_model(checks=f"[guard]\n{guard}")
    world.execute(NO_DISTANCE)
    got_shown, got_outcome, got, evidence = published(world, week=NEXT_WEEK)
    assert (got_shown, got_outcome) == (shown, outcome)
    if outcome in ("tripped", "warned"):
        assert got == "distance: NULL in every row"
        assert evidence["distance"]["fault"] == "all_null"


def test_one_decision_is_enough_for_a_level_that_moved_for_good(trained: World) -> None:
    """Without it the next window trips again: a batch that was let through tells nothing of what is usual."""
    trained.run(run_id="before", week=WEEK)
    trained.execute(NO_DISTANCE)
    assert published(trained, week=NEXT_WEEK)[0] is False
    publish_anyway(trained, new_normal=False)
    assert published(trained, week=THIRD_WEEK)[0] is False
    publish_anyway(trained, new_normal=True)
    decided = trained.rows("SELECT model, window_start, actor, reason FROM ponte.normal_event")
    assert decided == [("visits", THIRD_WEEK, "ann", "no meters")], "once"
    assert published(trained, week=THIRD_WEEK + dt.timedelta(days=7))[:2] == (True, "passed")
    row_count = "SELECT outcome FROM ponte.guard_result WHERE guard = 'row_count' ORDER BY batch_id DESC LIMIT 1"
    assert trained.ask(row_count) == "skipped", "one window of the new normal is too few"
    assert published(trained, week=WEEK, run_id="backfill")[:2] == (True, "passed"), "older windows are as they were"


def test_a_version_from_before_columns_were_counted_is_not_compared(trained: World) -> None:
    for table in ("reference_count", "reference_column"):
        trained.execute(f"ALTER TABLE ponte.{table} DISABLE TRIGGER USER")
        trained.execute(f"DELETE FROM ponte.{table}")
    trained.execute(NO_DISTANCE)
    shown, outcome, got, _ = published(trained, week=NEXT_WEEK)
    assert (shown, outcome, got) == (True, "skipped", "version 1 was trained before columns were counted")


def test_an_override_of_a_column_that_is_not_there_is_told(trained: World) -> None:
    world = trained.with_model(checks='[guard]\ncolumn_overrides = { distanc = "off" }')
    with pytest.raises(ModelFolderError, match=r"guard\.column_overrides.*\n?.*did you mean 'distance'"):
        inspect_folder(world.db, world.folder)
