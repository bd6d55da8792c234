"""What a form of a decision says would follow, as the role of the web server, and what there is to choose from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.sample_model import LATER, NEXT_WEEK, WEEK, World, midnight, run_named

from ponte.decisions.rollback import Plan
from ponte.duels.challengers import set_challenger
from ponte.schema import roles
from ponte.steering.actions import BY_NAME
from ponte.steering.choices import LONGEST, MOST, read_choices
from ponte.steering.previews import NAMED, Preview, foresee, sentences
from ponte.storage.database import Database

if TYPE_CHECKING:
    from tests.conftest import Cluster, Template

FOURTH_WEEK = dt.date(2024, 3, 4)
KEPT_BACK = "a guard tripped: mean_score"
#: Batches of NEXT_WEEK: a guard rejected the first, a newer run has claimed the window since, and a check rejected it.
REJECTED, NEWER = 2, 3
#: The same version, week and publication of another model, as batch 99.
ANOTHER = """
INSERT INTO ponte.version SELECT (jsonb_populate_record(v, '{"model": "other", "path": "other"}')).*
FROM ponte.version v WHERE version = 1;
INSERT INTO ponte.claim SELECT (jsonb_populate_record(c, '{"model": "other"}')).*
FROM ponte.claim c WHERE window_start = '2024-02-12';
INSERT INTO ponte.batch OVERRIDING SYSTEM VALUE
SELECT (jsonb_populate_record(b, '{"model": "other", "batch_id": 99}')).* FROM ponte.batch b WHERE batch_id = 1;
INSERT INTO ponte.published SELECT (jsonb_populate_record(p, '{"model": "other", "batch_id": 99}')).*
FROM ponte.published p;
"""
#: The gate refused version 3, and was asked again.
JUDGED = """
INSERT INTO ponte.gate_verdict (model, version, snapshot_id, run_id, run_key, passed, outcome, rules)
SELECT model, version, snapshot_id, outcome, outcome, false, outcome, '[]'
FROM ponte.version CROSS JOIN unnest(ARRAY['refused', 'undecided']) WITH ORDINALITY AS o (outcome, n)
WHERE model = 'visits' AND version = 3 ORDER BY n;
"""


@pytest.fixture(scope="module")
def world(server: Cluster, scored_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Version 1 is champion and has scored WEEK; 2 is marked bad; 3 has learned until FOURTH_WEEK, and challenges."""
    with scored_template.copy(server, tmp_path_factory.mktemp("previews")) as found:
        edited = found.with_model(files={"estimator.py": found.folder.text("estimator.py") + "\n# 2\n"})
        edited.fit(edited.snapshot(run_id="second").snapshot_id, run_id="second")
        edited.fit(edited.snapshot(run_id="third", as_of=midnight(FOURTH_WEEK)).snapshot_id, run_id="third")
        found.mark(2, "bad", run_id="marked")
        set_challenger(found.db, "visits", 3, run=run_named("duel"), actor="ada", reason="a duel")
        for run_id, by in (("kept back", "guard"), ("newer", "check")):
            batch = found.freeze(run_id=run_id, week=NEXT_WEEK)
            found.execute(
                "UPDATE ponte.batch SET status = 'rejected', why = :why, rejected_by = :by WHERE batch_id = :id",
                why=KEPT_BACK, by=by, id=batch.batch_id,
            )  # fmt: skip
        found.execute(
            "INSERT INTO ponte.guard_result (batch_id, guard, outcome, got, expected, evidence) "
            "SELECT :id, g, o, '1', '2', '{}' "
            "FROM (VALUES ('mean_score', 'tripped'), ('row_count', 'passed')) v (g, o)",
            id=REJECTED,
        )
        found.execute(JUDGED)
        found.execute(ANOTHER)
        for alarm_id, model in ((1, "visits"), (2, "visits"), (3, "other")):
            found.execute(
                "INSERT INTO ponte.alarm_event (alarm_id, model, kind, event, batch_id, window_start, version, "
                "evidence, actor, reason, run_id, run_key) "
                "VALUES (:id, :model, 'drift', 'opened', 1, :week, 1, '{}', 'r', repeat('items moved ', 40), 'r', "
                "'o' || :id)",
                id=alarm_id, model=model, week=WEEK,
            )  # fmt: skip
        found.execute(
            "INSERT INTO ponte.alarm_event (alarm_id, model, kind, event, actor, reason, run_id, run_key) "
            "VALUES (2, 'visits', 'drift', 'closed', 'ada', 'over', 'r', 'c2')"
        )
        yield found


