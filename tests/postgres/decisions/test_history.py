"""Any order of decisions, two at once, killed anywhere: the registry remembers what a list in Python remembers."""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.postgres.batches.test_fence import at_once
from tests.postgres.decisions.history_model import Event, History, Outcome, Planned
from tests.postgres.decisions.test_rollback import Crash, at_statement, crash
from tests.sample_model import AS_OF, LATER, NEXT_WEEK, WEEK, run_named, write_model

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Pin
from ponte.decisions import approvals, promotion, rollback
from ponte.decisions.rollback import Plan
from ponte.errors import NoChampion, PonteError, VersionMarkedBad
from ponte.model.folders import ModelFolder
from ponte.model.windows import window_starting
from ponte.publishing import pointer
from ponte.storage.columns import Column
from ponte.storage.database import SESSION, Database
from ponte.versions import aliases, marks, registry
from ponte.versions.registry import Version
from ponte.versions.signature import Signature

#: A number of examples, all new ones, for a longer search; by default the same 60 in every run.
EXAMPLES = os.environ.get("PONTE_HISTORY_EXAMPLES")
WEEKS = (WEEK, NEXT_WEEK)
SHA = "0" * 64
APPEND_ONLY = ("alias_event", "gate_verdict", "approval", "version_mark", "rollback", "publication_event")

#: Every row about the model, oldest first, in one statement.
ROWS = """
SELECT jsonb_build_object(
    'version', (SELECT coalesce(jsonb_agg(v ORDER BY version), '[]') FROM ponte.version v WHERE model = :m),
    'alias_event', (SELECT coalesce(jsonb_agg(e ORDER BY event_id), '[]') FROM ponte.alias_event e WHERE model = :m),
    'gate_verdict', (SELECT coalesce(jsonb_agg(g ORDER BY verdict_id), '[]') FROM ponte.gate_verdict g
                     WHERE model = :m),
    'approval', (SELECT coalesce(jsonb_agg(a ORDER BY approval_id), '[]') FROM ponte.approval a
                 WHERE verdict_id IN (SELECT verdict_id FROM ponte.gate_verdict WHERE model = :m)),
    'version_mark', (SELECT coalesce(jsonb_agg(m ORDER BY mark_id), '[]') FROM ponte.version_mark m WHERE model = :m),
    'rollback', (SELECT coalesce(jsonb_agg(r ORDER BY rollback_id), '[]') FROM ponte.rollback r WHERE model = :m),
    'batch', (SELECT coalesce(jsonb_agg(b ORDER BY batch_id), '[]') FROM ponte.batch b WHERE model = :m),
    'publication_event', (SELECT coalesce(jsonb_agg(p ORDER BY event_id), '[]') FROM ponte.publication_event p
                          WHERE model = :m),
    'claim', (SELECT coalesce(jsonb_agg(c), '[]') FROM ponte.claim c WHERE model = :m),
    'published', (SELECT coalesce(jsonb_agg(p), '[]') FROM ponte.published p WHERE model = :m),
    'champion', (SELECT coalesce(jsonb_agg(c.version), '[]') FROM ponte.champion c WHERE model = :m),
    'bad', (SELECT coalesce(jsonb_agg(version ORDER BY version), '[]') FROM ponte.version v WHERE model = :m
            AND ponte.is_bad(model, version)),
    'moments', (SELECT coalesce(jsonb_agg(ponte.champion_at(:m, t) ORDER BY n), '[]')
                FROM unnest(CAST(:moments AS timestamptz[])) WITH ORDINALITY AS u (t, n)),
    'now', clock_timestamp()
)
"""


class Pooled(Database):
    """A database that keeps its sessions: a step of the machine takes milliseconds."""

    @cached_property
    def engine(self) -> sa.Engine:
        return sa.create_engine(self.url, pool_size=3, connect_args=SESSION)


