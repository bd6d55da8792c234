"""The way back: alias and windows move together or not at all, once, audited, and nobody's decision is lost."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg2
from tests import rotation
from tests.conftest import Cluster, Template
from tests.postgres.batches.test_fence import at_once
from tests.postgres.children import wait_for
from tests.sample_model import EMPTY_WEEK, LATER, NEXT_WEEK, NOW, STEPS, WEEK, World, midnight, run_named
from upath import UPath

from ponte.batches import lifecycle as batches
from ponte.decisions import rollback
from ponte.decisions.rollback import Plan, Rollback
from ponte.errors import (
    AliasMoved,
    ArtifactRefused,
    BatchRejected,
    Fenced,
    HindsightRefused,
    NoChampion,
    PonteError,
    VersionMarkedBad,
    WindowError,
)
from ponte.model.folders import get_folder
from ponte.publishing import janitor, pointer
from ponte.scoring.window import stage_window
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database, is_transient
from ponte.versions import aliases, marks, registry

#: One in so many statements of a rollback is a point to be killed at; PONTE_CRASH_POINTS=all takes them all.
STRIDE = 1 if os.environ.get("PONTE_CRASH_POINTS") == "all" else 6

THIRD_WEEK = dt.date(2024, 2, 26)
FOURTH_WEEK = dt.date(2024, 3, 4)
WEEKS = (WEEK, NEXT_WEEK, THIRD_WEEK, FOURTH_WEEK)

# ---------------------------------------------------------------- a world with something to go back from


@dataclass(frozen=True)
class Served:
    """A template: version 2 is champion, and what readers saw of each week from each version."""

    template: Template
    #: (week, version) → checksum.
    seen: dict[tuple[dt.date, int], str]


@pytest.fixture(scope="module")
def served_template(
    server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Version 1 scored two weeks; version 2 followed, scored the first of them again, and a third.

    Version 3 was trained three weeks later and never was champion. Nobody has scored the fourth week.
    """
    seen: dict[tuple[dt.date, int], str] = {}

    def serve(world: World) -> None:
        for version, weeks in ((1, (WEEK, NEXT_WEEK)), (2, (WEEK, THIRD_WEEK))):
            if version == 2:
                milder = world.folder.text("estimator.py").replace("LogisticRegression()", "LogisticRegression(C=0.01)")
                world = world.with_model(files={"estimator.py": milder})
                _fit(world, "second")
                world.set_champion(2)
            for week in weeks:
                world.run(run_id=f"score {version}", week=week)
                seen[week, version] = world.published_checksum(week)
        _fit(world, "third", as_of=midnight(FOURTH_WEEK))

    with trained_template.after(server, tmp_path_factory.mktemp("served"), serve) as template:
        assert len(set(seen.values())) == 4
        yield Served(template, seen)


def _fit(world: World, run_id: str, **changes: Any) -> None:
    world.fit(world.snapshot(run_id=run_id, **changes).snapshot_id, run_id=run_id)


@pytest.fixture
def served(server: Cluster, served_template: Served, tmp_path: Path) -> Iterator[World]:
    """A private copy of the world of `served_template`."""
    with served_template.template.copy(server, tmp_path) as world:
        yield world


@pytest.fixture
def seen(served_template: Served) -> dict[tuple[dt.date, int], str]:
    """What readers saw of a week from a version, as checksums."""
    return served_template.seen


# ---------------------------------------------------------------- looking

#: Every table that a rollback may write to, with the column that numbers its rows anew in every database.
TABLES = {
    "alias_event": "event_id",
    "rollback": "rollback_id",
    "publication_event": "event_id",
    "version_mark": "mark_id",
    "published": "window_start",
    "claim": "window_start",
    "batch": "batch_id",
}
REFERENCES = {
    ("alias_event", "previous_event_id"): "alias_event",
    ("rollback", "alias_event_id"): "alias_event",
    ("publication_event", "rollback_id"): "rollback",
}


def tables(world: World) -> dict[str, list[dict[str, Any]]]:
    """Return every row of TABLES as it is."""
    return {
        name: [row for (row,) in world.rows(f"SELECT to_jsonb(t) FROM ponte.{name} t ORDER BY {key}")]
        for name, key in TABLES.items()
    }


def facts(world: World) -> dict[str, list[dict[str, Any]]]:
    """Return every row of TABLES without times, and with its place in the table for its number."""
    rows = tables(world)
    place = {name: {row[TABLES[name]]: n for n, row in enumerate(rows[name])} for name in rows}
    for name, column in [(n, k) for n, k in TABLES.items() if k in ("event_id", "rollback_id", "mark_id")]:
        for row in rows[name]:
            row[column] = place[name][row[column]]
    for (name, column), target in REFERENCES.items():
        for row in rows[name]:
            row[column] = None if row[column] is None else place[target][row[column]]
    return {
        name: [{k: v for k, v in row.items() if k not in ("at", "created_at")} for row in rows[name]] for name in rows
    }


SEEN = (
    "SELECT (SELECT version FROM ponte.champion WHERE model = 'visits'), window_start::text, model_version, "
    "count(*) FROM predictions.visits GROUP BY 1, 2, 3 ORDER BY 2"
)


def shown(world: World) -> dict[dt.date, int]:
    """Return the version behind what readers see, by week."""
    return dict(world.rows("SELECT DISTINCT window_start, model_version FROM predictions.visits"))


@contextmanager
def nothing_moves(world: World, *, but: tuple[str, ...] = ()) -> Iterator[None]:
    """Fail unless every row of TABLES is afterwards what it was, to the last column; `but` names exceptions."""
    before, checksums = tables(world), [world.published_checksum(week) for week in WEEKS]
    yield
    after = tables(world)
    assert {n: after[n] for n in after if n not in but} == {n: before[n] for n in before if n not in but}
    assert [world.published_checksum(week) for week in WEEKS] == checksums


def plan_of(world: World, version: int, *windows: dt.date, **changes: Any) -> Plan:
    """Plan a rollback, long after every window."""
    options: dict[str, Any] = {"every_window": False, "allow_bad": False, "allow_hindsight": False, "now": LATER}
    options |= changes
    return rollback.plan_rollback(world.db, world.store, world.folder, version, windows=windows, **options)