@pytest.fixture(scope="module")
def viewer(world: World) -> Database:
    """The database as the web server reads it."""
    return Database(world.db.url.set(username=roles.VIEWER))


def previewed(viewer: Database, world: World, action: str, conf: dict[str, Any], now: dt.datetime = LATER) -> Preview:
    return foresee(BY_NAME[action], viewer, world.folder, conf, now=now)


STOOD_IN = "no champion at as_of; today's had seen nothing later than that"
ALLOWED = "no champion at as_of; today's has seen later days, and hindsight was allowed"
SEEN = (
    "People see batch 1 of version 1 now, 350 rows. If the guards let it, the new batch takes its place; the old one "
    "is kept."
)
UNSEEN = "Nobody sees anything of it now; if the guards let it, people see the new batch."
HINDSIGHT = "The version may have learned from what happened after: batch and rows are marked hindsight."
STAYS = "What people see of past windows stays as it is: no window was chosen."
NOTHING = "Nothing would change: the version is champion, and no window was chosen."
PROMOTED = "What people see of past windows stays as it is."
AGAIN = "Trained on the same rows, folder and libraries as before, it finds the same version again."
BAD = {"allow_bad": True}
REASON = "items moved " * 40


def anew(start: str, end: str, why: str) -> str:
    """Return what is said of a window that the champion scores."""
    scores = f"and scores it with version 1: {why}."
    return f"Freezes the window {start} to {end} anew, as of {start} 00:00 UTC, {scores}"


@pytest.mark.parametrize(
    ("action", "conf", "effects", "warnings"),
    [
        ("score", {"window_start": "2024-02-12"},
         [anew("2024-02-12", "2024-02-19", STOOD_IN), SEEN], []),
        ("score", {"window_start": "2024-02-19"},
         [anew("2024-02-19", "2024-02-26", STOOD_IN), UNSEEN], []),
        ("score", {"window_start": "2024-02-05", "allow_hindsight": True},
         [anew("2024-02-05", "2024-02-12", ALLOWED), UNSEEN], [HINDSIGHT]),
        ("score", {},
         [anew("2024-12-30", "2025-01-06", "champion now; the window is the newest"), UNSEEN], []),
        ("train", {"as_of": "2024-03-04"},
         ["Trains on 6 windows, as known at 2024-03-04 00:00 UTC.",
          "Then measures it beside version 1, and asks the gate.", AGAIN], []),
        ("train", {},
         ["Trains on 6 windows, as known at 2025-01-01 00:00 UTC.",
          "Then measures it beside version 1, and asks the gate.", AGAIN], []),
        ("roll-back", {"version": 2, "windows": ["2024-02-12"], **BAD},
         ["Moves champion 1 → 2.", "Scores 1 window anew, then shows it: 2024-02-12."], []),
        ("roll-back", {"version": 2, "every_window": True, "mark_bad": True, **BAD},
         ["Moves champion 1 → 2.", "Scores 1 window anew, then shows it: 2024-02-12.",
          "Marks version 1 as bad."], []),
        ("roll-back", {"version": 2, "windows": [], **BAD}, ["Moves champion 1 → 2."], [STAYS]),
        ("roll-back", {"version": 1, "windows": ["2024-02-12", "2024-02-19", "2024-02-26"]},
         ["Shows 1 window again as version 1 has scored it before: 2024-02-12.",
          "Scores 2 windows anew, then shows them: 2024-02-19, 2024-02-26."], []),
        # The version that stays is not left, and is not marked.
        ("roll-back", {"version": 1, "mark_bad": True}, [], [NOTHING]),
        ("roll-back", {"version": 3, "windows": ["2024-02-12"], "allow_hindsight": True},
         ["Moves champion 1 → 3.", "Scores 1 window anew, then shows it: 2024-02-12."], []),
        ("promote", {"version": 1}, [], ["Nothing would change: version 1 is champion."]),
        ("promote", {"version": 3}, ["Moves champion 1 → 3, from the next window on.", PROMOTED], []),
        ("promote", {"version": 2, **BAD}, ["Moves champion 1 → 2, from the next window on.", PROMOTED],
         ["Version 2 is marked bad."]),
        ("mark", {"version": 1, "mark": "bad"}, ["Marks version 1: bad."],
         ["Version 1 is champion: no window is scored until another one is, or a rollback is made."]),
        ("mark", {"version": 1, "mark": "not bad"}, ["Marks version 1: not bad."], []),
        ("mark", {"version": 3, "mark": "bad"}, ["Marks version 3: bad."], []),
        ("judge", {},
         ["Measures version 3 beside version 1 on the rows of its training, and asks the gate again."], []),
        ("judge", {"version": 1}, ["Measures version 1 on the rows of its training, and asks the gate again."], []),
        ("challenge", {"version": 3}, ["Each week version 3 predicts beside version 1, unseen."], []),
        ("challenge", {"version": 3, "withdraw": True}, ["Ends the duel of version 3 with version 1."], []),
        ("alarm", {"alarm_id": 1, "action": "close"}, ["Closes alarm 1 about drift: " + REASON[:300]], []),
        ("alarm", {"alarm_id": 1, "action": "acknowledge"},
         ["Acknowledges alarm 1 about drift: " + REASON[:300]], []),
    ],
)  # fmt: skip
def test_a_preview_says_what_would_follow(  # noqa: PLR0917
    world: World, viewer: Database, action: str, conf: dict[str, Any], effects: list[str], warnings: list[str]
) -> None:
    found = previewed(viewer, world, action, conf)
    assert found.problems == {}
    assert list(found.effects) == effects
    assert list(found.warnings) == warnings


