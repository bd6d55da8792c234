"""Rows that are set aside instead of being scored: why, as they were, and what became of them later.

A row leaves the frozen table in the transaction that writes it to `ponte.quarantine`, so it is always in exactly one
of the two, and whoever reads the frozen table afterwards needs to know nothing about it.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array

from ponte.storage.columns import SQL_TYPES, Column
from ponte.storage.database import DATA_SCHEMA, quote

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Cursor

_FOUND = "ponte_rows_found"

_MAKE_FOUND = sa.text(f"CREATE TEMPORARY TABLE {_FOUND} (row_id tid, positions integer[]) ON COMMIT DROP")
_COUNT_FOUND = sa.text(f"SELECT count(*) FROM {_FOUND}")

_COUNT_BY_POSITION = sa.text(f"""SELECT p.position, count(*)
    FROM {_FOUND} CROSS JOIN LATERAL unnest(positions) AS p (position)
    GROUP BY 1""")

_COUNT = sa.text("SELECT count(*) FROM ponte.quarantine WHERE batch_id = :id")

_REOPEN = sa.text("""UPDATE ponte.quarantine SET closed_at = NULL, closed_by = NULL, resolution = NULL
    WHERE batch_id = :batch AND closed_at IS NOT NULL""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What sets a row of a frozen table aside."""

    #: Place of the check in model.toml.
    position: int
    #: What the row's entry says about it: {check, expectation, arguments}.
    reason: dict[str, Any]
    #: True for the rows that fail; names the columns of the frozen table without the table.
    clause: sa.ColumnElement[bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenFor:
    """What the rows were frozen for."""

    batch_id: int | None = None
    snapshot_id: int | None = None


@dataclass(frozen=True, slots=True)
class Unscored:
    """A row that the estimator could not score."""

    key: dict[str, Any]
    error: str


def allowed_rows(budget: float, row_count: int) -> int:
    """Return how many of `row_count` frozen rows may be set aside.

    >>> allowed_rows(0.02, 6504)
    130
    """
    return math.floor(budget * row_count)


def find_rows(connection: sa.Connection, table: str, conditions: Sequence[Condition]) -> dict[int, int]:
    """Find the rows that fail, for `move_rows` in the same transaction; return how many per position, 0 too.

    The rows may fail several conditions, so the numbers add up to `rows_found` or more.
    """
    connection.execute(_MAKE_FOUND)
    found = sa.table(_FOUND, sa.column("row_id"), sa.column("positions"))
    failing: array[Any] = array(
        [sa.case((c.clause, sa.literal(c.position, sa.Integer))) for c in conditions], type_=sa.Integer
    )
    rows = (
        sa.select(sa.literal_column("ctid"), sa.func.array_remove(failing, sa.null()))
        .select_from(sa.table(table, schema=DATA_SCHEMA))
        .where(sa.or_(*(c.clause for c in conditions)))
    )
    connection.execute(sa.insert(found).from_select(["row_id", "positions"], rows))
    counted = connection.execute(_COUNT_BY_POSITION).all()
    return {**{c.position: 0 for c in conditions}, **{row[0]: row[1] for row in counted}}


def rows_found(connection: sa.Connection) -> int:
    """Return how many rows `find_rows` has found in this transaction."""
    return int(connection.execute(_COUNT_FOUND).scalar_one())


def move_rows(
    connection: sa.Connection, table: str, key: Sequence[str], conditions: Sequence[Condition], frozen_for: FrozenFor
) -> None:
    """Move the rows that `find_rows` has found from the frozen table to the quarantine, in the caller's transaction."""
    reasons = {str(c.position): c.reason for c in conditions}
    connection.execute(
        sa.text(
            f"WITH moved AS (DELETE FROM {quote(DATA_SCHEMA, table)} AS frozen USING {_FOUND} AS f "
            f"WHERE frozen.ctid = f.row_id RETURNING {_key_object('frozen', key)} AS key, "
            "to_jsonb(frozen) AS content, f.positions) "
            "INSERT INTO ponte.quarantine (batch_id, snapshot_id, key, reasons, content) "
            "SELECT :batch_id, :snapshot_id, key, (SELECT jsonb_agg(CAST(:reasons AS jsonb) -> p::text ORDER BY p) "
            "FROM unnest(positions) AS p), content FROM moved"
        ),
        {
            "batch_id": frozen_for.batch_id,
            "snapshot_id": frozen_for.snapshot_id,
            "reasons": json.dumps(reasons, default=str),
        },
    )


