"""Which version scores a window? For a past one the champion at its as_of: what would have been predicted then.

A backfill must not look better than the past was. So a version that may have learned from what happened after as_of is
refused unless a person says that hindsight is wanted, and then everything made with it says so.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from ponte.errors import HindsightRefused
from ponte.model.windows import Window
from ponte.storage.database import Database
from ponte.versions import aliases, registry
from ponte.versions.registry import Version

_RESTORED = sa.text("""SELECT e.rollback_id, b.version, b.hindsight
    FROM ponte.published p
    JOIN ponte.batch b ON b.batch_id = p.batch_id
    JOIN LATERAL (
        SELECT rollback_id, batch_id FROM ponte.publication_event e
        WHERE e.model = p.model AND e.window_start = p.window_start AND e.rollback_id IS NOT NULL
        ORDER BY event_id DESC LIMIT 1
    ) e ON true
    JOIN ponte.batch r ON r.batch_id = e.batch_id AND r.version = b.version
    WHERE p.model = :model AND p.window_start = :window AND NOT ponte.is_bad(b.model, b.version)""")

#: Why a version scores the windows of a rollback.
NAMED = "named by a person"

_CHAMPION_THEN = sa.text("""SELECT version, ponte.champion_at(:model, :as_of) AS really FROM ponte.alias_event
    WHERE model = :model AND alias = 'champion' AND at <= :as_of AND NOT ponte.is_bad(model, version)
    ORDER BY event_id DESC LIMIT 1""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A version for a window, and why this one."""

    version: Version
    reason: str
    #: True when the version may have learned from what happened after the window's as_of.
    hindsight: bool = False


def choose(db: Database, model: str, window: Window, *, now: dt.datetime, allow_hindsight: bool) -> Choice:
    """Return the version that scores the window, the first of these that there is.

    1. What a rollback restored the window to, while people see that version: scoring again does not undo a decision.
    2. Today's champion for the newest window, the one whose successor's as_of is still to come, if its train cutoff is
       at or before as_of: a promotion or a rollback counts at once.
    3. The champion at as_of.
    4. Today's champion, if its train cutoff is at or before as_of, or hindsight is allowed.

    A version that is marked bad is passed over in 1 and 3; where today's champion would be next, it is an error that
    somebody has to resolve. Raises NoChampion, VersionMarkedBad, or HindsightRefused with both dates.
    """
    with db.begin() as connection:
        restored = _restored(connection, model, window)
        then = None if restored else _champion_then(connection, model, window)
    if restored is not None:
        rollback_id, version, hindsight = restored
        found = registry.get_version(db, model, version)
        return Choice(version=found, reason=f"restored by rollback {rollback_id}", hindsight=hindsight)
    if now < window.as_of + (window.end - window.start):
        today = aliases.champion(db, model)
        if today.train_cutoff <= window.as_of:
            return Choice(version=today, reason="champion now; the window is the newest")
    if then is not None:
        version, passed_over = then
        reason = "champion at as_of"
        if passed_over:
            reason = f"champion before as_of; version {passed_over}, champion then, is marked bad"
        return Choice(version=registry.get_version(db, model, version), reason=reason)
    return _standing_in(aliases.champion(db, model), window, allow_hindsight=allow_hindsight)


def choose_named(version: Version, window: Window, *, allow_hindsight: bool) -> Choice:
    """Return a version that a person has named for the window; raises HindsightRefused as `choose` does."""
    found = _standing_in(version, window, allow_hindsight=allow_hindsight)
    return Choice(version=version, reason=NAMED, hindsight=found.hindsight)


def _standing_in(version: Version, window: Window, *, allow_hindsight: bool) -> Choice:
    if version.train_cutoff <= window.as_of:
        reason = "no champion at as_of; today's had seen nothing later than that"
        return Choice(version=version, reason=reason)
    if allow_hindsight:
        reason = "no champion at as_of; today's has seen later days, and hindsight was allowed"
        return Choice(version=version, reason=reason, hindsight=True)
    raise HindsightRefused(
        "the version may have learned from what happened after as_of",
        where=f"model {version.model}, window {window}, version {version.version}",
        got=f"train cutoff {version.train_cutoff.isoformat()}",
        expected=f"at or before as_of {window.as_of.isoformat()}",
        fix="train a version as of that time, or say allow_hindsight in the trigger form: batch and rows are then "
        "marked hindsight",
    )


def _restored(connection: sa.Connection, model: str, window: Window) -> tuple[int, int, bool] | None:
    """Return (rollback, version, hindsight) when people see of the window the version a rollback restored it to."""
    row = connection.execute(_RESTORED, {"model": model, "window": window.start}).one_or_none()
    return None if row is None else (row.rollback_id, row.version, row.hindsight)


def _champion_then(connection: sa.Connection, model: str, window: Window) -> tuple[int, int | None] | None:
    """Return (version, the later champion that was passed over because it is marked bad) at the window's as_of."""
    row = connection.execute(_CHAMPION_THEN, {"model": model, "as_of": window.as_of}).one_or_none()
    if row is None:
        return None
    return row.version, (row.really if row.really != row.version else None)
