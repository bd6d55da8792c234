"""Who is challenger: after the gate where the model asks for a duel, or because a person says so."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from ponte.decisions import promotion
from ponte.decisions.gate import is_against_champion
from ponte.decisions.rules import RuleResult
from ponte.errors import PonteError
from ponte.model.spec import ModelSpec
from ponte.publishing.tables import require_columns_of_earlier
from ponte.snapshots.champion import why_another_question
from ponte.storage.database import Database
from ponte.storage.runs import Run
from ponte.versions import aliases, registry
from ponte.versions.aliases import Alias
from ponte.versions.marks import has_bad_mark, require_not_bad

log = logging.getLogger(__name__)

_VERDICT = sa.text("SELECT model, version, rules FROM ponte.gate_verdict WHERE verdict_id = :id")
_NEWEST_RULES = sa.text("""SELECT rules FROM ponte.gate_verdict WHERE model = :model AND version = :version
    ORDER BY verdict_id DESC LIMIT 1""")

_EVENT_OF_VERDICT = sa.text("""SELECT event_id FROM ponte.alias_event
    WHERE model = :model AND alias = 'challenger' AND evidence->>'verdict_id' = CAST(:id AS text)""")

_EVENT_OF_RUN = sa.text("""SELECT event_id, version FROM ponte.alias_event
    WHERE model = :model AND alias = 'challenger' AND evidence->>'run_key' = :run_key""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Promoted:
    """What followed from a verdict."""

    #: Where the champion alias points now; None when the version was not promoted.
    champion: Alias | None = None
    #: What became of it instead, for people; empty when the model asks for no duel, or none is due.
    duel: str = ""


def promote(db: Database, spec: ModelSpec, verdict_id: int, *, actor: str, approval_id: int | None = None) -> Promoted:
    """Do what follows from a verdict by the model's `promotion`: promote, or with "after_duel" make it challenger.

    Raises what `promotion.promote` raises.
    """
    if spec.promotion == "after_duel" and approval_id is None:
        told = _challenge(db, verdict_id, actor=actor)
        if told:
            return Promoted(duel=told)
    required = spec.promotion == "approval"
    return Promoted(
        champion=promotion.promote(db, verdict_id, actor=actor, approval_id=approval_id, approval_required=required)
    )


def _challenge(db: Database, verdict_id: int, *, actor: str) -> str:
    """Make the version of a verdict challenger; return what became of it, "" when there is nothing to fight for."""
    with db.begin() as connection:
        verdict = connection.execute(_VERDICT, {"id": verdict_id}).one()
        model, version = verdict.model, verdict.version
        champion = aliases.lock_alias(connection, model)
        if champion is None or champion.version == version or has_bad_mark(connection, model, champion.version):
            return ""
        if not _may_fight(verdict.rules):
            return ""
        against = f"version {version} is held against champion {champion.version} in the weeks to come"
        if connection.execute(_EVENT_OF_VERDICT, {"model": model, "id": verdict_id}).one_or_none() is not None:
            return f"{against}, see ponte.duel"
        now = _fighting(connection, model, champion)
        if now is not None and now.version != version:
            return (
                f"version {now.version} is challenger until its duel is decided; "
                f"ponte__challenge puts version {version} in its place"
            )
        if now is None:
            require_not_bad(connection, model, version)
            require_columns_of_earlier(connection, registry.read_version(connection, model, version))
            aliases.move_challenger(
                connection, model, version, actor=actor, reason="the gate let it", evidence={"verdict_id": verdict_id}
            )
        return f"{against}, see ponte.duel"


def _may_fight(rules: list[dict[str, object]]) -> bool:
    """Tell whether all that a gate has against a version is that it could not be told from the champion."""
    for rule in map(RuleResult.from_json, rules):
        open_question = is_against_champion(rule) and rule.evidence.get("outcome") == "indistinguishable"
        if not rule.passed and not (open_question and rule.outcome == "refused"):
            return False
    return True


def may_be_promoted(connection: sa.Connection, model: str, version: int) -> bool:
    """Tell whether the newest verdict on the version has nothing against it that a duel does not answer."""
    rules = connection.execute(_NEWEST_RULES, {"model": model, "version": version}).scalar_one_or_none()
    return rules is not None and _may_fight(rules)


def _fighting(connection: sa.Connection, model: str, champion: Alias) -> Alias | None:
    """Return the challenger, unless it is champion by now or marked bad: then its place is free."""
    found = aliases.challenger(connection, model)
    if found is None or found.version == champion.version or has_bad_mark(connection, model, found.version):
        return None
    return found


def set_challenger(db: Database, model: str, version: int, *, run: Run, actor: str, reason: str) -> int:
    """Make a version challenger because a person says so; return the number of the event.

    It takes the place of another one. Does nothing when it is challenger already, or its run has done so before.
    Raises NoChampion, VersionMarkedBad, PonteError for an unknown version, the champion itself, or one whose answers
    cannot be compared with the champion's.
    """
    champion = aliases.champion(db, model)
    found = registry.get_version(db, model, version)
    if version == champion.version:
        raise PonteError("the champion cannot challenge itself", where=found.place)
    if why := why_another_question(found, champion):
        raise PonteError("the version cannot be held against the champion", where=found.place, got=why)
    with db.begin() as connection:
        aliases.lock_alias(connection, model)
        done = connection.execute(_EVENT_OF_RUN, {"model": model, "run_key": run.key}).one_or_none()
        if done is not None:
            return int(done.event_id)
        now = aliases.challenger(connection, model)
        if now is not None and now.version == version:
            return now.event_id
        require_not_bad(connection, model, version)
        require_columns_of_earlier(connection, found)
        return aliases.move_challenger(
            connection, model, version, actor=actor, reason=reason, evidence={"run_id": run.id, "run_key": run.key}
        )


def withdraw_challenger(db: Database, model: str, version: int, *, run: Run, actor: str, reason: str) -> int:
    """Take a challenger back because a person says so; return the number of the event.

    A repetition by the same run finds its event. Raises PonteError when the version is not challenger.
    """
    with db.begin() as connection:
        aliases.lock_alias(connection, model)
        done = connection.execute(_EVENT_OF_RUN, {"model": model, "run_key": run.key}).one_or_none()
        if done is not None:
            return int(done.event_id)
        now = aliases.challenger(connection, model)
        if now is None or now.version != version:
            raise PonteError(
                "the version is not challenger",
                where=f"model {model}, version {version}",
                got="there is none" if now is None else f"version {now.version} is",
                fix="look at ponte.challenger",
            )
        return aliases.move_challenger(
            connection, model, None, actor=actor, reason=reason, evidence={"run_id": run.id, "run_key": run.key}
        )
