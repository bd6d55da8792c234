"""URLs, identifiers, and which faults are worth a retry; nothing here connects."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import adbc_driver_manager as adbc
import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn
from sqlalchemy.dialects.postgresql import psycopg2 as dialect

from ponte.errors import DatabaseUnavailable
from ponte.storage.database import Database, connection_url, is_transient, quote, transient_faults_marked

#: What a name or a password may hold: anything printable, and more than ASCII.
texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_categories=["Cc"]), min_size=1)


@pytest.mark.parametrize(
    ("parts", "quoted"),
    [
        (["ponte"], '"ponte"'),
        (["ponte_data", "Big Table"], '"ponte_data"."Big Table"'),
        (['a"; DROP TABLE b; --'], '"a""; DROP TABLE b; --"'),
        (["a.b"], '"a.b"'),
    ],
    ids=["plain", "two parts", "quotation mark", "dot"],
)
def test_identifier_is_quoted_part_by_part(parts: list[str], quoted: str) -> None:
    assert quote(*parts) == quoted


@given(texts)
def test_quoted_identifier_can_be_read_back(name: str) -> None:
    assert quote(name)[1:-1].replace('""', '"') == name


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("db.example", 5433, "postgresql+psycopg2://ann:***@db.example:5433/ponte"),
        ("db.example", None, "postgresql+psycopg2://ann:***@db.example/ponte"),
        ("/run/postgres", 5433, "postgresql+psycopg2://ann:***@/ponte?host=%2Frun%2Fpostgres&port=5433"),
        ("/run/postgres", None, "postgresql+psycopg2://ann:***@/ponte?host=%2Frun%2Fpostgres&port=5432"),
    ],
    ids=["host and port", "host", "socket and port", "socket"],
)
def test_host_that_is_a_path_is_a_socket_folder_and_the_password_is_never_shown(
    host: str, port: int | None, url: str
) -> None:
    found = connection_url(host=host, port=port, login="ann", password="secret", database="ponte")  # noqa: S106
    assert str(found) == url
    assert "secret" not in repr(Database(found).engine)


@pytest.mark.parametrize("host", ["db.example", "/run/postgres"])
def test_extras_of_the_airflow_connection_reach_libpq_by_both_drivers(host: str) -> None:
    """Without `sslmode` a connection that must be encrypted would silently not be."""
    url = connection_url(
        host=host,
        port=5433,
        login="ann",
        password="secret",  # noqa: S106
        database="ponte",
        options={"sslmode": "verify-full", "sslrootcert": "/etc/ssl/our ca.pem", "connect_timeout": 5},
    )
    extras = {"sslmode": "verify-full", "sslrootcert": "/etc/ssl/our ca.pem", "connect_timeout": "5"}
    (_, of_psycopg2) = dialect.dialect().create_connect_args(url)  # type: ignore[no-untyped-call]
    for found in (of_psycopg2, parse_dsn(adbc_uri(Database(url)))):
        assert {name: found.get(name) for name in (*extras, "host", "port")} == {
            **extras,
            "host": host,
            "port": type(found["port"])(5433),
        }


def adbc_uri(db: Database) -> str:
    """Return the URL that ADBC is given."""
    asked: list[str] = []

    class Connection(MagicMock):
        def close(self) -> None:
            asked.append("closed")

    def connect(uri: str) -> Connection:
        asked.append(uri)
        return Connection()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adbc_driver_postgresql.dbapi.connect", connect)
        with db.adbc():
            pass
    assert asked.pop() == "closed"
    return asked[0]


@given(texts, texts, texts, st.sampled_from(["db.example", "/run/my postgres"]))
def test_libpq_reads_the_adbc_url_back_as_the_parts_that_airflow_keeps(
    login: str, password: str, database: str, host: str
) -> None:
    """ADBC gets its URL as text, so every character of a password has to survive quoting."""
    uri = adbc_uri(Database(connection_url(host=host, port=5433, login=login, password=password, database=database)))
    assert " " not in uri, "libpq of PostgreSQL 17 and later refuses a bare space"
    assert parse_dsn(uri) == {
        "user": login,
        "password": password,
        "dbname": database,
        "host": host,
        "port": "5433",
        "options": "-c TimeZone=UTC -c client_connection_check_interval=10s "
        "-c statement_timeout=0 -c transaction_timeout=0 -c idle_in_transaction_session_timeout=0",
        "application_name": "ponte",
        "client_encoding": "utf8",
    }


def of_sqlalchemy(error: type[Exception]) -> Exception:
    """Return the error as SQLAlchemy raises it."""
    return sa.exc.DBAPIError.instance(  # type: ignore[return-value]
        "SELECT 1",
        {},
        error("said the server"),
        psycopg2.Error,
        dialect=dialect.dialect(),  # type: ignore[no-untyped-call]
    )


def of_adbc(name: str, state: str | None) -> Exception:
    made: Exception = getattr(adbc, name)("said", status_code=adbc.AdbcStatusCode.IO, sqlstate=state)
    return made


def caused_by(cause: Exception, *, times: int = 1) -> Exception:
    """Return an error of another library that was raised from the cause."""
    error = cause
    for _ in range(times):
        outer = RuntimeError("something failed")
        outer.__cause__ = error
        error = outer
    return error


def in_the_context_of(error: Exception) -> Exception:
    """Return a bug in the code that handles the error."""
    bug = KeyError("x")
    bug.__context__ = error
    return bug


ERRORS: dict[str, tuple[Exception, bool]] = {
    "connection lost": (of_sqlalchemy(psycopg2.OperationalError), True),
    "connection closed": (of_sqlalchemy(psycopg2.InterfaceError), True),
    "deadlock": (of_sqlalchemy(psycopg2.errors.DeadlockDetected), True),
    "lock time-out": (of_sqlalchemy(psycopg2.errors.LockNotAvailable), True),
    "statement cancelled": (of_sqlalchemy(psycopg2.errors.QueryCanceled), True),
    "disk full": (of_sqlalchemy(psycopg2.errors.DiskFull), True),
    "server shuts down": (of_sqlalchemy(psycopg2.errors.AdminShutdown), True),
    "no such table": (of_sqlalchemy(psycopg2.errors.UndefinedTable), False),
    "syntax error": (of_sqlalchemy(psycopg2.errors.SyntaxError), False),
    "division by zero": (of_sqlalchemy(psycopg2.errors.DivisionByZero), False),
    "key twice": (of_sqlalchemy(psycopg2.errors.UniqueViolation), False),
    "ADBC: connection lost": (of_adbc("OperationalError", None), True),
    "ADBC: server shuts down": (of_adbc("ProgrammingError", "57P01"), True),
    "ADBC: serialization failure": (of_adbc("InternalError", "40001"), True),
    "ADBC: disk full": (of_adbc("InternalError", "53100"), True),
    "ADBC: no such table": (of_adbc("ProgrammingError", "42P01"), False),
    "ADBC: key twice": (of_adbc("IntegrityError", "23505"), False),
    "ADBC: no such table, called operational": (of_adbc("OperationalError", "42P01"), False),
    "ADBC: malformed COPY stream": (of_adbc("OperationalError", "08P01"), False),
    "ADBC: connection failure": (of_adbc("InternalError", "08006"), True),
    "wrapped: connection lost": (caused_by(of_sqlalchemy(psycopg2.OperationalError)), True),
    "wrapped twice: server shuts down": (caused_by(of_adbc("InternalError", "57P01"), times=2), True),
    "wrapped: no such table": (caused_by(of_sqlalchemy(psycopg2.errors.UndefinedTable)), False),
    "a bug while a lost connection was handled": (
        in_the_context_of(of_sqlalchemy(psycopg2.OperationalError)),
        False,
    ),
    "a bug": (KeyError("x"), False),
    "state on a foreign error": (type("Odd", (Exception,), {"sqlstate": "57P01"})(), False),
}


@pytest.mark.parametrize(("error", "transient"), ERRORS.values(), ids=ERRORS)
def test_fault_is_worth_a_retry_only_when_it_may_pass(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient
    caught: Any = pytest.raises(DatabaseUnavailable if transient else type(error))
    with caught as raised, transient_faults_marked():
        raise error
    assert (raised.value.__cause__ is error) is transient


def test_a_row_that_is_too_big_is_no_passing_fault() -> None:
    """psycopg2 makes an OperationalError of it; the SQLSTATE, 54000, says that it stays too big."""

    class TooBig(psycopg2.OperationalError):
        pgcode = "54000"

    assert not is_transient(sa.exc.OperationalError("INSERT", {}, TooBig("row is too big")))