def insert_unscored(
    cursor: Cursor,
    frozen: str,
    key: Sequence[Column],
    *,
    batch_id: int,
    shard: int,
    pages: str,
    rows: Sequence[Unscored],
) -> None:
    """Write the rows of a shard that the estimator could not score, in the transaction of the shard's predictions.

    frozen : the batch's frozen table, quoted.
    pages : the condition on ctid that selects the shard's rows; the frozen table has no index, and needs none for this.
    """
    same = " AND ".join(
        f"frozen.{quote(c.name)} = CAST(bad.value -> 'key' ->> '{c.name}' AS {SQL_TYPES[c.family]})" for c in key
    )
    cursor.execute(
        "INSERT INTO ponte.quarantine (batch_id, shard, key, reasons, content) "
        f"SELECT {batch_id:d}, {shard:d}, {_key_object('frozen', [c.name for c in key])}, "
        "jsonb_build_array(jsonb_build_object('error', bad.value -> 'error')), to_jsonb(frozen) "
        f"FROM (SELECT * FROM {frozen} WHERE {pages}) AS frozen "
        f"JOIN jsonb_array_elements(CAST(CAST($1 AS text) AS jsonb)) AS bad ON {same}",
        parameters=(json.dumps([{"key": row.key, "error": row.error} for row in rows], default=_iso),),
    )


def count_rows(connection: sa.Connection, batch_id: int) -> int:
    """Return how many rows of the batch are in quarantine, open or closed."""
    return int(connection.execute(_COUNT, {"id": batch_id}).scalar_one())


def settle(
    connection: sa.Connection,
    batch_id: int,
    key: Sequence[Column],
    *,
    model: str,
    window_start: dt.date,
    predictions: str,
) -> None:
    """Let the open entries of a window be those of the batch that is shown now, in the transaction that shows it.

    predictions : the batch's prediction table, quoted.

    Entries of the window's other batches are closed and say what became of their key in this one; its own are opened
    again, if it had been replaced before.
    """
    same = " AND ".join(f"p.{quote(c.name)} = CAST(q.key ->> '{c.name}' AS {SQL_TYPES[c.family]})" for c in key)
    values = {"batch": batch_id, "model": model, "window": window_start}
    connection.execute(_REOPEN, values)
    connection.execute(
        sa.text(
            "UPDATE ponte.quarantine AS q SET closed_at = clock_timestamp(), closed_by = :batch, resolution = CASE "
            f"WHEN EXISTS (SELECT FROM {predictions} AS p "
            f"WHERE p.batch_id = :batch AND {same}) THEN 'scored' "
            # IN and not EXISTS: without statistics that would look through all entries for every one.
            "WHEN q.key IN (SELECT own.key FROM ponte.quarantine AS own WHERE own.batch_id = :batch) "
            "THEN 'quarantined again' ELSE 'gone' END "
            "FROM ponte.batch AS b WHERE b.batch_id = q.batch_id AND b.model = :model AND b.window_start = :window "
            "AND b.batch_id <> :batch AND q.closed_at IS NULL"
        ),
        values,
    )


def _key_object(relation: str, key: Sequence[str]) -> str:
    # char(n) is read as text, without the blanks at its end; as JSON it would keep them and be another key.
    pairs = ", ".join(
        f"'{name}', CASE WHEN pg_typeof({column}) = 'bpchar'::regtype THEN to_jsonb({column}::text) "
        f"ELSE to_jsonb({column}) END"
        for name, column in ((name, f"{relation}.{quote(name)}") for name in key)
    )
    return f"jsonb_build_object({pairs})"


def _iso(value: Any) -> str:
    return str(value.isoformat())
