"""A model's newest live windows and its queue, by two queries: counts and figures, no content of rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa

#: Windows that are told, back from the last one in which something was asked.
MOST_WINDOWS = 8

# What was not answered or not kept is of no window in its table: it is of that which holds its day, windows being as
# long as the newest one that is known, and beginning where it does. Without any they are weeks.
_WINDOWS = sa.text("""WITH counted AS MATERIALIZED (
        SELECT window_start, window_end, version, sum(row_count)::bigint AS rows FROM (
            SELECT window_start, window_end, version, row_count FROM ponte.live_window WHERE model = :model
            -- Not folded yet.
            UNION ALL SELECT window_start, window_end, version, row_count FROM ponte.live_count WHERE model = :model
        ) r GROUP BY window_start, window_end, version
    ), known AS MATERIALIZED (
        SELECT window_start AS origin, window_end - window_start AS days FROM (
            SELECT window_start, window_end FROM counted
            UNION ALL SELECT window_start, window_end FROM ponte.batch WHERE model = :model
            UNION ALL VALUES (DATE '1970-01-05', DATE '1970-01-12')
        ) w ORDER BY window_start DESC LIMIT 1
    ), newest AS (
        -- A clock that goes wrong does not hide what was asked by now.
        SELECT least((now() AT TIME ZONE 'UTC')::date, greatest((SELECT max(window_start) FROM counted),
            (SELECT max(asked_at) FROM ponte.live_unscored WHERE model = :model) AT TIME ZONE 'UTC',
            (SELECT max(from_at) FROM ponte.live_dropped WHERE model = :model) AT TIME ZONE 'UTC')::date) AS day
    ), since AS MATERIALIZED (
        SELECT origin + (floor((day - origin) / days::float8)::integer - :most + 1) * days AS window_start
        FROM known CROSS JOIN newest
    ), lost AS (
        SELECT origin + floor(((at AT TIME ZONE 'UTC')::date - origin) / days::float8)::integer * days AS window_start,
               what, source, sum(rows)::bigint AS rows
        FROM known CROSS JOIN (
            SELECT 'unanswered' AS what, source, 1 AS rows, asked_at AS at FROM ponte.live_unscored
            WHERE model = :model AND asked_at >= (SELECT window_start::timestamp AT TIME ZONE 'UTC' FROM since)
            UNION ALL SELECT 'dropped', source, rows, from_at FROM ponte.live_dropped
            WHERE model = :model AND from_at >= (SELECT window_start::timestamp AT TIME ZONE 'UTC' FROM since)
        ) l GROUP BY 1, what, source
    ), shown AS MATERIALIZED (
        SELECT window_start FROM counted WHERE window_start >= (SELECT window_start FROM since)
        UNION SELECT window_start FROM lost
    ), quality AS (
        SELECT DISTINCT ON (window_start, version) window_start, version, value, labelled_rows, maturity_days, final
        FROM ponte.live_quality
        WHERE model = :model AND metric = :metric AND slice_column = '' AND value IS NOT NULL
            AND window_start IN (SELECT window_start FROM shown)
        ORDER BY window_start, version, final DESC, maturity_days DESC
    ), drift AS (
        SELECT window_start, version, (array_agg(state ORDER BY array_position(
            ARRAY['drift', 'notice', 'provisional', 'quiet', 'not_judged'], state)))[1] AS drift
        FROM ponte.live_drift WHERE model = :model GROUP BY window_start, version
    )
    SELECT s.window_start, c.version, c.rows, q.value, q.labelled_rows, q.maturity_days, q.final, d.drift,
           coalesce((SELECT jsonb_object_agg(source, rows) FROM lost l
            WHERE l.window_start = s.window_start AND what = 'unanswered'), '{}') AS unanswered,
           coalesce((SELECT jsonb_object_agg(source, rows) FROM lost l
            WHERE l.window_start = s.window_start AND what = 'dropped'), '{}') AS dropped
    FROM shown s LEFT JOIN counted c USING (window_start)
    LEFT JOIN quality q USING (window_start, version) LEFT JOIN drift d USING (window_start, version)
    ORDER BY s.window_start DESC, c.version DESC""")

_QUEUE = sa.text("""SELECT bool_or(open) AS open, sum(waiting)::bigint AS waiting,
        max(oldest_seconds) AS oldest_seconds, max(expected_seconds) AS expected_seconds, max(workers) AS workers,
        max(per_second) AS per_second, left(max(why), 300) AS why
    FROM ponte.queue_overview WHERE model = :model GROUP BY model""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What one version answered in a window."""

    version: int
    rows: int
    #: Realised quality in the metric of the gate, with the labels that count; None before labels have come.
    value: float | None
    labelled_rows: int | None
    maturity_days: int | None
    final: bool | None
    #: The worst state of features and answers in `ponte.live_drift`; None: not looked at.
    drift: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveWindow:
    """A window in which something was asked one by one."""

    window_start: dt.date
    #: By version, the newest first; empty when no row was kept.
    answers: tuple[Answers, ...]
    #: Requests that got no prediction, and rows that were answered and not kept, by api, form, queue or offline.
    unanswered: Mapping[str, int]
    dropped: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """What waits for a model, of all priorities."""

    open: bool
    waiting: int
    #: How long the oldest has waited, in seconds; None: nothing waits.
    oldest_seconds: float | None
    #: Until the last has its turn, in seconds; None: nothing waits, or nothing left the queue within the last minute.
    expected_seconds: float | None
    workers: int
    #: Requests that leave the queue, on average of the last minute.
    per_second: float
    #: Why a worker answers none; None when it does.
    why: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """How a model answers one by one."""

    #: Of the MOST_WINDOWS up to the last one in which something was asked, those in which something was; newest first.
    windows: tuple[LiveWindow, ...] = ()
    #: None: no worker has ever opened one.
    queue: Queue | None = None

    @property
    def used(self) -> bool:
        """True when something was asked, or the queue is open, or something waits in it."""
        return bool(self.windows) or (self.queue is not None and (self.queue.open or self.queue.waiting > 0))


def read_live(connection: sa.Connection, model: str, *, metric: str) -> Live:
    """Return the newest live windows and the queue of a model.

    metric : the one that quality is told in; "" for none.
    """
    found: dict[dt.date, LiveWindow] = {}
    asked = {"model": model, "metric": metric, "most": MOST_WINDOWS}
    for row in connection.execute(_WINDOWS, asked).mappings():
        facts = dict(row)
        window = LiveWindow(
            window_start=facts.pop("window_start"),
            unanswered=facts.pop("unanswered"),
            dropped=facts.pop("dropped"),
            answers=(),
        )
        before = found.get(window.window_start, window)
        answers = before.answers if facts["version"] is None else (*before.answers, Answers(**facts))
        found[window.window_start] = replace(window, answers=answers)
    waiting = connection.execute(_QUEUE, {"model": model}).mappings().one_or_none()
    return Live(windows=tuple(found.values()), queue=Queue(**waiting) if waiting else None)
