"""Verdicts, approvals, marks and promotions: who decided what about a version, and why. All of it only appends."""

from __future__ import annotations

import datetime as dt
import json
import logging
from dataclasses import asdict
from typing import Any, Literal

import sqlalchemy as sa

from ponte.decisions.gate import Champion, RuleResult, Verdict, decide
from ponte.errors import AliasMoved, PonteError, VersionMarkedBad
from ponte.model.folders import ModelFolder
from ponte.quality.figures import CANDIDATE, READABLE, Figure, Measured, champion_subject
from ponte.storage.database import Database, insert_row, lock_decisions
from ponte.versions import registry

log = logging.getLogger(__name__)

Decision = Literal["approved", "rejected", "timed out"]
Mark = Literal["bad", "not bad", "other libraries allowed", "other libraries refused"]


def judge(db: Database, folder: ModelFolder, version: int, snapshot_id: int, *, run_id: str) -> tuple[int, Verdict]:
    """Return the verdict on an evaluated version, and its number in `ponte.gate_verdict`; a run gets it once.

    Raises AliasMoved when the champion is another one than was measured beside the version.
    """
    alias = registry.current_alias(db, folder.name)
    figures = _figures(db, folder.name, version, snapshot_id)
    if not any(subject == CANDIDATE for subject, _, _ in figures):
        raise PonteError("the version was not evaluated", where=f"model {folder.name}, version {version}")
    champion = Champion()
    if alias is not None and alias.version != version:
        champion = _champion_state(db, folder.name, version, alias.version, figures)
    verdict = decide(folder.spec, model=folder.name, version=version, figures=figures, champion=champion)
    values = {
        "model": folder.name,
        "version": version,
        "snapshot_id": snapshot_id,
        "run_id": run_id,
        "passed": verdict.passed,
        "champion_event_id": alias.event_id if alias else None,
        "rules": json.dumps([asdict(rule) for rule in verdict.rules]),
    }
    query = sa.text(
        "SELECT verdict_id, rules FROM ponte.gate_verdict "
        "WHERE model = :model AND version = :version AND run_id = :run_id"
    )
    with db.begin() as connection:
        insert_row(connection, "ponte.gate_verdict", values, unless="model, version, run_id")
        # A retry gets the verdict of the first try, even if the champion has changed in between.
        verdict_id, rules = connection.execute(query, values).one()
    verdict = Verdict(model=folder.name, version=version, rules=tuple(RuleResult(**rule) for rule in rules))
    log.info("gate of %s version %d\n%s", folder.name, version, verdict.table())
    return verdict_id, verdict


def _champion_state(
    db: Database, model: str, version: int, champion: int, figures: dict[tuple[str, str, str], Measured]
) -> Champion:
    if registry.is_bad(db, model, champion):
        return Champion(version=champion, state="bad")
    readable = figures.get((champion_subject(champion), "", READABLE))
    if readable is None:
        raise AliasMoved(
            f"the champion is version {champion}, which was not measured beside version {version}",
            where=f"model {model}",
            fix="it was promoted meanwhile: clear the task evaluate",
        )
    return Champion(version=champion, state="measured" if readable.figure.value else "unreadable")


def _figures(db: Database, model: str, version: int, snapshot_id: int) -> dict[tuple[str, str, str], Measured]:
    query = sa.text(
        "SELECT subject, slice, name, value, low, high, row_count FROM ponte.metric "
        "WHERE model = :model AND version = :version AND snapshot_id = :snapshot_id"
    )
    with db.begin() as connection:
        rows = connection.execute(query, {"model": model, "version": version, "snapshot_id": snapshot_id}).all()
    return {
        (r.subject, r.slice, r.name): Measured(
            subject=r.subject,
            slice=r.slice,
            name=r.name,
            figure=Figure(r.value, r.low, r.high),
            row_count=r.row_count,
        )
        for r in rows
    }


def record_approval(
    db: Database,
    verdict_id: int,
    decision: Decision,
    *,
    run_id: str,
    actor: str,
    reason: str,
    answered_at: dt.datetime,
) -> int:
    """Append what was said to a verdict; return its number. The same answer, by its moment, is kept once.

    A run that was killed after an answer asks again; the new answer is a row of its own.
    """
    row = {
        "verdict_id": verdict_id,
        "run_id": run_id,
        "decision": decision,
        "actor": actor,
        "reason": reason,
        "answered_at": answered_at,
    }
    with db.begin() as connection:
        insert_row(connection, "ponte.approval", row, unless="verdict_id, run_id, answered_at")
        query = sa.text(
            "SELECT approval_id FROM ponte.approval "
            "WHERE verdict_id = :verdict_id AND run_id = :run_id AND answered_at = :answered_at"
        )
        return int(connection.execute(query, row).scalar_one())


