"""What a table holds today: its columns with types and a few figures, its key, its days. The table is only read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.errors import PonteError, did_you_mean
from ponte.model.inspection import tables_of
from ponte.model.queries import READERS, describe
from ponte.storage.columns import Family
from ponte.storage.database import Database, quote

if TYPE_CHECKING:
    import pandas as pd

#: Rows that are looked at one by one, at most, to see how columns go together.
SAMPLE = 20_000
#: Rows of which figures are taken, at most; of a larger table that many, by chance.
COUNTED = 5_000_000
#: SQLSTATE of a missing right.
_NO_RIGHT = "42501"

_ESTIMATED_ROWS = sa.text("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = CAST(:name AS regclass)")
_ENUMS = sa.text("SELECT typname FROM pg_type WHERE typtype = 'e'")
_CHANCE = sa.text("SELECT setseed(0)")


@dataclass(frozen=True, kw_only=True)
class SourceColumn:
    """A column of a table."""

    name: str
    #: As PostgreSQL calls it.
    kind: str
    #: None when Ponte cannot carry the type.
    family: Family | None
    #: Whether it becomes text by a cast: an enum, a uuid.
    as_text: bool = False
    nulls: int = 0
    distinct: int = 0
    #: Of numbers and days; None of all others, and of a column of NULL alone.
    least: Any = None
    greatest: Any = None
    #: Mean number of characters, of text.
    length: float = 0.0

    @property
    def sql(self) -> str:
        """The column as one of the types that Ponte carries."""
        return f"CAST({quote(self.name)} AS text)" if self.as_text else quote(self.name)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table, and what it holds."""

    schema: str
    table: str
    columns: Mapping[str, SourceColumn]
    rows: int
    #: Whether the figures are of a part of the rows.
    sampled: bool

    @property
    def name(self) -> str:
        """schema.table, quoted."""
        return quote(self.schema, self.table)

    def column(self, name: str, *, option: str) -> SourceColumn:
        """Return a column by its name; raises PonteError with the names that are close."""
        if name not in self.columns:
            fix = did_you_mean(name, self.columns)
            raise PonteError(
                "no such column", where=f"{option}, table {self.schema}.{self.table}", got=repr(name), fix=fix
            )
        return self.columns[name]

    def moment(self, name: str, *, option: str) -> SourceColumn:
        """Return a column that is a date or a timestamp; raises PonteError for any other."""
        found = self.column(name, option=option)
        if found.family not in ("date", "timestamp"):
            fix = "cast it in a view, or name another column"
            raise PonteError(f"{option} is a date or a timestamp", got=f"{name} is {found.kind}", fix=fix)
        return found


def read_source(db: Database, table: str) -> Source:
    """Return what a table holds.

    table : `schema.table`. Raises PonteError when there is none of that name, when it is empty, or when the trainer may
    not read it, with the GRANT that lets it.
    """
    known = tables_of(db)
    if table not in known:
        alike = [name for name in known if name.partition(".")[2] == table]
        fix = f"did you mean {' or '.join(map(repr, alike))}?" if alike else did_you_mean(table, known)
        raise PonteError("no such table", where="--table", got=repr(table), expected="schema.table", fix=fix)
    schema, _, name = table.partition(".")
    try:
        source = _read(db, schema, name)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _NO_RIGHT:
            raise
        fix = (
            f"as its owner: GRANT USAGE ON SCHEMA {quote(schema)} TO {READERS}; GRANT SELECT ON ALL TABLES IN SCHEMA "
            f"{quote(schema)} TO {READERS}"
        )
        what = "trainer and scorer may not read the table"
        raise PonteError(what, where=table, expected=f"a GRANT to {READERS}", fix=fix) from error
    if not source.rows:
        raise PonteError("the table is empty", where=table, fix="load its rows, and give the same command again")
    return source


