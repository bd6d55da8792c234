"""A whole database → files → a fresh database that takes the name, with the programs of the PostgreSQL wheel.

A dump is taken in one snapshot together with its row counts. A restore never touches the database that bears the name:
it fills a new one beside it, counts there, and swaps the names in one transaction at the very end.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ponte import roles
from ponte.database import Database, quote
from ponte.errors import PonteError
from ponte.local.programs import binaries

#: Seconds between attempts to dump: somebody changed a table at that moment, or dropped one before it could be locked.
PAUSES = (1, 2, 4, 8, 16)
#: SQLSTATE of a table that is not there (any more), of one that is locked, and of a database with sessions.
_VANISHED, _LOCKED, _IN_USE = "42P01", "55P03", "55006"
_PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}
#: Their values are lists of identifiers, stored as they are written.
_LISTS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

_PROPERTIES = """
SELECT pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, datlocprovider AS provider,
       datcollate AS collate, datctype AS ctype, datlocale AS locale, datconnlimit AS connection_limit,
       shobj_description(d.oid, 'pg_database') AS comment,
       CASE WHEN datacl IS NOT NULL THEN (
           SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'privilege', a.privilege_type,
                                                        'grantable', a.is_grantable)
                                     ORDER BY r.rolname, a.privilege_type), '[]')
           FROM aclexplode(datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee) END AS acl,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'setting', c) ORDER BY r.rolname, c), '[]')
        FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c LEFT JOIN pg_roles r ON r.oid = s.setrole
        WHERE s.setdatabase = d.oid) AS settings,
       (SELECT coalesce(jsonb_agg(DISTINCT rolname), '[]') FROM pg_roles WHERE oid IN (
            SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
               AND (dbid = d.oid OR (classid = 'pg_database'::regclass AND objid = d.oid))
            UNION SELECT setrole FROM pg_db_role_setting WHERE setdatabase = d.oid)) AS roles
FROM pg_database d WHERE datname = current_database()
"""

#: Without those of extensions, which bring their own.
_RELATIONS = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = ANY (:kinds) AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1, 2
"""

