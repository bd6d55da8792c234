"""What needs a person, of lines as the overview reads them."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from ponte.viewing.needs import KINDS, needs
from ponte.viewing.overview import Line, Planned, Version

NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)
MONDAY, BEFORE = dt.date(2026, 11, 23), dt.date(2026, 11, 16)
FINE = {"champion": 1, "since": NOW, "bad": False, "judged": 1, "verdict_id": 1, "outcome": "passed", "run_id": "r",
        "at": NOW, "decision": None, "asked": False}  # fmt: skip
JUDGED = {"since": NOW - dt.timedelta(days=9), "judged": 2}


def line(
    name: str = "m",
    *,
    state: str = "published",
    by: str | None = None,
    late: dt.date | None = None,
    due: Planned | None = None,
    alarms: tuple[Any, ...] = (),
    made: dt.datetime = NOW,
    **version: Any,
) -> Line:
    """Return a model with one window; nothing is the matter with it but what is said."""
    window = SimpleNamespace(window_start=MONDAY, state=state, why="so", batch_id=7)
    batch = SimpleNamespace(rejected_by=by, created_at=made, run_id="r")
    return Line(
        model=name, planned=due or Planned(), version=Version(**{**FINE, **version}), windows=[window], batch=batch,
        drift={}, alarms=alarms, late=late, cpu_seconds=None, wh=None,
    )  # fmt: skip


def alarm(kind: str, state: str, *, provisional: bool = False) -> Any:
    return SimpleNamespace(kind=kind, state=state, alarm_id=3, provisional=provisional, reason="worse", opened_at=NOW)


@pytest.mark.parametrize(
    ("given", "kind", "action", "said"),
    [
        (line(), None, "", ""),
        (line(state="rejected", by="guard"), "guard", "publish", "2026-11-23 is kept back: so"),
        (line(state="rejected", by="check"), "batch", "score", "2026-11-23 is rejected: so"),
        (line(state="failed"), "batch", "score", "2026-11-23 is failed: so"),
        (line(state="failed", late=MONDAY), "batch", "score", "is failed"),
        (line(late=BEFORE), "late", "score", "2026-11-16 should be seen by now, and is not"),
        (line(state="running", late=MONDAY), "late", "score", "its batch is still being made"),
        (line(state="running"), None, "", ""),
        (line(alarms=(alarm("quality", "open"),)), "quality", "alarm", "alarm 3, quality: worse"),
        (line(alarms=(alarm("drift", "open", provisional=True),)), "drift", "alarm", "alarm 3, provisional: worse"),
        (line(alarms=(alarm("quality", "acknowledged"),)), None, "", ""),
        (line(bad=True), "bad", "roll-back", "version 1 is champion, and marked bad"),
        (line(champion=None, since=None, judged=None, outcome=None, at=None), "first", "train", "has no version yet"),
        (line(judged=None, outcome=None, at=None), None, "", ""),  # made champion by hand, asked of no gate
        (line(**JUDGED, asked=True), "question", "question", "passed the gate and waits for an answer"),
        (line(**JUDGED, asked=True, outcome="undecided"), "question", "question", "was left undecided"),
        (line(**JUDGED), None, "", ""),  # nobody was asked: it goes its way
        (line(**JUDGED, asked=True, decision="rejected"), None, "", ""),
        (line(**JUDGED, outcome="undecided"), "undecided", "promote", "version 2 was left undecided by the gate"),
        (line(**JUDGED, outcome="refused"), "refused", "report", "version 2 was REFUSED by the gate"),
        (line(**JUDGED, asked=True, outcome="refused"), "refused", "report", "REFUSED"),
        (line(champion=None, since=None, outcome="refused"), "refused", "report", "and there is no champion"),
    ],
)
def test_one_thing_is_said_and_where_one_acts(given: Line, kind: str | None, action: str, said: str) -> None:
    found = needs([given])
    assert [(need.kind, need.action, said in need.what) for need in found] == [(kind, action, True)] * bool(kind)


def test_since_when_a_window_is_late_is_known_of_the_one_that_is_due() -> None:
    due = Planned(due_window=MONDAY, due_since=NOW)
    [first] = needs([line(state="running", late=MONDAY, due=due)])
    [second] = needs([line(state="running", late=BEFORE, due=due)])
    assert (first.since, second.since) == (NOW, None)


def test_the_most_urgent_comes_first_then_what_waits_longest_then_the_name() -> None:
    early = NOW - dt.timedelta(days=1)
    found = needs([
        line("d", state="rejected", by="guard"), line("c", state="rejected", by="guard"),
        line("b", state="rejected", by="guard", made=early), line("a", state="failed"),
        line("z", late=MONDAY), line("y", **JUDGED, outcome="refused"), line("x", bad=True),
    ])  # fmt: skip
    assert [need.model for need in found] == ["z", "x", "b", "c", "d", "a", "y"]
    assert [need.urgent for need in found] == [True] * 6 + [False]
    assert [KINDS.index(need.kind) for need in found] == sorted(KINDS.index(need.kind) for need in found)
