"""Make a PostgreSQL server ready for Ponte: `./ponte provision`. Can be repeated at any time.

Databases, roles with the passwords of the environment, Ponte's schema up to date, and what each role may do in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.schema import closing, migrations, roles
from ponte.storage.database import Database, with_lock_retries

#: Airflow's own database, and the role that owns it.
AIRFLOW = "airflow"
PONTE = "ponte"
#: Databases that come with a server, and that can be entered.
_OF_POSTGRES = ("postgres", "template1")
_ADMIN = "PONTE_ADMIN_URL"

log = logging.getLogger(__name__)

_LOCK = sa.text("SELECT pg_advisory_lock(hashtext('ponte.provision'))")  # until the session ends


def prepare_server(admin_url: str | sa.URL, passwords: Mapping[str, str], *, own_server: bool = False) -> None:
    """Create both databases and every role with its password; what exists keeps its content.

    admin_url : of a superuser, or a role with CREATEDB and CREATEROLE; any database but the two.
    passwords : role -> password, for `airflow` and each of `roles.LOGINS`.
    own_server : nobody else uses the server, so the databases that come with it are closed to everybody, too, and what
    is made of `template1` later is as closed as `ponte`. Else no database is touched but the two.
    """
    # CREATE DATABASE is refused inside a transaction.
    url = Database(admin_url).url
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as admin:
        admin.execute(_LOCK)
        roles.ensure_logins(admin, passwords)
        roles.ensure_memberships(admin)
        for database, owner in ((AIRFLOW, AIRFLOW), (PONTE, roles.OWNER)):
            roles.ensure_database(admin, database, owner)
        _close(url, own_server=own_server)
        if own_server:
            for statement in closing.open_databases(admin, among=_OF_POSTGRES):
                admin.exec_driver_sql(statement)


def _close(url: sa.URL, *, own_server: bool) -> None:
    for name in (PONTE, *(_OF_POSTGRES if own_server else ())):
        engine = sa.create_engine(url.set(database=name), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        try:
            with engine.connect() as admin:
                closing.close(admin, owner=roles.OWNER if name == PONTE else None)
        except sa.exc.OperationalError:
            if own_server:
                raise
            log.debug("the administrator may not enter %s", name)  # `what_is_open` finds what that leaves


def what_is_open(owner_url: str | sa.URL) -> list[str]:
    """Return what everybody may still do that Ponte's roles should not: the SQL that closes it, with comments.

    In `ponte` itself, and by which other databases of the server Ponte's roles may enter; [] for nothing.
    """
    with Database(owner_url).begin() as connection:
        inside, beside = closing.still_open(connection), closing.open_databases(connection)
    found = (
        [f"-- in the database {PONTE}, as a superuser:", *(f"{statement};" for statement in inside)] if inside else []
    )
    if beside:
        found += [
            "-- unless somebody needs them who has no right of his own:",
            *(f"{statement};" for statement in beside),
        ]
    return found


def upgrade(owner_url: str | sa.URL) -> None:
    """Bring Ponte's schema up to date, and the rights of all roles with it; waits for no reader longer than seconds."""
    db = Database(owner_url)
    with_lock_retries(lambda: migrations.upgrade(db.url.render_as_string(hide_password=False)))
    with_lock_retries(lambda: roles.grant(db))


def passwords_of(environ: Mapping[str, str], of: Iterable[str] = (AIRFLOW, *roles.LOGINS)) -> dict[str, str]:
    """Return role -> password from AIRFLOW_DB_PASSWORD and PONTE_OWNER_PASSWORD, PONTE_TRAINER_PASSWORD and so on.

    Raises PonteError that names every one that is missing.
    """
    names = {role: "AIRFLOW_DB_PASSWORD" if role == AIRFLOW else f"{role.upper()}_PASSWORD" for role in of}
    missing = [name for name in names.values() if not environ.get(name)]
    if missing:
        fix = "./ponte-secrets generates them for docker compose"
        raise PonteError("passwords are missing", where="environment", expected=", ".join(missing), fix=fix)
    return {role: environ[name] for role, name in names.items()}


def provision(environ: Mapping[str, str], *, own_server: bool = False) -> list[str]:
    """Make the server of PONTE_ADMIN_URL ready, with the passwords of the environment; raises PonteError.

    own_server : as in `prepare_server`. Returns what is still open to every role of the server, as lines with the SQL
    that closes it.
    """
    if not environ.get(_ADMIN):
        fix = f"{_ADMIN}=postgresql://postgres:...@host:5432/postgres"
        raise PonteError("no administrator to connect as", where="environment", expected=_ADMIN, fix=fix)
    admin = sa.make_url(environ[_ADMIN])
    passwords = passwords_of(environ)
    prepare_server(admin, passwords, own_server=own_server)
    owner = admin.set(database=PONTE, username=roles.OWNER, password=passwords[roles.OWNER])
    upgrade(owner)
    return what_is_open(owner)
