"""What needs a person, of all models, the most urgent first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ponte.viewing.overview import Line

#: What can be wrong, in a word or two, the most urgent first: what people see is wrong or missing, then what will be,
#: then what can wait.
WORDS = {
    "late": "late",
    "bad": "bad champion",
    "guard": "kept back",
    "batch": "no batch",
    "quality": "quality alarm",
    "question": "your answer",
    "drift": "drift alarm",
    "undecided": "undecided version",
    "first": "no version",
    "refused": "refused version",
}
KINDS = tuple(WORDS)
#: Of these somebody who looks at predictions today is told something wrong, or nothing.
URGENT = frozenset({"late", "bad", "guard", "batch", "quality"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """One thing that waits for a person, and where one acts."""

    kind: str
    model: str
    #: What is so, and what the link does.
    what: str
    act: str
    #: Since when; None: nobody knows.
    since: dt.datetime | None
    #: An action of Ponte's pages and its fields; "question": Airflow's page of the run `run_id`.
    action: str
    window: dt.date | None = None
    version: int | None = None
    batch: int | None = None
    alarm: int | None = None
    run_id: str | None = None

    @property
    def urgent(self) -> bool:
        """True when people see something wrong, or nothing."""
        return self.kind in URGENT


def needs(lines: Iterable[Line]) -> list[Need]:
    """Return what needs a person, the most urgent first; of the same kind what waits longest."""
    found = [need for line in lines for part in (_of_window, _of_alarms, _of_versions) for need in part(line)]
    return sorted(found, key=lambda n: (KINDS.index(n.kind), n.since.timestamp() if n.since else 0.0, n.model))


def _of_window(line: Line) -> Iterator[Need]:
    if line.broken:
        last, *others = reversed(line.broken)
        common: dict[str, Any] = {"model": line.model, "since": line.batch.created_at, "window": last.window_start}
        by_guard = line.batch.rejected_by == "guard"
        is_so = f"is {'kept back' if by_guard else last.state}"
        if others:
            states = "rejected" if all(one.state == "rejected" for one in line.broken) else "rejected or failed"
            is_so = f"and {len(others)} more window{'s' * (len(others) > 1)} were {states} and are not shown"
        what = f"{last.window_start} {is_so}: {last.why}"
        if by_guard:
            yield Need(
                kind="guard", what=what, act="Publish it anyway", action="publish", batch=last.batch_id, **common
            )
        else:
            yield Need(kind="batch", what=what, act="Score it again", action="score", **common)
    if line.late and line.late not in {one.window_start for one in line.broken}:
        # A batch of it that is not done yet says more than that it is late; what was rejected is said above.
        yield Need(
            kind="late",
            what=f"{line.late} should be seen by now, and is not"
            + (", its batch is still being made" if line.newest is not None and line.newest.state == "running" else ""),
            act="Score it now",
            action="score",
            window=line.late,
            model=line.model,
            since=line.planned.due_since if line.late == line.planned.due_window else None,
        )


def _of_alarms(line: Line) -> Iterator[Need]:
    for alarm in line.alarms:
        if alarm.state == "open":
            yield Need(
                kind=alarm.kind,
                model=line.model,
                what=f"alarm {alarm.alarm_id}, {'provisional' if alarm.provisional else alarm.kind}: {alarm.reason}",
                act="Acknowledge or close it",
                since=alarm.opened_at,
                action="alarm",
                alarm=alarm.alarm_id,
            )


def _of_versions(line: Line) -> Iterator[Need]:
    found = line.version
    common: dict[str, Any] = {"model": line.model, "version": found.judged, "since": found.at}
    if found.bad:
        yield Need(
            kind="bad",
            model=line.model,
            what=f"version {found.champion} is champion, and marked bad",
            act="Roll back to another one",
            since=found.since,
            action="roll-back",
        )
    if found.champion is None and found.judged is None:
        yield Need(
            kind="first", model=line.model, what="has no version yet", act="Train one", since=None, action="train"
        )
    elif found.open and found.asked and found.outcome != "refused":
        yield Need(
            kind="question",
            what=f"version {found.judged} {_said(found.outcome)} and waits for an answer",
            act="Answer",
            action="question",
            run_id=found.run_id,
            **common,
        )
    elif found.open and found.outcome == "undecided":
        yield Need(
            kind="undecided",
            what=f"version {found.judged} {_said(found.outcome)}",
            act="Decide",
            action="promote",
            **common,
        )
    elif found.open and found.outcome == "refused":
        yield Need(
            kind="refused",
            what=f"version {found.judged} {_said(found.outcome)}"
            + ("" if found.champion else ", and there is no champion"),
            act="See why",
            action="report",
            **common,
        )


def _said(outcome: str | None) -> str:
    said = {
        "passed": "passed the gate",
        "undecided": "was left undecided by the gate",
        "refused": "was REFUSED by the gate",
    }
    return said.get(outcome or "", "was judged by the gate")