@dataclass(frozen=True)
class Call:
    """A decision: a method of History and of Real, and its arguments."""

    name: str
    arguments: tuple[Any, ...]

    def of(self, target: object) -> Outcome:
        """Let the target decide; return its answer."""
        return getattr(target, self.name)(*self.arguments)


class Real:
    """The same decisions by the library; numbers are places among the rows, as in History."""

    def __init__(self, db: Database, looking: Database, folder: ModelFolder, snapshot_id: int) -> None:
        self.db, self.folder, self.model, self.snapshot_id = db, folder, folder.name, snapshot_id
        #: The same database for the test itself, whose statements are no points to be killed at.
        self.looking = looking
        #: When somebody looked, in the words of the database.
        self.moments: list[str] = []

    def rows(self) -> dict[str, Any]:
        """Return every row about the model."""
        with self.looking.begin() as connection:
            values = {"m": self.model, "moments": self.moments}
            return dict(connection.execute(sa.text(ROWS), values).scalar_one())

    def call(self, call: Call) -> Outcome:
        """Return what the library answers, or the name of its error."""
        try:
            return call.of(self)
        except PonteError as error:
            return type(error).__name__

    def _numbers(self, table: str, column: str) -> list[int]:
        return [row[column] for row in self.rows()[table]]

    # ------------------------------------------------------------ deciding

    def train(self, key: str) -> Outcome:
        def write(number: int) -> Version:
            return Version(
                model=self.model,
                version=number,
                snapshot_id=self.snapshot_id,
                train_key=key,
                task="binary",
                path=f"{self.model}/{number}",
                manifest_sha256=SHA,
                signature=SIGNATURE,
                classes=(0, 1),
                threshold=None,
                spec_digest=SHA,
                code_revision=None,
                libraries={},
                train_cutoff=AS_OF,
                train_rows=1,
                calibration_rows=0,
                holdout_rows=1,
                purged_rows=0,
                byte_count=1,
                run_id=key,
            )

        return registry.register(self.db, self.model, key, write).version

    def judge(self, version: int, passed: bool) -> Outcome:
        seen = aliases.current_alias(self.db, self.model)
        with self.db.begin() as connection:
            run = connection.execute(
                sa.text("SELECT count(*) FROM ponte.gate_verdict WHERE model = :m"), {"m": self.model}
            )
            number = run.scalar_one()
            connection.execute(
                sa.text(
                    "INSERT INTO ponte.gate_verdict (model, version, snapshot_id, run_id, run_key, passed, outcome, "
                    "champion_event_id, rules) VALUES (:m, :version, :snapshot, :run, :run, :passed, "
                    "CASE WHEN :passed THEN 'passed' ELSE 'refused' END, :event, '[]')"
                ),
                {
                    "m": self.model,
                    "version": version,
                    "snapshot": self.snapshot_id,
                    "run": f"run of {number}",
                    "passed": passed,
                    "event": seen.event_id if seen else None,
                },
            )
        return number

    def answer(self, verdict: int, decision: Any, actor: str, minute: int) -> Outcome:
        number = self._numbers("gate_verdict", "verdict_id")[verdict]
        says = {"run": run_named(f"run of {verdict}"), "actor": actor, "reason": f"{actor} says so"}
        moment = LATER + dt.timedelta(minutes=minute)
        answered = approvals.record_approval(self.db, number, decision, **says, answered_at=moment)
        return self._numbers("approval", "approval_id").index(answered)

    def promote(self, verdict: int, approval: int | None, required: bool) -> Outcome:
        rows = self.rows()
        alias = promotion.promote(
            self.db,
            rows["gate_verdict"][verdict]["verdict_id"],
            actor=f"run of {verdict}",
            approval_id=None if approval is None else rows["approval"][approval]["approval_id"],
            approval_required=required,
        )
        return alias and alias.version

    def set_champion(self, version: int, run: str, allow_bad: bool) -> Outcome:
        found = registry.get_version(self.db, self.model, version)
        who = {"run": run_named(run), "actor": "a person", "reason": "test"}
        return promotion.set_champion(self.db, found, **who, allow_bad=allow_bad).version

    def mark(self, version: int, mark: Any, run: str) -> Outcome:
        who = {"run": run_named(run), "actor": "a person", "reason": "test"}
        return marks.mark_version(self.db, self.model, version, mark, **who)["mark"]

    def score(self, week: dt.date, version: int, run: str) -> Outcome:
        """Publish a batch of one row, which nobody predicted."""
        window = window_starting(self.folder.spec.window, week)
        pin = Pin(version=version, reason="test", hindsight=False)
        batch = batches.claim(self.db, self.model, window, run=run_named(run), choose=lambda: pin)
        with self.db.begin() as connection:
            parent, own = f"ponte_data.prediction_{self.model}", f"ponte_data.{batch.prediction_table}"
            columns = f"{batch.batch_id}::bigint AS batch_id, DATE '{week}' AS window_start, 1::bigint AS visit_id, "
            columns += "1::bigint AS prediction, 0.5::double precision AS score, now() AS scored_at"
            for statement in (
                f"CREATE TABLE {own} AS SELECT {columns}",
                f"CREATE TABLE IF NOT EXISTS {parent} (LIKE {own}) PARTITION BY LIST (batch_id)",
                f"INSERT INTO ponte.shard VALUES ({batch.batch_id}, 0, 0, 1, 1)",
                f"UPDATE ponte.batch SET status = 'staged', row_count = 1 WHERE batch_id = {batch.batch_id}",
            ):
                connection.exec_driver_sql(statement)
        pointer.publish(self.db, batch.batch_id, actor=run, reason="test")
        return self._numbers("batch", "batch_id").index(batch.batch_id)

    def plan(self, version: int, weeks: tuple[dt.date, ...], every_window: bool, allow_bad: bool) -> Outcome:
        # No version of this history has files; what becomes of damaged ones is tested with those that have.
        with patch.object(rollback, "load_registered"):
            plan = rollback.plan_rollback(
                self.db,
                None,  # type: ignore[arg-type]
                self.folder,
                version,
                windows=weeks,
                every_window=every_window,
                allow_bad=allow_bad,
                allow_hindsight=False,
                now=LATER,
            )
        numbers = self._numbers("batch", "batch_id")
        event = self._numbers("alias_event", "event_id").index(plan.event_id)
        kept = {dt.date.fromisoformat(day): numbers.index(batch_id) for day, batch_id in plan.kept.items()}
        found = Planned(plan.from_version, plan.to_version, event, kept, plan.every_window)
        return found, tuple(dt.date.fromisoformat(day) for day in plan.rescore)

    def roll_back(self, plan: Planned, run: str, mark_bad: bool, allow_bad: bool) -> Outcome:
        rows = self.rows()
        done = rollback.roll_back(
            self.db,
            Plan(
                model=self.model,
                from_version=plan.from_version,
                to_version=plan.to_version,
                event_id=rows["alias_event"][plan.event]["event_id"],
                kept={str(week): rows["batch"][batch]["batch_id"] for week, batch in plan.kept.items()},
                rescore=(),
                every_window=plan.every_window,
            ),
            run=run_named(run),
            actor="a person",
            reason="test",
            mark_bad=mark_bad,
            allow_bad=allow_bad,
        )
        (row,) = (n for n, r in enumerate(self.rows()["rollback"]) if r["rollback_id"] == done.rollback_id)
        return history_of(self.rows()).rollbacks[row][1:]


