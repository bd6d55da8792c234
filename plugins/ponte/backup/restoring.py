"""A dump → a new database that takes the name of the old one.

The database that bears the name is never touched: a new one beside it is filled and counted, and the names are swapped
in one transaction at the very end.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ponte.backup.dumping import Dump, begin, in_chunks, relations, row_counts, run_program, sqlstate
from ponte.embedded.programs import binaries
from ponte.errors import PonteError
from ponte.schema import roles
from ponte.storage.database import Database, quote

#: SQLSTATE of a database with sessions.
_IN_USE = "55006"
_PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}
#: Their values are lists of identifiers, stored as they are written.
_LISTS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

_ROLES = sa.text("SELECT rolname FROM pg_roles")
_EXISTS = sa.text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
_HAS_RIGHTS = sa.text("SELECT datacl IS NOT NULL FROM pg_database WHERE datname = :name")
_SESSIONS = sa.text("SELECT concat_ws(' ', usename, application_name) FROM pg_stat_activity WHERE datname = :name")
_END_SESSIONS = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")


def require_room(url: sa.URL, dump: Dump, *, replace: bool) -> None:
    """Raise PonteError unless the dump could be restored under the name that `url` has: before anything is done."""
    with _maintenance(url) as admin:
        version = str(admin.exec_driver_sql("SHOW server_version").scalar_one())
        known = set(admin.execute(_ROLES).scalars())
        sessions = _sessions(admin, url)
        exists = _exists(admin, url)
    if _major(version) < _major(dump.server_version):
        expected, fix = f"{_major(dump.server_version)} or newer", "restore on a server of that version"
        raise PonteError("the server is older than the backup's", got=version, expected=expected, fix=fix)
    missing = sorted(set(dump.properties["roles"]) - known)
    if missing:
        fix = "./ponte provision creates the roles; then restore again"
        raise PonteError("the backup names roles that the server does not have", got=", ".join(missing), fix=fix)
    if not exists or replace:
        return
    where, fix = f"database {url.database}", "--replace keeps it under another name and puts the backup in its place"
    filled = _tables_with_rows(url)
    if filled:
        raise PonteError("the database is not empty", where=where, got=f"rows in {', '.join(filled[:3])} …", fix=fix)
    if sessions:
        fix = "stop what uses it (./ponte down; docker compose stop), or say --replace, which ends its sessions"
        raise PonteError("the database is in use", where=where, got=", ".join(sessions), fix=fix)


@contextmanager
def restored(url: sa.URL, dump: Dump, folder: Path) -> Iterator[str]:
    """Yield the name of a new database that holds the dump, counted; it is dropped unless it is renamed meanwhile."""
    fresh = f"{url.database}_restored_{_stamp()}"
    with _undone_afterwards(url, f"DROP DATABASE IF EXISTS {quote(fresh)} WITH (FORCE)"):
        with _maintenance(url) as admin:
            _create(admin, fresh, dump.properties)
        _fill(_at(url, fresh), folder)
        with begin(_at(url, fresh)) as connection:
            roles.close_to_public(connection)  # pg_dump leaves the language sql out
        with Database(_at(url, fresh)).engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # in a transaction it would lock all tables at once
        with begin(_at(url, fresh)) as connection:
            _require_counts(row_counts(connection), dump.row_counts)
        with _maintenance(url) as admin:
            _configure(admin, fresh, dump.properties)
        yield fresh


def _fill(fresh: sa.URL, folder: Path) -> None:
    """Restore the dump into the new database; nothing that a role of Ponte's can have written runs as superuser.

    A row that is loaded is checked by whatever the owner of its table has made a CHECK of, as the role that loads it.
    So the rows of trainer and scorer are loaded by one that may write rows and do nothing else.
    """
    theirs: list[str] = []
    others: list[str] = []
    for entry in _contents(folder):
        (theirs if entry.endswith((f" {roles.TRAINER}", f" {roles.SCORER}")) else others).append(entry)
    late = [entry for entry in theirs if " CHECK CONSTRAINT " in entry]  # it would be checked when the rows are there
    if late:
        raise PonteError("the backup has constraints that Ponte does not make", where=str(folder), got="; ".join(late))

    def restore(section: str, login: sa.URL, *options: str) -> None:
        shared = ["--format=directory", "--exit-on-error", "--jobs=2", f"--section={section}"]
        run_program("pg_restore", [*shared, *options, str(folder)], login)

    def restore_rows(entries: list[str], login: sa.URL) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".list") as file:
            file.write("\n".join(entries))
            file.flush()
            restore("data", login, f"--use-list={file.name}")

    restore("pre-data", fresh)
    with _loader(fresh) as loader:
        restore_rows(theirs, loader)
    restore_rows(others, fresh)
    restore("post-data", fresh)


def _contents(folder: Path) -> list[str]:
    """Return an entry for everything in the dump, as pg_restore lists it: `<id>; <oids> <kind> <name> <owner>`."""
    command = [str(binaries() / "pg_restore"), "--format=directory", "--list", str(folder)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if listed.returncode:
        raise PonteError("pg_restore failed", where=str(folder), got=listed.stderr.strip())
    return [line for line in listed.stdout.splitlines() if line and not line.startswith(";")]


@contextmanager
def _loader(fresh: sa.URL) -> Iterator[sa.URL]:
    """Yield the login of a role that may write rows to every table, and nothing else; it is dropped afterwards."""
    role, password = str(fresh.database), secrets.token_hex(24)
    database, quoted = f"DATABASE {quote(role)}", quote(role)  # they have the same name
    with _maintenance(fresh) as admin:
        # Else nothing is granted: that would show in the rights of the database.
        closed = admin.execute(_HAS_RIGHTS, {"name": role}).scalar_one()
    revoke = [f"REVOKE CONNECT ON {database} FROM {quoted}"] if closed else []
    with _undone_afterwards(fresh, *revoke, f"DROP ROLE {quoted}"):
        with _maintenance(fresh) as admin:
            roles.ensure_logins(admin, {role: password})
            admin.exec_driver_sql(f"GRANT pg_write_all_data TO {quoted}")
            if closed:
                admin.exec_driver_sql(f"GRANT CONNECT ON {database} TO {quoted}")
        yield fresh.set(username=role, password=password)


@contextmanager
def _undone_afterwards(url: sa.URL, *statements: str) -> Iterator[None]:
    """Run statements at the end. When the server cannot any more, that does not hide why the work before it failed."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for statement in statements:
            try:
                with _maintenance(url) as admin:
                    admin.exec_driver_sql(statement)
            except sa.exc.DBAPIError:
                if not failed:
                    raise
                print(f"left behind; as superuser: {statement}", file=sys.stderr)