def stage(world: World, plan: Plan, *, run_id: str) -> None:
    """Score what the plan needs."""
    for day in plan.rescore:
        stage_window(
            world.db,
            world.store,
            world.folder,
            plan.to_version,
            dt.date.fromisoformat(day),
            run=run_named(run_id),
            now=NOW,
            allow_hindsight=False,
        )


def carry_out(world: World, plan: Plan, *, run_id: str, **changes: bool) -> Rollback:
    """Carry a planned rollback out."""
    return rollback.roll_back(world.db, plan, run=run_named(run_id), actor="a person", reason="test", **changes)


# ---------------------------------------------------------------- what moves


def test_alias_and_windows_move_together(served: World, seen: dict[tuple[dt.date, int], str]) -> None:
    """A kept batch is shown again as it was, to the last bit; any other window is scored by the version restored."""
    done = served.roll_back(1, run_id="back", windows=[WEEK, THIRD_WEEK, FOURTH_WEEK])

    assert (done.from_version, done.to_version) == (2, 1)
    assert served.champion().version == 1
    assert shown(served) == dict.fromkeys(WEEKS, 1)
    assert served.published_checksum(WEEK) == seen[WEEK, 1]
    rescored = {w["window_start"]: w["rescored"] for w in done.windows}
    assert rescored == {str(WEEK): False, str(THIRD_WEEK): True, str(FOURTH_WEEK): True}
    again = served.published_checksum(THIRD_WEEK)
    assert again != seen[THIRD_WEEK, 2]
    served.run(run_id="plain", week=THIRD_WEEK)
    assert served.published_checksum(THIRD_WEEK) == again


def test_windows_that_were_not_chosen_stay(served: World, seen: dict[tuple[dt.date, int], str]) -> None:
    served.roll_back(1, run_id="back", windows=[WEEK])

    assert shown(served) == {WEEK: 1, NEXT_WEEK: 1, THIRD_WEEK: 2}
    assert served.published_checksum(THIRD_WEEK) == seen[THIRD_WEEK, 2]
    assert served.rows("SELECT window_start FROM ponte.claim WHERE run_id = 'back'") == [(WEEK,)]


def test_without_windows_the_alias_alone_moves(served: World) -> None:
    with nothing_moves(served, but=("alias_event", "rollback")):
        done = served.roll_back(1, run_id="back")
    assert (done.windows, served.champion().version) == ([], 1)


def test_every_window_that_people_see_from_the_champion_moves(served: World) -> None:
    """And those that were named as well; a week that they see from another version stays."""
    plan = plan_of(served, 1, FOURTH_WEEK, every_window=True)
    done = served.roll_back(1, run_id="back", windows=[FOURTH_WEEK], every_window=True)

    assert sorted([*plan.kept, *plan.rescore]) == [str(w) for w in (WEEK, THIRD_WEEK, FOURTH_WEEK)]
    assert [w["window_start"] for w in done.windows] == [str(w) for w in (WEEK, THIRD_WEEK, FOURTH_WEEK)]
    assert shown(served) == dict.fromkeys(WEEKS, 1)


def test_windows_go_back_to_the_champion_itself_without_a_move(
    served: World, seen: dict[tuple[dt.date, int], str]
) -> None:
    served.set_champion(1)
    done = served.roll_back(1, run_id="back", windows=[WEEK], mark_bad=True)

    assert done.alias_event_id is None
    assert served.published_checksum(WEEK) == seen[WEEK, 1]
    assert [e[0] for e in served.rows("SELECT version FROM ponte.alias_event ORDER BY event_id")] == [1, 2, 1]
    assert served.rows("SELECT mark FROM ponte.version_mark") == []


def test_undoing_a_rollback_is_a_rollback(served: World, seen: dict[tuple[dt.date, int], str]) -> None:
    before = shown(served)
    served.roll_back(1, run_id="back", windows=[WEEK, THIRD_WEEK])
    undone = served.roll_back(2, run_id="undo", windows=[WEEK, THIRD_WEEK])

    assert shown(served) == before
    assert served.champion().version == 2
    assert [served.published_checksum(w) for w in (WEEK, THIRD_WEEK)] == [seen[WEEK, 2], seen[THIRD_WEEK, 2]]
    assert [w["rescored"] for w in undone.windows] == [False, False]
    assert served.ask("SELECT count(*) FROM ponte.rollback") == 2
    redone = served.roll_back(1, run_id="redo", windows=[WEEK, THIRD_WEEK])
    assert [w["rescored"] for w in redone.windows] == [False, False]


def test_of_several_batches_of_the_version_the_newest_that_people_saw_is_shown(served: World) -> None:
    served.set_champion(1)
    newest = served.run(run_id="newest", week=WEEK)
    served.run(run_id="unseen", week=WEEK, until="guard")
    served.set_champion(2)
    (window,) = served.roll_back(1, run_id="back", windows=[WEEK]).windows

    assert window["batch_id"] == newest.batch_id


def test_a_batch_whose_rows_are_gone_is_scored_anew(served: World, seen: dict[tuple[dt.date, int], str]) -> None:
    (gone,) = served.rows(
        "SELECT batch_id, prediction_table FROM ponte.batch WHERE version = 1 AND window_start = :w", w=WEEK
    )
    served.execute(f"ALTER TABLE ponte_data.prediction_visits DETACH PARTITION ponte_data.{gone[1]}")
    served.execute(f"DROP TABLE ponte_data.{gone[1]}")
    (window,) = served.roll_back(1, run_id="back", windows=[WEEK]).windows

    assert window["rescored"]
    assert served.published_checksum(WEEK) == seen[WEEK, 1]


def test_the_version_left_is_marked_bad_on_request(served: World) -> None:
    assert not served.roll_back(1, run_id="first").windows
    assert not marks.is_bad(served.db, "visits", 2)
    served.roll_back(2, run_id="undo")
    served.roll_back(1, run_id="second", mark_bad=True)

    assert served.rows("SELECT version, mark, run_id, actor, reason FROM ponte.version_mark") == [
        (2, "bad", "second", "a person", "test")
    ]
    with pytest.raises(VersionMarkedBad):
        served.roll_back(2, run_id="third")
    assert served.roll_back(2, run_id="third", allow_bad=True).to_version == 2


