"""Verdicts about drift: each batch that was published is held against the windows that its version knows, once.

A verdict is about one batch by itself, and stays. What two of them in a row mean is found when they are read, by the
view `ponte.drift`, over the windows in their order: so a window that is scored late has the same say as if it had been
scored in time, and one that a rollback shows again is a window of the version that is shown.

The features of a batch are held against all windows that its version was trained on. Its answers are held against those
it was not fitted on (calibration and holdout), and against windows before it that were published by the same version,
were not beyond the limit and lie in no episode. From a window on that a person called the new normal, both are held
against windows from then on only: those of training, and published ones.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.counting.bins import FAMILIES, Family
from ponte.monitoring import drift
from ponte.storage.database import Database
from ponte.storage.receipts import Receipt, recorded

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_UNJUDGED = sa.text("""SELECT DISTINCT b.window_start, b.batch_id
    FROM ponte.publication_event e JOIN ponte.batch b USING (batch_id)
    WHERE b.model = :model AND NOT EXISTS (SELECT FROM ponte.drift_verdict v WHERE v.batch_id = b.batch_id)
    ORDER BY b.window_start, b.batch_id""")
# Shards of an empty page range have nothing to count.
_BATCH = sa.text("""SELECT b.batch_id, b.model, b.window_start, b.version,
        (SELECT max(n.window_start) FROM ponte.normal_event n
         WHERE n.model = b.model AND n.window_start <= b.window_start) AS since,
        EXISTS (SELECT FROM ponte.reference_count r WHERE r.model = b.model AND r.version = b.version) AS known,
        EXISTS (SELECT FROM ponte.shard s WHERE s.batch_id = b.batch_id AND s.row_count > 0 AND NOT EXISTS (
            SELECT FROM ponte.batch_count c WHERE c.batch_id = b.batch_id AND c.shard = s.shard)) AS uncounted
    FROM ponte.batch b WHERE b.batch_id = :batch_id
    AND EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)
    AND NOT EXISTS (SELECT FROM ponte.drift_verdict v WHERE v.batch_id = b.batch_id)""")
_TRAINED = sa.text("""SELECT window_start, column_name, counts FROM ponte.reference_count
    WHERE model = :model AND version = :version AND family = :family AND window_start <> :window_start
    AND (CAST(:since AS date) IS NULL OR window_start >= :since)""")
# A provisional verdict counts for what it would be; with too few windows to compare with, nothing speaks against one.
_PUBLISHED = sa.text("""WITH calm AS (
        SELECT d.window_start, d.batch_id FROM ponte.drift d
        WHERE d.model = :model AND d.version = :version AND d.window_start < :window_start
        AND (CAST(:since AS date) IS NULL OR d.window_start >= :since)
        GROUP BY d.window_start, d.batch_id
        HAVING bool_and(d.episode_start IS NULL)
        AND bool_and(d.family <> :family OR coalesce(d.would_be, d.state) IN ('quiet', 'not_judged'))
    )
    SELECT window_start, column_name, array_agg(n ORDER BY place) AS counts FROM (
        SELECT calm.window_start, c.column_name, place, sum(n)::bigint AS n
        FROM calm JOIN ponte.batch_count c USING (batch_id), unnest(c.counts) WITH ORDINALITY AS u (n, place)
        WHERE c.family = :family GROUP BY calm.window_start, c.column_name, place
    ) AS summed GROUP BY window_start, column_name""")
_COUNTED = sa.text("""SELECT column_name, array_agg(n ORDER BY place) AS counts FROM (
        SELECT column_name, place, sum(n)::bigint AS n
        FROM ponte.batch_count, unnest(counts) WITH ORDINALITY AS u (n, place)
        WHERE batch_id = :batch_id AND family = :family GROUP BY column_name, place
    ) AS summed GROUP BY column_name ORDER BY column_name""")
_STORE = """INSERT INTO {verdict}
    SELECT * FROM jsonb_populate_record(NULL::{verdict},
        CAST(:verdict AS jsonb) || jsonb_build_object('judged_at', now()))
    ON CONFLICT ({id}, family) DO NOTHING"""
_STORE_COLUMNS = """INSERT INTO {verdict}_column
        ({id}, family, column_name, statistic, share_change, null_change, detectable, named)
    SELECT :id, :family, r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (column_name text,
        statistic float8, share_change float8, null_change float8, detectable float8, named boolean)"""
_STATES = sa.text("""SELECT v.family, coalesce(d.state, v.state) AS state
    FROM ponte.drift_verdict v LEFT JOIN ponte.drift d USING (batch_id, family) WHERE v.batch_id = :batch_id""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Book:
    """Where what is judged was counted, and where its verdicts are kept, of two families each."""

    #: The column of `verdict`, and of `<verdict>_column`, that says what was judged; and the one that says how many of
    #: the windows it was held against were not those of training.
    id: str
    verdict: str
    own: str
    #: Counts by column of a family of what is judged; and by window and column of those before it that were calm.
    counted: sa.TextClause
    calm: sa.TextClause


