"""Corrections of people become labels of an origin of their own, once, and are taken back with what they rest on."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from tests.postgres.schema.test_roles import as_role, opened
from tests.sample_model import WEEK, World

from ponte.errors import PonteError
from ponte.model.windows import midnight
from ponte.monitoring.corrections import copy_corrections
from ponte.monitoring.labels import read_labels
from ponte.monitoring.realised import measure
from ponte.schema import roles

COUNT = '[monitoring]\ncorrections = "count"\nmaturities = [28]\n'
GIVEN = (
    "INSERT INTO ponte.feedback_given "
    "(model, window_start, batch_id, key, verdict, prediction, correct_label, given_by, at) "
    "VALUES ('visits', '2024-02-12', :batch, CAST(:key AS jsonb), :verdict, :prediction, :label, :by, :at)"
)
COLUMNS = "batch_id, key ->> 'visit_id', label, state, known_at, seen_at"
SEEN = f"SELECT {COLUMNS} FROM ponte.label_seen WHERE origin = 'feedback' ORDER BY label_id"


def day(number: float) -> dt.datetime:
    """Return the moment so many days after the end of the week."""
    return midnight(WEEK) + dt.timedelta(days=7 + number)


def monitored(world: World) -> World:
    """Return the world as the monitor works in it, with a model that counts corrections."""
    return as_role(opened(world), roles.MONITOR).with_model(checks=COUNT)


def say(world: World, at: float, verdict: str, label: str | None = None, **other: object) -> None:
    """Say something of a row whose prediction was 0, so many days after the end of the week."""
    said = {"batch": 1, "key": {"visit_id": 2101}, "prediction": "0", "by": "ana", **other}
    said["key"] = None if said["key"] is None else json.dumps(said["key"])
    owner = as_role(world, roles.OWNER)
    owner.execute(GIVEN, verdict=verdict, label=label, at=day(at), **said)


def copied(world: World, at: float) -> list[tuple[object, ...]]:
    """Copy as of so many days after the end of the week; return what was added."""
    before = world.ask("SELECT count(*) FROM ponte.label_seen")
    added = copy_corrections(world.db, world.folder, now=day(at))
    found = world.rows(SEEN)
    assert added == world.ask("SELECT count(*) FROM ponte.label_seen") - before
    return [tuple(row) for row in found[len(found) - added :]]


def test_a_correction_is_a_label_from_when_it_was_given_and_is_copied_once(scored: World) -> None:
    world = monitored(scored)
    say(world, 1, "wrong", "1")
    say(world, 3, "wrong", "1", key={"visit_id": 2102})
    assert copied(world, 2) == [(1, "2101", "1", "seen", day(1), day(2))]
    assert copied(world, 2) == []
    assert copied(world, 4) == [(1, "2102", "1", "seen", day(3), day(4))]
    assert copied(world, 2.5) == [], "a twin that began earlier takes nothing back"
    assert copied(world, 5) == []


#: What people say one after the other → the label that counts afterwards.
WORDS: list[tuple[str, list[tuple[str, str, str | None, str]], str | None]] = [
    ("right alone is no label", [("ana", "right", None, "0")], None),
    ("wrong alone is no label", [("ana", "wrong", None, "0")], None),
    ("a correction is", [("ana", "wrong", "1", "0")], "1"),
    ("the newest of one person", [("ana", "wrong", "1", "0"), ("ana", "wrong", "2", "0")], "2"),
    ("taken back", [("ana", "wrong", "1", "0"), ("ana", "withdrawn", None, "0")], None),
    ("taken back by somebody else", [("ana", "wrong", "1", "0"), ("ben", "withdrawn", None, "0")], "1"),
    ("the newest of two", [("ana", "wrong", "1", "0"), ("ben", "wrong", "2", "0")], "2"),
    ("and without it that of the other", [
        ("ana", "wrong", "1", "0"), ("ben", "wrong", "2", "0"), ("ben", "withdrawn", None, "0")], "1"),
    ("contradicted by right", [("ana", "wrong", "1", "0"), ("ben", "right", None, "0")], None),
    ("not contradicted by an earlier right", [("ben", "right", None, "0"), ("ana", "wrong", "1", "0")], "1"),
    ("another version predicts it: right", [("ana", "wrong", "1", "0"), ("ben", "right", None, "1")], "1"),
    ("another version predicts it: wrong", [("ana", "wrong", "1", "0"), ("ben", "wrong", None, "1")], None),
    ("a word on another version is taken back", [
        ("ben", "wrong", None, "1"), ("ana", "wrong", "1", "0"), ("ben", "withdrawn", None, "1")], "1"),
    ("somebody agrees that it was wrong", [("ana", "wrong", "1", "0"), ("ben", "wrong", None, "0")], "1"),
]  # fmt: skip


def test_of_what_people_say_of_a_row_this_counts(scored: World) -> None:
    world = monitored(scored)
    for number, (_, words, _) in enumerate(WORDS):
        for by, verdict, label, prediction in words:
            say(world, 1, verdict, label, by=by, prediction=prediction, key={"visit_id": 2101 + number})
    found = {visit: label for _, visit, label, *_ in copied(world, 2)}
    expected = {str(2101 + number): label for number, (_, _, label) in enumerate(WORDS) if label is not None}
    assert {WORDS[int(v) - 2101][0]: label for v, label in found.items()} == {
        WORDS[int(v) - 2101][0]: label for v, label in expected.items()
    }


def test_a_label_changes_and_goes_with_what_people_say_later(scored: World) -> None:
    world = monitored(scored)
    say(world, 1, "wrong", "1")
    copied(world, 2)
    say(world, 3, "wrong", "2")
    assert copied(world, 4) == [(1, "2101", "2", "seen", day(3), day(4))]
    say(world, 5, "withdrawn")
    assert copied(world, 6) == [(1, "2101", None, "withdrawn", None, day(6))]
    assert copied(world, 7) == []
    say(world, 8, "wrong", "1")
    assert copied(world, 9) == [(1, "2101", "1", "seen", day(8), day(9))]
    at = "SELECT label FROM ponte.labels_at(1, :at, :with)"
    known = {number: world.rows(at, at=day(number), **{"with": True}) for number in (1, 2, 4, 6, 9)}
    assert known == {1: [], 2: [("1",)], 4: [("2",)], 6: [], 9: [("1",)]}
    assert world.rows(at, at=day(9), **{"with": False}) == []


def test_it_counts_for_every_batch_of_the_window_that_people_have_seen(scored: World) -> None:
    as_role(opened(scored), roles.SCORER).run(run_id="again")
    world = monitored(scored)
    say(world, 1, "wrong", "1")
    assert [(batch, label) for batch, _, label, *_ in copied(world, 2)] == [(1, "1"), (2, "1")]
    as_role(world, roles.OWNER).execute("UPDATE ponte.batch SET prediction_table = NULL WHERE batch_id = 1")
    say(world, 3, "withdrawn")
    assert [(batch, state) for batch, _, _, state, *_ in copied(world, 4)] == [(2, "withdrawn")]


def test_feedback_on_a_batch_or_after_its_labels_were_read_for_good_is_no_label(scored: World) -> None:
    world = monitored(scored)
    say(world, 1, "wrong", key=None, prediction=None)
    say(world, 28 + 28, "wrong", "1")
    assert copied(world, 100) == []
    say(world, 28 + 27.9, "wrong", "1", key={"visit_id": 2102})
    assert len(copied(world, 101)) == 1


def test_a_model_that_ignores_corrections_keeps_none(scored: World) -> None:
    world = monitored(scored)
    say(world, 1, "wrong", "1")
    assert copied(world.with_model(checks='[monitoring]\ncorrections = "ignore"\n'), 2) == []


def test_a_correction_given_by_a_person_moves_the_figures_and_is_told_apart_in_them(scored: World) -> None:
    """All the way: an analyst calls the function, and the figures say how many of their labels are such."""
    count = '[monitoring]\ncorrections = "count"\nmaturities = [3600]\n'
    world = as_role(opened(scored), roles.MONITOR).with_model(checks=count)
    now = world.ask("SELECT clock_timestamp()")
    read_labels(world.db, world.folder, now=now)
    measure(world.db, world.folder)
    figure = (
        "SELECT value, labelled_rows, feedback_rows FROM ponte.quality WHERE metric = 'accuracy' AND slice_column = ''"
    )
    [before] = world.rows(figure)
    [(visit, predicted)] = scored.rows(
        "SELECT v.visit_id, p.prediction FROM predictions.visits p JOIN shop.visit v USING (visit_id) "
        "WHERE p.prediction = v.returned::int ORDER BY 1 LIMIT 1"
    )
    as_role(world, roles.ANALYST).rows(
        "SELECT ponte.give_feedback('visits', :week, CAST(:key AS jsonb), 'wrong', :label)",
        week=WEEK, key=json.dumps({"visit_id": visit}), label=str(1 - int(predicted)),
    )  # fmt: skip
    later = world.ask("SELECT clock_timestamp()")
    read_labels(world.db, world.folder, now=later)
    assert copy_corrections(world.db, world.folder, now=later) == 1
    measure(world.db, world.folder)
    [after] = world.rows(figure)
    assert after[0] == pytest.approx(before[0] - 1 / before[1])
    assert (before[2], after[1], after[2]) == (0, before[1], 1)


def test_the_monitor_reads_no_comment(scored: World) -> None:
    world = monitored(scored)
    with pytest.raises(Exception, match="permission denied"):
        world.rows("SELECT comment FROM ponte.feedback_given")


def test_the_monitor_runs_nothing_that_the_scorer_has_put_in_the_place_of_a_table(scored: World) -> None:
    world = monitored(scored)
    table = "ponte_data." + scored.ask("SELECT prediction_table FROM ponte.batch")
    scorer = as_role(world, roles.SCORER)
    read_labels(world.db, world.folder, now=day(1))
    scorer.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    scorer.execute(f"CREATE VIEW {table} AS SELECT * FROM ponte_data.elsewhere WHERE pg_backend_pid() > 0")
    scorer.execute(f"GRANT SELECT ON {table} TO ponte_monitor")
    [reading] = read_labels(world.db, world.folder, now=day(2))
    assert reading.labels_from is None
    assert "the predictions are no table" in str(reading.why)
    with pytest.raises(PonteError, match="the predictions are no table"):
        measure(world.db, world.folder)