def take_name(url: sa.URL, fresh: str, *, replace: bool) -> str | None:
    """Give the database `fresh` the name in `url`; return under which name the old one is kept, None if it was empty.

    Of both renames none happens or both. replace : ends the sessions of the old one, else they are an error.
    """
    before = f"{url.database}_before_{_stamp()}"
    with _maintenance(url) as admin:
        exists = _exists(admin, url)
    for left in reversed(range(5)):
        try:
            with Database(_at(url, "postgres")).begin() as admin:
                if replace:
                    admin.execute(_END_SESSIONS, {"name": url.database})
                # From here on new sessions wait, and then find the new database.
                if exists:
                    admin.exec_driver_sql(f"ALTER DATABASE {quote(str(url.database))} RENAME TO {quote(before)}")
                admin.exec_driver_sql(f"ALTER DATABASE {quote(fresh)} RENAME TO {quote(str(url.database))}")
            break
        except sa.exc.DBAPIError as error:
            # Somebody was quick enough to come in between.
            if left == 0 or not replace or sqlstate(error) != _IN_USE:
                raise
    if not exists:
        return None
    try:  # it is done; that somebody sits in the empty one must not look as if it were not
        if _tables_with_rows(_at(url, before)):
            return before
        with _maintenance(url) as admin:
            admin.exec_driver_sql(f"DROP DATABASE {quote(before)} WITH (FORCE)")
    except sa.exc.DBAPIError:
        return before
    return None


