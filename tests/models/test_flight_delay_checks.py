"""The checks of `flight_delay` on the demo data: none of its departures is bad, and one that is costs only itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ponte.checks.quarantine import find_rows
from ponte.checks.validation import validate
from ponte.model.folders import get_folder
from ponte.model.queries import AuthorQuery
from ponte.runtime import models_root
from ponte.storage.database import DATA_SCHEMA, make_empty_table, quote

if TYPE_CHECKING:
    from ponte.storage.database import Database

FOLDER = get_folder(models_root(), "flight_delay")
#: The year of New York: its last evening is the first of January in UTC.
YEAR = {"window_start": "2013-01-01", "window_end": "2014-01-02", "as_of": "2014-01-02 00:00:00+00"}
TABLE = "flight_delay__of_the_year"
NAME = quote(DATA_SCHEMA, TABLE)
#: A single departure that was recorded badly, in each way that a check looks for.
SLIPS = {"carrier": "UNITED", "origin": "PHL", "dest": "", "distance": 0, "block_minutes": -65}


@pytest.fixture(scope="module")
def year(demo_db: Database) -> Iterator[Database]:
    """All departures of the demo data in one frozen table, dropped afterwards."""
    query = f"SELECT * FROM (\n{AuthorQuery('features.sql', FOLDER.text('features.sql')).sql()}\n) AS features"
    with demo_db.begin() as connection:
        make_empty_table(connection, NAME, query, YEAR)
        connection.exec_driver_sql(f"INSERT INTO {NAME} {query}", YEAR)
    yield demo_db
    with demo_db.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {NAME}")


def test_no_departure_of_the_demo_data_fails_a_check(year: Database) -> None:
    """So whatever follows from a failure, the demo predicts the same."""
    results, conditions = validate(year, FOLDER, TABLE)
    assert [str(result) for result in results if result.outcome != "passed"] == []
    assert conditions == []
    counted = {result.element_count for result in results if result.on_failure == "quarantine"}
    assert counted == {336_776}, "every row was looked at"


def test_a_departure_that_was_recorded_badly_is_set_aside_and_stops_nothing(year: Database) -> None:
    few = quote(DATA_SCHEMA, "flight_delay__few")
    with year.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {few} AS SELECT * FROM {NAME} ORDER BY departure_id LIMIT 5000")
        bad = connection.exec_driver_sql(f"SELECT departure_id FROM {few} LIMIT {len(SLIPS)}").scalars()
        for key, (column, value) in zip(bad, SLIPS.items(), strict=True):
            change = f"UPDATE {few} SET {quote(column)} = %(value)s WHERE departure_id = %(key)s"
            connection.exec_driver_sql(change, {"value": value, "key": key})
    try:
        results, conditions = validate(year, FOLDER, "flight_delay__few")
        assert [str(result) for result in results if result.stops] == []
        with year.begin() as connection:
            found = find_rows(connection, "flight_delay__few", conditions)
    finally:
        with year.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE {few}")

    column = {result.position: result.arguments.get("column") for result in results}
    assert {column[position]: rows for position, rows in found.items()} == dict.fromkeys(SLIPS, 1)
