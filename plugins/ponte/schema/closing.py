"""What a new PostgreSQL lets everybody do, and Ponte takes from PUBLIC in a database.

Functions: whoever could write one would get it run by others, by a CHECK or a policy on a table of theirs. Large
objects: they belong to no schema, so no right on one keeps anybody from filling the disk with them; nor does any from
filling it with WAL. Sessions: those of one role may end each other's. Locks of a session outlive its transaction, and
with it the statement that took them; those of a transaction stay.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ponte.storage.database import quote

_LARGE_OBJECTS = ("lo_creat", "lo_create", "lo_from_bytea")
_SESSIONS = ("pg_terminate_backend", "pg_cancel_backend")
_WAL = ("pg_logical_emit_message",)
_LOCKS = ("pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared")
#: SQLSTATE of a statement that the role has no right to.
_NO_RIGHT = "42501"
_NOBODYS = (*_LARGE_OBJECTS, *_SESSIONS, *_WAL, *_LOCKS)

_OPEN = sa.text("""
    SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure) AS revoke
    FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY(:functions)
      AND has_function_privilege('public', p.oid, 'EXECUTE')
    UNION ALL
    SELECT format('REVOKE USAGE ON LANGUAGE %I FROM PUBLIC', lanname)
    FROM pg_language WHERE lanpltrusted AND has_language_privilege('public', oid, 'USAGE')
    UNION ALL
    SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
    FROM pg_namespace WHERE nspname = 'public' AND has_schema_privilege('public', oid, 'CREATE')
    ORDER BY 1""")

#: Databases that a role may enter, or make temporary tables in, only because everybody may.
_OPEN_DATABASES = sa.text("""
    SELECT datname FROM pg_database
    WHERE datallowconn AND (has_database_privilege('public', oid, 'CONNECT')
                            OR has_database_privilege('public', oid, 'TEMPORARY'))
    ORDER BY 1""")

_OWNERS = sa.text("""
    SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, CAST(:owner AS text))
    FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY(:functions)
    UNION ALL
    SELECT format('GRANT USAGE ON LANGUAGE %I TO %I', lanname, CAST(:owner AS text)) FROM pg_language WHERE lanpltrusted
    ORDER BY 1""")


def still_open(connection: sa.Connection) -> list[str]:
    """Return the statements that would take from PUBLIC what is open in the database of the connection; [] for none."""
    return list(connection.execute(_OPEN, {"functions": list(_NOBODYS)}).scalars())


def open_databases(connection: sa.Connection, *, among: Collection[str] | None = None) -> list[str]:
    """Return the statements that would close those databases of the server that everybody may enter; [] for none.

    among : only these databases are looked at; all without it.
    """
    names = connection.execute(_OPEN_DATABASES).scalars()
    return [f"REVOKE ALL ON DATABASE {quote(name)} FROM PUBLIC" for name in names if among is None or name in among]


def close(admin: sa.Connection, *, owner: str | None = None) -> None:
    """Take from PUBLIC what is open in the database of the connection, as far as `admin` may: ask `still_open` then.

    admin : in autocommit, unless of a superuser. PostgreSQL only warns of a REVOKE that has no effect.
    owner : role that keeps writing functions there, and ending the sessions of its members.
    """
    statements = still_open(admin)
    if statements and owner is not None:
        statements += admin.execute(_OWNERS, {"owner": owner, "functions": list(_SESSIONS)}).scalars()
    for statement in statements:
        try:
            admin.exec_driver_sql(statement)
        except sa.exc.ProgrammingError as error:
            if getattr(error.orig, "pgcode", None) != _NO_RIGHT:
                raise
