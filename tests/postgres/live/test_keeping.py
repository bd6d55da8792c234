"""What the daily monitoring does with live rows."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from tests.postgres.live.test_live_tables import NOW, months_from, parts, write
from tests.postgres.schema.test_roles import as_role

from ponte.live.keeping import keep
from ponte.schema import roles

if TYPE_CHECKING:
    from tests.sample_model import World

    from ponte.live.tables import LiveTable


def test_a_model_without_live_rows_is_left_alone(trained: World) -> None:
    assert keep(trained.db, "visits", 365, now=NOW) == {"months_dropped": 0, "astray": 0}
    assert not trained.ask("SELECT to_regclass('ponte_data.live_visits') IS NOT NULL")


def test_months_come_and_go(live: World, table: LiveTable) -> None:
    live.execute(f"DROP TABLE ponte_data.live_visits__{months_from(NOW.date(), 4)[3]}")
    live.ask("SELECT ponte.make_live_months('visits', CAST(:at AS timestamptz))", at=NOW - dt.timedelta(days=300))
    monitor = as_role(live, roles.MONITOR).db
    found = keep(monitor, "visits", 31, now=NOW)
    assert found["months_dropped"] > 0
    assert parts(live)[-5:] == [*months_from(NOW.date(), 4), "default"]
    assert keep(monitor, "visits", 31, now=NOW) == {"months_dropped": 0, "astray": 0}
    assert live.ask("SELECT count(*) FROM ponte.notice") == 0


def test_rows_of_no_month_are_told_once_a_month(live: World, table: LiveTable) -> None:
    monitor = as_role(live, roles.MONITOR).db
    write(live, table, [NOW + dt.timedelta(days=4000)])
    for later in (0, 1, 40):
        assert keep(monitor, "visits", 365, now=NOW.replace(day=1) + dt.timedelta(days=later))["astray"] == 1
    notices = live.rows("SELECT event, subject, facts->>'what' FROM ponte.notice ORDER BY 1")
    assert len(notices) == 2
    assert {event for event, _, _ in notices} == {"live_astray"}
    assert "1 live rows" in notices[0][2]


def test_what_a_reader_holds_is_dropped_the_next_day(live: World, table: LiveTable) -> None:
    live.ask("SELECT ponte.make_live_months('visits', '2020-01-15')")
    monitor = as_role(live, roles.MONITOR).db
    with as_role(live, roles.ANALYST).db.begin() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM predictions.visits_live")
        assert keep(monitor, "visits", 365, now=NOW)["months_dropped"] == 0
        write(live, table, [NOW])
    assert keep(monitor, "visits", 365, now=NOW)["months_dropped"] == 4
