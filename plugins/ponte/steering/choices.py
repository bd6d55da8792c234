"""Versions, batches, windows and alarms of the moment, to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.pages.formats import number, rows
from ponte.pages.plots import metric_name
from ponte.storage.database import Database

#: More than this nobody looks through: what is older can be typed.
MOST = 400
#: Longest text of an entry.
LONGEST = 200

_VERSIONS = sa.text("""SELECT v.version, v.created_at::date AS made, v.origin, c.since::date AS champion_since,
        h.since::date AS challenger_since, ponte.is_bad(v.model, v.version) AS bad, g.outcome, j.metric, m.value
    FROM ponte.version v
    LEFT JOIN ponte.champion c ON c.model = v.model AND c.version = v.version
    LEFT JOIN ponte.challenger h ON h.model = v.model AND h.version = v.version
    LEFT JOIN LATERAL (SELECT verdict_id, outcome FROM ponte.gate_verdict
        WHERE model = v.model AND version = v.version ORDER BY verdict_id DESC LIMIT 1) g ON true
    LEFT JOIN LATERAL (SELECT split_part(rule, ' ', 1) AS metric FROM ponte.gate_rule
        WHERE verdict_id = g.verdict_id AND rule LIKE '% meets the bound' LIMIT 1) j ON true
    LEFT JOIN ponte.metric m ON m.model = v.model AND m.version = v.version AND m.snapshot_id = v.snapshot_id
        AND m.subject = 'candidate' AND m.slice = '' AND m.name = j.metric
    WHERE v.model = :model ORDER BY v.version DESC LIMIT :most""")

_WINDOWS = sa.text("""SELECT * FROM (
        SELECT DISTINCT ON (b.window_start) b.window_start, b.batch_id, b.version, b.status, b.row_count, b.hindsight,
               p.batch_id IS NOT NULL AS published
        FROM ponte.batch b LEFT JOIN ponte.published p USING (batch_id)
        WHERE b.model = :model ORDER BY b.window_start DESC, p.batch_id IS NULL, b.batch_id DESC) of_window
    ORDER BY window_start DESC LIMIT :most""")

_BATCHES = sa.text("""SELECT b.batch_id, b.window_start, b.version, b.row_count, c.epoch = b.epoch AS newest,
        (SELECT array_agg(guard ORDER BY guard) FROM ponte.guard_result
         WHERE batch_id = b.batch_id AND outcome = 'tripped') AS guards
    FROM ponte.batch b JOIN ponte.claim c USING (model, window_start)
    WHERE b.model = :model AND b.status = 'rejected' AND b.rejected_by = 'guard'
    ORDER BY b.window_start DESC, b.batch_id DESC LIMIT :most""")

_ALARMS = sa.text("""SELECT alarm_id, kind, state, provisional, window_start, windows,
        left(reason, 300) AS reason FROM ponte.alarm
    WHERE model = :model AND state <> 'closed' ORDER BY alarm_id DESC LIMIT :most""")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to choose."""

    value: str
    words: str


def read_choices(db: Database, model: str, lists: set[str]) -> dict[str, tuple[Entry, ...]]:
    """Return the lists that are asked for, of versions, windows, batches and alarms, each newest first."""
    makers = {
        "versions": (_VERSIONS, "version", _version),
        "windows": (_WINDOWS, "window_start", _window),
        "batches": (_BATCHES, "batch_id", _batch),
        "alarms": (_ALARMS, "alarm_id", _alarm),
    }
    found = {}
    with db.read_only() as connection:
        for name in sorted(lists):
            query, key, words = makers[name]
            read = connection.execute(query, {"model": model, "most": MOST})
            found[name] = tuple(Entry(str(getattr(row, key)), _joined(words(row))) for row in read)
    return found


def _joined(parts: list[str | None]) -> str:
    text = " · ".join(part for part in parts if part)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _version(row: Any) -> list[str | None]:
    standing = f"champion since {row.champion_since}" if row.champion_since else None
    if standing is None and row.challenger_since:
        standing = f"challenger since {row.challenger_since}"
    return [
        f"version {row.version}",
        "marked bad" if row.bad else None,
        standing or f"{row.origin} {row.made}",
        None if row.value is None else f"{metric_name(row.metric)} {number(row.value)}",
        f"gate {row.outcome}" if row.outcome and row.outcome != "passed" else None,
    ]


def _window(row: Any) -> list[str | None]:
    seen = f"version {row.version}, batch {row.batch_id}" if row.published else f"nobody sees it: {row.status}"
    return [
        str(row.window_start),
        seen,
        None if row.row_count is None else f"{rows(row.row_count)} rows",
        "hindsight" if row.hindsight else None,
    ]


def _batch(row: Any) -> list[str | None]:
    return [
        str(row.window_start),
        f"batch {row.batch_id} of version {row.version} rejected by guard {', '.join(row.guards or ())}",
        None if row.row_count is None else f"{rows(row.row_count)} rows",
        None if row.newest else "a newer run has the window",
    ]


def _alarm(row: Any) -> list[str | None]:
    return [
        f"alarm {row.alarm_id}",
        f"{row.kind} since {row.window_start}",
        f"{row.windows} window{'s' if row.windows != 1 else ''}",
        "provisional" if row.provisional else None,
        row.state,
        row.reason,
    ]
