"""One URL → a SQLAlchemy engine for the control plane and ADBC connections for the data plane.

Rows that steer (batches, events) go through SQLAlchemy; rows by the million go through ADBC, as Arrow.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ponte.errors import DatabaseUnavailable
from ponte.storage.withholding import said_of

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection as AdbcConnection

#: Author SQL and ours mean UTC wherever the server stands; the name shows in pg_stat_activity.
#: The server looks every ten seconds whether the client of a running statement is still there: the statement of a task
#: that was killed must not hold its locks against the retry until it ends by itself.
#: Text comes as UTF-8, which Arrow means by text, whatever the database is set to.
SESSION = {
    "options": "-c TimeZone=UTC -c client_connection_check_interval=10s "
    "-c statement_timeout=0 -c transaction_timeout=0 -c idle_in_transaction_session_timeout=0",
    "application_name": "ponte",
    "client_encoding": "utf8",
}
#: A connection pooler between us and the server may keep `options` to itself, and hand the session of one transaction
#: to somebody else's next. So each transaction says itself what its values and its length depend on. A database may
#: limit how long statements run; a shard takes as long as its rows do, and would be tried again for ever.
_SETTINGS = {
    "TimeZone": "UTC",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
# No SELECT: it would take the snapshot of a REPEATABLE READ transaction before the caller's first statement.
_SET = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _SETTINGS.items())
_SET_BY_ADBC = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items())

#: For pauses of no certain length. A generator of its own: threads that wait do not disturb what somebody else draws
#: from the global one.
JITTER = random.Random()  # noqa: S311 - not a secret

#: How often something is tried that lets go when it has waited too long for a lock.
LOCK_TRIES = 5

#: SQLSTATE of a row that was changed after the moment of a REPEATABLE READ transaction.
_CONFLICT = "40001"

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Schema of the tables that hold rows of one batch: frozen inputs and staged predictions.
DATA_SCHEMA = "ponte_data"

_LOCK_OF_DECISIONS = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.alias'), hashtext(:model))")
_IS_THERE = sa.text("SELECT to_regclass(:name) IS NOT NULL")


class Database:
    """The `ponte` database.

    Parameters
    ----------
    url : str
        Any PostgreSQL URL: `postgresql://user:password@host:5432/ponte`, or
        `postgresql://user:password@/ponte?host=/socket/folder`. Never shown in errors or logs with its password.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self.url = sa.make_url(url).set(drivername="postgresql+psycopg2")

    @cached_property
    def engine(self) -> sa.Engine:
        """Engine without a pool: a task opens few connections and must not hold them while it predicts."""
        return self.joined(sa.create_engine(self.url, poolclass=NullPool, connect_args=SESSION))

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """Arguments with which another library makes an engine that works in this database; see `joined`."""
        return {}

    def joined(self, engine: sa.Engine) -> sa.Engine:
        """Return an engine, of another library too, whose transactions are as ours."""
        return settled(engine)

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Return a context manager: one transaction, READ COMMITTED, committed at its end, rolled back on error."""
        return self.engine.begin()

    @contextmanager
    def read_only(self) -> Iterator[sa.Connection]:
        """Yield a connection in one READ ONLY transaction, for author SQL that must not write."""
        with self.engine.connect() as connection:
            connection.execution_options(postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def one_moment(self) -> Iterator[sa.Connection]:
        """Yield a connection in one REPEATABLE READ transaction: it reads all as it was at its first statement.

        Whoever locks a row first has to expect that somebody changed it meanwhile: see `retry_conflicts`.
        """
        with self.engine.connect() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def adbc(self) -> Iterator[AdbcConnection]:
        """Yield an ADBC connection, one transaction at a time; closing it without a commit rolls back."""
        from adbc_driver_postgresql import dbapi

        uri = self.url.set(drivername="postgresql").update_query_dict(SESSION)
        # libpq wants %20 where SQLAlchemy writes a space, and + in the query.
        base, _, query = uri.render_as_string(hide_password=False).partition("?")
        connection = dbapi.connect(f"{base.replace(' ', '%20')}?{query.replace('+', '%20')}")
        try:
            with connection.cursor() as cursor:  # a cursor's own `execute` would read the answer by COPY
                cursor.adbc_statement.set_sql_query(_SET_BY_ADBC)
                cursor.adbc_statement.execute_update()
            yield connection
        finally:
            connection.close()


def settled(engine: sa.Engine) -> sa.Engine:
    """Return the engine; each of its transactions begins by setting what ours depend on, until it ends."""

    def settle(connection: sa.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        if driver.autocommit:
            return
        errors: Any = connection.dialect.loaded_dbapi
        try:
            with driver.cursor() as cursor:
                cursor.execute(_SET)
        except errors.Error as error:  # as SQLAlchemy raises what a statement of its own meets
            raise sa.exc.DBAPIError.instance(_SET, (), error, errors.Error, dialect=connection.dialect) from error

    sa.event.listen(engine, "begin", settle)
    return engine


def lock_decisions(connection: sa.Connection, model: str) -> None:
    """Until the transaction ends, nobody else decides which version of the model counts, or acts on it.

    Whoever takes it takes it before any row: that is the order that keeps two from waiting for each other.
    """
    connection.execute(_LOCK_OF_DECISIONS, {"model": model})


def insert_row(
    connection: sa.Connection, table: str, row: Mapping[str, Any], *, unless: str = "", returning: str = ""
) -> Any:
    """Insert one row in the caller's transaction; return the value of the column `returning`.

    unless : columns that are unique together, "model, run_id": when such a row is there already, nothing is inserted
    and None is returned.
    """
    text = _insert(table, row)
    text += f" ON CONFLICT ({unless}) DO NOTHING" if unless else ""
    result = connection.execute(sa.text(f"{text} RETURNING {returning}" if returning else text), dict(row))
    return result.scalar_one_or_none() if returning else None


def insert_rows(connection: sa.Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns, in the caller's transaction."""
    if rows:
        connection.execute(sa.text(_insert(table, rows[0])), [dict(row) for row in rows])


