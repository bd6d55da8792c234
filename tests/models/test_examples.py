"""The data of the other example models, on a few rows: days that are derived, and a load that happens once."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.sample_examples import few_comments, few_loans

from ponte.demo import tables
from ponte.demo.examples import EXAMPLES, FOLDERS
from ponte.model import windows
from ponte.model.folders import get_folder

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ponte.storage.database import Database

DAYS = "SELECT issued_on, count(*) FROM loans.loan GROUP BY 1 ORDER BY 1"
COMMENTS = (
    "SELECT source, comment_id, written_on, rated_at, text FROM comments.comment ORDER BY written_on, source DESC"
)


def test_loans_are_spread_over_the_days_of_their_month_in_file_order(connection: Connection) -> None:
    found = {row[0]: row[1] for row in connection.execute(sa.text(DAYS))}
    january = {dt.date(2018, 1, day): 2 for day in range(1, 32)}
    february = {dt.date(2018, 2, day): 1 for day in range(1, 29, 4)}
    march = {dt.date(2018, 3, day): 1 for day in range(1, 32)}
    assert found == january | february | march
    order = "SELECT loan_id FROM loans.loan WHERE issued_on < '2018-02-01' ORDER BY issued_on, loan_id"
    assert list(connection.execute(sa.text(order)).scalars()) == list(range(32, 94))


def test_comments_go_around_the_days_and_are_rated_a_week_later(connection: Connection) -> None:
    found = connection.execute(sa.text(COMMENTS)).all()
    assert [(row[0], row[1], row[2].isoformat(), row[4]) for row in found] == [
        ("tweet", 85, "2014-03-03", 'so "so", they say'),  # 84 days after the first comes the first again
        ("film", 1, "2014-03-03", "good"),
        ("film", 2, "2014-03-04", "bad"),
        ("film", 3, "2014-03-05", "neither"),
    ]
    assert found[0][3] == dt.datetime(2014, 3, 11, tzinfo=dt.UTC)


@pytest.mark.parametrize("few", [few_loans, few_comments])
def test_what_is_complete_is_not_fetched_again_and_what_is_not_is_loaded_anew(demo_db: Database, few) -> None:
    dataset, content = few()
    url = demo_db.url.render_as_string(hide_password=False)
    asked = []

    def fetch(file):
        asked.append(file)
        return content

    assert "already there" in tables.load(url, dataset, fetch)
    assert asked == []
    with demo_db.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {dataset.name} WHERE ctid = (SELECT min(ctid) FROM {dataset.name})")
    assert ": loaded (" in tables.load(url, dataset, fetch)
    assert asked == [dataset.file]
    assert "already there" in tables.load(url, dataset, fetch)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_plan_trains_on_all_windows_before_the_first_that_is_scored(name: str) -> None:
    """And on none that it scores; its intervals are those of the schedule."""
    plan = EXAMPLES[name].plan
    spec = get_folder(FOLDERS, plan.model).spec
    as_of = windows.midnight(dt.date.fromisoformat(plan.train_as_of))
    first_tick = dt.datetime.fromisoformat(plan.first_interval) + dt.timedelta(days=7, hours=6)
    first = windows.window_of_tick(spec.window, first_tick)
    learned = as_of.date() - dt.timedelta(days=spec.training.label_delay_days)
    assert learned == first.start, "the last window that it learns from ends where the first that it scores begins"
    assert learned - dt.timedelta(days=7 * spec.training.windows) == spec.schedule.start
    assert as_of <= first.as_of
    last_tick = first_tick + dt.timedelta(days=7 * (plan.weeks - 1))
    assert last_tick.date() - dt.timedelta(days=7) == dt.datetime.fromisoformat(
        plan.last_interval
    ).date() - dt.timedelta(1)
