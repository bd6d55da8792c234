"""Who is champion and challenger, since which event, and the ways to move that: only by appending an event."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.errors import AliasMoved, NoChampion, VersionMarkedBad
from ponte.storage.database import Database, insert_row, lock_decisions
from ponte.versions.marks import is_bad
from ponte.versions.registry import Version, get_version

CHAMPION, CHALLENGER = "champion", "challenger"

# Without a version when it is that of a challenger who was withdrawn.
_CURRENT = sa.text("""SELECT version, event_id FROM ponte.alias_event
    WHERE model = :model AND alias = :alias
    ORDER BY event_id DESC LIMIT 1""")

_AFTER_EVENT = sa.text("SELECT version, event_id FROM ponte.alias_event WHERE event_id = :id")

_SUCCESSOR = sa.text("""SELECT event_id, version, actor, evidence FROM ponte.alias_event
    WHERE model = :model AND alias = :alias AND previous_event_id IS NOT DISTINCT FROM :previous_event_id""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Alias:
    """Where an alias points, and the event that put it there."""

    version: int
    event_id: int


def current_alias(db: Database, model: str, alias: str = CHAMPION) -> Alias | None:
    """Return where the alias points, or None before its first event."""
    with db.begin() as connection:
        return _alias(connection, model, alias)


def lock_alias(connection: sa.Connection, model: str) -> Alias | None:
    """Return where the champion alias points; until the transaction ends, nobody else decides about the model."""
    lock_decisions(connection, model)
    return _alias(connection, model, CHAMPION)


def champion_of(connection: sa.Connection, model: str) -> Alias | None:
    """Return where the champion alias points, in the caller's transaction, without a lock."""
    return _alias(connection, model, CHAMPION)


def challenger(connection: sa.Connection, model: str) -> Alias | None:
    """Return where the challenger alias points, in the caller's transaction; None when there is no challenger."""
    return _alias(connection, model, CHALLENGER)


def move_challenger(
    connection: sa.Connection, model: str, version: int | None, *, actor: str, reason: str, evidence: dict[str, Any]
) -> int:
    """Point the challenger alias at `version`, None withdraws it; return the number of the event.

    In the transaction of a caller that holds the lock of decisions (`lock_alias`).
    """
    last = connection.execute(_CURRENT, {"model": model, "alias": CHALLENGER}).one_or_none()
    row = {
        "model": model,
        "alias": CHALLENGER,
        "version": version,
        "previous_version": None if last is None else last.version,
        "previous_event_id": None if last is None else last.event_id,
        "actor": actor,
        "reason": reason,
        "evidence": json.dumps(evidence),
    }
    return int(insert_row(connection, "ponte.alias_event", row, returning="event_id"))


def get_event(db: Database, event_id: int | None) -> Alias | None:
    """Return where an alias pointed after that event; None for None, the state before the first event."""
    if event_id is None:
        return None
    with db.begin() as connection:
        row = connection.execute(_AFTER_EVENT, {"id": event_id}).one()
    return Alias(version=row.version, event_id=row.event_id)


def champion(db: Database, model: str) -> Version:
    """Return the version that scores now; raises NoChampion or VersionMarkedBad with what to do."""
    alias = current_alias(db, model)
    if alias is None:
        raise NoChampion(
            f"train {model} first: it has no champion",
            where=f"model {model}",
            fix=f"trigger the DAG {model}__train; scoring can start when a version has passed the gate",
        )
    if is_bad(db, model, alias.version):
        raise VersionMarkedBad(
            "the champion is marked bad",
            where=f"model {model}, version {alias.version}",
            fix="roll back to another version with the DAG ponte__rollback, or take the mark back",
        )
    return get_version(db, model, alias.version)


def append_move(
    connection: sa.Connection,
    model: str,
    version: int,
    *,
    expected: Alias | None,
    actor: str,
    reason: str,
    evidence: dict[str, Any],
    alias: str = CHAMPION,
) -> Alias:
    """Point the alias at `version` if it still stands where the caller saw it (`expected`); append the event.

    In the caller's transaction. A caller that repeats its own move (a retry after a lost answer) gets the event it
    wrote before. Raises AliasMoved when somebody else moved the alias in between.
    """
    row = {
        "model": model,
        "alias": alias,
        "version": version,
        "previous_version": expected.version if expected else None,
        "previous_event_id": expected.event_id if expected else None,
        "actor": actor,
        "reason": reason,
        "evidence": json.dumps(evidence),
    }
    event_id = insert_row(
        connection, "ponte.alias_event", row, unless="model, alias, previous_event_id", returning="event_id"
    )
    if event_id is not None:
        return Alias(version=version, event_id=event_id)
    successor = connection.execute(_SUCCESSOR, row).one()
    if (successor.version, successor.actor, successor.evidence) == (version, actor, evidence):
        return Alias(version=version, event_id=successor.event_id)
    raise AliasMoved(
        f"the {alias} was moved to version {successor.version} by {successor.actor} in the meantime",
        where=f"model {model}",
        expected=f"version {expected.version}" if expected else "no champion yet",
        fix="look at ponte.alias_event and decide again",
    )


def _alias(connection: sa.Connection, model: str, alias: str) -> Alias | None:
    row = connection.execute(_CURRENT, {"model": model, "alias": alias}).one_or_none()
    return Alias(version=row.version, event_id=row.event_id) if row and row.version is not None else None
