"""The database roles: who they are, how they come to be on a server, and what they may do.

Nobody works as the owner. Each step of a pipeline connects as the role that has just what the step needs:

- `ponte_trainer` freezes snapshots, registers and measures versions;
- `ponte_scorer` freezes, checks, scores and publishes batches, and drops what nobody needs any more;
- `ponte_promoter` judges versions and does what people decide: the champion, rollbacks, marks;
- `ponte_monitor` compares predictions with what came true, and writes what it finds;
- `ponte_api` answers requests over HTTP with the champion, and adds what it answered;
- `ponte_stream` takes requests from the queue, and adds what it answered;
- `ponte_viewer` reads the schema `ponte`: the reports in the web server;
- `ponte_analyst` reads `predictions.*` and the views of `ponte`, nothing else;
- `ponte_owner` owns the schemas and migrates them.

Two groups cannot log in: what is granted to `ponte_reader` can be read by trainer, scorer and monitor, and source
schemas are granted to it; whoever is in `ponte_enqueuer` may put requests into the queue, as the API is.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.schema import closing, migrations
from ponte.storage.database import Database, quote

OWNER = "ponte_owner"
TRAINER = "ponte_trainer"
SCORER = "ponte_scorer"
PROMOTER = "ponte_promoter"
MONITOR = "ponte_monitor"
API = "ponte_api"
STREAM = "ponte_stream"
VIEWER = "ponte_viewer"
ANALYST = "ponte_analyst"
READER = "ponte_reader"
ENQUEUER = "ponte_enqueuer"

#: Every role that logs in to the database `ponte`.
LOGINS = (OWNER, TRAINER, SCORER, PROMOTER, MONITOR, API, STREAM, VIEWER, ANALYST)
#: Roles that others are in.
GROUPS = (READER, ENQUEUER)
#: Whose errors stay out of the server's log. With an error goes its statement, which may hold a request or a comment,
#: what COPY has met, the key that is there twice, the row that a constraint refuses, and the text that a query of a
#: model folder cannot cast. Who connects gets the error; what Ponte's processes say of it in their logs has no values.
QUIET = (TRAINER, SCORER, MONITOR, API, STREAM, ANALYST)
#: How long a statement of an analyst may run.
ANALYST_TIMEOUT = "5min"
#: Name of the owner, and of everything's only role, before there were others; its database is called the same.
_FORMER_OWNER = "ponte"

_EXISTS = sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)")
_IS_SUPERUSER = sa.text("SELECT current_setting('is_superuser') = 'on'")

_OWNS_DATABASE = sa.text("""SELECT EXISTS (
    SELECT FROM pg_database WHERE datname = :name AND datdba = to_regrole(:name))""")

_OWNER_AND_OPEN = sa.text("""SELECT datdba::regrole::text AS owner, EXISTS (
        SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) AS acl WHERE acl.grantee = 0
    ) AS open
    FROM pg_database WHERE datname = :name""")

_HAS_SETTING = sa.text("""SELECT EXISTS (
    SELECT FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
    WHERE setrole = to_regrole(:role) AND starts_with(setting, :setting || '='))""")

_MAY_QUIET = sa.text("SELECT has_parameter_privilege('log_min_messages', 'SET')")


def ensure_logins(admin: sa.Connection, passwords: Mapping[str, str]) -> None:
    """Give each role of `passwords` (role -> password) a login with just that password; create those that lack.

    admin : a connection in autocommit of a superuser, or of a role with CREATEROLE. The server is sent no new password,
    only what it keeps of one (SCRAM), so none can reach its log. Writes nothing when all is as it should be, if the
    server asks for passwords.

    Raises PonteError when a role has one of the names, another password, and Ponte has never been here: it is not ours.
    """
    if OWNER in passwords and not _exists(admin, OWNER):
        if _owns_database(admin, _FORMER_OWNER):
            admin.exec_driver_sql(f"ALTER ROLE {_FORMER_OWNER} RENAME TO {OWNER}")
        else:
            _require_no_strangers(admin, passwords)
    # Where nobody is asked for one, that a password works says nothing.
    asks = not _can_log_in(admin.engine.url.set(password=secrets.token_hex()))
    for role, password in passwords.items():
        exists = _exists(admin, role)
        if exists and asks and _can_log_in(admin.engine.url.set(username=role, password=password)):
            continue
        verifier = _scram(admin, role, password)
        admin.exec_driver_sql(f"{'ALTER' if exists else 'CREATE'} ROLE {quote(role)} LOGIN PASSWORD '{verifier}'")
        if not exists and not is_superuser(admin):  # it may administer the role, but not make a database for it
            admin.exec_driver_sql(f"GRANT {quote(role)} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE")


def ensure_memberships(admin: sa.Connection) -> None:
    """Make the groups, with those who work by what they may do; let the owner act for whose tables it migrates."""
    for group in GROUPS:
        if not _exists(admin, group):
            admin.exec_driver_sql(f"CREATE ROLE {group} NOLOGIN")
    admin.exec_driver_sql(f"GRANT {READER} TO {TRAINER}, {SCORER}, {MONITOR}")
    admin.exec_driver_sql(f"GRANT {ENQUEUER} TO {API}")
    admin.exec_driver_sql(f"GRANT {TRAINER}, {SCORER}, {MONITOR} TO {OWNER}")
    # A policy on a table of the scorer's would be evaluated as those who read rows there: an error instead.
    for role in (PROMOTER, MONITOR):
        admin.exec_driver_sql(f"ALTER ROLE {role} SET row_security = off")
    if admin.execute(_MAY_QUIET).scalar_one():
        for role in QUIET:
            _set_once(admin, role, "log_min_messages", "log")
    # What an analyst left running would keep the tables of replaced batches from being dropped.
    _set_once(admin, ANALYST, "statement_timeout", ANALYST_TIMEOUT)


def _set_once(admin: sa.Connection, role: str, setting: str, value: str) -> None:
    """Set it unless the role has a value of it already: another one stays."""
    if not admin.execute(_HAS_SETTING, {"role": role, "setting": setting}).scalar_one():
        admin.exec_driver_sql(f"ALTER ROLE {role} SET {setting} = '{value}'")


def ensure_database(admin: sa.Connection, name: str, owner: str) -> None:
    """Create a database for its owner alone, unless it exists; what PUBLIC may do there is taken away.

    Raises PonteError when it belongs to another role.
    """
    found = admin.execute(_OWNER_AND_OPEN, {"name": name}).one_or_none()
    if found is None:
        # Sorted the same way on every machine: an index outlives the C library of the image that built it.
        locale = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
        admin.exec_driver_sql(f"CREATE DATABASE {quote(name)} OWNER {quote(owner)} {locale}")
    elif found.owner != owner:
        fix = f"ALTER DATABASE {name} OWNER TO {owner}, or move it out of the way"
        raise PonteError(f"the database {name} is somebody else's", got=found.owner, expected=owner, fix=fix)
    if found is None or found.open:
        admin.exec_driver_sql(f"REVOKE ALL ON DATABASE {quote(name)} FROM PUBLIC")


def is_superuser(connection: sa.Connection) -> bool:
    """Say whether the role that is connected may do everything."""
    return bool(connection.execute(_IS_SUPERUSER).scalar_one())


def close_to_public(admin: sa.Connection) -> None:
    """Take from PUBLIC, in Ponte's database, what every new one lets everybody do, as far as `admin` may."""
    closing.close(admin, owner=OWNER)


