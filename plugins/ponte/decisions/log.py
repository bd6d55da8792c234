"""What the gate and people have said about a version, for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ponte.storage.database import Database

_RULES = sa.text("""SELECT rule, got, expected, passed, outcome FROM ponte.gate_rule
    WHERE verdict_id = (SELECT max(verdict_id) FROM ponte.gate_verdict WHERE model = :model AND version = :version)
    ORDER BY position""")

_DECISIONS = sa.text("""SELECT a.at, a.decision AS what, a.actor AS who, a.reason AS why
    FROM ponte.approval a JOIN ponte.gate_verdict g USING (verdict_id)
    WHERE g.model = :model AND g.version = :version
    UNION ALL
    SELECT at, 'marked: ' || mark, actor, reason FROM ponte.version_mark WHERE model = :model AND version = :version
    UNION ALL
    SELECT at, CASE WHEN version = :version THEN 'became ' || alias
                    WHEN version IS NULL THEN 'was withdrawn as ' || alias
                    ELSE 'gave way as ' || alias || ' to version ' || version END, actor, reason
    FROM ponte.alias_event WHERE model = :model AND :version IN (version, previous_version)
    ORDER BY at""")


def newest_rules(db: Database, model: str, version: int) -> Sequence[Mapping[str, Any]]:
    """Return {rule, got, expected, passed, outcome} of the newest verdict on the version; nothing before the first."""
    return _select(db, _RULES, model, version)


def decisions(db: Database, model: str, version: int) -> Sequence[Mapping[str, Any]]:
    """Return {at, what, who, why} of every approval, mark and move of an alias that concerns the version, by time."""
    return _select(db, _DECISIONS, model, version)


def _select(db: Database, query: sa.TextClause, model: str, version: int) -> Sequence[Mapping[str, Any]]:
    with db.begin() as connection:
        found = connection.execute(query, {"model": model, "version": version}).mappings()
        return [dict(row) for row in found]