def test_the_frozen_rows_of_what_was_scored_anew_are_dropped(served: World) -> None:
    served.roll_back(1, run_id="back", windows=[WEEK, THIRD_WEEK])

    assert [name for name in served.data_tables() if "frozen" in name] == []
    assert served.rows("SELECT batch_id FROM ponte.batch WHERE frozen_table IS NOT NULL") == []


# ---------------------------------------------------------------- what is refused


def test_a_window_that_does_not_exist_is_refused(served: World) -> None:
    with nothing_moves(served), pytest.raises(WindowError, match="no window starts on 2024-02-13, a Tuesday"):
        served.roll_back(1, run_id="back", windows=[WEEK, WEEK + dt.timedelta(1)])


def test_a_window_whose_as_of_is_still_to_come_is_refused(served: World) -> None:
    """Nothing is known yet of that time; and not even a claim is left behind."""
    start = midnight(FOURTH_WEEK)
    with nothing_moves(served), pytest.raises(WindowError, match="nothing is known yet of that time") as caught:
        plan_of(served, 1, WEEK, FOURTH_WEEK, now=start - dt.timedelta(seconds=1))
    assert f"window [{FOURTH_WEEK}, " in str(caught.value)
    assert plan_of(served, 1, WEEK, FOURTH_WEEK, now=start).rescore == [str(FOURTH_WEEK)]


def test_an_unknown_version_is_refused(served: World) -> None:
    with nothing_moves(served), pytest.raises(PonteError, match=r"got: 7\n  expected: one of \[1, 2, 3\]"):
        served.roll_back(7, run_id="back", windows=[WEEK])


def test_a_bad_version_is_refused_unless_allowed(served: World) -> None:
    served.mark(1, "bad", run_id="mark")
    with nothing_moves(served), pytest.raises(VersionMarkedBad, match="version 1"):
        served.roll_back(1, run_id="back", windows=[WEEK, THIRD_WEEK])

    served.roll_back(1, run_id="back", windows=[WEEK, THIRD_WEEK], allow_bad=True)
    assert shown(served) == dict.fromkeys((WEEK, NEXT_WEEK, THIRD_WEEK), 1)


def test_a_mark_that_was_taken_back_counts_no_more(served: World) -> None:
    served.mark(1, "bad", run_id="mark")
    served.mark(1, "not bad", run_id="sorry")
    assert served.roll_back(1, run_id="back").to_version == 1


def test_a_version_marked_bad_since_the_plan_is_refused(served: World) -> None:
    plan = plan_of(served, 1, WEEK)
    served.mark(1, "bad", run_id="mark")

    with nothing_moves(served), pytest.raises(VersionMarkedBad):
        carry_out(served, plan, run_id="back")
    assert carry_out(served, plan, run_id="back", allow_bad=True).to_version == 1


@pytest.mark.parametrize("windows", [(), (WEEK,), (THIRD_WEEK,)], ids=["alias", "kept", "rescored"])
def test_a_damaged_version_is_refused(served: World, windows: tuple[dt.date, ...]) -> None:
    """Also when every window has a kept batch: the champion of tomorrow has to predict."""
    path = Path(served.store.root.path) / registry.get_version(served.db, "visits", 1).path / "model.joblib"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))

    with nothing_moves(served), pytest.raises(ArtifactRefused):
        served.roll_back(1, run_id="back", windows=windows)


def test_without_a_champion_there_is_nothing_to_roll_back_from(world: World) -> None:
    _fit(world, "t")
    with pytest.raises(NoChampion, match="trigger visits__train"):
        world.roll_back(1, run_id="back", windows=[WEEK])
    assert all(rows == [] for rows in tables(world).values())


def test_hindsight_is_refused_with_both_dates(served: World) -> None:
    with nothing_moves(served), pytest.raises(HindsightRefused) as caught:
        served.roll_back(3, run_id="back", windows=[FOURTH_WEEK, WEEK])
    assert "2024-03-04T00:00:00+00:00" in str(caught.value)
    assert "2024-02-12T00:00:00+00:00" in str(caught.value)


def test_hindsight_that_was_allowed_shows_in_every_row(served: World) -> None:
    """A window that the version could have predicted in time is no hindsight, and a later rollback asks again."""
    served.roll_back(3, run_id="back", windows=[WEEK, FOURTH_WEEK], allow_hindsight=True)
    hindsight = served.rows("SELECT DISTINCT window_start, model_version, hindsight FROM predictions.visits")
    expected = [(WEEK, 3, True), (NEXT_WEEK, 1, False), (THIRD_WEEK, 2, False), (FOURTH_WEEK, 3, False)]
    assert sorted(hindsight) == expected

    looking_back = served.published_checksum(WEEK)
    served.roll_back(2, run_id="undo", windows=[WEEK])
    with nothing_moves(served), pytest.raises(HindsightRefused):
        served.roll_back(3, run_id="again", windows=[WEEK])
    (window,) = served.roll_back(3, run_id="again", windows=[WEEK], allow_hindsight=True).windows
    assert not window["rescored"]
    assert served.published_checksum(WEEK) == looking_back


def test_a_window_that_cannot_be_scored_leaves_everything_as_it_was(served: World) -> None:
    with nothing_moves(served, but=("claim", "batch")), pytest.raises(BatchRejected, match="the window is empty"):
        served.roll_back(1, run_id="back", windows=[WEEK, EMPTY_WEEK])


# ---------------------------------------------------------------- once, whoever repeats it


def test_the_same_run_twice_is_once(served: World) -> None:
    arguments: dict[str, Any] = {"run_id": "back", "windows": [WEEK, THIRD_WEEK], "mark_bad": True}
    first = served.roll_back(1, **arguments)
    with nothing_moves(served):
        assert served.roll_back(1, **arguments) == first


def test_the_same_plan_twice_is_once_even_after_somebody_moved_on(served: World) -> None:
    plan = plan_of(served, 1, WEEK, THIRD_WEEK)
    stage(served, plan, run_id="back")
    first = carry_out(served, plan, run_id="back", mark_bad=True)
    served.roll_back(2, run_id="undo", windows=[WEEK], allow_bad=True)
    with nothing_moves(served):
        stage(served, plan, run_id="back")
        assert carry_out(served, plan, run_id="back", mark_bad=True) == first