SIGNATURE = Signature(
    key=(Column(name="visit_id", family="integer"),),
    features=(Column(name="items", family="integer"),),
    label="integer",
)


def history_of(rows: Mapping[str, Any]) -> History:
    """Return the rows of a model as a history: places for numbers, and no times."""
    place = {
        table: {row[column]: n for n, row in enumerate(rows[table])}
        for table, column in (
            ("alias_event", "event_id"),
            ("gate_verdict", "verdict_id"),
            ("approval", "approval_id"),
            ("rollback", "rollback_id"),
            ("batch", "batch_id"),
        )
    }
    event, verdict, approval, rolled_back, batch = (
        lambda number, places=places: None if number is None else places[number] for places in place.values()
    )

    def evidence(said: dict[str, Any]) -> tuple[Any, ...]:
        if "verdict_id" in said:
            return "verdict", verdict(said["verdict_id"]), approval(said.get("approval_id"))
        if "rollback_run" in said:
            return "rollback", said["rollback_run"]
        return "by hand", said["by_hand_in_run"], said["allow_bad"]

    def minute(moment: str) -> int:
        return int((dt.datetime.fromisoformat(moment) - LATER).total_seconds()) // 60

    day = dt.date.fromisoformat
    return History(
        keys=[v["train_key"] for v in rows["version"]],
        events=[
            Event(e["version"], event(e["previous_event_id"]), e["actor"], e["reason"], evidence(e["evidence"]))
            for e in rows["alias_event"]
        ],
        marks=[(m["version"], m["mark"], m["run_id"]) for m in rows["version_mark"]],
        verdicts=[(g["version"], g["passed"], event(g["champion_event_id"])) for g in rows["gate_verdict"]],
        approvals=[
            (verdict(a["verdict_id"]), a["decision"], a["actor"], minute(a["answered_at"])) for a in rows["approval"]
        ],
        rollbacks=[
            (
                r["run_id"],
                r["from_version"],
                r["to_version"],
                event(r["alias_event_id"]),
                tuple(
                    (day(w["window_start"]), batch(w["batch_id"]), batch(w["previous_batch_id"])) for w in r["windows"]
                ),
            )
            for r in rows["rollback"]
        ],
        batches=[(day(b["window_start"]), b["version"], b["epoch"]) for b in rows["batch"]],
        publications=[
            (
                day(p["window_start"]),
                batch(p["batch_id"]),
                batch(p["previous_batch_id"]),
                rolled_back(p["rollback_id"]),
            )
            for p in rows["publication_event"]
        ],
        claims={day(c["window_start"]): (c["epoch"], c["run_id"]) for c in rows["claim"]},
    )


