"""The way back is never blocked: not by a load of the source, not by an edit of `[window]`."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.postgres.children import wait_for
from tests.sample_model import AS_OF, FEATURES_SQL, NEXT_WEEK, WEEK, World, midnight

from ponte.batches import freezing
from ponte.batches.lifecycle import Batch
from ponte.errors import SignatureMismatch, WindowError
from ponte.storage.database import Database

THIRD_WEEK = dt.date(2024, 2, 26)
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'shop.visit'::regclass"
#: Locks that one decision about a model holds against the others.
OF_DECISIONS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
SHOWN = (
    "SELECT b.window_start, b.window_end, b.as_of, b.version "
    "FROM ponte.published p JOIN ponte.batch b USING (batch_id) ORDER BY 1"
)


@contextmanager
def loading_the_source(world: World) -> Iterator[None]:
    """Hold what a TRUNCATE of a nightly load holds."""
    with world.db.engine.connect() as etl:
        etl.exec_driver_sql("LOCK TABLE shop.visit IN ACCESS EXCLUSIVE MODE")
        try:
            yield
        finally:
            etl.rollback()


# ---------------------------------------------------------------- while the source is loaded


def test_while_a_freeze_waits_for_the_source_every_decision_is_taken_at_once(scored: World) -> None:
    staged = scored.run(run_id="staged", week=NEXT_WEEK, until="guard")
    second = scored.with_model(minimum_holdout_rows=201).train(run_id="second", promote=False).version.version
    found: list[Batch] = []
    with loading_the_source(scored):
        waiting = threading.Thread(
            target=lambda: found.append(scored.freeze(run_id="waiting", week=THIRD_WEEK)), daemon=True
        )
        waiting.start()
        wait_for(lambda: scored.ask(WAITING) == 1)
        assert scored.ask(OF_DECISIONS) == 0  # else what follows would wait for ever

        scored.publish(staged.batch_id)
        scored.set_champion(second)
        scored.mark(second, "bad", run_id="m")
        scored.roll_back(1, run_id="back", windows=[WEEK])
        scored.mark(second, "not bad", run_id="n")
        scored.set_champion(second)
        assert found == []
    waiting.join()
    assert scored.rows("SELECT run_id FROM ponte.claim WHERE window_start = :w", w=THIRD_WEEK) == [("waiting",)]
    # What was decided meanwhile counts: it is the champion of the claim, not the one of before the wait.
    assert [(b.version, b.status, b.row_count) for b in found] == [(second, "frozen", 350)]


def test_a_version_that_is_chosen_meanwhile_is_inspected_too(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    second = trained.with_model(minimum_holdout_rows=201).train(run_id="second", promote=False).version.version
    one_more = FEATURES_SQL.replace("v.distance,", "v.distance, v.items AS number,")
    third = trained.with_model(files={"features.sql": one_more}).train(run_id="third", promote=False).version.version
    trained.with_model()  # the folder is again as it was for the first two
    inspect, inspected = freezing.inspect_features, []

    def inspect_features(db: Database, folder: object, text: str) -> object:
        inspected.append(text)
        if len(inspected) == 1:
            trained.set_champion(second)
        return inspect(db, folder, text)

    monkeypatch.setattr(freezing, "inspect_features", inspect_features)
    assert trained.freeze(run_id="r").version == second
    assert inspected == [trained.folder.text("features.sql")] * 2

    trained.set_champion(third)  # its columns are not those of the folder
    with pytest.raises(SignatureMismatch):
        trained.freeze(run_id="s")
    assert trained.rows("SELECT run_id FROM ponte.batch") == [("r",)]
    assert trained.rows("SELECT run_id, epoch FROM ponte.claim") == [("r", 1)]


def test_a_retry_finds_its_batch_without_asking_for_a_champion_or_the_source(scored: World) -> None:
    first = scored.freeze(run_id="r", week=NEXT_WEEK)
    scored.mark(1, "bad", run_id="m")
    with loading_the_source(scored):
        assert scored.freeze(run_id="r", week=NEXT_WEEK) == first


# ---------------------------------------------------------------- after an edit of [window]

EDITS = {
    "another weekday": '[window]\nstarts_on = "sunday"',
    "another length": "[window]\ndays = 14",
    "another moment": '[window]\ncovers = "past"',
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_people_see_goes_back_with_the_bounds_it_was_published_with(trained: World, edit: str) -> None:
    """WEEK has a batch of version 1, the other two have to be scored anew: in the windows that people see."""
    before = trained.run(run_id="a", week=WEEK)
    expected = trained.published_checksum(WEEK)
    second = trained.with_model(minimum_holdout_rows=201)
    assert second.train(run_id="second", promote=False).version.version == 2
    second.set_champion(2)
    for week in (WEEK, NEXT_WEEK, THIRD_WEEK):
        second.run(run_id=f"b {week}", week=week)
    weeks = [(w, w + dt.timedelta(days=7), midnight(w)) for w in (WEEK, NEXT_WEEK, THIRD_WEEK)]
    edited = trained.with_model(checks=EDITS[edit])

    edited.roll_back(1, run_id="back", windows=[NEXT_WEEK], every_window=True)
    assert edited.rows(SHOWN) == [(*week, 1) for week in weeks]
    assert edited.ask("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=WEEK) == before.batch_id
    assert edited.published_checksum(WEEK) == expected
    assert edited.ask("SELECT count(*) FROM predictions.visits") == 3 * 350
    edited.roll_back(2, run_id="forth", windows=[week for week, _, _ in weeks])
    assert edited.rows(SHOWN) == [(*week, 2) for week in weeks]


def test_a_day_on_which_neither_a_published_window_nor_one_of_the_rule_begins_is_refused(scored: World) -> None:
    edited = scored.with_model(checks=EDITS["another weekday"])
    with pytest.raises(WindowError, match="no window starts on 2024-02-19"):
        edited.roll_back(1, run_id="r", windows=[NEXT_WEEK])
    assert edited.roll_back(1, run_id="s", windows=[WEEK]).windows
    assert AS_OF.date() == WEEK
