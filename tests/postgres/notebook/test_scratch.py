"""What is done in a scratch database is done as in the database, and is gone."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.sample_model import World

from ponte.notebook.scratch import scratch
from ponte.storage.database import Database

#: Rows with every family and every value that is written in a way of its own.
VALUES = """SELECT * FROM (VALUES
    (1, 0.1::float8, 'plain', true, date '2024-02-29', timestamptz '2024-02-29 12:30:00.123456+02'),
    (9223372036854775807, 'NaN', '', false, date '0001-01-01', timestamptz '0001-01-01 00:00:00+00'),
    (-9223372036854775807, 'Infinity', E'a "quoted", \\n\\r\\n text\\t\\\\', NULL, date '9999-12-31',
     timestamptz '9999-12-31 23:59:59.999999+00'),
    (NULL, '-Infinity', 'NULL', true, NULL, NULL),
    (0, 5e-324, E'\\u00e9\\u4e2d', true, date '1970-01-01', timestamptz '1969-12-31 23:59:59.5+00'),
    (3, -1.7976931348623157e308, NULL, false, date '1582-10-15', timestamptz '1899-12-31 00:00:00+00'),
    (4, NULL, ' t', NULL, date '2024-01-01', timestamptz '2024-01-01 00:00:00+00')
) AS v (i, x, t, b, d, at)"""
TYPED = (
    "SELECT CAST(i AS bigint) AS i, CAST(x AS double precision) AS x, CAST(t AS text) AS t, CAST(b AS boolean) AS b, "
    f"CAST(d AS date) AS d, CAST(at AS timestamp with time zone) AS at FROM ({VALUES}) AS rows"
)


def read(db: Database, query: str):
    with db.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetch_record_batch().read_all()


@pytest.mark.parametrize("query", [TYPED, f"{TYPED} WHERE false", f"{TYPED} WHERE i = 1", f"SELECT t FROM ({TYPED}) r"])
def test_rows_are_read_as_by_another_connection(db: Database, query: str) -> None:
    expected = read(db, query)
    with scratch(db) as scrap:
        found = read(scrap, query)
    assert found.schema.types == expected.schema.types
    assert str(found.to_pydict()) == str(expected.to_pydict())  # NaN is not equal to NaN


def test_a_transaction_that_fails_takes_back_its_own_part_only(db: Database) -> None:
    with scratch(db) as scrap:
        with scrap.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE ponte_data.kept AS SELECT 1 AS a")
        with pytest.raises(sa.exc.DBAPIError), scrap.begin() as connection:
            connection.exec_driver_sql("INSERT INTO ponte_data.kept SELECT 2; SELECT 1 / 0")
        with scrap.one_moment() as connection, scrap.begin() as inner:
            assert connection.exec_driver_sql("SELECT array_agg(a) FROM ponte_data.kept").scalar_one() == [1]
            assert inner.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "repeatable read"
    with db.begin() as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('ponte_data.kept')").scalar_one() is None


def test_nothing_can_be_written_while_it_is_read_only_and_everything_can_afterwards(db: Database) -> None:
    with scratch(db) as scrap:
        with pytest.raises(sa.exc.DBAPIError, match="read-only"), scrap.read_only() as connection:
            connection.exec_driver_sql("CREATE TABLE ponte_data.no (a integer)")
        with scrap.read_only() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        with scrap.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE ponte_data.yes (a integer)")


def test_nothing_stays_when_the_session_dies(world: World) -> None:
    from tests.sample_model import AS_OF

    from ponte.snapshots.freezing import freeze_snapshot
    from ponte.storage.runs import Run

    with pytest.raises(sa.exc.DBAPIError), scratch(world.db) as scrap:  # noqa: PT012 - what fails is the last of it
        freeze_snapshot(scrap, world.folder, world.windows(), as_of=AS_OF, run=Run("a", "a"))
        with scrap.begin() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        world.ask("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
        with scrap.begin() as connection:
            connection.exec_driver_sql("SELECT 1")
    assert world.data_tables() == []
    assert world.ask("SELECT count(*) FROM ponte.snapshot") == 0
