"""The counts of a table by SQL are those of its rows as they are scored."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import HealthCheck, given, settings

from ponte.counting.auditing import audit_query
from ponte.counting.bins import Bins, Tallies
from ponte.counting.choosing import choose_bins
from ponte.storage.columns import Column, Family, select_list

if TYPE_CHECKING:
    from ponte.storage.database import Database

AS_OF = dt.datetime(2024, 2, 12, 3, tzinfo=dt.UTC)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
#: Column → type in PostgreSQL, family, values.
COLUMNS: dict[str, tuple[str, Family, Any]] = {
    "real": ("float8", "number", st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 5e-324, -5e-324]))),
    "small": ("float4", "number", st.floats(width=32)),
    "exact": ("numeric", "number", st.one_of(st.decimals(allow_infinity=False, places=5), st.sampled_from([0, 1]))),
    "whole": ("bigint", "integer", st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 3))),
    "truth": ("boolean", "boolean", st.booleans()),
    'odd "text"': ("text", "text", st.one_of(TEXT, st.sampled_from(["", "a", "A ", "\u00e1", "a\\'"]))),
    "v": ("text", "text", st.sampled_from(["x", "y", "\u00e9", "e\u0301"])),
    "day": ("date", "date", st.dates()),
    "moment": ("timestamptz", "timestamp", st.datetimes(timezones=st.just(dt.UTC))),
}  # fmt: skip
ROW = st.tuples(*(st.one_of(st.none(), values) for _, _, values in COLUMNS.values()))


@given(rows=st.lists(ROW, max_size=30), learned=st.integers(0, 30))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_sql_counts_the_same(db: Database, rows: list[tuple[Any, ...]], learned: int) -> None:
    columns = [Column(name=name, family=family) for name, (_, family, _) in COLUMNS.items()]
    declared = ", ".join(f'"{n.replace(chr(34), chr(34) * 2)}" {kind}' for n, (kind, _, _) in COLUMNS.items())
    with db.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS ponte_data.audited")
        connection.exec_driver_sql(f"CREATE TABLE ponte_data.audited ({declared})")
        for row in rows:
            places = ", ".join(["%s"] * len(columns))
            connection.exec_driver_sql(f"INSERT INTO ponte_data.audited VALUES ({places})", row)
    with db.adbc() as source, source.cursor() as cursor:
        cursor.execute(f"SELECT {select_list(columns)} FROM ponte_data.audited")
        read = cursor.fetch_arrow_table()
    tallies = Tallies("features", tuple(bins_of(column, read, learned) for column in columns), AS_OF)
    tallies.add(read)
    with db.begin() as connection:
        for tally in tallies.columns:
            query = audit_query(tally.bins, "ponte_data.audited", as_of=AS_OF)
            counts, only_value = connection.exec_driver_sql(query.replace("%", "%%")).one()
            assert (counts, only_value) == (tally.counts.tolist(), tally.only_value), tally.bins


def bins_of(column: Column, read: pa.Table, learned: int) -> Bins:
    """Return bins as training would find them, with 20 rows for each that it has seen, so that values are named."""
    from ponte.counting.bins import microseconds

    values = pa.concat_arrays([read.column(column.name).slice(0, learned).combine_chunks()] * 20)
    return choose_bins(column.name, column.family, values, as_of=microseconds(AS_OF))