def promote(
    db: Database, verdict_id: int, *, actor: str, approval_id: int | None = None, approval_required: bool = False
) -> registry.Alias | None:
    """Make the version of a passed verdict champion, if the champion is still the one it was held against.

    approval_id : the answer of a person, when the model asks for one; theirs are then the name and the reason in the
    event. Return where the alias points, or None when the verdict did not pass, or consent is missing.
    Raises AliasMoved when somebody else promoted in between, VersionMarkedBad when the version was marked meanwhile.
    """
    query = sa.text("SELECT model, version, passed, champion_event_id FROM ponte.gate_verdict WHERE verdict_id = :id")
    with db.begin() as connection:
        verdict = connection.execute(query, {"id": verdict_id}).one()
        reason, evidence = "gate passed", {"verdict_id": verdict_id}
        if approval_id is not None:
            answer = connection.execute(
                sa.text(
                    "SELECT decision, actor, reason FROM ponte.approval "
                    "WHERE approval_id = :id AND verdict_id = :verdict_id"
                ),
                {"id": approval_id, "verdict_id": verdict_id},
            ).one_or_none()
            if answer is None:
                raise PonteError("no such answer to this verdict", where=f"verdict {verdict_id}", got=str(approval_id))
            if answer.decision != "approved":
                return None
            actor, reason = answer.actor, answer.reason
            evidence["approval_id"] = approval_id
    if not verdict.passed or (approval_required and approval_id is None):
        return None
    expected = registry.get_event(db, verdict.champion_event_id)
    with db.begin() as connection:
        current = registry.lock_alias(connection, verdict.model)
        if current is not None and current.version == verdict.version:
            return current
        require_not_bad(connection, verdict.model, verdict.version)
        return registry.append_move(
            connection,
            verdict.model,
            verdict.version,
            expected=expected,
            actor=actor,
            reason=reason,
            evidence=evidence,
        )


def require_not_bad(connection: sa.Connection, model: str, version: int) -> None:
    """Raise VersionMarkedBad when the version is marked bad."""
    if registry.has_bad_mark(connection, model, version):
        raise VersionMarkedBad(
            "the version is marked bad",
            where=f"model {model}, version {version}",
            fix="choose another version, or say allow_bad in the form",
        )


def mark_version(
    db: Database, model: str, version: int, mark: Mark, *, run_id: str, actor: str, reason: str
) -> dict[str, Any]:
    """Append a mark to a version; return `{mark_id, mark}`. A repetition by the same run finds its mark.

    Marking changes no alias and no publication: see `ponte.rollback` for the way back.
    """
    registry.get_version(db, model, version)
    row = {"model": model, "version": version, "mark": mark, "run_id": run_id, "actor": actor, "reason": reason}
    with db.begin() as connection:
        lock_decisions(connection, model)  # who decides about the model or publishes sees the mark, or ends first
        mark_id = append_mark(connection, row)
    return {"mark_id": mark_id, "mark": mark}


def append_mark(connection: sa.Connection, row: dict[str, Any]) -> int:
    """Append a row of `ponte.version_mark` in the caller's transaction, unless its run has; return its number."""
    insert_row(connection, "ponte.version_mark", row, unless="model, version, mark, run_id")
    query = sa.text(
        "SELECT mark_id FROM ponte.version_mark WHERE model = :model AND version = :version AND mark = :mark "
        "AND run_id = :run_id"
    )
    return int(connection.execute(query, row).scalar_one())


def set_champion(
    db: Database, version: registry.Version, *, run_id: str, actor: str, reason: str, allow_bad: bool
) -> registry.Alias:
    """Make a version champion because a person says so, whatever the gate said; windows stay as they are.

    Raises VersionMarkedBad unless `allow_bad`. Does nothing when it is champion already.
    """
    with db.begin() as connection:
        current = registry.lock_alias(connection, version.model)
        query = sa.text(
            "SELECT event_id FROM ponte.alias_event "
            "WHERE model = :model AND version = :version AND evidence->>'by_hand_in_run' = :run_id"
        )
        values = {"model": version.model, "version": version.version, "run_id": run_id}
        done = connection.execute(query, values).scalar_one_or_none()
        if done is not None:  # a retry, whatever was decided since
            return registry.Alias(version=version.version, event_id=done)
        if current is not None and current.version == version.version:
            return current
        if not allow_bad:
            require_not_bad(connection, version.model, version.version)
        evidence = {"by_hand_in_run": run_id, "allow_bad": allow_bad}
        return registry.append_move(
            connection,
            version.model,
            version.version,
            expected=current,
            actor=actor,
            reason=reason,
            evidence=evidence,
        )