def test_two_copies_of_one_run_at_once_are_once(served: World) -> None:
    for number in range(4):
        plan = plan_of(served, 1 + number % 2, WEEK, NEXT_WEEK if number % 2 == 0 else THIRD_WEEK)
        before = facts(served)
        results = at_once([lambda plan=plan, n=number: carry_out(served, plan, run_id=f"back {n}")] * 2)
        after = facts(served)

        assert results[0] == results[1], results
        assert [len(after[t]) - len(before[t]) for t in ("alias_event", "rollback", "publication_event")] == [1, 1, 2]


def test_a_second_copy_that_comes_in_the_middle_waits_and_finds_it_done(served: World) -> None:
    plan = plan_of(served, 1, WEEK)
    with meanwhile(served, "INSERT INTO ponte.alias_event", lambda: carry_out(served, plan, run_id="back")) as second:
        first = carry_out(served, plan, run_id="back")

    assert second == [first]
    assert served.ask("SELECT count(*) FROM ponte.rollback") == 1
    assert served.ask("SELECT count(*) FROM ponte.publication_event WHERE rollback_id IS NOT NULL") == 1


# ---------------------------------------------------------------- others, at the same time


@contextmanager
def meanwhile(world: World, statement: str, action: Callable[[], object]) -> Iterator[list[object]]:
    """Start `action` in a thread when the block is about to send a statement, and go on once it waits for a lock.

    Yield a list that holds its result, or its exception, after the block.
    """
    other, results, threads = Database(world.db.url), [], []

    def act() -> None:
        try:
            results.append(action())
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            results.append(error)

    def waits() -> object:
        with other.begin() as connection:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return connection.exec_driver_sql(query).scalar_one() or not threads[0].is_alive()

    def start(_: object, __: object, text: str, *___: object) -> None:
        if not threads and text.startswith(statement):
            threads.append(threading.Thread(target=act))
            threads[0].start()
            wait_for(waits)

    sa.event.listen(world.db.engine, "before_cursor_execute", start)
    try:
        yield results
    finally:
        sa.event.remove(world.db.engine, "before_cursor_execute", start)
        assert threads, f"no statement began with {statement!r}"
        threads[0].join()


@pytest.mark.parametrize(
    "move",
    [lambda w: w.set_champion(3), lambda w: w.roll_back(3, run_id="faster")],
    ids=["promoted by hand", "rolled back"],
)
def test_a_champion_that_moved_since_the_plan_stops_it(served: World, move: Callable[[World], object]) -> None:
    plan = plan_of(served, 1, WEEK, THIRD_WEEK)
    stage(served, plan, run_id="back")
    move(served)

    with nothing_moves(served), pytest.raises(AliasMoved, match="moved since this rollback was planned"):
        carry_out(served, plan, run_id="back", mark_bad=True)


def test_a_champion_that_moved_there_and_back_since_the_plan_stops_it_too(served: World) -> None:
    """The event counts, not the version: somebody has decided something in between."""
    plan = plan_of(served, 1, WEEK)
    served.set_champion(3)
    served.set_champion(2)

    with nothing_moves(served), pytest.raises(AliasMoved):
        carry_out(served, plan, run_id="back")


def test_a_promotion_in_the_middle_of_a_rollback_waits_for_it(served: World) -> None:
    plan = plan_of(served, 1, WEEK)
    with meanwhile(served, "INSERT INTO ponte.publication_event", lambda: served.set_champion(3)) as promoted:
        carry_out(served, plan, run_id="back")

    chain = "SELECT version, previous_version FROM ponte.alias_event ORDER BY event_id"
    assert served.rows(chain)[2:] == [(1, 2), (3, 1)]
    assert [type(p).__name__ for p in promoted] == ["Alias"]


def test_of_two_rollbacks_at_once_one_wins(served: World) -> None:
    for number in range(6):
        now = served.champion().version
        before = facts(served)
        plans = [plan_of(served, v, *([WEEK] if v < 3 else [])) for v in (1, 2, 3) if v != now]
        results = at_once([lambda p=p, n=number: carry_out(served, p, run_id=f"{n} to {p.to_version}") for p in plans])

        assert sorted(type(r).__name__ for r in results) == ["AliasMoved", "Rollback"], results
        (winner,) = [r for r in results if isinstance(r, Rollback)]
        assert served.champion().version == winner.to_version
        after = facts(served)
        assert [len(after[t]) - len(before[t]) for t in ("alias_event", "rollback")] == [1, 1]
        assert len(after["publication_event"]) - len(before["publication_event"]) == len(winner.windows)


def test_a_newer_run_that_took_a_window_scored_anew_stops_it(served: World) -> None:
    plan = plan_of(served, 1, WEEK, THIRD_WEEK)
    stage(served, plan, run_id="back")
    newer = served.freeze(run_id="newer", week=THIRD_WEEK)

    with nothing_moves(served), pytest.raises(Fenced, match=f"window {THIRD_WEEK}"):
        carry_out(served, plan, run_id="back", mark_bad=True)
    served.run(run_id="newer", week=THIRD_WEEK)
    assert served.ask("SELECT DISTINCT batch_id FROM predictions.visits WHERE window_start = :w", w=THIRD_WEEK) == (
        newer.batch_id
    )


def test_a_newer_run_that_is_just_taking_a_window_scored_anew_stops_it(served: World) -> None:
    """The rollback waits for the claim under way, and then sees it."""
    plan = plan_of(served, 1, THIRD_WEEK)
    stage(served, plan, run_id="back")
    rolled_back = lambda: carry_out(served, plan, run_id="back")  # noqa: E731 - runs in the middle of the claim
    with meanwhile(served, "INSERT INTO ponte.batch", rolled_back) as results:
        served.freeze(run_id="newer", week=THIRD_WEEK)

    assert [type(r) for r in results] == [Fenced]
    assert served.champion().version == 2
    assert shown(served)[THIRD_WEEK] == 2


def test_a_window_that_was_never_staged_is_no_half_rollback(served: World) -> None:
    """Staging one of two windows failed, and somebody starts the last task by force."""
    plan = plan_of(served, 1, THIRD_WEEK, FOURTH_WEEK)
    stage_window(
        served.db, served.store, served.folder, 1, THIRD_WEEK, run=run_named("back"), now=NOW, allow_hindsight=False
    )
    with nothing_moves(served), pytest.raises(PonteError, match=str(FOURTH_WEEK)):
        carry_out(served, plan, run_id="back")