def _insert(table: str, row: Mapping[str, Any]) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"


def table_exists(connection: sa.Connection, *name: str) -> bool:
    """Tell whether there is a table or view of this (schema and) name."""
    return bool(connection.execute(_IS_THERE, {"name": quote(*name)}).scalar_one())


def make_empty_table(connection: sa.Connection, table: str, query: str, parameters: Mapping[str, Any]) -> None:
    """Make an empty table with the columns of a query, in the place of one that is there.

    To be committed before the rows are loaded: a server crash inside one transaction that does both would leave a file
    on disk that no catalog knows.
    """
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    connection.exec_driver_sql(f"CREATE TABLE {table} AS {query} WITH NO DATA", dict(parameters))


def or_of_a_twin(work: Callable[[], T], done: Callable[[], T | None]) -> T:
    """Return what `work` returns; when it fails and a twin has done the same meanwhile, what the twin has left.

    Airflow may run a task twice at once. The slower one then finds its tables gone or its keys taken: no fault.

    done : returns what was left, None when nobody was faster; may raise what explains the failure better.
    """
    try:
        return work()
    except Exception:
        found = done()
        if found is None:
            raise
        return found


def quote(*parts: str) -> str:
    """Return a quoted, dotted identifier.

    >>> quote("ponte_data", 'odd"name')
    '"ponte_data"."odd""name"'
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def connection_url(
    *,
    host: str | None,
    port: int | None,
    login: str | None,
    password: str | None,
    database: str | None,
    options: Mapping[str, Any] | None = None,
) -> sa.URL:
    """Return the URL of connection parts as Airflow keeps them; a host that is a path is a unix socket folder.

    options : further parameters of libpq, `sslmode` and `sslrootcert` among them.
    """
    socket = host is not None and host.startswith("/")
    return sa.URL.create(
        "postgresql+psycopg2",
        username=login,
        password=password,
        host=None if socket else host,
        port=None if socket else port,
        database=database,
        query={
            **({"host": str(host), "port": str(port or 5432)} if socket else {}),
            **{name: str(value) for name, value in (options or {}).items()},
        },
    )


@contextmanager
def transient_faults_marked() -> Iterator[None]:
    """Turn passing database faults (connection lost, lock time-out, disk full, shutdown) into DatabaseUnavailable."""
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise DatabaseUnavailable("the database failed in passing", got=said_of(error)) from error
        raise


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again later may help. Faults of data or SQL do not heal by themselves."""
    found = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    if isinstance(found, sa.exc.DBAPIError) or type(found).__module__.startswith(("adbc_driver_manager", "psycopg2")):
        state = str(getattr(found, "sqlstate", None) or getattr(found, "pgcode", None) or "")
        if state:
            # Class 08 connection, 40 rollback, 53 resources, 55 object in use, 57 operator intervention; but 08P01 is
            # a malformed COPY stream, which stays malformed.
            return state[:2] in {"08", "40", "53", "55", "57"} and state != "08P01"
        if type(found).__name__ == "DatabaseError":
            return True  # all that psycopg2 says when the server goes down in the middle of a statement
        return any(base.__name__ in {"OperationalError", "InterfaceError"} for base in type(found).__mro__)
    # Great Expectations wraps what a connection raises.
    return error.__cause__ is not None and is_transient(error.__cause__)


def limit_lock_waits(connection: sa.Connection, timeout: str) -> None:
    """Let the caller's transaction wait for a lock no longer than `timeout` ('2s'): others queue behind a waiter."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{timeout}'")


def with_lock_retries(action: Callable[[], T]) -> T:
    """Return what `action` returns; it is tried again while it meets passing faults, a lock time-out among them."""
    for attempt in range(1, LOCK_TRIES + 1):
        try:
            return action()
        except sa.exc.DBAPIError as error:
            if attempt == LOCK_TRIES or not is_transient(error):
                raise
            log.info("waits for a lock, try %d of %d", attempt, LOCK_TRIES)
            time.sleep(JITTER.uniform(0.2, 1.0) * attempt)
    raise AssertionError("unreachable")


def retry_conflicts(action: Callable[[], T]) -> T:
    """Return what `action`, a transaction of one moment, returns; tried again when somebody changed what it locks.

    A row that was changed since is refused to it (SQLSTATE 40001); another moment sees the row as it is now.
    """
    for attempt in range(1, LOCK_TRIES + 1):
        try:
            return action()
        except sa.exc.DBAPIError as error:
            if attempt == LOCK_TRIES or getattr(error.orig, "pgcode", None) != _CONFLICT:
                raise
            log.info("somebody changed what it locks, try %d of %d", attempt, LOCK_TRIES)
    raise AssertionError("unreachable")


def leave_for_later(error: sa.exc.DBAPIError, what: str) -> int:
    """Return 0, for what was dropped, when somebody still uses the tables of `what`; any other error is raised."""
    if not is_transient(error):
        raise error
    log.info("the tables of %s are in use: the next run drops them", what)
    return 0