@pytest.mark.parametrize(
    ("action", "conf", "field", "said"),
    [
        ("score", {"window_start": "2024-02-05"}, "allow_hindsight", "The version may have learned from what"),
        ("score", {"window_start": "2024-02-13"}, "window_start", "Did you mean 2024-02-12 or 2024-02-19?"),
        ("score", {"window_start": "2025-01-06"}, "window_start", "Nothing is known yet of that time"),
        ("train", {"as_of": "2025-01-02"}, "as_of", "Nothing is known yet of that time"),
        ("roll-back", {"version": 9}, "version", "No such version"),
        ("roll-back", {"version": 2}, "allow_bad", "The version is marked bad"),
        ("roll-back", {"version": 3, "windows": ["2024-02-12"]}, "allow_hindsight", "The version may have learned"),
        ("roll-back", {"version": 1, "windows": ["2024-02-13"]}, "windows", "No window starts on 2024-02-13"),
        ("roll-back", {"version": 1, "windows": ["2025-01-06"]}, "windows", "Nothing is known yet of that time"),
        ("publish", {"batch_id": 1}, "batch_id", "No guard has rejected this batch"),
        ("publish", {"batch_id": REJECTED}, "batch_id", "A newer run owns the window"),
        ("publish", {"batch_id": NEWER}, "batch_id", "No guard has rejected this batch"),
        ("publish", {"batch_id": 99}, "batch_id", "The batch is another model's"),
        ("publish", {"batch_id": 999}, "batch_id", "No such batch"),
        ("promote", {"version": 2}, "allow_bad", "Version 2 is marked bad."),
        ("promote", {"version": 9}, "version", "No such version"),
        ("mark", {"version": 9, "mark": "bad"}, "version", "No such version"),
        ("judge", {"version": 9}, "version", "No such version"),
        ("challenge", {"version": 1}, "version", "The champion cannot challenge itself."),
        ("challenge", {"version": 2}, "version", "Version 2 is marked bad."),
        ("challenge", {"version": 2, "withdraw": True}, "version", "Version 2 is not challenger."),
        ("challenge", {"version": 9}, "version", "No such version"),
        ("alarm", {"alarm_id": 2, "action": "close"}, "alarm_id", "Alarm 2 of visits: it is closed."),
        ("alarm", {"alarm_id": 3, "action": "close"}, "alarm_id", "Alarm 3 of visits: there is no such alarm."),
    ],
)  # fmt: skip
def test_what_the_run_would_refuse_is_said_at_its_field(  # noqa: PLR0917
    world: World, viewer: Database, action: str, conf: dict[str, Any], field: str, said: str
) -> None:
    found = previewed(viewer, world, action, conf)
    assert list(found.problems) == [field]
    assert said in found.problems[field]
    assert not found.effects