BATCHES = Book(id="batch_id", verdict="ponte.drift_verdict", own="published_windows", counted=_COUNTED, calm=_PUBLISHED)


@dataclass(frozen=True, slots=True)
class Known:
    """What a batch is held against: W windows, the oldest first, and the batch in the same K columns and B bins."""

    columns: tuple[str, ...]
    #: Shape (K, W, B), and (K, B).
    windows: Array
    batch: Array
    #: How many of the windows are published ones.
    published: int


def judge_published(db: Database, model: str) -> list[int]:
    """Judge every batch of a model that was ever published and has no verdict, in the order of windows.

    Return the numbers of the batches.
    """
    with db.begin() as connection:
        found = connection.execute(_UNJUDGED, {"model": model}).all()
    for row in found:
        judge_batch(db, row.batch_id)
    return [row.batch_id for row in found]


def judge_batch(db: Database, batch_id: int) -> dict[str, str]:
    """Judge a batch that was published, once; return the state of each family as `ponte.drift` has it by now.

    {} of a batch that was never published: nobody acts on it. A repetition changes nothing, nor does a twin.
    """
    with db.begin() as connection:
        found = connection.execute(_BATCH, {"batch_id": batch_id}).mappings().one_or_none()
    if found is not None:
        batch = dict(found)
        started = Receipt(model=batch["model"], step="judge", batch_id=batch_id, version=batch["version"])
        with recorded(db, started), db.begin() as connection:
            judge_families(connection, batch, BATCHES)
    with db.begin() as connection:
        return {row.family: row.state for row in connection.execute(_STATES, {"batch_id": batch_id})}


def judge_families(connection: sa.Connection, judged: Mapping[str, Any], book: Book) -> None:
    """Judge both families of a batch, or of what else has counts of windows, in the caller's transaction.

    judged : `book.id`, model, version, window_start, since (None, or the first day of the new normal), known: whether
    the version has counts, uncounted: whether some of its own rows have none.
    """
    for family in FAMILIES:
        _judge(connection, judged, family, book)


def _judge(connection: sa.Connection, batch: Mapping[str, Any], family: Family, book: Book) -> None:
    known = read_known(connection, batch, family, book)
    rows, windows = int(known.batch.sum(-1).max(initial=0)), known.windows.shape[1]
    verdict = {
        book.id: batch[book.id],
        "family": family,
        "row_count": rows,
        "column_count": len(known.columns),
        "windows": windows,
        book.own: known.published,
        "since": batch["since"],
    }
    why = _obstacle(batch, known, rows)
    if why is not None:
        _store(connection, {**verdict, "state": "not_judged", "why": why}, [], book)
        return
    limits = drift.learn(known.windows, rows, seed=batch[book.id])
    found = drift.judge(limits, known.batch)
    beyond = bool(found.statistic > found.limit)
    verdict |= {
        "state": "provisional" if windows < drift.ENOUGH_WINDOWS else "notice" if beyond else "quiet",
        "beyond": beyond,
        "strong": bool(found.p < drift.STRONG_ALPHA),
        "effective_windows": float(limits.effective_windows),
        "statistic": float(found.statistic),
        "limit": float(found.limit),
        "p": float(found.p),
        "detectable": float(found.detectable.min()),
    }
    _store(connection, verdict, list(_columns(known.columns, found)), book)


