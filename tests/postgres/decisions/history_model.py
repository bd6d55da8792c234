"""What the registry has to remember about one model, as plain Python: lists that only grow, and the rules of each move.

Numbers are places in these lists, so that the same history in two databases is the same history here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

Outcome = Any


@dataclass(frozen=True)
class Event:
    """A move of the champion alias."""

    version: int
    previous: int | None
    actor: str
    reason: str
    evidence: tuple[Any, ...]


@dataclass(frozen=True)
class Planned:
    """A rollback that was planned under an event: week → batch that is shown again; and whether every week is meant."""

    from_version: int
    to_version: int
    event: int
    kept: Mapping[dt.date, int]
    every_window: bool


@dataclass
class History:
    """All decisions about one model. What decides returns what the library returns, or the name of its error."""

    keys: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    #: (version, mark, run)
    marks: list[tuple[int, str, str]] = field(default_factory=list)
    #: (version, passed, the event that had made the champion it was held against)
    verdicts: list[tuple[int, bool, int | None]] = field(default_factory=list)
    #: (verdict, decision, actor, minute)
    approvals: list[tuple[int, str, str, int]] = field(default_factory=list)
    #: (run, from, to, event, ((week, batch, the batch before), …))
    rollbacks: list[tuple[str, int, int, int | None, tuple[Any, ...]]] = field(default_factory=list)
    #: (week, version, epoch)
    batches: list[tuple[dt.date, int, int]] = field(default_factory=list)
    #: (week, batch, the batch before, rollback)
    publications: list[tuple[dt.date, int, int | None, int | None]] = field(default_factory=list)
    #: week → (epoch, run)
    claims: dict[dt.date, tuple[int, str]] = field(default_factory=dict)

    def copy(self) -> History:
        return History(**{name: copy(getattr(self, name)) for name in History.__dataclass_fields__})

    # ------------------------------------------------------------ looking

    @property
    def champion(self) -> int | None:
        return self.events[-1].version if self.events else None

    @property
    def event(self) -> int | None:
        return len(self.events) - 1 if self.events else None

    @property
    def shown(self) -> dict[dt.date, int]:
        return {week: batch for week, batch, _, _ in self.publications}

    def bad(self, version: int) -> bool:
        said = [mark for marked, mark, _ in self.marks if marked == version]
        return bool(said) and said[-1] == "bad"

    def seen(self, batch: int) -> bool:
        """Tell whether people have ever seen the batch."""
        return any(published == batch for _, published, _, _ in self.publications)

    def kept(self, version: int) -> dict[dt.date, int]:
        """Return the newest batch of the version that people have seen, by week."""
        return {week: n for n, (week, by, _) in enumerate(self.batches) if by == version and self.seen(n)}

    def shown_from(self, version: int) -> set[dt.date]:
        """Return the weeks that people see from the version."""
        return {week for week, batch in self.shown.items() if self.batches[batch][1] == version}

    def under_way(self, version: int) -> set[dt.date]:
        """Return the weeks whose newest claim is that of a batch of the version which nobody has seen."""
        return {
            week
            for n, (week, by, epoch) in enumerate(self.batches)
            if by == version and epoch == self.claims[week][0] and not self.seen(n)
        }

    # ------------------------------------------------------------ deciding

    def train(self, key: str) -> Outcome:
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key) + 1

    def judge(self, version: int, passed: bool) -> Outcome:
        self.verdicts.append((version, passed, self.event))
        return len(self.verdicts) - 1

    def answer(self, verdict: int, decision: str, actor: str, minute: int) -> Outcome:
        """Append an answer; its moment names it among those of the run."""
        for number, (answered, _, _, then) in enumerate(self.approvals):
            if (answered, then) == (verdict, minute):
                return number
        self.approvals.append((verdict, decision, actor, minute))
        return len(self.approvals) - 1

    def promote(self, verdict: int, approval: int | None, required: bool) -> Outcome:
        version, passed, seen = self.verdicts[verdict]
        actor, reason = f"run of {verdict}", "gate passed"
        if approval is not None:
            _, decision, actor, _ = self.approvals[approval]
            if decision != "approved":
                return None
            reason = f"{actor} says so"
        if not passed or (required and approval is None):
            return None
        if self.champion == version:
            return version
        if self.bad(version):
            return "VersionMarkedBad"
        event = Event(version, seen, actor, reason, ("verdict", verdict, approval))
        if seen != self.event:
            successor = self.events[0 if seen is None else seen + 1]
            return version if successor == event else "AliasMoved"
        self.events.append(event)
        return version

    def set_champion(self, version: int, run: str, allow_bad: bool) -> Outcome:
        """Move the alias; a repetition by the same run changes nothing, whatever was decided since."""
        if any(e.version == version and e.evidence[:2] == ("by hand", run) for e in self.events):
            return version
        if self.champion == version:
            return version
        if self.bad(version) and not allow_bad:
            return "VersionMarkedBad"
        self.events.append(Event(version, self.event, "a person", "test", ("by hand", run, allow_bad)))
        return version

    def mark(self, version: int, mark: str, run: str) -> Outcome:
        if (version, mark, run) not in self.marks:
            self.marks.append((version, mark, run))
        return mark

    def claim(self, week: dt.date, run: str) -> int:
        """Give the week to a run; return the epoch."""
        self.claims[week] = (self.claims.get(week, (0, ""))[0] + 1, run)
        return self.claims[week][0]

    def score(self, week: dt.date, version: int, run: str) -> Outcome:
        """Claim the week, and publish it unless the version is bad."""
        before = self.shown.get(week)
        self.batches.append((week, version, self.claim(week, run)))
        if self.bad(version):
            return "VersionMarkedBad"
        self.publications.append((week, len(self.batches) - 1, before, None))
        return len(self.batches) - 1

    def plan(self, version: int, weeks: tuple[dt.date, ...], every_window: bool, allow_bad: bool) -> Outcome:
        """Return the plan, and the weeks that the version has to score anew."""
        if self.champion is None or self.event is None:
            return "NoChampion"
        if self.bad(version) and not allow_bad:
            return "VersionMarkedBad"
        wanted = set(weeks)
        if every_window:
            wanted |= self.shown_from(self.champion)
        kept = self.kept(version)
        again = {week: kept[week] for week in sorted(wanted & set(kept))}
        plan = Planned(self.champion, version, self.event, again, every_window)
        return plan, tuple(sorted(wanted - set(kept)))

    def roll_back(self, plan: Planned, run: str, mark_bad: bool, allow_bad: bool) -> Outcome:
        for done in self.rollbacks:
            if done[0] == run:
                return done[1:]
        if self.event != plan.event:
            return "AliasMoved"
        if self.bad(plan.to_version) and not allow_bad:
            return "VersionMarkedBad"
        if plan.every_window and self.shown_from(plan.from_version) - set(plan.kept):
            return "Fenced"
        for week in self.under_way(plan.from_version) - set(plan.kept) if plan.every_window else ():
            self.claim(week, run)
        moved = None
        if self.champion != plan.to_version:
            self.events.append(Event(plan.to_version, self.event, "a person", "test", ("rollback", run)))
            moved = self.event
        windows = tuple((week, batch, self.shown.get(week)) for week, batch in plan.kept.items())
        self.rollbacks.append((run, plan.from_version, plan.to_version, moved, windows))
        for week, batch, before in windows:
            self.claim(week, run)
            self.publications.append((week, batch, before, len(self.rollbacks) - 1))
        if mark_bad and plan.from_version != plan.to_version:
            self.mark(plan.from_version, "bad", run)
        return self.rollbacks[-1][1:]
