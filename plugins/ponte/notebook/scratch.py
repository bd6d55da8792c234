"""A database in which nothing stays: all that is done in it is one transaction, rolled back at the end.

What trains a version writes rows about it and makes tables. A try does the very same, by the same functions, and leaves
nothing: not when it ends, not when it fails, and not when its process is killed, because the server then rolls back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import extensions
from sqlalchemy.pool import NullPool

from ponte.storage.database import SESSION, Database, settled

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes of CSV that are read at once; no row may be longer.
_BLOCK = 64 * 1024 * 1024


class _Lent(extensions.connection):  # type: ignore[misc]
    """A connection that is handed out many times, inside one transaction: whoever has it can neither end nor close it.

    SQLAlchemy does so for every transaction of its own. Those are savepoints here, see `Scratch.joined`.
    """

    readonly = False

    def commit(self) -> None:
        """Do nothing."""

    def rollback(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def set_isolation_level(self, level: Any) -> None:
        """Do nothing: all is read as of one moment."""

    def begin_for_good(self) -> None:
        """Begin the one transaction with the next statement."""
        self.set_session(isolation_level="REPEATABLE READ")

    def end_for_good(self) -> None:
        """Close, which rolls back whatever was done."""
        super().close()


class Scratch(Database):
    """The database as it will never be: every transaction is a savepoint of one that is rolled back."""

    def __init__(self, url: sa.URL, lent: _Lent) -> None:
        super().__init__(url)
        self._lent = lent
        self._depth = 0

    @cached_property
    def engine(self) -> sa.Engine:
        """Engine whose transactions are savepoints."""
        return self.joined(sa.create_engine(self.url, **self.engine_arguments))

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """What makes an engine of another library use the one connection."""
        return {"creator": lambda: self._lent, "poolclass": NullPool}

    def joined(self, engine: sa.Engine) -> sa.Engine:
        """Return the engine; each of its transactions is a savepoint."""
        sa.event.listen(engine, "begin", lambda _: self._begin())
        sa.event.listen(engine, "commit", lambda _: self._end("RELEASE SAVEPOINT"))
        sa.event.listen(engine, "rollback", lambda _: self._end("ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT"))
        return settled(engine)

    @contextmanager
    def read_only(self) -> Iterator[sa.Connection]:
        """Yield a connection in which nothing can be written, until the block ends."""
        with self.begin() as connection:
            connection.exec_driver_sql("SET LOCAL transaction_read_only = on")
            yield connection

    @contextmanager
    def adbc(self) -> Iterator[Any]:
        """Yield what reads rows of the one transaction as Arrow; another connection would not see them."""
        yield _Copying(self.url, self._lent)

    def _begin(self) -> None:
        self._depth += 1
        self._tell("SAVEPOINT")

    def _end(self, *verbs: str) -> None:
        if not self._lent.closed:  # else the server has ended it all
            for verb in verbs:
                self._tell(verb)
        self._depth -= 1

    def _tell(self, verb: str) -> None:
        statement = f"{verb} ponte_scratch_{self._depth}"
        try:
            with self._lent.cursor() as cursor:
                cursor.execute(statement)
        except psycopg2.Error as error:  # as SQLAlchemy raises what a statement of its own meets
            raise sa.exc.DBAPIError.instance(statement, (), error, psycopg2.Error) from error


@contextmanager
def scratch(db: Database) -> Iterator[Scratch]:
    """Yield a database that holds what `db` holds at this moment, and forgets what is done in it."""
    _, arguments = db.engine.dialect.create_connect_args(db.url)
    lent: _Lent = psycopg2.connect(connection_factory=_Lent, **{**arguments, **SESSION})
    try:
        lent.begin_for_good()
        yield Scratch(db.url, lent)
    finally:
        lent.end_for_good()


class _Copying:
    """As much of an ADBC connection as reads rows: COPY, as CSV, typed by what the query returns."""

    def __init__(self, url: sa.URL, lent: _Lent) -> None:
        self._url, self._lent = url, lent
        self._content: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it, as its last user
        self._types: Mapping[str, pa.DataType] = {}

    @contextmanager
    def cursor(self) -> Iterator[_Copying]:
        with self._content:
            yield self

    def execute(self, query: str) -> None:
        with self._lent.cursor() as cursor:
            cursor.execute(f"SELECT * FROM ({query}) AS rows LIMIT 0")
            self._types = {column.name: _arrow_type(column.type_code) for column in cursor.description or ()}
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv)", self._content)
        self._content.seek(0)

    def adbc_prepare(self, text: str) -> None:
        """Let the server count the statements of an author's text; another session can, for it needs no row of this."""
        with Database(self._url).adbc() as connection, connection.cursor() as cursor:
            cursor.adbc_prepare(text)

    def fetch_record_batch(self) -> pa.RecordBatchReader:
        import pyarrow as pa
        from pyarrow import csv

        if not self._content.seek(0, 2):
            return pa.RecordBatchReader.from_batches(pa.schema(self._types), [])
        self._content.seek(0)
        found: pa.RecordBatchReader = csv.open_csv(
            self._content,
            read_options=csv.ReadOptions(column_names=list(self._types), block_size=_BLOCK),
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            # NULL is nothing at all, and the empty text is a pair of quotes.
            convert_options=csv.ConvertOptions(
                column_types=dict(self._types),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
        return found


def _arrow_type(type_code: int) -> pa.DataType:
    """Return the type that ADBC gives the columns of `storage.columns.select_list`."""
    import pyarrow as pa

    types: dict[int, pa.DataType] = {
        16: pa.bool_(),
        20: pa.int64(),
        25: pa.string(),
        701: pa.float64(),
        1082: pa.date32(),
        1184: pa.timestamp("us", tz="UTC"),
    }
    return types[type_code]