def _create(admin: sa.Connection, name: str, properties: dict[str, Any]) -> None:
    """Create the database as the dumped one was, open to nobody but those that it was open to."""
    provider, owner = _PROVIDERS[properties["provider"]], quote(properties["owner"])
    locale = "" if provider == "libc" else f"{provider}_LOCALE :locale"
    create = sa.text(
        f"CREATE DATABASE {quote(name)} OWNER {owner} TEMPLATE template0 ENCODING :encoding LOCALE_PROVIDER {provider} "
        f"LC_COLLATE :collate LC_CTYPE :ctype {locale}"
    )
    admin.execute(create, properties)
    if properties["acl"] is not None:
        admin.exec_driver_sql(f"REVOKE ALL ON DATABASE {quote(name)} FROM PUBLIC, {owner}")
    for right in properties["acl"] or ():
        role = "PUBLIC" if right["role"] is None else quote(right["role"])
        option = " WITH GRANT OPTION" if right["grantable"] else ""
        admin.exec_driver_sql(f"GRANT {right['privilege']} ON DATABASE {quote(name)} TO {role}{option}")


def _configure(admin: sa.Connection, name: str, properties: dict[str, Any]) -> None:
    """Set what would have disturbed the restore: settings of the database, a statement_timeout among them."""
    admin.exec_driver_sql(f"ALTER DATABASE {quote(name)} CONNECTION LIMIT {properties['connection_limit']:d}")
    admin.execute(sa.text(f"COMMENT ON DATABASE {quote(name)} IS :comment"), properties)
    for entry in properties["settings"]:
        setting, _, value = entry["setting"].partition("=")
        whose = f"ROLE {quote(entry['role'])} IN DATABASE" if entry["role"] else "DATABASE"
        text = value if setting in _LISTS else ":value"
        change = sa.text(f"ALTER {whose} {quote(name)} SET {quote(*setting.split('.'))} TO {text}")
        admin.execute(change, {"value": value})


def _require_counts(got: dict[str, int], expected: dict[str, int]) -> None:
    differ = [n for n in sorted(got.keys() | expected.keys()) if got.get(n) != expected.get(n)]
    if differ:
        said = "; ".join(f"{n}: {got.get(n)} rows, in the backup {expected.get(n)}" for n in differ[:5])
        raise PonteError("the restored database differs from the backup", got=said, fix="it was dropped; report this")


def _tables_with_rows(url: sa.URL) -> list[str]:
    """Return the tables with rows; that the schema has a revision does not count."""
    with begin(url) as connection:
        names = [name for name in relations(connection, "r") if name != quote("ponte", "schema_version")]
        return [
            name
            for some in in_chunks(connection, names)
            for name in some
            if connection.exec_driver_sql(f"SELECT EXISTS (SELECT FROM {name})").scalar_one()
        ]


def _major(version: str) -> int:
    """Return the major version: 18 of `18.1 (Debian 18.1-1)`, 19 of `19beta1`."""
    return int(re.split(r"\D", version)[0])


def _sessions(admin: sa.Connection, url: sa.URL) -> list[str]:
    return sorted(admin.execute(_SESSIONS, {"name": url.database}).scalars())


def _exists(admin: sa.Connection, url: sa.URL) -> bool:
    return bool(admin.execute(_EXISTS, {"name": url.database}).scalar_one())


@contextmanager
def _maintenance(url: sa.URL) -> Iterator[sa.Connection]:
    """Yield a connection to the database `postgres` in autocommit: databases are not made inside a transaction."""
    with Database(_at(url, "postgres")).engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _at(url: sa.URL, database: str) -> sa.URL:
    return url.set(database=database)


def _stamp() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y%m%d_%H%M%S_%f")