@pytest.mark.parametrize("reached", STEPS[:4])
@pytest.mark.parametrize("week", [WEEK, THIRD_WEEK], ids=["kept", "rescored"])
def test_a_score_run_under_way_is_fenced_and_the_window_stays_restored(
    served: World, week: dt.date, reached: str
) -> None:
    late = served.run(run_id="late", week=week, until=reached)
    served.roll_back(1, run_id="back", windows=[week])
    restored = served.published_checksum(week)

    with pytest.raises(Fenced):
        served.run(run_id="late", week=week)
    with pytest.raises(Fenced):
        served.publish(late.batch_id)
    assert shown(served)[week] == 1
    assert served.published_checksum(week) == restored


def test_a_score_run_that_claimed_a_kept_window_since_the_plan_is_fenced(served: World) -> None:
    plan = plan_of(served, 1, WEEK)
    late = served.run(run_id="late", week=WEEK, until="guard")
    carry_out(served, plan, run_id="back")

    with pytest.raises(Fenced):
        served.publish(late.batch_id)
    assert shown(served)[WEEK] == 1


def test_a_zombie_of_the_kept_batch_cannot_publish_it_again_later(
    served: World, seen: dict[tuple[dt.date, int], str]
) -> None:
    kept = served.ask("SELECT batch_id FROM ponte.batch WHERE version = 1 AND window_start = :w", w=WEEK)
    served.roll_back(1, run_id="back", windows=[WEEK])
    served.roll_back(2, run_id="undo", windows=[WEEK])

    with pytest.raises(Fenced):
        served.publish(kept)
    assert served.published_checksum(WEEK) == seen[WEEK, 2]


# ---------------------------------------------------------------- every window, and what comes late


def test_a_window_published_since_a_plan_of_every_window_stops_it(served: World) -> None:
    """Else people would go on seeing the version left, of which every window was meant."""
    plan = plan_of(served, 1, every_window=True)
    stage(served, plan, run_id="back")
    hasty = served.with_model(checks="[guard]\nwait_minutes = 0")  # or it would wait for the rollback
    assert hasty.run(run_id="between", week=FOURTH_WEEK).version == 2

    with nothing_moves(served), pytest.raises(Fenced, match=f"published since this rollback.*\n.*\n.*{FOURTH_WEEK}"):
        carry_out(served, plan, run_id="back", mark_bad=True)
    served.roll_back(1, run_id="again", every_window=True)
    assert shown(served) == dict.fromkeys(WEEKS, 1)


def test_a_window_published_since_a_plan_of_chosen_windows_stays(served: World) -> None:
    plan = plan_of(served, 1, WEEK)
    served.run(run_id="between", week=FOURTH_WEEK)
    carry_out(served, plan, run_id="back")

    assert shown(served) == {WEEK: 1, NEXT_WEEK: 1, THIRD_WEEK: 2, FOURTH_WEEK: 2}


@pytest.mark.parametrize("reached", STEPS[:4])
def test_a_batch_under_way_of_the_version_left_is_fenced_off_when_every_window_goes_back(
    served: World, reached: str
) -> None:
    """Also of a week that nobody sees yet, which the plan cannot name; the next run takes the version restored."""
    late = served.run(run_id="late", week=FOURTH_WEEK, until=reached)
    assert late.version == 2
    served.roll_back(1, run_id="back", every_window=True)

    with pytest.raises(Fenced):
        served.run(run_id="late", week=FOURTH_WEEK)
    with pytest.raises(Fenced):
        served.publish(late.batch_id)
    assert shown(served) == dict.fromkeys(WEEKS[:3], 1)
    assert served.run(run_id="next", week=FOURTH_WEEK).version == 1


def test_a_batch_under_way_is_left_alone_when_chosen_windows_go_back(served: World) -> None:
    late = served.run(run_id="late", week=FOURTH_WEEK, until="guard")
    served.roll_back(1, run_id="back", windows=[WEEK])
    served.publish(late.batch_id)

    assert shown(served)[FOURTH_WEEK] == 2


def test_a_batch_under_way_of_another_version_is_left_alone(served: World) -> None:
    served.set_champion(1)
    late = served.run(run_id="late", week=FOURTH_WEEK, until="guard")
    served.set_champion(2)
    served.roll_back(1, run_id="back", every_window=True)
    served.publish(late.batch_id)

    assert shown(served) == dict.fromkeys(WEEKS, 1)


def test_a_publication_in_the_middle_of_a_rollback_of_every_window_waits_and_is_fenced(served: World) -> None:
    late = served.run(run_id="late", week=FOURTH_WEEK, until="guard")
    plan = plan_of(served, 1, every_window=True)
    stage(served, plan, run_id="back")
    with meanwhile(served, "SELECT c.epoch, b.batch_id", lambda: served.publish(late.batch_id)) as results:
        carry_out(served, plan, run_id="back")

    assert [type(r) for r in results] == [Fenced]
    assert shown(served) == dict.fromkeys(WEEKS[:3], 1)


def test_a_rollback_of_every_window_in_the_middle_of_a_publication_waits_and_sees_it(served: World) -> None:
    late = served.run(run_id="late", week=FOURTH_WEEK, until="guard")
    plan = plan_of(served, 1, every_window=True)
    stage(served, plan, run_id="back")
    rolled_back = lambda: carry_out(served, plan, run_id="back")  # noqa: E731 - runs in the middle of the publication
    with meanwhile(served, "INSERT INTO ponte.published", rolled_back) as results:
        served.publish(late.batch_id)

    assert [type(r) for r in results] == [Fenced]
    assert served.champion().version == 2
    assert shown(served) == {WEEK: 2, NEXT_WEEK: 1, THIRD_WEEK: 2, FOURTH_WEEK: 2}


# ---------------------------------------------------------------- publishing what was marked bad

#: Publications of runs that came when the version was marked bad.
TOO_LATE = """
    SELECT e.event_id, e.batch_id FROM ponte.publication_event e JOIN ponte.batch b USING (batch_id)
    WHERE e.rollback_id IS NULL AND (
        SELECT m.mark FROM ponte.version_mark m WHERE m.model = b.model AND m.version = b.version AND m.at < e.at
        ORDER BY mark_id DESC LIMIT 1
    ) = 'bad'
"""


