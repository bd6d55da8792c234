"""What PostgreSQL lets everybody do, and Ponte's roles cannot: over all databases where Ponte starts the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from tests.postgres.schema.test_roles import environment, new_server

from ponte.schema import provision, roles

pytestmark = pytest.mark.usefixtures("postgres_programs")

#: Roles that work, but for their own owner.
WORKING = [role for role in roles.LOGINS if role != roles.OWNER]
#: database → what a role may do in it, by a right of its own.
MAY = {
    "ponte": {
        roles.OWNER: "CONNECT CREATE TEMPORARY",
        roles.TRAINER: "CONNECT TEMPORARY",
        roles.SCORER: "CONNECT TEMPORARY",
        **dict.fromkeys((roles.PROMOTER, roles.MONITOR, roles.VIEWER, roles.ANALYST), "CONNECT"),
        **dict.fromkeys((roles.API, roles.STREAM, roles.ENQUEUER), "CONNECT"),
    }
}
FUNCTIONS = (
    "'^(lo_creat|lo_create|lo_from_bytea|pg_terminate_backend|pg_cancel_backend|pg_logical_emit_message"
    "|pg_(try_)?advisory_lock(_shared)?)$'"
)
TRANSACTIONS = "'^pg_(try_)?advisory_xact_lock(_shared)?$'"


@pytest.fixture(scope="module")
def fresh() -> Iterator[str]:
    with new_server() as url:
        yield url


def passwords(url: str) -> dict[str, str]:
    return provision.passwords_of(environment(url))


def rows(url: str | sa.URL, query: str, database: str = "postgres", role: str = "postgres") -> list[sa.Row]:
    target = sa.make_url(url).set(database=database)
    if role != "postgres":
        target = target.set(username=role, password=passwords(str(url))[role])
    with sa.create_engine(target, poolclass=sa.NullPool).connect() as connection:
        return list(connection.exec_driver_sql(query).all())


def test_a_server_of_somebody_else_is_asked_what_is_open_and_its_databases_stay(fresh: str) -> None:
    provision.prepare_server(fresh, passwords(fresh))
    owner = sa.make_url(fresh).set(database="ponte", username=roles.OWNER, password=passwords(fresh)[roles.OWNER])
    provision.upgrade(owner)
    left = provision.what_is_open(owner)
    assert left[1:] == [
        'REVOKE ALL ON DATABASE "postgres" FROM PUBLIC;',
        'REVOKE ALL ON DATABASE "template1" FROM PUBLIC;',
    ]
    for statement in (*left[1:], "REVOKE USAGE ON LANGUAGE sql FROM PUBLIC"):
        with sa.create_engine(fresh, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as admin:
            admin.exec_driver_sql(statement)
    assert provision.what_is_open(owner) == []
    # A REVOKE of somebody who may not is a warning, or refused; what it leaves is named.
    with sa.create_engine(
        sa.make_url(fresh).set(database="ponte"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    ).connect() as admin:
        admin.exec_driver_sql("GRANT EXECUTE ON FUNCTION pg_terminate_backend(integer, bigint) TO PUBLIC")
    with sa.create_engine(owner, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as nobody:
        roles.close_to_public(nobody)
    assert provision.what_is_open(owner)[1:] == [
        "REVOKE EXECUTE ON FUNCTION pg_terminate_backend(integer,bigint) FROM PUBLIC;"
    ]
    provision.prepare_server(fresh, passwords(fresh))
    assert provision.what_is_open(owner) == []


def test_a_server_of_ponte_is_closed_to_its_roles_in_every_database() -> None:
    with new_server() as url:
        for _ in range(2):
            provision.prepare_server(url, passwords(url), own_server=True)
        owner = sa.make_url(url).set(database="ponte", username=roles.OWNER, password=passwords(url)[roles.OWNER])
        provision.upgrade(owner)
        databases = [name for (name,) in rows(url, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")]
        assert databases == ["airflow", "ponte", "postgres", "template1"]
        for database in databases:
            for role in roles.LOGINS:
                rights = f"SELECT r FROM unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) r "  # noqa: F541
                rights += f"WHERE has_database_privilege('{role}', '{database}', r) ORDER BY 1"
                found = " ".join(r for (r,) in rows(url, rights))
                assert found == MAY.get(database, {}).get(role, ""), (database, role)
        for database in ("ponte", "postgres", "template1"):
            for role in WORKING:
                may = f"FROM pg_proc WHERE has_function_privilege('{role}', oid, 'EXECUTE') AND proname ~ "
                assert rows(url, f"SELECT oid::regprocedure::text {may} {FUNCTIONS}", database) == []
                assert rows(url, f"SELECT count(*) {may} {TRANSACTIONS}", database) == [(8,)]
        assert provision.what_is_open(owner) == []
        # Airflow takes a lock of its session when it migrates.
        assert rows(url, "SELECT pg_try_advisory_lock(1)", "airflow", "airflow") == [(True,)]


def test_a_statement_of_an_analyst_ends_after_five_minutes_and_is_not_logged_unless_somebody_says_otherwise(
    fresh: str,
) -> None:
    provision.prepare_server(fresh, passwords(fresh))
    for value, stays, logged in (
        (("RESET statement_timeout", "RESET log_min_messages"), "5min", "log"),
        (("SET statement_timeout = '7min'", "SET log_min_messages = 'error'"), "7min", "error"),
    ):
        with sa.create_engine(fresh, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as admin:
            for one in value:
                admin.exec_driver_sql(f"ALTER ROLE ponte_analyst {one}")
        provision.prepare_server(fresh, passwords(fresh))
        provision.upgrade(
            sa.make_url(fresh).set(database="ponte", username=roles.OWNER, password=passwords(fresh)[roles.OWNER])
        )
        assert rows(fresh, "SHOW statement_timeout", "ponte", roles.ANALYST) == [(stays,)]
        assert rows(fresh, "SHOW statement_timeout", "ponte", roles.SCORER) == [("0",)]
        assert rows(fresh, "SHOW log_min_messages", "ponte", roles.ANALYST) == [(logged,)]
        assert rows(fresh, "SHOW log_min_messages", "ponte", roles.PROMOTER) == [("warning",)]
