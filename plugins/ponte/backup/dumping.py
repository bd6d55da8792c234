"""A whole database → files, with the programs of the PostgreSQL wheel; `restoring` is the way back.

A dump is taken in one snapshot together with its row counts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ponte.embedded.programs import binaries
from ponte.errors import PonteError
from ponte.storage.database import Database, quote

#: Seconds between attempts to dump: somebody changed a table at that moment, or dropped one before it could be locked.
PAUSES = (1, 2, 4, 8, 16)
#: SQLSTATE of a table that is not there (any more), and of one that is locked.
_VANISHED, _LOCKED = "42P01", "55P03"
#: Tables that are counted before their locks, and those of their indexes, are given back.
_AT_ONCE = 200

_REVISION = "SELECT version_num FROM ponte.schema_version"

_PROPERTIES = """SELECT pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding,
           datlocprovider AS provider, datcollate AS collate, datctype AS ctype, datlocale AS locale,
           datconnlimit AS connection_limit,
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
    FROM pg_database d WHERE datname = current_database()"""

# What the server has room for, roughly: a table that is locked, and twice as many sessions that hold such a lock.
_LOCK_ROOM = """SELECT current_setting('max_locks_per_transaction')::bigint AS setting,
           current_setting('max_connections')::bigint
               + current_setting('max_prepared_transactions')::bigint AS sessions"""
#: Sessions that lock every table: we, pg_dump, and the one of its two processes that reads the table.
_HOLDERS = 3

# By the time that a table is read it may be a view, and the functions of a view would run as us.
_READ_NO_VIEW = "SET LOCAL restrict_nonsystem_relation_kind = 'view, foreign-table'"

#: Without those of extensions, which bring their own.
_RELATIONS = sa.text("""SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = ANY (:kinds) AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
    ORDER BY 1, 2""")

# By way of JSON, because a backup before an upgrade is made of a database that lacks these columns yet.
_ARTIFACTS = """SELECT path || '/manifest.json', manifest_sha256 FROM ponte.version
    UNION SELECT path, sha256 FROM ponte.snapshot WHERE status = 'written'
    UNION SELECT to_jsonb(s) ->> 'champion_path', to_jsonb(s) ->> 'champion_sha256' FROM ponte.snapshot s
        WHERE to_jsonb(s) ->> 'champion_path' IS NOT NULL ORDER BY 1"""


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
    #: Files that it names, below the artifact root → SHA-256: the manifest of each version, and the snapshots.
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
            with begin(url, **options) as connection:
                return _dump(connection, url, folder, jobs=jobs)
        except PonteError:
            if jobs == 1:
                raise
            jobs = 1
        except sa.exc.DBAPIError as error:
            if sqlstate(error) not in (_VANISHED, _LOCKED):
                raise
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(pause)  # holding no lock: whoever is at work goes on, and so does Ctrl-C
    with begin(url, **options) as connection:
        return _dump(connection, url, folder, jobs=1)


def _dump(connection: sa.Connection, url: sa.URL, folder: Path, *, jobs: int) -> Dump:
    snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
    revision = connection.exec_driver_sql(_REVISION).scalar_one()
    version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    properties = dict(connection.exec_driver_sql(_PROPERTIES).mappings().one())
    # A scoring run drops and attaches tables at any time. What the snapshot shows stays until we have read it.
    names = relations(connection, "rp")
    _require_lock_room(connection, url, len(names))
    for name in names:
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


def _require_lock_room(connection: sa.Connection, url: sa.URL, tables: int) -> None:
    """Raise PonteError when the server cannot hold the locks of so many tables, before others have to do without."""
    room = connection.exec_driver_sql(_LOCK_ROOM).one()
    needed = -(-_HOLDERS * tables // (2 * room.sessions))
    if needed <= room.setting:
        return
    setting = 1 << needed.bit_length()
    raise PonteError(
        "the server has no room for the locks of a backup",
        where=f"database {url.database}",
        got=f"{tables} tables, max_locks_per_transaction = {room.setting}",
        expected=f"max_locks_per_transaction of {needed} or more",
        fix=f"start the server with max_locks_per_transaction = {setting} (ALTER SYSTEM, or its command line), then "
        "back up again; or keep fewer batches: [retention] of model.toml",
    )


def row_counts(connection: sa.Connection) -> dict[str, int]:
    """Return `Dump.row_counts` as the transaction sees it; locks that it did not hold before are given back."""
    counts = {}
    for names in in_chunks(connection, relations(connection, "r")):
        for name in names:
            counts[name.replace('"', "")] = int(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one())
    return counts


def in_chunks(connection: sa.Connection, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the names of tables, some at a time; the locks that the caller takes to read them are given back then.

    Else a table that is read is locked until the transaction ends, with every index, and a server has room for so many.
    """
    for first in range(0, len(names), _AT_ONCE):
        with connection.begin_nested() as chunk:
            yield names[first : first + _AT_ONCE]
            chunk.rollback()


def relations(connection: sa.Connection, kinds: str) -> list[str]:
    """Return the names of the relations of these kinds (`pg_class.relkind`), quoted; the transaction reads no view."""
    connection.exec_driver_sql(_READ_NO_VIEW)
    found = connection.execute(_RELATIONS, {"kinds": list(kinds)})
    return [quote(schema, name) for schema, name in found]


# ---------------------------------------------------------------- sessions


def begin(url: sa.URL, **options: Any) -> AbstractContextManager[sa.Connection]:
    """Return a transaction in which a percent sign means itself: it may be in the name of any table."""
    return Database(url).engine.execution_options(no_parameters=True, **options).begin()


def sqlstate(error: Exception) -> str | None:
    """Return the SQLSTATE of a database error."""
    return getattr(getattr(error, "orig", None), "pgcode", None)