def _read(db: Database, schema: str, table: str) -> Source:
    name = quote(schema, table)
    with db.read_only() as connection:
        result = _plain(connection).exec_driver_sql(f"SELECT * FROM {name} LIMIT 0")
        assert result.cursor is not None
        described = describe(result.cursor.description or (), connection)
        enums = set(connection.execute(_ENUMS).scalars())
        estimate = int(connection.execute(_ESTIMATED_ROWS, {"name": name}).scalar_one())
        source, sampled = name, estimate > COUNTED
        if sampled:
            source = f"(SELECT * FROM {name} TABLESAMPLE SYSTEM ({100 * COUNTED / estimate:.4f}) REPEATABLE (0))"
        columns = []
        for column, kind, family in described:
            as_text = family is None and (kind == "uuid" or kind in enums)
            columns.append(SourceColumn(name=column, kind=kind, family="text" if as_text else family, as_text=as_text))
        figures = ", ".join(["count(*)", *(part for place, c in enumerate(columns) for part in _figures(place, c))])
        row = _plain(connection).exec_driver_sql(f"SELECT {figures} FROM {source} AS counted").mappings().one()
    whole = {c.name: _with_figures(c, place, dict(row)) for place, c in enumerate(columns)}
    return Source(schema=schema, table=table, columns=whole, rows=int(row["count"]), sampled=sampled)


def _figures(place: int, column: SourceColumn) -> list[str]:
    if column.family is None:
        return []
    value = column.sql
    found = [
        f"count(*) FILTER (WHERE {value} IS NULL) AS nulls_{place}",
        f"count(DISTINCT {value}) AS distinct_{place}",
    ]
    if column.family in ("integer", "number", "date", "timestamp"):
        found += [f"min({value}) AS least_{place}", f"max({value}) AS greatest_{place}"]
    if column.family == "text":
        found.append(f"coalesce(avg(length({value})), 0) AS length_{place}")
    return found


def _with_figures(column: SourceColumn, place: int, row: Mapping[str, Any]) -> SourceColumn:
    if column.family is None:
        return column
    return replace(
        column,
        nulls=int(row[f"nulls_{place}"]),
        distinct=int(row[f"distinct_{place}"]),
        least=row.get(f"least_{place}"),
        greatest=row.get(f"greatest_{place}"),
        length=float(row.get(f"length_{place}") or 0),
    )


def key_figures(db: Database, source: Source, key: Sequence[SourceColumn]) -> tuple[int, int, int]:
    """Return the number of rows, of different keys, and of rows whose key has a NULL."""
    names = ", ".join(quote(c.name) for c in key)
    null = " OR ".join(f"{quote(c.name)} IS NULL" for c in key)
    query = f"SELECT count(*), count(DISTINCT ({names})), count(*) FILTER (WHERE {null}) FROM {source.name}"
    with db.read_only() as connection:
        rows, distinct, nulls = _plain(connection).exec_driver_sql(query).one()
    return int(rows), int(distinct), int(nulls)


def rows_per_day(db: Database, source: Source, time: SourceColumn, label: SourceColumn) -> dict[dt.date, int]:
    """Return the number of rows with a label by day, UTC, ascending."""
    query = (
        f"SELECT CAST({quote(time.name)} AS date) AS day, count(*) FROM {source.name} "
        f"WHERE {quote(label.name)} IS NOT NULL AND isfinite({quote(time.name)}) GROUP BY 1 ORDER BY 1"
    )
    with db.read_only() as connection:
        return {day: int(count) for day, count in _plain(connection).exec_driver_sql(query)}


def sample_of(db: Database, source: Source, label: SourceColumn) -> pd.DataFrame:
    """Return at most SAMPLE rows with a label, by chance but the same each time; each column as Ponte carries it."""
    import pandas as pd

    columns = [c for c in source.columns.values() if c.family is not None]
    values = ", ".join(
        f"CAST({c.sql} AS double precision)" if c.family in ("integer", "number") else c.sql for c in columns
    )
    query = f"SELECT {values} FROM {source.name} WHERE {quote(label.name)} IS NOT NULL ORDER BY random() LIMIT {SAMPLE}"
    with db.read_only() as connection:
        connection.execute(_CHANCE)
        rows = _plain(connection).exec_driver_sql(query).all()
    return pd.DataFrame([tuple(row) for row in rows], columns=[c.name for c in columns])


def _plain(connection: sa.Connection) -> sa.Connection:
    """Return the connection, to which a percent sign in a name means itself."""
    return connection.execution_options(no_parameters=True)
