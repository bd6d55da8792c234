"""Alarms: one per episode, told once, answered by people, and what follows from them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from tests.postgres.alarms.past import Past, quiet
from tests.sample_model import FEATURES_SQL, NEXT_WEEK, World, run_named

from ponte.alarms import events as history
from ponte.alarms.watching import Changes, watch
from ponte.errors import BatchRejected, PonteError
from ponte.publishing.pointer import prepare_publication, publish_anyway

LOSS = [0.70, 0.69]
#: A loss of three weeks, and three quiet ones.
EPISODE = [*quiet(30), *LOSS, 0.71, *quiet(3)]
NOTHING = Changes()


def look(world: World, run: str = "look") -> Changes:
    return watch(world.db, world.folder, run=run_named(run))


def events(world: World) -> list[tuple[Any, ...]]:
    return world.rows("SELECT alarm_id, event, window_start, maturity_days FROM ponte.alarm_event ORDER BY event_id")


def notices(world: World) -> list[tuple[Any, ...]]:
    return world.rows("SELECT event, subject, window_start FROM ponte.notice ORDER BY notice_id")


def test_a_loss_is_one_alarm_which_is_told_once_and_closed_when_it_is_over(trained: World) -> None:
    past = Past(trained)
    before = past.live(quiet(30))
    assert look(trained) == NOTHING
    first, second = past.live(LOSS)
    assert look(trained) == Changes(opened=[1])
    assert look(trained) == NOTHING
    [third] = past.live([0.71])
    assert look(trained) == Changes(extended=[1])
    assert trained.rows("SELECT state, windows, last_window, provisional, version FROM ponte.alarm") == [
        ("open", 2, third, False, 1)
    ]
    *_, last = past.live(quiet(3))
    assert look(trained) == Changes(closed=[1])
    assert look(trained) == NOTHING
    assert events(trained) == [(1, "opened", second, 7), (1, "extended", third, 7), (1, "closed", last, None)]
    assert notices(trained) == [("alarm_opened", "alarm 1", second), ("alarm_closed", "alarm 1", last)]
    assert first not in before


def test_a_month_without_a_look_leads_to_the_same_alarms(trained: World) -> None:
    past = Past(trained)
    past.live(EPISODE)
    past.live([*quiet(5), *LOSS])
    assert look(trained) == Changes(opened=[1, 2], extended=[1], closed=[1])
    day = past.day
    assert events(trained) == [
        *((1, "opened", day(31), 7), (1, "extended", day(32), 7), (1, "closed", day(35), None)),
        (2, "opened", day(42), 7),
    ]
    assert look(trained) == NOTHING


@pytest.mark.parametrize(
    ("values", "opened"),
    [
        ([*quiet(30), 0.9, 0.91, 0.92], 0),
        ([*quiet(30), 0.70, *quiet(4)], 0),
        ([*quiet(11), *LOSS], 0),
        ([*quiet(12), *LOSS], 1),
        ([0.8] * 30, 0),
        ([*quiet(30), *[0.787] * 20], 1),
    ],
    ids=["better is no harm", "one week is none", "too few windows", "just enough", "never varied", "a slow loss"],
)
def test_what_is_an_alarm(trained: World, values: list[float], opened: int) -> None:
    Past(trained).live(values)
    assert len(look(trained).opened) == opened


def test_windows_that_cannot_be_compared_are_passed_over(trained: World) -> None:
    """A week of few rows, labels that are still coming, a batch with hindsight, a figure that is not final."""
    past = Past(trained)
    past.live(quiet(30))
    for rows, change in (
        (29, "SELECT"),
        (200, "SELECT"),
        (300, "UPDATE ponte.batch SET hindsight = true WHERE window_start = :window"),
    ):
        for value in LOSS:
            window = past.publish()
            past.measure(window, value, rows=rows)
            if change != "SELECT":
                trained.execute(change, window=window)
    assert look(trained) == NOTHING
    past.live(LOSS)
    assert look(trained) == Changes(opened=[1])


def test_each_maturity_is_compared_with_itself_and_all_are_one_alarm(trained: World) -> None:
    past = Past(trained)
    for window in past.live(EPISODE):
        past.measure(window, 0.2, maturity=28)  # another level, and nothing wrong
    for place in (30, 31, 32):
        past.measure(past.day(place), 0.8, maturity=84)
    assert look(trained) == Changes(opened=[1], extended=[1], closed=[1])
    late = Past(trained, past.count)
    for window in [late.publish() for _ in range(32)]:
        late.measure(window, 0.8 if window < late.day(late.count - 2) else 0.6, maturity=84)
    # The labels of 7 days never came: what only the older ones show is an alarm too.
    assert look(trained) == Changes(opened=[2])


def test_few_windows_make_a_provisional_alarm_from_which_nothing_follows(trained: World) -> None:
    Past(trained).live([*quiet(15), *LOSS])
    assert look(trained) == Changes(opened=[1])
    assert trained.ask("SELECT provisional FROM ponte.alarm")
    world = trained.with_model(checks='[monitoring]\non_quality = "retrain"')
    assert history.ask_for_training(world.db, world.folder, run=run_named("look")) is None
    trained.with_model(checks='[monitoring]\non_quality = "stop"').run(run_id="goes on")


def decide(world: World, action: Any, *, alarm: int = 1, run: str = "decision", model: str = "visits") -> str:
    return history.decide(world.db, model, alarm, action, run=run_named(run), actor="somebody", reason="known")


def test_people_acknowledge_and_close(trained: World) -> None:
    past = Past(trained)
    past.live([*quiet(30), *LOSS])
    look(trained)
    assert decide(trained, "acknowledge") == decide(trained, "acknowledge") == "acknowledged"
    state = "SELECT state, acknowledged_by, acknowledged_why, closed_by FROM ponte.alarm"
    assert trained.rows(state) == [("acknowledged", "somebody", "known", None)]
    past.live([0.70])
    assert look(trained) == Changes(extended=[1])  # it goes on
    assert decide(trained, "close", run="second") == decide(trained, "close", run="second") == "closed"
    assert trained.rows(state) == [("closed", "somebody", "known", "somebody")]
    assert [event for event, _, _ in notices(trained)] == ["alarm_opened", "alarm_closed"]
    for wrong in ({"alarm": 1}, {"alarm": 2}, {"model": "other"}):
        with pytest.raises(PonteError, match=r"closed already|no such alarm"):
            decide(trained, "acknowledge", run="third", **wrong)
    # What was scored before is told; with what is scored from now on the rules begin anew.
    past.live([0.70, 0.69])
    assert look(trained) == NOTHING
    now = trained.ask("SELECT clock_timestamp()")
    past.live([0.70], at=now)
    assert look(trained) == NOTHING
    past.live([0.70], at=now)
    assert look(trained) == Changes(opened=[2])


def test_what_a_person_calls_normal_is_what_later_windows_are_compared_with(trained: World) -> None:
    past = Past(trained)
    past.live([*quiet(30), *LOSS])
    look(trained)
    window, *_ = past.live([0.70])
    trained.execute(
        "INSERT INTO ponte.normal_event (model, window_start, batch_id, actor, reason)"
        " SELECT model, window_start, batch_id, 'somebody', 'it is so' FROM ponte.batch WHERE window_start = :window",
        window=window,
    )
    past.live([value - 0.1 for value in quiet(20)])
    assert look(trained) == Changes(closed=[1])
    past.live(LOSS)
    assert look(trained) == NOTHING


def test_two_at_once_open_one(trained: World) -> None:
    Past(trained).live(EPISODE)
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(look, trained, run) for run in ("one", "other")]
    assert sorted((f.result() for f in done), key=lambda c: len(c.opened)) == [
        NOTHING,
        Changes(opened=[1], extended=[1], closed=[1]),
    ]


def test_a_look_that_is_killed_anywhere_leaves_nothing_or_all(trained: World) -> None:
    Past(trained).live(EPISODE)
    for point in range(100):
        seen = 0

        def kill(*_: object, at: int = point) -> None:
            nonlocal seen
            if seen == at:
                raise KeyboardInterrupt
            seen += 1

        sa.event.listen(trained.db.engine, "after_cursor_execute", kill)
        try:
            look(trained)
            break
        except KeyboardInterrupt:
            pass
        finally:
            sa.event.remove(trained.db.engine, "after_cursor_execute", kill)
        assert (events(trained), notices(trained)) == ([], [])
    assert point > 10
    assert [event for _, event, *_ in events(trained)] == ["opened", "extended", "closed"]
    assert len(notices(trained)) == 2


# ---------------------------------------------------------------- drift


def test_an_episode_of_drift_is_one_alarm(trained: World) -> None:
    past = Past(trained)
    past.drift(".....x.")
    assert look(trained) == NOTHING
    past.drift("xx")
    assert look(trained) == Changes(opened=[1])
    past.drift("x", families=("features", "answers"))
    past.drift("x.x", families=("answers",))
    look(trained)
    assert trained.rows("SELECT count(*) FROM ponte.alarm") == [(1,)]
    past.drift("...")
    assert look(trained) == Changes(closed=[1])
    assert look(trained) == NOTHING
    assert [row[0] for row in notices(trained)] == ["alarm_opened", "alarm_closed"]
    past.drift("xx")
    assert look(trained) == Changes(opened=[2])


def test_a_month_without_a_look_at_drift_leads_to_the_same(trained: World) -> None:
    Past(trained).drift(".....xxx...xx")
    assert look(trained) == Changes(opened=[1, 2], extended=[1], closed=[1])
    assert look(trained) == NOTHING


def test_provisional_drift_is_no_alarm(trained: World) -> None:
    Past(trained).drift("...xxxx", windows=12)
    assert look(trained) == NOTHING


def test_an_episode_that_a_person_has_closed_is_not_told_again(trained: World) -> None:
    past = Past(trained)
    past.drift("...xx")
    look(trained)
    decide(trained, "close")
    past.drift("xx")
    assert look(trained) == NOTHING
    past.drift("...xx")
    assert look(trained) == Changes(opened=[2])


# ---------------------------------------------------------------- reactions


def ask(world: World, run: str = "look") -> int | None:
    return history.ask_for_training(world.db, world.folder, run=run_named(run))


def test_a_loss_asks_for_one_training(trained: World) -> None:
    past = Past(trained)
    past.live([*quiet(30), *LOSS])
    look(trained)
    for told in ("tell", "stop"):
        assert ask(trained.with_model(checks=f'[monitoring]\non_quality = "{told}"')) is None
    world = trained.with_model(checks='[monitoring]\non_quality = "retrain"')
    assert ask(world) == ask(world) == 1  # a retry of the run gets the same answer
    past.live([0.70])
    look(trained)
    assert ask(world, "next") is None
    assert trained.ask("SELECT retrain_at IS NOT NULL FROM ponte.alarm")
    assert trained.ask("SELECT version FROM ponte.champion") == 1  # nothing is promoted by it


def test_an_alarm_that_is_known_or_about_another_version_asks_for_none(trained: World) -> None:
    Past(trained).live([*quiet(30), *LOSS])
    look(trained)
    world = trained.with_model(checks='[monitoring]\non_quality = "retrain"')
    second = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}).train(run_id="second").version
    trained.set_champion(second.version)
    world = trained.with_model(checks='[monitoring]\non_quality = "retrain"')
    assert ask(world) is None
    trained.set_champion(1)
    decide(trained, "acknowledge")
    assert ask(world) is None


@pytest.mark.parametrize(
    ("beyond", "outlook", "asks"),
    [
        ("xx", "unknown", False),
        ("xxx", "unknown", True),
        ("xxx", "worse", True),
        ("xxx", "unclear", False),
        ("xxx", "better", False),
    ],
)
def test_drift_asks_for_a_training_after_three_windows_unless_no_harm_is_seen(
    trained: World, beyond: str, outlook: str, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ponte.alarms.events.outlook_of", lambda *_: outlook)
    Past(trained).drift("..." + beyond)
    look(trained)
    world = trained.with_model(checks='[monitoring]\non_drift = "retrain"')
    assert (ask(world) == 1) is asks


@pytest.mark.parametrize(("kind", "outlook", "stops"), [("quality", "", True), ("drift", "unknown", True),
                                                        ("drift", "better", False)])  # fmt: skip
def test_an_open_alarm_stops_the_version_it_is_about(
    scored: World, kind: str, outlook: str, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ponte.alarms.events.outlook_of", lambda *_: outlook)
    if kind == "quality":
        Past(scored).live([*quiet(30), *LOSS])
    else:
        Past(scored).drift("...xxx")
    look(scored)
    world = scored.with_model(checks=f'[monitoring]\non_{kind} = "stop"\n[guard]\nminimum_batches = 40')
    if not stops:
        world.run(run_id="goes on", week=NEXT_WEEK)
        return
    with pytest.raises(BatchRejected, match=f"alarm 1 about {kind} is open"):
        world.run(run_id="stopped", week=NEXT_WEEK)
    batch = scored.ask("SELECT max(batch_id) FROM ponte.batch")
    assert scored.rows("SELECT event, subject FROM ponte.notice WHERE batch_id = :batch", batch=batch) == [
        ("guard_tripped", f"batch {batch}")
    ]
    # A person may show it all the same; a rollback is never stopped; and who has acknowledged is not asked again.
    prepare_publication(world.db, batch, model="visits")
    publish_anyway(world.db, batch, model="visits", run_id="form", actor="somebody", reason="better than nothing")
    second = scored.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}).train(run_id="second").version
    scored.set_champion(second.version)
    world = scored.with_model(checks=f'[monitoring]\non_{kind} = "stop"\n[guard]\nminimum_batches = 40')
    world.run(run_id="another version", week=NEXT_WEEK)
    world.roll_back(1, run_id="back", windows=[NEXT_WEEK])
    with pytest.raises(BatchRejected, match="alarm 1"):
        world.run(run_id="stopped again", week=NEXT_WEEK)
    decide(world, "acknowledge")
    world.run(run_id="known", week=NEXT_WEEK)
