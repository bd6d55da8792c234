"""Versions and alias events. Versions never change; an alias moves only by appending an event."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.errors import AliasMoved, NoChampion, PonteError, VersionMarkedBad
from ponte.model.spec import Task
from ponte.storage.database import Database, insert_row, lock_decisions
from ponte.versions.predicting import Output
from ponte.versions.signature import Signature

CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A row of `ponte.version`."""

    model: str
    version: int
    snapshot_id: int
    train_key: str
    task: Task
    #: Artifact folder below the artifact root.
    path: str
    manifest_sha256: str
    signature: Signature
    #: How probabilities become labels.
    classes: tuple[Any, ...]
    threshold: float | None
    spec_digest: str
    code_revision: str | None
    #: Exact versions of Python and the libraries that fitted it, by name.
    libraries: dict[str, str]
    #: No label or feature of after this moment was seen, neither in fitting nor in measuring.
    train_cutoff: dt.datetime
    train_rows: int
    calibration_rows: int
    holdout_rows: int
    purged_rows: int
    byte_count: int
    run_id: str

    @property
    def output(self) -> Output:
        """How its probabilities become labels."""
        return Output(task=self.task, classes=self.classes, threshold=self.threshold)

    @property
    def place(self) -> str:
        """Where an error happened, for its message."""
        return f"model {self.model}, version {self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alias:
    """Where an alias points, and the event that put it there."""

    version: int
    event_id: int


def get_version(db: Database, model: str, version: int) -> Version:
    """Return the version; raises PonteError naming the versions that exist."""
    with db.begin() as connection:
        return read_version(connection, model, version)


def read_version(connection: sa.Connection, model: str, version: int) -> Version:
    """Return the version as this transaction sees it; raises PonteError naming the versions that exist."""
    found = _select(connection, "model = :model AND version = :version", {"model": model, "version": version})
    if found is None:
        query = sa.text("SELECT version FROM ponte.version WHERE model = :model ORDER BY version")
        known = connection.execute(query, {"model": model}).scalars().all()
        raise PonteError("no such version", where=f"model {model}", got=str(version), expected=f"one of {list(known)}")
    return found


def find_by_train_key(db: Database, model: str, train_key: str) -> Version | None:
    """Return the version fitted on exactly these inputs, if there is one."""
    with db.begin() as connection:
        return _select(connection, "model = :model AND train_key = :key", {"model": model, "key": train_key})


def trained_sql(db: Database, version: Version) -> str:
    """Return the features.sql that the version was trained with, as kept with its snapshot."""
    query = sa.text("SELECT features_sql FROM ponte.snapshot WHERE snapshot_id = :id")
    with db.begin() as connection:
        return str(connection.execute(query, {"id": version.snapshot_id}).scalar_one())


def register(db: Database, model: str, train_key: str, write: Callable[[int], Version]) -> Version:
    """Return the version of `train_key`; when it is new, number it, write its artifact, and register it last.

    `write(number)` stores the artifact folder and returns the row. It runs under a lock of the model, so numbers have
    no gap and two copies of a run register one version. Killed at any instant there is either no row (and perhaps a
    folder that nobody refers to) or a row whose files were read back.
    """
    with db.begin() as connection:
        lock = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.version'), hashtext(:model))")
        connection.execute(lock, {"model": model})
        known = _select(connection, "model = :model AND train_key = :key", {"model": model, "key": train_key})
        if known is not None:
            return known
        query = sa.text("SELECT coalesce(max(version), 0) + 1 FROM ponte.version WHERE model = :model")
        new = write(connection.execute(query, {"model": model}).scalar_one())
        values = {name: getattr(new, name) for name in Version.__dataclass_fields__}
        values |= {"signature": json.dumps(new.signature.as_json()), "libraries": json.dumps(new.libraries)}
        values["classes"] = json.dumps(new.classes) if new.classes else None
        insert_row(connection, "ponte.version", values)
        return new


def is_bad(db: Database, model: str, version: int) -> bool:
    """Tell whether the version is marked bad: never chosen by default, whatever points to it."""
    with db.begin() as connection:
        return has_bad_mark(connection, model, version)


def has_bad_mark(connection: sa.Connection, model: str, version: int) -> bool:
    """Do what `is_bad` does, in the caller's transaction."""
    query = sa.text("SELECT ponte.is_bad(:model, :version)")
    return bool(connection.execute(query, {"model": model, "version": version}).scalar_one())


def allows_other_libraries(db: Database, version: Version) -> bool:
    """Tell whether a person has allowed that the version is used with libraries other than those that trained it."""
    query = sa.text(
        "SELECT mark FROM ponte.version_mark WHERE model = :model AND version = :version "
        "AND mark LIKE 'other libraries %' ORDER BY mark_id DESC LIMIT 1"
    )
    with db.begin() as connection:
        found = connection.execute(query, {"model": version.model, "version": version.version}).scalar_one_or_none()
    return bool(found == "other libraries allowed")


def current_alias(db: Database, model: str, alias: str = CHAMPION) -> Alias | None:
    """Return where the alias points, or None before its first event."""
    with db.begin() as connection:
        return _alias(connection, model, alias)


def lock_alias(connection: sa.Connection, model: str) -> Alias | None:
    """Return where the champion alias points; until the transaction ends, nobody else decides about the model."""
    lock_decisions(connection, model)
    return _alias(connection, model, CHAMPION)


def get_event(db: Database, event_id: int | None) -> Alias | None:
    """Return where an alias pointed after that event; None for None, the state before the first event."""
    if event_id is None:
        return None
    query = sa.text("SELECT version, event_id FROM ponte.alias_event WHERE event_id = :id")
    with db.begin() as connection:
        row = connection.execute(query, {"id": event_id}).one()
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
    successor = connection.execute(
        sa.text(
            "SELECT event_id, version, actor, evidence FROM ponte.alias_event WHERE model = :model AND alias = :alias "
            "AND previous_event_id IS NOT DISTINCT FROM :previous_event_id"
        ),
        row,
    ).one()
    if (successor.version, successor.actor, successor.evidence) == (version, actor, evidence):
        return Alias(version=version, event_id=successor.event_id)
    raise AliasMoved(
        f"the {alias} was moved to version {successor.version} by {successor.actor} in the meantime",
        where=f"model {model}",
        expected=f"version {expected.version}" if expected else "no champion yet",
        fix="look at ponte.alias_event and decide again",
    )


def _alias(connection: sa.Connection, model: str, alias: str) -> Alias | None:
    query = sa.text(
        "SELECT version, event_id FROM ponte.alias_event WHERE model = :model AND alias = :alias "
        "ORDER BY event_id DESC LIMIT 1"
    )
    row = connection.execute(query, {"model": model, "alias": alias}).one_or_none()
    return Alias(version=row.version, event_id=row.event_id) if row else None


def _select(connection: sa.Connection, condition: str, parameters: dict[str, Any]) -> Version | None:
    names = ", ".join(Version.__dataclass_fields__)
    query = sa.text(f"SELECT {names} FROM ponte.version WHERE {condition}")
    row = connection.execute(query, parameters).mappings().one_or_none()
    if row is None:
        return None
    parsed = {"signature": Signature.from_json(row["signature"]), "classes": tuple(row["classes"] or ())}
    return Version(**{**row, **parsed})
