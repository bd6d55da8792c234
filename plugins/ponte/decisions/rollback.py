"""The way back: the champion alias and what people see of chosen windows move together, in one audited action.

For a window that the version scored before, its kept batch is shown again; for any other the version scores it anew,
unseen, before anything moves. Undoing a rollback is a rollback.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.errors import AliasMoved, Fenced, NoChampion
from ponte.model.folders import ModelFolder
from ponte.model.windows import Window, require_past
from ponte.publishing.pointer import LOCK_TIMEOUT, show, shown_window
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database, insert_row, limit_lock_waits, with_lock_retries
from ponte.storage.runs import Run
from ponte.versions import aliases, registry
from ponte.versions.choice import choose_named
from ponte.versions.loading import load_registered
from ponte.versions.marks import append_mark, require_not_bad

_SHOWN_WINDOWS = sa.text("""SELECT p.window_start FROM ponte.published p JOIN ponte.batch b USING (batch_id)
    WHERE p.model = :model AND b.version = :version""")

# Retention drops a batch's table, and the name of it. Asked of the catalog: a page may not look into ponte_data.
_KEPT_BATCH = sa.text("""SELECT b.batch_id FROM ponte.batch b
    WHERE b.model = :model AND b.version = :version AND b.window_start = :start AND b.window_end = :end
    AND b.status = 'staged' AND (:allow_hindsight OR NOT b.hindsight)
    AND EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)
    AND EXISTS (SELECT FROM pg_class WHERE relnamespace = 'ponte_data'::regnamespace AND relname = b.prediction_table)
    ORDER BY b.batch_id DESC LIMIT 1""")

_UNDER_WAY = sa.text("""SELECT b.window_start FROM ponte.batch b JOIN ponte.claim c USING (model, window_start, epoch)
    WHERE b.model = :model AND b.version = :version
    AND (b.status NOT IN ('rejected', 'failed') OR b.stopped_in IS NOT NULL)
    AND NOT EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)
    ORDER BY 1""")

_LOCKED_CLAIM = sa.text("""SELECT c.epoch, b.batch_id
    FROM ponte.claim c LEFT JOIN ponte.batch b
        ON b.model = c.model AND b.window_start = c.window_start AND b.epoch = c.epoch AND b.run_key = :run_key
    WHERE c.model = :model AND c.window_start = :window
    FOR UPDATE OF c""")

_SHOWN = sa.text("SELECT batch_id FROM ponte.published WHERE model = :model AND window_start = :window")


class Asked(TypedDict):
    """What a rollback is asked for, beside the version to go back to."""

    #: First days.
    windows: Sequence[dt.date]
    #: Also all windows that people now see from the present champion.
    every_window: bool
    allow_bad: bool
    allow_hindsight: bool
    #: A window whose as_of is still to come then is refused.
    now: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a rollback will do, as JSON between tasks: nothing has moved yet."""

    model: str
    from_version: int
    to_version: int
    #: The alias event that the plan was made under; the rollback is refused when there is a newer one.
    event_id: int
    #: Windows with a batch of the version that people have seen before: first day → batch.
    kept: Mapping[str, int]
    #: First days of the windows that the version has to score anew.
    rescore: Sequence[str]
    #: Whether all windows that people see from the version left are meant.
    every_window: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollback:
    """A row of `ponte.rollback`."""

    rollback_id: int
    from_version: int
    to_version: int
    alias_event_id: int | None
    #: Entries of {window_start, batch_id, previous_batch_id, rescored}.
    windows: list[dict[str, Any]]


_COLUMNS = ", ".join(Rollback.__dataclass_fields__)
_BY_RUN = sa.text(f"SELECT {_COLUMNS} FROM ponte.rollback WHERE model = :model AND run_key = :run_key")


def plan_rollback(
    db: Database, store: ArtifactStore, folder: ModelFolder, version: int, **asked: Unpack[Asked]
) -> Plan:
    """Return what `foresee_rollback` does, and load the version: what could not be done is refused early.

    Raises ArtifactRefused when its files are damaged, and what `foresee_rollback` raises.
    """
    plan = foresee_rollback(db, folder, version, **asked)
    load_registered(db, store, registry.get_version(db, folder.name, version))
    return plan


