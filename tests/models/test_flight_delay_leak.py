"""The features and labels of flight_delay read nothing that was recorded after as_of.

Fixture wanted: `connection`, an SQLAlchemy connection to a private database with the demo data loaded
(`ponte.demo.flights.load`). Every test rolls its changes back.
"""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from sqlalchemy import Connection

MODEL = Path(__file__).parents[2] / "include" / "models" / "flight_delay"

# What the future may look like to somebody who stands at as_of: different, and not there at all. The timetable
# (departure_id to distance, tailnum) is known in advance; status and everything measured is the outcome.
FUTURES = {
    # Everybody lands six hours late, and departures that had no outcome get one.
    "altered": """
        UPDATE flights.departure
        SET status = 'arrived', departure_delay = 360, arrival_delay = 360, air_time = NULL,
            actual_departure = scheduled_departure + interval '6 hours',
            actual_arrival = scheduled_arrival + interval '6 hours',
            known_at = greatest(known_at, scheduled_arrival + interval '6 hours')
        WHERE known_at > CAST(:as_of AS timestamptz)
    """,
    # All flights are cancelled: no outcome of theirs is left.
    "emptied": """
        UPDATE flights.departure
        SET status = 'cancelled', departure_delay = NULL, arrival_delay = NULL, air_time = NULL,
            actual_departure = NULL, actual_arrival = NULL, known_at = greatest(known_at, scheduled_departure)
        WHERE known_at > CAST(:as_of AS timestamptz)
    """,
    # Departures outside the window that have no outcome yet do not even exist, nor does the weather.
    "deleted": """
        DELETE FROM flights.departure
        WHERE known_at > CAST(:as_of AS timestamptz) AND (flight_date < :window_start OR flight_date >= :window_end);
        DELETE FROM flights.weather WHERE observed_at > CAST(:as_of AS timestamptz)
    """,
}


@pytest.mark.parametrize("future", FUTURES)
@pytest.mark.parametrize("window_start", [dt.date(2013, 2, 4), dt.date(2013, 7, 1), dt.date(2013, 10, 28)], ids=str)
def test_features_do_not_depend_on_what_happened_after_as_of(
    connection: Connection, window_start: dt.date, future: str
) -> None:
    """Changing, or removing, every outcome with known_at > as_of leaves the features of the window as they were."""
    import pandas as pd

    with rolled_back(connection):
        before = read(connection, "features.sql", window_start)
        changed = change(connection, future, window_start)
        after = read(connection, "features.sql", window_start)

    assert len(before) > 5_000
    assert changed > 1_000
    pd.testing.assert_frame_equal(before, after, check_exact=True)


@pytest.mark.parametrize("future", FUTURES)
def test_labels_do_not_depend_on_what_happened_after_as_of(connection: Connection, future: str) -> None:
    """In the middle of a window only the flights that have arrived by then have labels, whatever happens later."""
    import pandas as pd

    window_start = dt.date(2013, 7, 1)
    thursday = dt.datetime(2013, 7, 4, 12, tzinfo=dt.UTC)
    with rolled_back(connection):
        before = read(connection, "labels.sql", window_start, as_of=thursday)
        change(connection, future, window_start, as_of=thursday)
        after = read(connection, "labels.sql", window_start, as_of=thursday)

    assert 1_000 < len(before) < 5_000
    assert (before["labelled_at"] <= thursday).all()
    pd.testing.assert_frame_equal(before, after)


def test_features_do_depend_on_what_happened_before_as_of(connection: Connection) -> None:
    """The test above can fail: with as_of one week later, the same window gets other features."""
    window_start = dt.date(2013, 7, 1)
    later = dt.datetime(2013, 7, 8, tzinfo=dt.UTC)
    with rolled_back(connection):
        on_time = read(connection, "features.sql", window_start)
        late = read(connection, "features.sql", window_start, as_of=later)

    assert (on_time["carrier_excess"] != late["carrier_excess"]).any()


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    """Undo everything the block did to the database."""
    connection.rollback()
    try:
        yield
    finally:
        connection.rollback()


def parameters(window_start: dt.date, as_of: dt.datetime | None) -> dict[str, dt.date]:
    """Return the parameters of both queries; as_of is the start of the window unless given."""
    return {
        "window_start": window_start,
        "window_end": window_start + dt.timedelta(days=7),
        "as_of": as_of or dt.datetime.combine(window_start, dt.time(), dt.UTC),
    }


def read(connection: Connection, name: str, window_start: dt.date, *, as_of: dt.datetime | None = None) -> pd.DataFrame:
    """Return the rows of features.sql or labels.sql, wrapped as the library wraps them, sorted by key."""
    import pandas as pd
    from sqlalchemy import text

    author = (MODEL / name).read_text(encoding="utf-8")
    query = text(f"SELECT * FROM ({author}) AS author ORDER BY departure_id")
    return pd.read_sql_query(query, connection, params=parameters(window_start, as_of))


def change(connection: Connection, future: str, window_start: dt.date, *, as_of: dt.datetime | None = None) -> int:
    """Bring about one of the FUTURES; return how many rows its statements touched."""
    from sqlalchemy import text

    values = parameters(window_start, as_of)
    statements = FUTURES[future].split(";")
    return sum(connection.execute(text(statement), values).rowcount for statement in statements)