def test_a_batch_that_a_guard_kept_back_is_shown_in_place_of_what_is_seen(world: World, viewer: Database) -> None:
    """Of the newest run that has the window, with what it takes the place of."""
    claim = (
        "UPDATE ponte.claim SET epoch = (SELECT epoch FROM ponte.batch WHERE batch_id = :id) WHERE window_start = :week"
    )
    shown = (
        "INSERT INTO ponte.published (model, window_start, batch_id, epoch) "
        "SELECT model, window_start, batch_id, epoch FROM ponte.batch WHERE batch_id = :id"
    )
    told = f"Shows people batch {REJECTED} of version 1 for {NEXT_WEEK}, 350 rows,"
    world.execute(claim, id=REJECTED, week=NEXT_WEEK)
    try:
        found = previewed(viewer, world, "publish", {"batch_id": REJECTED})
        assert list(found.effects) == [f"{told} before it nothing."]
        assert list(found.warnings) == [f"A guard has rejected it: {KEPT_BACK}"]
        world.execute(shown, id=NEWER)
        found = previewed(viewer, world, "publish", {"batch_id": REJECTED, "new_normal": True})
        normal = f"Guards and drift compare later windows only with windows from {NEXT_WEEK} on."
        assert list(found.effects) == [f"{told} instead of batch {NEWER} of version 1, 350 rows.", normal]
        world.mark(1, "bad", run_id="bad")
        found = previewed(viewer, world, "publish", {"batch_id": REJECTED})
        assert list(found.problems) == [""], "no field of the form would let it pass"
        assert "The version was marked bad since it scored this batch" in found.problems[""]
    finally:
        world.mark(1, "not bad", run_id="not bad")
        world.execute("DELETE FROM ponte.published WHERE batch_id = :id", id=NEWER)
        world.execute(claim, id=NEWER, week=NEXT_WEEK)


def test_of_many_windows_a_sentence_names_some() -> None:
    days = [f"2024-01-{day:02}" for day in range(1, NAMED + 3)]
    plan = Plan(model="m", from_version=2, to_version=1, event_id=1, kept={}, rescore=days[:NAMED], every_window=False)
    assert (
        sentences(plan, mark_bad=False)[-1]
        == f"Scores {NAMED} windows anew, then shows them: {', '.join(days[:NAMED])}."
    )
    more = Plan(**{**{name: getattr(plan, name) for name in Plan.__dataclass_fields__}, "rescore": days})
    assert sentences(more, mark_bad=False)[-1].endswith(f"{days[NAMED - 1]} and 2 more.")


def test_there_is_to_choose_what_there_is_newest_first(world: World, viewer: Database) -> None:
    found = read_choices(viewer, "visits", {"versions", "windows", "batches", "alarms"})
    said = {name: [(entry.value, entry.words) for entry in entries] for name, entries in found.items()}
    assert [value for value, _ in said["versions"]] == ["3", "2", "1"]
    third, second, first = (words for _, words in said["versions"])
    assert third.startswith("version 3 · challenger since ")
    assert third.endswith(" · gate undecided"), "what it said last"
    assert second.startswith("version 2 · marked bad · trained ")
    assert first.startswith("version 1 · champion since ")
    metric = world.ask("SELECT value FROM ponte.metric WHERE version = 1 AND subject = 'candidate' AND slice = '' "
                       "AND name = 'roc_auc'")  # fmt: skip
    assert f"ROC AUC {metric:.3f}" in first
    assert "gate" not in first, "that it passed is not worth a word"
    assert said["windows"] == [
        ("2024-02-19", "2024-02-19 · nobody sees it: rejected · 350 rows"),
        ("2024-02-12", "2024-02-12 · version 1, batch 1 · 350 rows"),
    ]
    assert said["batches"] == [
        ("2", "2024-02-19 · batch 2 of version 1 rejected by guard mean_score · 350 rows · a newer run has the window"),
    ]
    [(alarm, words)] = said["alarms"]
    assert (alarm, len(words)) == ("1", LONGEST)
    assert words.startswith("alarm 1 · drift since 2024-02-12 · 1 window · open · items moved")
    assert words.endswith("…")


def test_what_people_see_of_a_window_is_offered_and_not_a_newer_batch(world: World, viewer: Database) -> None:
    """Nor anything of another model, nor more than anybody looks through; only the lists that are asked for."""
    world.execute("UPDATE ponte.batch SET window_start = :week, window_end = :week + 7 WHERE batch_id = :id",
                  id=NEWER, week=WEEK)  # fmt: skip
    try:
        found = read_choices(viewer, "visits", {"windows"})
        assert found.keys() == {"windows"}
        assert [entry.words for entry in found["windows"]][-1] == "2024-02-12 · version 1, batch 1 · 350 rows"
    finally:
        world.execute("UPDATE ponte.batch SET window_start = :week, window_end = :week + 7 WHERE batch_id = :id",
                      id=NEWER, week=NEXT_WEEK)  # fmt: skip
    others = read_choices(viewer, "other", {"versions", "windows", "batches"})
    assert {name: [entry.value for entry in entries] for name, entries in others.items()} == {
        "versions": ["1"], "windows": ["2024-02-12"], "batches": [],
    }  # fmt: skip
    assert MOST == 400