def test_a_batch_that_was_staged_before_a_rollback_that_marks_its_version_is_never_shown(served: World) -> None:
    late = served.run(run_id="late", week=FOURTH_WEEK, until="guard")
    served.roll_back(1, run_id="back", every_window=True, mark_bad=True)

    with nothing_moves(served), pytest.raises((Fenced, VersionMarkedBad)):
        served.publish(late.batch_id)
    assert shown(served) == dict.fromkeys(WEEKS[:3], 1)


@pytest.mark.parametrize("week", [WEEK, FOURTH_WEEK], ids=["shown before", "new"])
def test_a_staged_batch_of_a_version_marked_bad_since_is_not_published(served: World, week: dt.date) -> None:
    """A mark alone, without a rollback; when it is taken back the batch can be published."""
    late = served.run(run_id="late", week=week, until="guard")
    served.mark(2, "bad", run_id="mark")
    with nothing_moves(served), pytest.raises(VersionMarkedBad, match="marked bad since it scored this batch") as told:
        served.publish(late.batch_id)
    assert "version 2" in str(told.value)

    served.mark(2, "not bad", run_id="sorry")
    served.publish(late.batch_id)
    assert served.ask("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=week) == late.batch_id
    assert served.rows(TOO_LATE) == []


def test_a_mark_in_the_middle_of_a_publication_waits_for_it(served: World) -> None:
    late = served.run(run_id="late", week=FOURTH_WEEK, until="guard")
    marked = lambda: served.mark(2, "bad", run_id="mark")  # noqa: E731 - runs in the middle of the publication
    with meanwhile(served, "INSERT INTO ponte.publication_event", marked) as results:
        served.publish(late.batch_id)

    assert results == [None]
    assert marks.is_bad(served.db, "visits", 2)
    assert served.rows(TOO_LATE) == []


def test_of_a_mark_and_a_publication_at_once_the_publication_comes_first_or_not_at_all(served: World) -> None:
    for number in range(8):
        late = served.run(run_id=f"late {number}", week=FOURTH_WEEK, until="guard")
        published, marked = at_once(
            [lambda b=late: served.publish(b.batch_id), lambda n=number: served.mark(2, "bad", run_id=f"mark {n}")]
        )
        assert marked is None, marked
        assert isinstance(published, pointer.Publication | VersionMarkedBad), published
        events = served.ask("SELECT count(*) FROM ponte.publication_event WHERE batch_id = :b", b=late.batch_id)
        assert events == isinstance(published, pointer.Publication)
        served.mark(2, "not bad", run_id=f"sorry {number}")
    assert served.rows(TOO_LATE) == []


def test_a_retry_of_a_promotion_by_hand_undoes_no_rollback_that_came_between(served: World) -> None:
    first = served.set_champion(3, run_id="hand")
    served.roll_back(1, run_id="back", windows=[WEEK], mark_bad=True)
    with nothing_moves(served):
        assert served.set_champion(3, run_id="hand") == first
    assert served.champion().version == 1


def test_readers_see_every_window_before_or_every_window_after(served: World) -> None:
    plan = plan_of(served, 1, WEEK, NEXT_WEEK, THIRD_WEEK, FOURTH_WEEK)
    stage(served, plan, run_id="back")
    reader, observed, stop = Database(served.db.url), [], threading.Event()

    def read() -> None:
        with reader.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not stop.is_set():
                observed.append(tuple(connection.exec_driver_sql(SEEN).all()))

    before = tuple(served.rows(SEEN))
    thread = threading.Thread(target=read)
    thread.start()
    try:
        with each_statement(served.db, lambda _: stop.wait(0.01)):
            carry_out(served, plan, run_id="back")
        after = tuple(served.rows(SEEN))
        seen_before_the_end = len(observed)
        wait_for(lambda: len(observed) > seen_before_the_end + 1)
    finally:
        stop.set()
        thread.join()
    assert {champion for champion, *_ in after} == {1}
    assert len(after) == 4
    assert set(observed) == {before, after}
    assert observed.index(after) > 10
    assert set(observed[observed.index(after) :]) == {after}


# ---------------------------------------------------------------- scoring after a rollback


def test_scoring_a_restored_window_again_keeps_the_version(served: World) -> None:
    """Until a person says that the version is bad; what a rollback decided is not undone by the next backfill."""
    done = served.roll_back(1, run_id="back", windows=[WEEK, THIRD_WEEK])
    served.set_champion(2)
    why = "SELECT version, version_reason FROM ponte.batch WHERE run_id = :run"
    for week in (WEEK, THIRD_WEEK):
        served.run(run_id=f"again {week}", week=week)
        assert served.rows(why, run=f"again {week}") == [(1, f"restored by rollback {done.rollback_id}")]
    served.mark(1, "bad", run_id="mark")
    served.run(run_id="after the mark", week=WEEK)

    assert [version for version, _ in served.rows(why, run="after the mark")] == [2]


def test_scoring_a_restored_window_a_second_time_keeps_the_version_too(served: World) -> None:
    done = served.roll_back(1, run_id="back", windows=[WEEK])
    served.set_champion(2)
    for number in range(3):
        served.run(run_id=f"again {number}", week=WEEK)

    chosen = served.rows("SELECT version, version_reason FROM ponte.batch WHERE run_id LIKE 'again%'")
    assert chosen == [(1, f"restored by rollback {done.rollback_id}")] * 3


def test_a_window_restored_with_hindsight_is_scored_again_with_hindsight(served: World) -> None:
    served.roll_back(3, run_id="back", windows=[WEEK], allow_hindsight=True)
    served.run(run_id="again", week=WEEK)

    assert served.rows("SELECT version, hindsight FROM ponte.batch WHERE run_id = 'again'") == [(3, True)]


def test_a_window_that_was_not_restored_is_scored_by_the_champion_of_then(served: World) -> None:
    served.roll_back(1, run_id="back", windows=[WEEK])
    served.set_champion(2)
    served.run(run_id="again", week=FOURTH_WEEK)

    assert shown(served)[FOURTH_WEEK] == 2


# ---------------------------------------------------------------- killed between any two statements


class Crash(Exception):
    """The process ends here."""


@contextmanager
def each_statement(db: Database, act: Callable[[sa.Connection], object]) -> Iterator[None]:
    """Call `act` whenever the database is about to get a statement or a COMMIT."""

    def before(connection: sa.Connection, *_: object) -> None:
        act(connection)

    for event in ("before_cursor_execute", "commit"):
        sa.event.listen(db.engine, event, before)
    try:
        yield
    finally:
        for event in ("before_cursor_execute", "commit"):
            sa.event.remove(db.engine, event, before)


@contextmanager
def at_statement(db: Database, number: int, act: Callable[[sa.Connection], object]) -> Iterator[list[int]]:
    """Call `act` when the database is about to get its n-th statement or COMMIT (from 1); yield how many there were."""
    count = [0]

    def tell(connection: sa.Connection) -> None:
        count[0] += 1
        if count[0] == number:
            act(connection)

    with each_statement(db, tell):
        yield count


def crash(_: sa.Connection) -> None:
    """End the process, as far as the database can tell."""
    raise Crash


def end_session(connection: sa.Connection) -> None:
    """Let the server end the session."""
    pid = connection.connection.driver_connection.info.backend_pid
    with Database(connection.engine.url).begin() as other:
        assert other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 10000)").scalar_one()


