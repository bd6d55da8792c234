"""Loads the data of one example into a schema of its own, once: what is complete is left alone."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ponte.demo.fetching import PinnedFile
from ponte.demo.flights import Cursor, sections

if TYPE_CHECKING:
    import pandas as pd

_HERE = Path(__file__).parent
# Two loads at the same time: the second waits, then finds everything there.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('ponte demo ' || %s, 0))"
_IS_THERE = "SELECT to_regclass(%s) IS NOT NULL AND to_regclass(%s) IS NOT NULL"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One file of the package index and the table that is made of it; `<schema>.sql` beside this file says how."""

    schema: str
    table: str
    file: PinnedFile
    #: Bytes of the file → rows, the columns of the table `staged`. Raises PonteError.
    read: Callable[[bytes], pd.DataFrame]

    @property
    def name(self) -> str:
        """The table with its schema."""
        return f"{self.schema}.{self.table}"

    @property
    def layout(self) -> str:
        """The SQL that makes the table."""
        return (_HERE / f"{self.schema}.sql").read_text(encoding="utf-8")


def load(url: str, dataset: Dataset, fetch: Callable[[PinnedFile], bytes]) -> str:
    """Fill the table unless it is complete; return one line for people.

    Complete is what `<schema>.load` says was made of this file by this SQL, with as many rows. The table is made in one
    transaction: after an interruption nothing is there, and the next call loads.

    Parameters
    ----------
    url
        Database URL of somebody who may make schemas. Any PostgreSQL driver in it is replaced by psycopg2.
    fetch
        Returns the verified bytes of the file; not asked when the table is complete.
    """
    with _transaction(url, dataset.schema) as cursor:
        rows = _complete(cursor, dataset)
    if rows is not None:
        return f"{dataset.name}: already there, nothing to do ({rows:,} rows)"
    frame = dataset.read(fetch(dataset.file))
    with _transaction(url, dataset.schema) as cursor:
        rows = _complete(cursor, dataset)  # somebody else may have loaded meanwhile
        if rows is None:
            rows = _fill(cursor, dataset, frame)
    return f"{dataset.name}: loaded ({rows:,} rows)"


@contextmanager
def _transaction(url: str, schema: str) -> Iterator[Cursor]:
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.pool import NullPool

    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"), poolclass=NullPool)
    with closing(engine.raw_connection()) as connection:
        cursor: Cursor = connection.cursor()  # type: ignore[assignment]
        cursor.execute(_LOCK, (schema,))
        yield cursor
        connection.commit()


def _complete(cursor: Cursor, dataset: Dataset) -> int | None:
    """Return the number of rows when the table is what this file and this SQL make, else None."""
    cursor.execute(_IS_THERE, (f"{dataset.schema}.load", dataset.name))
    if cursor.fetchone() != (True,):
        return None
    cursor.execute(
        f"SELECT rows, (SELECT count(*) FROM {dataset.name}) FROM {dataset.schema}.load WHERE made_of = %s",
        (_made_of(dataset),),
    )
    found = cursor.fetchone()
    return int(found[0]) if found and found[0] == found[1] else None


def _fill(cursor: Cursor, dataset: Dataset, frame: pd.DataFrame) -> int:
    steps = sections(dataset.layout)
    cursor.execute(steps["create"])
    # Whole numbers beside missing ones are floats to pandas, and PostgreSQL takes no 3.0 for an integer.
    text = frame.convert_dtypes().to_csv(index=False).encode()
    columns = ", ".join(frame.columns)
    cursor.copy_expert(f"COPY staged ({columns}) FROM STDIN WITH (FORMAT csv, HEADER true)", io.BytesIO(text), 1 << 20)
    cursor.execute(steps["fill"])
    cursor.execute(
        f"INSERT INTO {dataset.schema}.load (made_of, rows) SELECT %s, count(*) FROM {dataset.name} RETURNING rows",
        (_made_of(dataset),),
    )
    found = cursor.fetchone()
    if found != (len(frame),):
        raise RuntimeError(
            f"{dataset.file.filename} has {len(frame)} rows, {dataset.name} got {found}: nothing is loaded"
        )
    return len(frame)


def _made_of(dataset: Dataset) -> str:
    """Return what the table is made of, as JSON: the digest of the file, and that of the SQL."""
    layout = hashlib.sha256(dataset.layout.encode()).hexdigest()
    facts: Mapping[str, str] = {"file": dataset.file.filename, "sha256": dataset.file.sha256, "layout": layout}
    return json.dumps(facts)