# No rule has a precondition and no strategy looks at the state: who wins a race is not for the search to know, and the
# same choices have to lead to the same choices. A rule that finds nothing to do does nothing.

#: Killed when about to send this statement or COMMIT, or not at all; and whether it tries again.
Kill = tuple[int | None, bool]
kills = st.tuples(st.none() | st.integers(1, 24), st.booleans())
#: Which of the things there are: the machine takes it modulo their number.
picks = st.integers(0, 7)


class Machine(RuleBasedStateMachine):
    """One model from its first version on; `self.history` says what has to be in the tables after every step."""

    models = itertools.count(1)

    def __init__(self, db: Database, looking: Database, folder: ModelFolder, snapshot_id: int) -> None:
        super().__init__()
        self.real = Real(db, looking, replace(folder, name=f"m{next(Machine.models)}"), snapshot_id)
        self.history = History()
        self.runs = itertools.count(1)
        self.plans: list[Planned] = []
        self.before = self.real.rows()
        #: Runs of rollbacks to which a person said that a bad version will do.
        self.allowed: set[str] = set()
        #: (moment, champion then)
        self.looked: list[tuple[str, int | None]] = []

    # ------------------------------------------------------------ one at a time

    def decide(self, call: Call, kill: Kill = (None, False)) -> Outcome:
        """Let both decide and hold their answers against each other; a killed decision was made or was not."""
        number, again = kill
        self.note(call)
        after = self.history.copy()
        expected = call.of(after)
        if number is not None:
            try:
                with at_statement(self.real.db, number, crash):
                    answer = self.real.call(call)
            except Crash:
                found = history_of(self.real.rows())
                assert found in (self.history, after), f"half of {call}"
                self.history = found
                return self.decide(call) if again else None
        else:
            answer = self.real.call(call)
        assert answer == expected, call
        self.history = after
        return answer

    def note(self, call: Call) -> None:
        """Remember that a person has allowed a bad version."""
        if call.name == "roll_back" and call.arguments[-1]:
            self.allowed.add(call.arguments[1])

    @property
    def versions(self) -> range:
        return range(1, len(self.history.keys) + 1)

    def version(self, pick: int) -> int:
        return self.versions[pick % len(self.versions)]

    def run(self) -> str:
        return f"run {next(self.runs)}"

    @initialize(count=st.integers(2, 4), champion=st.sampled_from([True, True, True, False]), scored=st.booleans())
    def begin(self, count: int, champion: bool, scored: bool) -> None:
        for _ in range(count):
            self.decide(Call("train", (self.run(),)))
        if champion:
            self.decide(Call("promote", (self.decide(Call("judge", (1, True))), None, False)))
        for version in self.versions[:2] if scored else ():
            self.decide(Call("score", (WEEK, version, self.run())))

    @rule(kill=kills, known=st.booleans(), pick=picks)
    def train(self, kill: Kill, known: bool, pick: int) -> None:
        if known or len(self.versions) >= 5:
            self.decide(Call("train", (self.history.keys[pick % len(self.versions)],)), kill)
        else:
            self.decide(Call("train", (self.run(),)), kill)

    @rule(pick=picks, passed=st.sampled_from([True, True, True, False]), kill=kills)
    def judge_and_promote(self, pick: int, passed: bool, kill: Kill) -> None:
        verdict = self.decide(Call("judge", (self.version(pick), passed)))
        self.decide(Call("promote", (verdict, None, False)), kill)

    @rule(pick=picks, passed=st.booleans())
    def judge(self, pick: int, passed: bool) -> None:
        self.decide(Call("judge", (self.version(pick), passed)))

    @rule(
        pick=picks,
        newest=st.booleans(),
        decision=st.sampled_from(["approved", "approved", "rejected", "timed out"]),
        who=st.tuples(st.sampled_from(["ann", "ben"]), st.integers(0, 1)),
        kills=st.tuples(kills, kills),
    )
    def answer_and_promote(
        self, pick: int, newest: bool, decision: str, who: tuple[str, int], kills: tuple[Kill, Kill]
    ) -> None:
        """Also a second answer of the same run, and the first of them by the name of another."""
        verdicts = len(self.history.verdicts)
        if not verdicts:
            return
        verdict = verdicts - 1 if newest else pick % verdicts
        answer = self.decide(Call("answer", (verdict, decision, *who)), kills[0])
        self.decide(Call("promote", (verdict, answer, True)), kills[1])

    @rule(pick=picks, required=st.booleans(), kill=kills)
    def promote(self, pick: int, required: bool, kill: Kill) -> None:
        """Also a verdict that has expired, and one that was promoted before."""
        if self.history.verdicts:
            self.decide(Call("promote", (pick % len(self.history.verdicts), None, required)), kill)

    @rule(pick=picks, allow_bad=st.booleans(), kill=kills)
    def promote_by_hand(self, pick: int, allow_bad: bool, kill: Kill) -> None:
        self.decide(Call("set_champion", (self.version(pick), self.run(), allow_bad)), kill)

    @rule(pick=picks, kill=kills)
    def repeat_a_promotion_by_hand(self, pick: int, kill: Kill) -> None:
        """Whatever has happened since: its run finds what it did."""
        done = [e for e in self.history.events if e.evidence[0] == "by hand"]
        if done:
            event = done[pick % len(done)]
            self.decide(Call("set_champion", (event.version, *event.evidence[1:])), kill)

    @rule(pick=picks, champion=st.booleans(), mark=st.sampled_from(["bad", "bad", "not bad"]), kill=kills)
    def mark(self, pick: int, champion: bool, mark: str, kill: Kill) -> None:
        version = self.history.champion if champion and self.history.champion else self.version(pick)
        self.decide(Call("mark", (version, mark, self.run())), kill)

    @rule(pick=picks, week=st.sampled_from(WEEKS))
    def score(self, pick: int, week: dt.date) -> None:
        if len(self.history.batches) < 4:
            self.decide(Call("score", (week, self.version(pick), self.run())))

    def plan_rollback(self, version: int, weeks: tuple[dt.date, ...], every_window: bool, allow_bad: bool) -> bool:
        """Plan and tell whether there is a new plan: those that would have to score are planned only."""
        planned = self.decide(Call("plan", (version, weeks, every_window, allow_bad)))
        if isinstance(planned, str) or planned[1]:
            return False
        self.plans.append(planned[0])
        return True

    @rule(
        pick=picks,
        weeks=st.sets(st.sampled_from(WEEKS)),
        every_window=st.booleans(),
        marks=st.tuples(st.booleans(), st.booleans()),
        kill=kills,
    )
    def roll_back(
        self, pick: int, weeks: set[dt.date], every_window: bool, marks: tuple[bool, bool], kill: Kill
    ) -> None:
        mark_bad, allow_bad = marks
        version = self.version(pick)
        chosen = tuple(week for week in self.history.kept(version) if week in weeks)
        if self.plan_rollback(version, chosen, every_window, allow_bad):
            self.decide(Call("roll_back", (self.plans[-1], self.run(), mark_bad, allow_bad)), kill)

    @rule(kill=kills, allow_bad=st.booleans())
    def undo(self, kill: Kill, allow_bad: bool) -> None:
        """Go back from the newest rollback, with all of its windows that the version left has scored."""
        if not self.history.rollbacks:
            return
        _, left, _, _, windows = self.history.rollbacks[-1]
        chosen = tuple(week for week, _, _ in windows if week in self.history.kept(left))
        if self.plan_rollback(left, chosen, False, allow_bad):
            self.decide(Call("roll_back", (self.plans[-1], self.run(), False, allow_bad)), kill)

    @rule(pick=picks, kill=kills)
    def roll_back_by_an_old_plan(self, pick: int, kill: Kill) -> None:
        if self.plans:
            self.decide(Call("roll_back", (self.plans[pick % len(self.plans)], self.run(), False, False)), kill)

    @rule(pick=picks, kill=kills)
    def repeat_a_rollback(self, pick: int, kill: Kill) -> None:
        """Whatever has happened since: its run finds what it did."""
        if not self.history.rollbacks:
            return
        run = self.history.rollbacks[pick % len(self.history.rollbacks)][0]
        self.decide(Call("roll_back", (self.plans[pick % len(self.plans)], run, True, False)), kill)

    # ------------------------------------------------------------ two at once

    def at_once(self, calls: tuple[Call, Call]) -> list[Outcome]:
        """Let two actors decide at the same time; what they say and leave is that of one after the other."""
        for call in calls:
            self.note(call)
        answers = at_once([lambda call=call: self.real.call(call) for call in calls])
        found = history_of(self.real.rows())
        ends = []
        for order in ((0, 1), (1, 0)):
            after = self.history.copy()
            expected = {n: calls[n].of(after) for n in order}
            ends.append(([expected[0], expected[1]], after))
        assert (answers, found) in ends, (calls, answers)
        self.history = found
        return answers

    def others(self) -> list[int]:
        """Return the versions that may become champion."""
        return [v for v in self.versions if v != self.history.champion and not self.history.bad(v)]

    @rule(picks=st.tuples(picks, picks), kinds=st.tuples(*[st.sampled_from(["promote", "roll back"])] * 2))
    def two_from_the_same_state(self, picks: tuple[int, int], kinds: tuple[str, str]) -> None:
        """One wins and the other is told."""
        others = self.others()
        if self.history.champion is None or len(others) < 2:
            return
        first = others.pop(picks[0] % len(others))
        versions = [first, others[picks[1] % len(others)]]
        calls = []
        for kind, version in zip(kinds, versions, strict=True):
            if kind == "promote":
                calls.append(Call("promote", (self.decide(Call("judge", (version, True))), None, False)))
            else:
                assert self.plan_rollback(version, tuple(self.history.kept(version)), False, False)
                calls.append(Call("roll_back", (self.plans[-1], self.run(), False, False)))
        answers = self.at_once((calls[0], calls[1]))
        assert answers.count("AliasMoved") == 1, answers
        (winner,) = (v for v, answer in zip(versions, answers, strict=True) if answer != "AliasMoved")
        assert self.history.champion == winner

    @rule(picks=st.tuples(picks, picks), twice=st.booleans(), kind=st.sampled_from(["by hand", "train", "mark"]))
    def two_that_do_not_mind_each_other(self, picks: tuple[int, int], twice: bool, kind: str) -> None:
        """By hand the later one counts; a run that is there twice decides once."""
        runs = [self.run()] * 2 if twice else [self.run(), self.run()]
        versions = [self.version(picks[0])] * 2 if twice else [self.version(pick) for pick in picks]
        if kind == "train":
            calls = [Call("train", (run,)) for run in runs]
        elif kind == "mark":
            calls = [Call("mark", (v, "bad", run)) for v, run in zip(versions, runs, strict=True)]
        else:
            calls = [Call("set_champion", (v, run, True)) for v, run in zip(versions, runs, strict=True)]
        self.at_once((calls[0], calls[1]))

    @rule(pick=picks, mark_bad=st.booleans())
    def one_rollback_twice_at_once(self, pick: int, mark_bad: bool) -> None:
        version = self.version(pick)
        if self.plan_rollback(version, tuple(self.history.kept(version)), False, True):
            self.at_once((Call("roll_back", (self.plans[-1], self.run(), mark_bad, True)),) * 2)

    # ------------------------------------------------------------ what always holds

    @rule(
        table=st.sampled_from(APPEND_ONLY),
        change=st.sampled_from(["UPDATE ponte.{} SET at = at", "DELETE FROM ponte.{}"]),
    )
    def change_the_past(self, table: str, change: str) -> None:
        with (
            pytest.raises(sa.exc.DBAPIError, match=f"ponte.{table} is append-only"),
            self.real.db.begin() as connection,
        ):
            connection.exec_driver_sql(change.format(table))

    @invariant()
    def the_tables_say_what_the_history_says(self) -> None:
        self.real.moments = [moment for moment, _ in self.looked]
        rows = self.real.rows()
        assert history_of(rows) == self.history
        assert rows["champion"] == ([self.history.champion] if self.history.champion else [])
        assert rows["bad"] == [v for v in self.versions if self.history.bad(v)]
        assert rows["moments"] == [champion for _, champion in self.looked]
        shown = {dt.date.fromisoformat(p["window_start"]): p["batch_id"] for p in rows["published"]}
        assert shown == {week: rows["batch"][batch]["batch_id"] for week, batch in self.history.shown.items()}
        self.nothing_of_the_past_has_changed(rows)
        self.the_events_are_one_chain(rows)
        self.no_bad_version_became_champion(rows)
        self.no_run_published_a_bad_version(rows)
        self.before = rows
        self.looked.append((rows["now"], self.history.champion))

    def nothing_of_the_past_has_changed(self, rows: dict[str, Any]) -> None:
        for table in (*APPEND_ONLY, "version"):
            assert rows[table][: len(self.before[table])] == self.before[table], table

    def the_events_are_one_chain(self, rows: dict[str, Any]) -> None:
        events = rows["alias_event"]
        for before, event in zip([None, *events], events, strict=False):
            previous = (before["event_id"], before["version"]) if before else (None, None)
            assert (event["previous_event_id"], event["previous_version"]) == previous
            assert event["version"] in self.versions
            assert event["alias"] == "champion"

    def no_bad_version_became_champion(self, rows: dict[str, Any]) -> None:
        """Held against the marks in the table, not against those of the history."""
        for event in rows["alias_event"][len(self.before["alias_event"]) :]:
            if event["version"] in self.before["bad"]:
                assert self.allow_bad_was_said(event), event

    def no_run_published_a_bad_version(self, rows: dict[str, Any]) -> None:
        """Held against the marks in the table, not against those of the history."""
        version = {b["batch_id"]: b["version"] for b in rows["batch"]}
        for event in rows["publication_event"][len(self.before["publication_event"]) :]:
            assert event["rollback_id"] is not None or version[event["batch_id"]] not in self.before["bad"], event

    def allow_bad_was_said(self, event: dict[str, Any]) -> bool:
        said = event["evidence"]
        return bool(said.get("allow_bad")) or said.get("rollback_run") in self.allowed

    @invariant()
    def what_scores_now_is_known_and_not_bad(self) -> None:
        try:
            found: Outcome = aliases.champion(self.real.db, self.real.model).version
        except (NoChampion, VersionMarkedBad) as error:
            found = type(error)
        expected: Outcome = self.history.champion or NoChampion
        assert found == (VersionMarkedBad if self.history.champion in self.before["bad"] else expected)