_ARTIFACTS = """
SELECT path || '/manifest.json', manifest_sha256 FROM ponte.version
UNION SELECT path, sha256 FROM ponte.snapshot WHERE status = 'written' ORDER BY 1
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dump:
    """What a dump holds, as plain JSON; all of it of the one moment that the dump shows."""

    server_version: str
    #: Revision of the schema ponte.
    schema_revision: str
    #: Owner, encoding, locale, rights, settings and comment of the database itself, and every role that is named in it.
    properties: dict[str, Any]
    #: Of every table with rows of its own: `<schema>.<name>` → rows. Not of views: their functions would run as us.
    row_counts: dict[str, int]
    #: Files that it names, below the artifact root → SHA-256: the manifest of each version, and the training sets.
    artifacts: dict[str, str]


# ---------------------------------------------------------------- running a program


def connection_string(url: sa.URL) -> tuple[str, dict[str, str]]:
    """Return the parameters for libpq, without the password, and the environment that has it.

    >>> connection_string(sa.make_url("postgresql://me:secret@db/it's?sslmode=disable"))
    ("host='db' dbname='it\\\\'s' user='me' sslmode='disable'", {'PGPASSWORD': 'secret'})
    """
    _, parameters = sa.create_engine(Database(url).url).dialect.create_connect_args(Database(url).url)
    password = parameters.pop("password", None)
    escaped = {name: str(value).replace("\\", r"\\").replace("'", r"\'") for name, value in parameters.items()}
    text = " ".join(f"{name}='{value}'" for name, value in escaped.items())
    return text, {"PGPASSWORD": password} if password else {}


def run_program(program: str, arguments: Sequence[str], url: sa.URL) -> None:
    """Run a program of the wheel against the database; raises PonteError with the end of what it said.

    Whatever interrupts us ends it too, and waits until it has.
    """
    connection, environment = connection_string(url)
    process = subprocess.Popen(  # noqa: S603 - a program of the wheel, no shell
        [str(binaries() / program), "--no-password", f"--dbname={connection}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment, "LC_ALL": "C"},
    )
    try:
        _, said = process.communicate()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()[-6:]
        got = "; ".join(line.strip() for line in lines) or f"exit status {process.returncode}"
        raise PonteError(f"{program} failed", where=f"database {url.database}", got=got)


# ---------------------------------------------------------------- dump


def dump(url: sa.URL, folder: Path) -> Dump:
    """Write the database into the new `folder` and return what it holds.

    Raises PonteError or a database error when that fails after the last of PAUSES too.
    """
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    # The second process of a parallel dump gives up when somebody waits to change a table; a single one does not.
    jobs = 2
    for pause in PAUSES:
        try:
            with _begin(url, **options) as connection:
                return _dump(connection, url, folder, jobs=jobs)
        except PonteError:
            if jobs == 1:
                raise
            jobs = 1
        except sa.exc.DBAPIError as error:
            if _state(error) not in (_VANISHED, _LOCKED):
                raise
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(pause)  # holding no lock: whoever is at work goes on, and so does Ctrl-C
    with _begin(url, **options) as connection:
        return _dump(connection, url, folder, jobs=1)


def _dump(connection: sa.Connection, url: sa.URL, folder: Path, *, jobs: int) -> Dump:
    snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
    revision = connection.exec_driver_sql("SELECT version_num FROM ponte.schema_version").scalar_one()
    version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    properties = dict(connection.exec_driver_sql(_PROPERTIES).mappings().one())
    # A scoring run drops and attaches tables at any time. What the snapshot shows stays until we have read it.
    for name in _relations(connection, "rp"):
        connection.exec_driver_sql(f"LOCK TABLE ONLY {name} IN ACCESS SHARE MODE NOWAIT")
    options = ["--format=directory", "--compress=gzip", f"--jobs={jobs}", "--lock-wait-timeout=30s"]
    run_program("pg_dump", [*options, f"--snapshot={snapshot}", f"--file={folder}"], url)
    artifacts: Any = connection.exec_driver_sql(_ARTIFACTS).all()
    return Dump(
        server_version=version,
        schema_revision=revision,
        properties=properties,
        row_counts=row_counts(connection),
        artifacts=dict(artifacts),
    )


def row_counts(connection: sa.Connection) -> dict[str, int]:
    """Return `Dump.row_counts` as the transaction sees it."""
    counts = {}
    for name in _relations(connection, "r"):
        counts[name.replace('"', "")] = int(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one())
    return counts


def _relations(connection: sa.Connection, kinds: str) -> list[str]:
    found = connection.execute(sa.text(_RELATIONS), {"kinds": list(kinds)})
    return [quote(schema, name) for schema, name in found]


# ---------------------------------------------------------------- restore


def require_room(url: sa.URL, dump: Dump, *, replace: bool) -> None:
    """Raise PonteError unless the dump could be restored under the name that `url` has: before anything is done."""
    with _maintenance(url) as admin:
        version = str(admin.exec_driver_sql("SHOW server_version").scalar_one())
        known = set(admin.exec_driver_sql("SELECT rolname FROM pg_roles").scalars())
        sessions = _sessions(admin, url)
        exists = _exists(admin, url)
    if _major(version) < _major(dump.server_version):
        expected, fix = f"{_major(dump.server_version)} or newer", "restore on a server of that version"
        raise PonteError("the server is older than the backup's", got=version, expected=expected, fix=fix)
    missing = sorted(set(dump.properties["roles"]) - known)
    if missing:
        fix = "python -m ponte.provision creates the roles; then restore again"
        raise PonteError("the backup names roles that the server does not have", got=", ".join(missing), fix=fix)
    if not exists or replace:
        return
    where, fix = f"database {url.database}", "--replace keeps it under another name and puts the backup in its place"
    filled = _tables_with_rows(url)
    if filled:
        raise PonteError("the database is not empty", where=where, got=f"rows in {', '.join(filled[:3])} …", fix=fix)
    if sessions:
        fix = "stop what uses it (make down; docker compose stop), or say --replace, which ends its sessions"
        raise PonteError("the database is in use", where=where, got=", ".join(sessions), fix=fix)


@contextmanager
def restored(url: sa.URL, dump: Dump, folder: Path) -> Iterator[str]:
    """Yield the name of a new database that holds the dump, counted; it is dropped unless it is renamed meanwhile."""
    fresh = f"{url.database}_restored_{_stamp()}"
    with _undone_afterwards(url, f"DROP DATABASE IF EXISTS {quote(fresh)} WITH (FORCE)"):
        with _maintenance(url) as admin:
            _create(admin, fresh, dump.properties)
        with _loader(_at(url, fresh), closed=dump.properties["acl"] is not None) as loader:
            for section, login in (("pre-data", _at(url, fresh)), ("data", loader), ("post-data", _at(url, fresh))):
                options = ["--format=directory", "--exit-on-error", "--jobs=2", f"--section={section}"]
                run_program("pg_restore", [*options, str(folder)], login)
        with _begin(_at(url, fresh)) as connection:
            roles.close_to_public(connection)  # pg_dump leaves the language sql out
            connection.exec_driver_sql("ANALYZE")
            _require_counts(row_counts(connection), dump.row_counts)
        with _maintenance(url) as admin:
            _configure(admin, fresh, dump.properties)
        yield fresh


@contextmanager
def _loader(fresh: sa.URL, *, closed: bool) -> Iterator[sa.URL]:
    """Yield the login of a role that may write rows to every table there, and nothing else; it is dropped afterwards.

    A row that is loaded is checked by whatever the owner of its table has made a CHECK of, as the role that loads it.
    Owners are trainer and scorer too, so that must not be the superuser.

    closed : PUBLIC may not connect. Else nothing is granted: that would show in the rights of the database.
    """
    role, password = str(fresh.database), secrets.token_hex(24)
    database, quoted = f"DATABASE {quote(role)}", quote(role)  # they have the same name
    with _undone_afterwards(fresh, f"REVOKE CONNECT ON {database} FROM {quoted}" * closed, f"DROP ROLE {quoted}"):
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
        for statement in filter(None, statements):
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
                    query = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
                    admin.execute(query, {"name": url.database})
                # From here on new sessions wait, and then find the new database.
                if exists:
                    admin.exec_driver_sql(f"ALTER DATABASE {quote(str(url.database))} RENAME TO {quote(before)}")
                admin.exec_driver_sql(f"ALTER DATABASE {quote(fresh)} RENAME TO {quote(str(url.database))}")
            break
        except sa.exc.DBAPIError as error:
            # Somebody was quick enough to come in between.
            if left == 0 or not replace or _state(error) != _IN_USE:
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
        f"LC_COLLATE :collate LC_CTYPE :ctype {locale} CONNECTION LIMIT {properties['connection_limit']:d}"
    )
    admin.execute(create, properties)
    if properties["acl"] is not None:
        admin.exec_driver_sql(f"REVOKE ALL ON DATABASE {quote(name)} FROM PUBLIC, {owner}")
    for right in properties["acl"] or ():
        role = "PUBLIC" if right["role"] is None else quote(right["role"])
        option = " WITH GRANT OPTION" if right["grantable"] else ""
        admin.exec_driver_sql(f"GRANT {right['privilege']} ON DATABASE {quote(name)} TO {role}{option}")


def _configure(admin: sa.Connection, name: str, properties: dict[str, Any]) -> None:
    """Set what would have disturbed the restore: the settings of the database, a statement_timeout among them."""
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
    with _begin(url) as connection:
        names = [name for name in _relations(connection, "r") if name != quote("ponte", "schema_version")]
        return [n for n in names if connection.exec_driver_sql(f"SELECT EXISTS (SELECT FROM {n})").scalar_one()]


def _major(version: str) -> int:
    """Return the major version: 18 of `18.1 (Debian 18.1-1)`, 19 of `19beta1`."""
    return int(re.split(r"\D", version)[0])


def _sessions(admin: sa.Connection, url: sa.URL) -> list[str]:
    query = sa.text("SELECT concat_ws(' ', usename, application_name) FROM pg_stat_activity WHERE datname = :name")
    return sorted(admin.execute(query, {"name": url.database}).scalars())


def _exists(admin: sa.Connection, url: sa.URL) -> bool:
    query = sa.text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
    return bool(admin.execute(query, {"name": url.database}).scalar_one())


@contextmanager
def _maintenance(url: sa.URL) -> Iterator[sa.Connection]:
    """Yield a connection to the database `postgres` in autocommit: databases are not made inside a transaction."""
    with Database(_at(url, "postgres")).engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _begin(url: sa.URL, **options: Any) -> AbstractContextManager[sa.Connection]:
    """Return a transaction in which a percent sign means itself: it may be in the name of any table."""
    return Database(url).engine.execution_options(no_parameters=True, **options).begin()


def _at(url: sa.URL, database: str) -> sa.URL:
    return url.set(database=database)


def _stamp() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y%m%d_%H%M%S_%f")


def _state(error: Exception) -> str | None:
    """Return the SQLSTATE of a database error."""
    return getattr(getattr(error, "orig", None), "pgcode", None)