def _store(
    connection: sa.Connection, verdict: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], book: Book
) -> None:
    """Write a verdict and its columns; nothing when a twin has written it."""
    names = {"id": book.id, "verdict": book.verdict}
    said = {"verdict": json.dumps(verdict, default=str, allow_nan=False)}
    if connection.execute(sa.text(_STORE.format(**names)), said).rowcount:
        values = {"id": verdict[book.id], "family": verdict["family"], "rows": json.dumps(columns, allow_nan=False)}
        connection.execute(sa.text(_STORE_COLUMNS.format(**names)), values)


def _obstacle(batch: Mapping[str, Any], known: Known, rows: int) -> str | None:
    """Return why a family of a batch cannot be judged, None when it can."""
    windows = known.windows.shape[1]
    if not batch["known"]:
        return "the version has no counts: it was registered before there were any"
    if batch["uncounted"]:
        return "rows of the batch were not counted: it was scored before there were counts"
    if not known.columns:
        return "the version has no columns to compare"
    if windows < drift.LEAST_WINDOWS:
        since = f" from {batch['since']} on, the new normal" if batch["since"] else ""
        return f"{windows} windows to compare with{since}, {drift.LEAST_WINDOWS} needed"
    if not rows:
        return "the batch has no rows"
    return None


def _columns(names: Sequence[str], found: drift.Judged) -> Iterator[dict[str, Any]]:
    for place, name in enumerate(names):
        yield {
            "column_name": name,
            "statistic": float(found.columns[place]),
            "share_change": float(found.share_change[place]),
            "null_change": float(found.null_change[place]),
            "detectable": float(found.detectable[place]),
            "named": bool(found.columns[place] > found.limit),
        }


def read_known(connection: sa.Connection, batch: Mapping[str, Any], family: Family, book: Book = BATCHES) -> Known:
    """Return a family of a batch and the windows it is held against; windows without a row are left out.

    batch : see `judge_families`.
    """
    import numpy as np

    values = {**batch, "family": family}
    mine = {row.column_name: row.counts for row in connection.execute(book.counted, values)}
    found: dict[dt.date, dict[str, Any]] = {}
    if family == "answers" or batch["since"] is not None:
        for row in connection.execute(book.calm, values):
            found.setdefault(row.window_start, {})[row.column_name] = row.counts
    trained: dict[dt.date, dict[str, Any]] = {}
    for row in connection.execute(_TRAINED, values):
        trained.setdefault(row.window_start, {})[row.column_name] = row.counts
    found |= trained  # a window that the version was trained on and has scored, too, counts once
    starts = sorted(s for s, counts in found.items() if mine.keys() <= counts.keys() and any(map(sum, counts.values())))
    names = tuple(mine)
    bins = max(map(len, mine.values()), default=1)
    windows = np.zeros((len(names), len(starts), bins), dtype=np.int64)
    of_batch = np.zeros((len(names), bins), dtype=np.int64)
    for place, name in enumerate(names):
        _put(of_batch[place], mine[name])
        for window, start in enumerate(starts):
            _put(windows[place, window], found[start][name])
    return Known(names, windows, of_batch, len(set(starts) - trained.keys()))


def _put(place: Array, counts: Sequence[int]) -> None:
    """Put counts into a longer row of bins; NULL, the last one, stays the last."""
    place[: len(counts) - 1] = counts[:-1]
    place[-1] = counts[-1]