CRASHES = {"process": crash, "session": end_session}


@dataclass(frozen=True)
class Planned:
    """A template: a rollback of three weeks is planned and staged; its rows when nobody disturbs it."""

    database: str
    plan: Plan
    undisturbed: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def planned(server: Cluster, served_template: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    with served_template.template.copy(server, tmp_path_factory.mktemp("planned")) as world:
        name = str(world.db.url.database)
        plan = plan_of(world, 1, WEEK, NEXT_WEEK, THIRD_WEEK)
        stage(world, plan, run_id="back")
        assert (len(plan.kept), len(plan.rescore)) == (2, 1)
        with server.database(name) as (_, copy):
            twin = World(db=Database(copy), store=world.store, folder=world.folder)
            finish(twin, plan)
            undisturbed = facts(twin)
        yield Planned(name, plan, undisturbed)


@pytest.fixture
def planned_world(server: Cluster, served_template: Served, planned: Planned) -> Iterator[Callable[[], Any]]:
    """Return a function that yields one private copy of `planned` after the other, as a context manager."""

    @contextmanager
    def fresh() -> Iterator[World]:
        template = served_template.template
        with server.database(planned.database) as (_, url):
            store, folder = ArtifactStore(UPath(template.artifacts)), get_folder(template.models, "visits")
            yield World(db=Database(url), store=store, folder=folder)

    return fresh


def finish(world: World, plan: Plan) -> Rollback:
    """Carry the planned rollback out, with everything that one may do, and clean up as the task after it does."""
    done = carry_out(world, plan, run_id="back", mark_bad=True)
    janitor.tidy(world.db, world.folder, retention=False)
    return done


@pytest.mark.parametrize("how", CRASHES)
def test_killed_before_any_statement_or_the_commit_nothing_has_moved(
    planned_world: Callable[[], Any], planned: Planned, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Every statement and the COMMIT of the transaction, one after the other, in one world: it never changes."""
    monkeypatch.setattr("ponte.storage.database.LOCK_TRIES", 1)
    said: dict[str, Any] = {"run": run_named("back"), "actor": "a person", "reason": "test", "mark_bad": True}
    with planned_world() as world:
        before, readers = tables(world), tuple(world.rows(SEEN))
        for number in itertools.count(1):
            with at_statement(world.db, number, CRASHES[how]) as count:
                (end,) = at_once([lambda: rollback._roll_back(world.db, planned.plan, **said, allow_bad=False)])
            if isinstance(end, Rollback):
                break
            assert isinstance(end, Crash) or is_transient(end), end
            assert tables(world) == before
            assert tuple(world.rows(SEEN)) == readers
        assert number == count[0] + 1 > 40
        finish(world, planned.plan)
        assert facts(world) == planned.undisturbed


@pytest.mark.parametrize("how", CRASHES)
def test_whoever_was_killed_anywhere_ends_as_undisturbed_by_trying_again(
    planned_world: Callable[[], Any], planned: Planned, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Also when it was killed after the commit, while it cleaned up. A world of its own for each point."""
    monkeypatch.setattr("ponte.storage.database.LOCK_TRIES", 1)
    moved = set()
    [first] = rotation.turn(range(1, STRIDE + 1), rotation.number())
    for number in itertools.count(first, STRIDE):
        with planned_world() as world:
            before = tables(world)
            with at_statement(world.db, number, CRASHES[how]):
                try:
                    finish(world, planned.plan)
                    ended = True
                except (Crash, sa.exc.DBAPIError):
                    ended = False
            moved.add(tables(world) != before)
            if tables(world) != before:
                assert world.champion().version == 1
                assert shown(world) == dict.fromkeys((WEEK, NEXT_WEEK, THIRD_WEEK), 1)
            finish(world, planned.plan)
            assert facts(world) == planned.undisturbed
            if ended:
                break
    assert moved == {True, False}


def test_a_commit_that_nobody_heard_of_is_found_by_the_next_try(
    planned_world: Callable[[], Any], planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = psycopg2.PGDialect_psycopg2.do_commit

    def commit_and_crash(*arguments: Any) -> None:
        commit(*arguments)
        raise Crash

    with planned_world() as world:
        monkeypatch.setattr(psycopg2.PGDialect_psycopg2, "do_commit", commit_and_crash)
        with pytest.raises(Crash):
            finish(world, planned.plan)
        monkeypatch.undo()
        assert world.champion().version == 1
        found = finish(world, planned.plan)
        assert asdict(found)["windows"] == world.ask("SELECT windows FROM ponte.rollback")
        assert facts(world) == planned.undisturbed


def test_a_session_that_ends_in_the_middle_heals_by_itself(
    planned_world: Callable[[], Any], planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ponte.storage.database.time.sleep", lambda _: None)
    for statement in rotation.turn(range(2, 41), rotation.number()):
        with planned_world() as world:
            with at_statement(world.db, statement, end_session):
                finish(world, planned.plan)
            assert facts(world) == planned.undisturbed


def test_a_lock_that_is_held_for_too_long_moves_nothing(
    planned_world: Callable[[], Any], planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers queue behind a waiting lock, so the rollback lets go; the next try finds everything as it was."""
    monkeypatch.setattr("ponte.storage.database.LOCK_TRIES", 1)
    monkeypatch.setattr(rollback, "LOCK_TIMEOUT", "100ms")
    with planned_world() as world:
        with Database(world.db.url).begin() as other:
            other.exec_driver_sql("LOCK TABLE ponte.published IN SHARE MODE")
            with nothing_moves(world), pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                finish(world, planned.plan)
        finish(world, planned.plan)
        assert facts(world) == planned.undisturbed


# ---------------------------------------------------------------- the audit trail

TRAIL = """
    SELECT e.window_start, b.version, e.batch_id, e.previous_batch_id, e.actor, e.reason, r.run_id, r.from_version,
           r.to_version, a.version, a.previous_version, a.evidence->>'rollback_run', a.actor, a.reason
    FROM ponte.publication_event e
    JOIN ponte.batch b USING (batch_id)
    JOIN ponte.rollback r USING (rollback_id)
    JOIN ponte.alias_event a ON a.event_id = r.alias_event_id
    ORDER BY e.event_id
"""


def test_every_publication_leads_to_its_rollback_and_to_the_move_of_the_alias(served: World) -> None:
    before = dict(served.rows("SELECT window_start, batch_id FROM ponte.published"))
    done = served.roll_back(1, run_id="back", windows=[FOURTH_WEEK, WEEK, THIRD_WEEK])
    after = dict(served.rows("SELECT window_start, batch_id FROM ponte.published"))

    said = ("a person", "test", "back", 2, 1, 1, 2, "back", "a person", "test")
    weeks = (WEEK, THIRD_WEEK, FOURTH_WEEK)
    assert served.rows(TRAIL) == [(w, 1, after[w], before.get(w), *said) for w in weeks]
    assert done.windows == [
        {
            "window_start": str(w),
            "batch_id": after[w],
            "previous_batch_id": before.get(w),
            "rescored": w != WEEK,
        }
        for w in weeks
    ]
    assert served.rows("SELECT windows FROM ponte.rollback") == [(done.windows,)]
    reasons = "SELECT version_reason FROM ponte.batch WHERE run_id = 'back'"
    assert served.rows(reasons) == [("named by a person",)] * 2
    assert served.rows(
        "SELECT count(*) FROM ponte.published p JOIN ponte.claim c USING (model, window_start, epoch)"
    ) == [(4,)]


def test_what_people_saw_at_any_moment_stays_a_query(served: World) -> None:
    """One moment has the champion and all windows of before, the other those of after."""
    seen_then, moments = [], []
    for act in (
        lambda: None,
        lambda: served.roll_back(1, run_id="back", every_window=True),
        lambda: served.roll_back(2, run_id="undo", windows=[WEEK]),
        lambda: served.run(run_id="later", week=FOURTH_WEEK),
    ):
        act()
        moments.append(served.ask("SELECT clock_timestamp()"))
        seen_then.append(
            (served.champion().version, sorted(served.rows("SELECT window_start, batch_id FROM ponte.published")))
        )

    assert [champion for champion, _ in seen_then] == [2, 1, 2, 2]
    for moment, (champion, windows) in zip(moments, seen_then, strict=True):
        published = "SELECT window_start, batch_id FROM ponte.published_at('visits', :moment) ORDER BY 1"
        assert served.rows(published, moment=moment) == windows
        assert served.ask("SELECT ponte.champion_at('visits', :moment)", moment=moment) == champion
    assert served.rows("SELECT * FROM ponte.published_at('visits', '2020-01-01')") == []
    versions = "SELECT window_start, version FROM ponte.published_at('visits', :moment) ORDER BY 1"
    assert served.rows(versions, moment=moments[1]) == [(w, 1) for w in WEEKS[:3]]


def test_the_trail_cannot_be_changed(served: World) -> None:
    served.roll_back(1, run_id="back", windows=[WEEK], mark_bad=True)
    with nothing_moves(served):
        for table in ("rollback", "publication_event", "alias_event", "version_mark"):
            for change in ("UPDATE ponte.{} SET model = model", "DELETE FROM ponte.{}", "TRUNCATE ponte.{} CASCADE"):
                with pytest.raises(sa.exc.DBAPIError, match=r"ponte\.\w+ is append-only"):
                    served.execute(change.format(table))


def test_a_batch_that_people_saw_outlives_the_claims_of_others(served: World) -> None:
    """What was shown can be shown again: a rollback takes the window without ending the batch it replaces."""
    replaced = served.ask("SELECT batch_id FROM ponte.published WHERE window_start = :w", w=WEEK)
    served.roll_back(1, run_id="back", windows=[WEEK])
    assert batches.get_batch(served.db, replaced).status == "staged"


def test_publishing_again_what_people_see_is_no_fault_though_its_version_was_marked_since(served: World) -> None:
    """A retry after a lost answer; "nothing was published" would not be true."""
    batch = served.run(run_id="r", week=FOURTH_WEEK)
    served.mark(batch.version, "bad", run_id="m")
    assert served.publish(batch.batch_id).batch_id == batch.batch_id


def test_a_run_claims_a_window_before_a_decision_or_after_it(served: World) -> None:
    """Not in the middle: a rollback of every window has to see whatever the version left has begun."""
    done = threading.Event()

    def score() -> None:
        served.freeze(run_id="r", week=FOURTH_WEEK)
        done.set()

    with served.db.begin() as deciding:
        aliases.lock_alias(deciding, "visits")
        thread = threading.Thread(target=score)
        thread.start()
        assert not done.wait(1.0)
        assert served.rows("SELECT batch_id FROM ponte.batch WHERE run_id = 'r'") == []
    thread.join()
    assert done.is_set()


def test_every_window_of_the_champion_itself_leaves_its_runs_alone(served: World) -> None:
    champion = served.champion().version
    under_way = served.run(run_id="r", week=FOURTH_WEEK, until="guard")
    assert under_way.version == champion
    served.roll_back(champion, run_id="back", every_window=True)
    assert served.publish(under_way.batch_id).batch_id == under_way.batch_id
