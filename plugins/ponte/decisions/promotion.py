"""A version becomes champion: because it passed the gate, or because a person says so."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from ponte.decisions.rules import Verdict
from ponte.errors import PonteError
from ponte.publishing.tables import require_columns_of_earlier
from ponte.storage.database import Database
from ponte.storage.runs import Run
from ponte.versions import aliases, registry
from ponte.versions.marks import require_not_bad

log = logging.getLogger(__name__)

_VERDICT = sa.text("""SELECT model, version, outcome, champion_event_id FROM ponte.gate_verdict
    WHERE verdict_id = :id""")

_ANSWER = sa.text("""SELECT decision, actor, reason FROM ponte.approval
    WHERE approval_id = :id AND verdict_id = :verdict_id""")

# Events of before there were keys have the run alone, and that was the key then.
_EVENT_OF_RUN = sa.text("""SELECT event_id FROM ponte.alias_event
    WHERE model = :model AND version = :version AND evidence ? 'by_hand_in_run'
    AND coalesce(evidence->>'run_key', evidence->>'by_hand_in_run') = :run_key""")


def promote(
    db: Database, verdict_id: int, *, actor: str, approval_id: int | None = None, approval_required: bool = False
) -> aliases.Alias | None:
    """Make the version of a passed verdict champion, if the champion is still the one it was held against.

    approval_id : the answer of a person, when the model asks for one; theirs are then the name and the reason in the
    event. A verdict that is undecided promotes only with such an answer. Return where the alias points, or None when
    the verdict refused, or consent is missing.
    Raises AliasMoved when somebody else promoted in between, VersionMarkedBad when the version was marked meanwhile,
    PonteError when its predictions do not fit those that the model has made before.
    """
    with db.begin() as connection:
        verdict = connection.execute(_VERDICT, {"id": verdict_id}).one()
        reason, evidence = "gate passed", {"verdict_id": verdict_id}
        if approval_id is not None:
            answer = connection.execute(_ANSWER, {"id": approval_id, "verdict_id": verdict_id}).one_or_none()
            if answer is None:
                raise PonteError("no such answer to this verdict", where=f"verdict {verdict_id}", got=str(approval_id))
            if answer.decision != "approved":
                return None
            actor, reason = answer.actor, answer.reason
            evidence["approval_id"] = approval_id
    consent_needed = approval_required or verdict.outcome == "undecided"
    if verdict.outcome == "refused" or (consent_needed and approval_id is None):
        return None
    expected = aliases.get_event(db, verdict.champion_event_id)
    with db.begin() as connection:
        current = aliases.lock_alias(connection, verdict.model)
        if current is not None and current.version == verdict.version:
            return current
        require_not_bad(connection, verdict.model, verdict.version)
        require_columns_of_earlier(connection, registry.read_version(connection, verdict.model, verdict.version))
        return aliases.append_move(
            connection,
            verdict.model,
            verdict.version,
            expected=expected,
            actor=actor,
            reason=reason,
            evidence=evidence,
        )


def next_step(verdict: Verdict, *, approval_required: bool) -> str:
    """Return what a person may do after `promote` has acted on a verdict; empty when nothing is left to do."""
    by_hand = f"ponte__promote makes version {verdict.version} of {verdict.model} champion"
    if verdict.outcome == "undecided":
        return f"The gate left it to a person: the DAG {by_hand}."
    if verdict.outcome == "refused":
        return f"The gate refused: mend what it says, or decide against it, the DAG {by_hand}."
    return f"A person has to agree: the DAG {by_hand}." if approval_required else ""


def moved_by(db: Database, version: registry.Version, *, run: Run) -> bool:
    """Tell whether that run has made the version champion by hand; one that found it champion has moved nothing."""
    with db.begin() as connection:
        values = {"model": version.model, "version": version.version, "run_key": run.key}
        return connection.execute(_EVENT_OF_RUN, values).scalar_one_or_none() is not None


def set_champion(
    db: Database, version: registry.Version, *, run: Run, actor: str, reason: str, allow_bad: bool
) -> aliases.Alias:
    """Make a version champion because a person says so, whatever the gate said; windows stay as they are.

    Raises VersionMarkedBad unless `allow_bad`, PonteError when its predictions do not fit those that the model has made
    before: nothing could be scored. Does nothing when it is champion already.
    """
    with db.begin() as connection:
        current = aliases.lock_alias(connection, version.model)
        values = {"model": version.model, "version": version.version, "run_key": run.key}
        done = connection.execute(_EVENT_OF_RUN, values).scalar_one_or_none()
        if done is not None:  # a retry, whatever was decided since
            return aliases.Alias(version=version.version, event_id=done)
        if current is not None and current.version == version.version:
            return current
        if not allow_bad:
            require_not_bad(connection, version.model, version.version)
        require_columns_of_earlier(connection, version)
        evidence = {"by_hand_in_run": run.id, "run_key": run.key, "allow_bad": allow_bad}
        return aliases.append_move(
            connection,
            version.model,
            version.version,
            expected=current,
            actor=actor,
            reason=reason,
            evidence=evidence,
        )