def foresee_rollback(db: Database, folder: ModelFolder, version: int, **asked: Unpack[Asked]) -> Plan:
    """Return what going back to `version` means, without a look at its files; whoever reads registry and batches may.

    What people see keeps the bounds that it was published with, an edit of `[window]` notwithstanding. Raises
    PonteError for an unknown version, VersionMarkedBad, NoChampion, WindowError, HindsightRefused.
    """
    allow_hindsight = asked["allow_hindsight"]
    target = registry.get_version(db, folder.name, version)
    alias = aliases.current_alias(db, folder.name)
    if alias is None:
        fix = f"trigger {folder.name}__train, or make a version champion with ponte__promote"
        raise NoChampion("there is nothing to roll back from", where=f"model {folder.name}", fix=fix)
    with db.begin() as connection:
        if not asked["allow_bad"]:
            require_not_bad(connection, folder.name, version)
        days = {*asked["windows"]}
        if asked["every_window"]:
            days.update(_shown_windows(connection, folder.name, alias.version))
        wanted = {shown_window(connection, folder.spec.window, folder.name, day) for day in days}
        kept = {w: _kept_batch(connection, folder.name, version, w, allow_hindsight) for w in sorted(wanted)}
    for window in kept:
        require_past(window.as_of, asked["now"], f"window {window}")
    for window, batch_id in kept.items():
        if batch_id is None:
            choose_named(target, window, allow_hindsight=allow_hindsight)
    return Plan(
        model=folder.name,
        from_version=alias.version,
        to_version=version,
        event_id=alias.event_id,
        kept={str(w.start): batch_id for w, batch_id in kept.items() if batch_id is not None},
        rescore=[str(w.start) for w, batch_id in kept.items() if batch_id is None],
        every_window=asked["every_window"],
    )


def _shown_windows(connection: sa.Connection, model: str, version: int) -> list[dt.date]:
    return list(connection.execute(_SHOWN_WINDOWS, {"model": model, "version": version}).scalars())


def _kept_batch(
    connection: sa.Connection, model: str, version: int, window: Window, allow_hindsight: bool
) -> int | None:
    """Return the newest batch of the version for the window that people have seen and whose rows are still there."""
    values = {
        "model": model,
        "version": version,
        "start": window.start,
        "end": window.end,
        "allow_hindsight": allow_hindsight,
    }
    found: int | None = connection.execute(_KEPT_BATCH, values).scalar_one_or_none()
    return found


def roll_back(
    db: Database,
    plan: Plan,
    *,
    run: Run,
    actor: str,
    reason: str,
    mark_bad: bool = False,
    allow_bad: bool = False,
) -> Rollback:
    """Move the alias and all planned windows in one transaction; a repetition by the same run changes nothing.

    mark_bad : also mark the version left. Raises AliasMoved when the champion is no longer the one that was planned
    with, Fenced when a newer run took a window that was scored anew, VersionMarkedBad when the version was marked
    meanwhile.
    """
    return with_lock_retries(
        lambda: _roll_back(db, plan, run=run, actor=actor, reason=reason, mark_bad=mark_bad, allow_bad=allow_bad)
    )