@pytest.fixture
def first(db: Database, tmp_path: Path) -> Iterator[Machine]:
    """A model without a version, in a database that keeps its sessions."""
    with machines(db, tmp_path) as machine:
        yield machine()


def test_an_expired_verdict_is_not_taken_for_the_repetition_of_another(first: Machine) -> None:
    """Two runs judged one version, one person approved both, and between the two answers somebody went back."""
    for key in "ab":
        first.decide(Call("train", (key,)))
    first.decide(Call("set_champion", (1, "by hand", False)))
    verdicts = [first.decide(Call("judge", (2, True))) for _ in range(2)]
    answers = [first.decide(Call("answer", (verdict, "approved", "ann", 0))) for verdict in verdicts]
    first.decide(Call("promote", (verdicts[0], answers[0], True)))
    first.decide(Call("set_champion", (1, "back", False)))

    assert first.decide(Call("promote", (verdicts[0], answers[0], True))) == 2, "its own move, which it repeats"
    assert first.decide(Call("promote", (verdicts[1], answers[1], True))) == "AliasMoved"
    first.the_tables_say_what_the_history_says()


def test_any_history_of_decisions_is_the_one_that_was_decided(db: Database, tmp_path: Path) -> None:
    search = settings(
        max_examples=int(EXAMPLES or 60),
        stateful_step_count=30,
        derandomize=EXAMPLES is None,
        database=None,
        deadline=None,
        # To make a failing history shorter takes minutes; the one that was found has 30 steps at most.
        phases=[Phase.generate] + ([Phase.shrink] if EXAMPLES else []),
        suppress_health_check=list(HealthCheck),
    )
    with machines(db, tmp_path) as machine:
        run_state_machine_as_test(machine, settings=search)


@contextmanager
def machines(db: Database, tmp_path: Path) -> Iterator[Callable[[], Machine]]:
    """Yield a function that returns a machine with a model of its own."""
    pooled, looking = Pooled(db.url), Pooled(db.url)
    with pooled.begin() as connection:
        snapshot_id = connection.exec_driver_sql(
            "INSERT INTO ponte.snapshot (model, run_id, run_key, as_of, windows, holdout_from, features_sql, "
            f"labels_sql, spec_digest) VALUES ('m', 'm', 'm', '{AS_OF}', '[]', '{WEEK}', '', '', '') "
            "RETURNING snapshot_id"
        ).scalar_one()
    folder = write_model(tmp_path)
    try:
        yield lambda: Machine(pooled, looking, folder, snapshot_id)
    finally:
        for pool in (pooled, looking):
            pool.engine.dispose()
