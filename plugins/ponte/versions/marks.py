"""What people have said about a version: bad, or usable with other libraries. Marks are only appended."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

from ponte.errors import VersionMarkedBad
from ponte.storage.database import Database, insert_row, lock_decisions
from ponte.storage.runs import Run
from ponte.versions import registry
from ponte.versions.registry import Version

Mark = Literal["bad", "not bad", "other libraries allowed", "other libraries refused"]

_IS_BAD = sa.text("SELECT ponte.is_bad(:model, :version)")

_SAID_OF_LIBRARIES = sa.text("""SELECT mark FROM ponte.version_mark
    WHERE model = :model AND version = :version AND mark LIKE 'other libraries %'
    ORDER BY mark_id DESC LIMIT 1""")

_MARK_OF_RUN = sa.text("""SELECT mark_id FROM ponte.version_mark
    WHERE model = :model AND version = :version AND mark = :mark AND run_key = :run_key""")


def is_bad(db: Database, model: str, version: int) -> bool:
    """Tell whether the version is marked bad: never chosen by default, whatever points to it."""
    with db.begin() as connection:
        return has_bad_mark(connection, model, version)


def has_bad_mark(connection: sa.Connection, model: str, version: int) -> bool:
    """Do what `is_bad` does, in the caller's transaction."""
    return bool(connection.execute(_IS_BAD, {"model": model, "version": version}).scalar_one())


def allows_other_libraries(db: Database, version: Version) -> bool:
    """Tell whether a person has allowed that the version is used with libraries other than those that trained it."""
    values = {"model": version.model, "version": version.version}
    with db.begin() as connection:
        found = connection.execute(_SAID_OF_LIBRARIES, values).scalar_one_or_none()
    return bool(found == "other libraries allowed")


def require_not_bad(connection: sa.Connection, model: str, version: int) -> None:
    """Raise VersionMarkedBad when the version is marked bad."""
    if has_bad_mark(connection, model, version):
        raise VersionMarkedBad(
            "the version is marked bad",
            where=f"model {model}, version {version}",
            fix="choose another version, or say allow_bad in the form",
        )


def mark_version(
    db: Database, model: str, version: int, mark: Mark, *, run: Run, actor: str, reason: str
) -> dict[str, Any]:
    """Append a mark to a version; return `{mark_id, mark}`. A repetition by the same run finds its mark.

    Marking changes no alias and no publication: see `decisions.rollback` for the way back.
    """
    registry.get_version(db, model, version)
    row = {"model": model, "version": version, "mark": mark, **run.row(), "actor": actor, "reason": reason}
    with db.begin() as connection:
        lock_decisions(connection, model)  # who decides about the model or publishes sees the mark, or ends first
        mark_id = append_mark(connection, row)
    return {"mark_id": mark_id, "mark": mark}


def append_mark(connection: sa.Connection, row: dict[str, Any]) -> int:
    """Append a row of `ponte.version_mark` in the caller's transaction, unless its run has; return its number."""
    insert_row(connection, "ponte.version_mark", row, unless="model, version, mark, run_key")
    return int(connection.execute(_MARK_OF_RUN, row).scalar_one())
