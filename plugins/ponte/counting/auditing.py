"""The same counts by SQL, for whoever wants to check what was counted.

Law: the counts of a table by this statement are those of its rows by `ponte.counting.bins.Tally`, to the last row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from ponte.counting.bins import DAY_MICROSECONDS, Bins
from ponte.storage.database import quote


def audit_query(bins: Bins, table: str, *, as_of: dt.datetime | None = None) -> str:
    """Return the statement whose one row is counts and only_value of a column, as `ponte.batch_count` has them.

    table : quoted, the frozen table of a batch for its features, the prediction table for its answers. as_of : of the
    batch, for dates and timestamps. Session time zone is UTC. It reads the table once and holds no value but those of
    the bins.
    """
    column = "scores" + bins.name[6:] if bins.name.startswith("scores[") else quote(bins.name)
    text = f'CAST({column} AS text) COLLATE "C"'
    if bins.kind == "value":
        value = text
        place = f"coalesce(array_position({_texts(bins.values)}, v), {bins.size - 1})"
    else:
        value = _number(bins, column, as_of)
        place = f"width_bucket(v, {_numbers(bins.edges)}) + 1"
    if bins.kind in ("value", "length"):
        known, compared, content = "v IS NOT NULL", text, "convert_to(min(o), 'UTF8')"
    else:
        # NaN is greater than every number in PostgreSQL, and no number here. Nothing plus -0 is -0.
        known, compared, content = "v <> 'NaN'", f"nullif({value}, 'NaN')", "float8send(min(o) + 0)"
    return (
        f"WITH valued AS (SELECT {value} AS v, {compared} AS o FROM {table}), "
        f"placed AS (SELECT CASE WHEN {known} THEN {place} ELSE {bins.size} END AS place, o FROM valued), "
        "counted AS (SELECT place, count(*) AS n FROM placed GROUP BY place) "
        f"SELECT (SELECT array_agg(coalesce(n, 0) ORDER BY p) FROM generate_series(1, {bins.size}) AS p "
        "LEFT JOIN counted ON place = p) AS counts, (SELECT CASE WHEN min(o) = max(o) "
        f"THEN ('x' || substr(md5({content}), 1, 16))::bit(64)::bigint END FROM placed) AS only_value"
    )


def _number(bins: Bins, column: str, as_of: dt.datetime | None) -> str:
    if bins.kind == "boolean":
        return f"CAST(CAST({column} AS integer) AS float8)"
    if bins.kind == "length":
        return f"CAST(length(CAST({column} AS text)) AS float8)"
    if bins.kind == "number":
        return f"CAST({column} AS float8)"
    assert as_of is not None
    then, moment = f"CAST({column} AS timestamptz)", f"timestamptz '{as_of.isoformat()}'"
    return f"CAST({_microseconds(moment)} - {_microseconds(then)} AS float8) / {DAY_MICROSECONDS}"


def _microseconds(moment: str) -> str:
    return f"CAST(extract(epoch FROM {moment}) * 1000000 AS bigint)"


def _numbers(edges: Sequence[float]) -> str:
    listed = ", ".join(f"'{edge!r}'" for edge in edges)
    return f"CAST(ARRAY[{listed}] AS float8[])"


def _texts(values: Sequence[str]) -> str:
    return f"CAST(ARRAY[{', '.join(_literal(value) for value in values)}] AS text[])"


def _literal(text: str) -> str:
    # An E-string reads backslashes the same whatever standard_conforming_strings says.
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
