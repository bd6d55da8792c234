"""One window: its batches, what people saw when, and what is known of one of its batches beside the weeks before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ponte.storage.database import Database, quote
from ponte.versions.choice import NAMED
from ponte.viewing.evidence import Evidence, read_evidence

#: The DAG that scores windows for a rollback; all others are scored by `<model>__score`.
ROLLBACK = "ponte__rollback"
#: Of a window that was scored again and again: the batch that people see, and the newest.
MOST_BATCHES = 50
#: Changes of what people see; the newest.
MOST_EVENTS = 200
#: Windows on each side that a wrong address is answered with.
NEAREST = 3

_BATCHES = sa.text("""SELECT b.batch_id, b.version, b.version_reason, b.hindsight, b.status, b.rejected_by, b.why,
        b.stopped_in, b.as_of, b.window_end, b.created_at, b.row_count, b.run_id, v.task, v.classes,
        CASE WHEN b.version_reason = :named OR EXISTS (SELECT FROM ponte.rollback r WHERE r.run_key = b.run_key)
             THEN :rollback ELSE b.model || '__score' END AS dag_id,
        p.batch_id IS NOT NULL AS published, d.at AS dropped_at,
        (SELECT sum(s.row_count) FROM ponte.shard s WHERE s.batch_id = b.batch_id)::bigint AS rows_scored,
        (SELECT count(*) FROM ponte.quarantine q WHERE q.batch_id = b.batch_id) AS rows_quarantined,
        (SELECT sum(r.seconds) FROM ponte.receipt r WHERE r.batch_id = b.batch_id) AS seconds,
        jsonb_path_query_array(v.signature, '$.key[*].name') AS key, count(*) OVER () AS of_batches
    FROM ponte.batch b
    LEFT JOIN ponte.version v ON v.model = b.model AND v.version = b.version
    LEFT JOIN ponte.published p USING (batch_id)
    LEFT JOIN ponte.retention_event d USING (batch_id)
    WHERE b.model = :model AND b.window_start = :window
    ORDER BY p.batch_id IS NULL, b.batch_id DESC LIMIT :most""")

# Each side by the index of (model, window_start): no other window of the model is looked at.
_NEIGHBOURS = sa.text("""(SELECT DISTINCT window_start FROM ponte.batch WHERE model = :model AND window_start < :window
     ORDER BY window_start DESC LIMIT :nearest)
    UNION ALL
    (SELECT DISTINCT window_start FROM ponte.batch WHERE model = :model AND window_start > :window
     ORDER BY window_start LIMIT :nearest)
    ORDER BY 1""")

_EVENTS = sa.text("""SELECT * FROM (
        SELECT e.at, 'shown' AS what, e.batch_id, b.version, e.previous_batch_id, o.version AS previous_version,
               e.row_count, e.rollback_id, e.actor, e.reason
        FROM ponte.publication_event e JOIN ponte.batch b USING (batch_id)
        LEFT JOIN ponte.batch o ON o.batch_id = e.previous_batch_id
        WHERE e.model = :model AND e.window_start = :window
        UNION ALL
        SELECT o.at, 'accepted', b.batch_id, b.version, NULL, NULL, NULL, NULL, o.actor, o.reason
        FROM ponte.batch b JOIN ponte.guard_override o USING (batch_id)
        WHERE b.model = :model AND b.window_start = :window
        UNION ALL
        SELECT n.at, 'new normal', b.batch_id, b.version, NULL, NULL, NULL, NULL, n.actor, n.reason
        FROM ponte.batch b JOIN ponte.normal_event n USING (batch_id)
        WHERE b.model = :model AND b.window_start = :window
        UNION ALL
        SELECT e.at, 'dropped', b.batch_id, b.version, NULL, NULL, e.row_count, NULL, '', e.why
        FROM ponte.batch b JOIN ponte.retention_event e USING (batch_id)
        WHERE b.model = :model AND b.window_start = :window
    ) AS found ORDER BY at DESC, batch_id DESC, what LIMIT :most""")


#: Step of a receipt → the task of `<model>__score` that does it; of a rollback one task does all of them.
_TASKS = {"freeze": "freeze_batch", "check": "check", "score": "score", "guard": "guard", "publish": "publish"}
_OF_ROLLBACK = {"freeze", "check", "score", "guard"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLine:
    """A batch of the window."""

    batch_id: int
    version: int
    version_reason: str | None
    hindsight: bool
    status: str
    rejected_by: str | None
    why: str | None
    stopped_in: str | None
    as_of: dt.datetime
    window_end: dt.date
    created_at: dt.datetime
    row_count: int | None
    run_id: str
    task: str | None
    classes: Sequence[object] | None
    #: Airflow's DAG of the run.
    dag_id: str
    published: bool
    dropped_at: dt.datetime | None
    rows_scored: int | None
    rows_quarantined: int
    seconds: float | None
    #: Names of the key columns.
    key: Sequence[str]

    @property
    def state(self) -> str:
        """Return what became of it: published, dropped, rejected, failed, hidden (complete, not shown), or running."""
        if self.published:
            return "published"
        if self.dropped_at is not None:
            return "dropped"
        if self.status in {"rejected", "failed"}:
            return self.status
        return "hidden" if self.status == "staged" else "running"

    def name_of(self, column: str) -> str:
        """Return what a counted score is the score of: the class, for one of many; else the column."""
        place = column.removeprefix("scores[").removesuffix("]")
        classes = self.classes or ()
        return str(classes[int(place) - 1]) if place.isdigit() and 0 < int(place) <= len(classes) else column

    def log_of(self, step: str) -> tuple[str, ...]:
        """Return the end of the address of the task of its run that did a step; () when that was another run's."""
        if self.dag_id == ROLLBACK:
            return ("tasks", "score_window", "mapped") if step in _OF_ROLLBACK else ()
        if step == "publish" and self.rejected_by is not None:
            return ()  # a person did, by another DAG
        found = _TASKS.get(step)
        return () if found is None else ("tasks", found, *(("mapped",) if step == "score" else ()))

    @property
    def can_be_published(self) -> bool:
        """Tell whether a person can show it all the same: a guard has rejected it."""
        return self.status == "rejected" and self.rejected_by == "guard"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A change of what people see of the window, or may see."""

    at: dt.datetime
    #: shown; accepted: although a guard had tripped; new normal; dropped: by retention.
    what: str
    batch_id: int
    version: int
    previous_batch_id: int | None
    previous_version: int | None
    row_count: int | None
    rollback_id: int | None
    #: Name of a person, or id of a run; "" for retention.
    actor: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFacts:
    """All that the page of a window shows."""

    model: str
    start: dt.date
    batches: tuple[BatchLine, ...]
    #: How many batches the window has, those included that are too many to list.
    of_batches: int
    #: Oldest first.
    events: tuple[Event, ...]
    before: dt.date | None
    after: dt.date | None
    #: The batch that the rest is about.
    batch: BatchLine
    evidence: Evidence
    #: SQL for analysts, by what it is for.
    queries: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> BatchLine | None:
        """Return the batch that people see; None when they see none."""
        return next((b for b in self.batches if b.published), None)

    @property
    def shown_by(self) -> Event | None:
        """Return how the batch that people see came to be shown; None when they see none."""
        now = self.shown
        return next(
            (e for e in reversed(self.events) if now and e.what == "shown" and e.batch_id == now.batch_id), None
        )

    @property
    def last_seen(self) -> BatchLine | None:
        """Return the batch of another version that people saw before the one they see; None when there is none."""
        versions = {b.batch_id: b for b in self.batches if b.dropped_at is None and not b.published}
        seen = [e.batch_id for e in self.events if e.what == "shown" and e.batch_id in versions]
        now = self.shown
        return next((versions[i] for i in reversed(seen) if now and versions[i].version != now.version), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoWindow:
    """There is no such window, or no such batch of it."""

    model: str
    #: What is wrong, in a sentence.
    why: str
    #: Windows that there are, in their order: the nearest, or the newest; empty when none was ever scored.
    nearest: tuple[dt.date, ...]


def read_window(db: Database, model: str, name: str, batch: str | None = None) -> WindowFacts | NoWindow:
    """Return what is known of the window named by its first day, ISO, and of one of its batches.

    batch : the number of one, as in an address; None for the one that people see, or else the newest. All is read at
    one moment, by the same number of queries whatever the window holds.
    """
    if "\0" in model:
        return NoWindow(model=model, why="There is no model of this name.", nearest=())
    start = _day(name)
    if start is None:
        return _newest(db, model, f"{name[:100]!r} is no day: a window is named by its first day, as 2024-02-12.")
    asked = {"model": model, "window": start, "named": NAMED, "rollback": ROLLBACK}
    with db.one_moment() as connection:
        found = connection.execute(_BATCHES, asked | {"most": MOST_BATCHES}).mappings().all()
        around = connection.execute(_NEIGHBOURS, asked | {"nearest": NEAREST}).scalars().all()
        batches = tuple(BatchLine(**{k: v for k, v in row.items() if k != "of_batches"}) for row in found)
        one = next((b for b in batches if batch in (None, str(b.batch_id))), None)
        if one is None:
            why = f"No batch was ever made for a window of {model} that begins on {start}."
            if batch is not None and batches:
                why, around = f"The window {start} of {model} has no batch {batch[:100]!r}.", [start]
            return NoWindow(model=model, why=why, nearest=tuple(around))
        events = connection.execute(_EVENTS, asked | {"most": MOST_EVENTS}).mappings().all()
        evidence = read_evidence(connection, model, start, one.batch_id, one.version)
    return WindowFacts(
        model=model,
        start=start,
        batches=batches,
        of_batches=found[0]["of_batches"],
        events=tuple(Event(**row) for row in reversed(events)),
        before=max((day for day in around if day < start), default=None),
        after=min((day for day in around if day > start), default=None),
        batch=one,
        evidence=evidence,
        queries=queries(model, start, one.key),
    )


def queries(model: str, start: dt.date, key: Sequence[str]) -> dict[str, str]:
    """Return SQL that an analyst can run, by what it is for.

    >>> print(queries("visits", dt.date(2024, 2, 12), ["visit_id"])["rows"])
    SELECT * FROM predictions."visits"
    WHERE window_start = DATE '2024-02-12'
    ORDER BY "visit_id";
    """
    of_model = f"model = {_literal(model)} AND window_start = DATE '{start}'"
    ordered = f"\nORDER BY {', '.join(quote(name) for name in key)}" if key else ""
    return {
        "rows": f"SELECT * FROM predictions.{quote(model)}\nWHERE window_start = DATE '{start}'{ordered};",
        "overview": f"SELECT * FROM ponte.window_overview\nWHERE {of_model};",
        "changes": f"SELECT at, what, actor, reason FROM ponte.change\nWHERE {of_model}\nORDER BY at;",
    }


def _literal(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"""E'{doubled.replace(chr(92), chr(92) * 2)}'""" if "\\" in text else f"'{doubled}'"


def _day(name: str) -> dt.date | None:
    try:
        found = dt.date.fromisoformat(name)
    except ValueError:
        return None
    return found if found.isoformat() == name else None


def _newest(db: Database, model: str, why: str) -> NoWindow:
    asked = {"model": model, "window": dt.date.max, "nearest": 2 * NEAREST}
    with db.one_moment() as connection:
        return NoWindow(model=model, why=why, nearest=tuple(connection.execute(_NEIGHBOURS, asked).scalars()))
