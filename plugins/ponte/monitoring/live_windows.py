"""Live rows by window: their counts folded to one row per column, and a finished window held against what is known.

A live window is what one version answered in a window. It is judged as a batch is, by the same rule and against the
same windows of training; its answers besides against the calm live windows of the version before it, never against
batches: who asks one by one is somebody else than who is in the weekly table. It is judged once, FINISHED after its
end; rows that come later are counted, and `ponte.live_drift` says how many.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from ponte.monitoring.judging import Book, judge_families
from ponte.storage.database import Database

#: After its end a window is taken to be complete: a journal writes within a second, and holds on while the database
#: is away.
FINISHED = dt.timedelta(hours=1)

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.live_window'), hashtext(:model))")

# One statement: what it takes out of `live_count` is in the windows, whatever happens. Counts of a family lie one after
# the other in the order of its columns, each as many as in any window of training.
_FOLD = sa.text("""WITH taken AS (
    DELETE FROM ponte.live_count WHERE model = :model
    RETURNING model, version, window_start, window_end, row_count, seconds, cpu_seconds, peak_bytes, features, answers
), windows AS (
    INSERT INTO ponte.live_window AS w
        (model, version, window_start, window_end, row_count, flushes, seconds, cpu_seconds, peak_bytes)
    SELECT model, version, window_start, max(window_end), sum(row_count), count(*), sum(seconds), sum(cpu_seconds),
           max(peak_bytes)
    FROM taken GROUP BY model, version, window_start
    ON CONFLICT (model, version, window_start) DO UPDATE SET window_end = greatest(w.window_end, excluded.window_end),
        row_count = w.row_count + excluded.row_count, flushes = w.flushes + excluded.flushes,
        seconds = w.seconds + excluded.seconds, cpu_seconds = w.cpu_seconds + excluded.cpu_seconds,
        peak_bytes = greatest(w.peak_bytes, excluded.peak_bytes)
    RETURNING live_window_id, version, window_start
), columns AS (
    SELECT version, family, column_name, size,
           sum(size) OVER (PARTITION BY version, family ORDER BY position, column_name) AS last
    FROM ponte.reference_column c CROSS JOIN LATERAL (
        SELECT cardinality(r.counts) AS size FROM ponte.reference_count r
        WHERE (r.model, r.version, r.family, r.column_name) = (c.model, c.version, c.family, c.column_name) LIMIT 1
    ) AS r
    WHERE model = :model AND version IN (SELECT version FROM taken)
), summed AS (
    SELECT version, window_start, family, place, CAST(sum(n) AS bigint) AS n FROM (
        SELECT version, window_start, 'features' AS family, place, n
        FROM taken, unnest(features) WITH ORDINALITY AS u (n, place)
        UNION ALL
        SELECT version, window_start, 'answers', place, n FROM taken, unnest(answers) WITH ORDINALITY AS u (n, place)
    ) AS counts GROUP BY version, window_start, family, place
), folded AS (
    INSERT INTO ponte.live_window_count AS w (live_window_id, family, column_name, counts)
    SELECT live_window_id, family, column_name, array_agg(n ORDER BY place)
    FROM summed JOIN windows USING (version, window_start) JOIN columns USING (version, family)
    WHERE place > last - size AND place <= last
    GROUP BY live_window_id, family, column_name
    ON CONFLICT (live_window_id, family, column_name) DO UPDATE SET counts = (
        SELECT array_agg(a + b ORDER BY place)
        FROM unnest(w.counts, excluded.counts) WITH ORDINALITY AS u (a, b, place))
)
SELECT count(*) FROM taken""")

_UNJUDGED = sa.text("""SELECT w.live_window_id, w.model, w.version, w.window_start,
        NULL::date AS since, false AS uncounted,
        EXISTS (SELECT FROM ponte.reference_count r WHERE r.model = w.model AND r.version = w.version) AS known
    FROM ponte.live_window w
    WHERE w.model = :model AND w.window_end::timestamp AT TIME ZONE 'UTC' <= :finished
    AND NOT EXISTS (SELECT FROM ponte.live_drift_verdict v WHERE v.live_window_id = w.live_window_id)
    ORDER BY w.window_start, w.version""")
_COUNTED = sa.text("""SELECT column_name, counts FROM ponte.live_window_count
    WHERE live_window_id = :live_window_id AND family = :family ORDER BY column_name""")
_CALM = sa.text("""SELECT w.window_start, c.column_name, c.counts
    FROM ponte.live_window w JOIN ponte.live_drift_verdict v USING (live_window_id)
    JOIN ponte.live_window_count c USING (live_window_id, family)
    WHERE w.model = :model AND w.version = :version AND w.window_start < :window_start
    AND v.family = :family AND v.beyond IS NOT TRUE""")

LIVE = Book(id="live_window_id", verdict="ponte.live_drift_verdict", own="live_windows", counted=_COUNTED, calm=_CALM)


def fold(db: Database, model: str) -> int:
    """Add the counts of the flushes that have come to their windows; return how many flushes.

    Each counts once: twins take turns, and a run that was killed has folded nothing.
    """
    with db.begin() as connection:
        connection.execute(_LOCK, {"model": model})
        return int(connection.execute(_FOLD, {"model": model}).scalar_one())


def judge_live(db: Database, model: str, *, now: dt.datetime) -> list[int]:
    """Fold, and judge every finished live window of the model that has no verdict; return their ids, oldest first."""
    fold(db, model)
    with db.begin() as connection:
        found = connection.execute(_UNJUDGED, {"model": model, "finished": now - FINISHED}).mappings().all()
    for window in found:
        with db.begin() as connection:
            judge_families(connection, dict(window), LIVE)
    return [window["live_window_id"] for window in found]