def _roll_back(
    db: Database, plan: Plan, *, run: Run, actor: str, reason: str, mark_bad: bool, allow_bad: bool
) -> Rollback:
    with db.begin() as connection:
        limit_lock_waits(connection, LOCK_TIMEOUT)
        current = aliases.lock_alias(connection, plan.model)
        done = _done(connection, plan.model, run)
        if done is not None:
            return done
        if current is None or current.event_id != plan.event_id:
            raise AliasMoved(
                "the champion was moved since this rollback was planned",
                where=f"model {plan.model}",
                got=f"version {current.version if current else None}",
                expected=f"version {plan.from_version}",
                fix="look at ponte.alias_event and start a new rollback",
            )
        if not allow_bad:
            require_not_bad(connection, plan.model, plan.to_version)
        if plan.every_window and plan.from_version != plan.to_version:
            _require_none_new(connection, plan, run)
        staged = _take_windows(connection, plan, run)
        moved = None
        if current.version != plan.to_version:
            moved = aliases.append_move(
                connection,
                plan.model,
                plan.to_version,
                expected=current,
                actor=actor,
                reason=reason,
                evidence={"rollback_run": run.id, "run_key": run.key},
            ).event_id
        rollback = _record(connection, plan, staged, moved, run=run, actor=actor, reason=reason)
        for batch, epoch in staged:
            show(connection, batch, epoch=epoch, actor=actor, reason=reason, rollback_id=rollback.rollback_id)
        if mark_bad and plan.from_version != plan.to_version:
            mark = {"model": plan.model, "version": plan.from_version, "mark": "bad"}
            append_mark(connection, {**mark, **run.row(), "actor": actor, "reason": reason})
        return rollback


def _require_none_new(connection: sa.Connection, plan: Plan, run: Run) -> None:
    """Raise Fenced when people see a window from the version left that was not planned; fence off those under way."""
    shown = {str(day) for day in _shown_windows(connection, plan.model, plan.from_version)}
    late = sorted(shown - {*plan.kept, *plan.rescore})
    if late:
        raise Fenced(
            "windows were published since this rollback was planned; nothing was moved",
            where=f"model {plan.model}, version {plan.from_version}",
            got=", ".join(late),
            fix="start a new rollback",
        )
    for day in connection.execute(_UNDER_WAY, {"model": plan.model, "version": plan.from_version}).scalars().all():
        if str(day) not in plan.kept and str(day) not in plan.rescore:
            batches.take_over(connection, plan.model, day, run=run)


def _take_windows(connection: sa.Connection, plan: Plan, run: Run) -> list[tuple[Batch, int]]:
    """Return the batch to show per window with the epoch to show it under, holding the fence of each, oldest first."""
    staged = []
    for day in sorted([*plan.kept, *plan.rescore]):
        window_start = dt.date.fromisoformat(day)
        if day in plan.kept:
            epoch = batches.take_over(connection, plan.model, window_start, run=run)
            batch = batches.lock(connection, plan.kept[day])
        else:
            values = {"model": plan.model, "window": window_start, "run_key": run.key}
            epoch, batch_id = connection.execute(_LOCKED_CLAIM, values).one_or_none() or (0, None)
            if batch_id is None:
                raise Fenced(
                    "this rollback has not scored a window, or a newer run took it; nothing was moved",
                    where=f"model {plan.model}, window {day}",
                    fix="clear all of score_window with what follows it; after a newer run start a new rollback",
                )
            batch = batches.lock(connection, batch_id)
        batches.require(batch, "staged")
        staged.append((batch, epoch))
    return staged


def _record(
    connection: sa.Connection,
    plan: Plan,
    staged: Sequence[tuple[Batch, int]],
    alias_event_id: int | None,
    *,
    run: Run,
    actor: str,
    reason: str,
) -> Rollback:
    windows = []
    for batch, _ in staged:
        values = {"model": plan.model, "window": batch.window_start}
        windows.append(
            {
                "window_start": str(batch.window_start),
                "batch_id": batch.batch_id,
                "previous_batch_id": connection.execute(_SHOWN, values).scalar_one_or_none(),
                "rescored": str(batch.window_start) in plan.rescore,
            }
        )
    row = {
        "model": plan.model,
        **run.row(),
        "from_version": plan.from_version,
        "to_version": plan.to_version,
        "alias_event_id": alias_event_id,
        "windows": json.dumps(windows),
        "actor": actor,
        "reason": reason,
    }
    return Rollback(
        rollback_id=insert_row(connection, "ponte.rollback", row, returning="rollback_id"),
        from_version=plan.from_version,
        to_version=plan.to_version,
        alias_event_id=alias_event_id,
        windows=windows,
    )


def _done(connection: sa.Connection, model: str, run: Run) -> Rollback | None:
    row = connection.execute(_BY_RUN, {"model": model, "run_key": run.key}).mappings().one_or_none()
    return None if row is None else Rollback(**row)