def grant(db: Database) -> None:
    """Give every role its rights in the database of `db`, whose owner connects; repeat it after every migration.

    Raises PonteError when the roles do not exist.
    """
    statements = Path(__file__).with_name("grants.sql").read_text(encoding="utf-8")
    with db.begin() as connection:
        missing = [role for role in (*LOGINS, *GROUPS) if not _exists(connection, role)]
        if missing:
            fix = "PONTE_ADMIN_URL=... ./ponte provision makes them"
            raise PonteError("database roles are missing", got=", ".join(missing), fix=fix)
        migrations.lock(connection)
        connection.execution_options(no_parameters=True).exec_driver_sql(statements)  # a percent sign means itself


def open_source(admin: sa.Connection, schema: str) -> None:
    """Let trainer, scorer and monitor read a source schema, and the tables that whoever runs this adds to it later."""
    name = quote(schema)
    admin.exec_driver_sql(f"GRANT USAGE ON SCHEMA {name} TO {READER}")
    admin.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {READER}")
    admin.exec_driver_sql(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT SELECT ON TABLES TO {READER}")


def let_analysts_read(admin: sa.Connection, schema: str, table: str, columns: Sequence[str]) -> None:
    """Let analysts read some columns of a source table, to join them with predictions, and no other."""
    names = ", ".join(quote(name) for name in columns)
    admin.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {ANALYST}")
    admin.exec_driver_sql(f"GRANT SELECT ({names}) ON {quote(schema, table)} TO {ANALYST}")


def _owns_database(admin: sa.Connection, role: str) -> bool:
    return bool(admin.execute(_OWNS_DATABASE, {"name": role}).scalar_one())


def _exists(connection: sa.Connection, role: str) -> bool:
    return bool(connection.execute(_EXISTS, {"role": role}).scalar_one())


def _require_no_strangers(admin: sa.Connection, passwords: Mapping[str, str]) -> None:
    url = admin.engine.url
    strangers = [
        role
        for role, password in passwords.items()
        if _exists(admin, role) and not _can_log_in(url.set(username=role, password=password))
    ]
    if strangers:
        where, fix = (
            str(url.host or url.query.get("host", "")),
            "give Ponte a server without them, or the passwords that they have",
        )
        raise PonteError("the server has roles of others", where=where, got=", ".join(strangers), fix=fix)


def _can_log_in(url: sa.URL) -> bool:
    """Say whether the server takes the password; whether the role may enter the database is another question."""
    try:
        sa.create_engine(url, poolclass=sa.NullPool).connect().close()
    except sa.exc.OperationalError as error:
        return "permission denied for database" in str(error.orig)
    return True


def _scram(connection: sa.Connection, role: str, password: str) -> str:
    from psycopg2.extensions import encrypt_password

    driver = connection.connection.driver_connection
    return str(encrypt_password(password, role, scope=driver, algorithm="scram-sha-256"))
