"""A window whose batch was rejected waits for a person until it is answered, also when later ones are shown."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.bench import stand

from ponte.schema import roles
from ponte.storage.database import Database
from ponte.viewing.needs import Need, needs
from ponte.viewing.overview import WINDOWS, Planned, read_overview

if TYPE_CHECKING:
    from tests.conftest import Cluster

MONDAY = dt.date(2026, 11, 23)
NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)
MODEL = "demand_at"


@pytest.fixture(scope="module")
def viewed(server: Cluster, migrated: str) -> Iterator[tuple[Database, Database]]:
    """A model that needs nobody, as the web server's role reads it, and as its owner does."""
    with server.database(migrated) as (name, url):
        stand.fill(url, models=1, windows=WINDOWS + 4, today=NOW.date())
        yield Database(server.url(name, roles.VIEWER)), Database(url)


def ago(weeks: int) -> dt.date:
    """Return the first day of the window so many before the newest."""
    return MONDAY - dt.timedelta(weeks=weeks)


def test_what_is_not_shown_stays_in_the_list_until_it_is_answered(viewed: tuple[Database, Database]) -> None:
    viewer, owner = viewed

    def run(statement: str, weeks: int, **values: object) -> None:
        with owner.begin() as connection:
            connection.execute(sa.text(statement), {"model": MODEL, "day": ago(weeks), **values})

    def end(weeks: int, status: str, by: str | None) -> None:
        run("DELETE FROM ponte.published WHERE model = :model AND window_start = :day", weeks)
        run(
            "UPDATE ponte.batch SET status = :status, rejected_by = :by, why = 'twelve rows' "
            "WHERE model = :model AND window_start = :day",
            weeks, status=status, by=by,
        )  # fmt: skip

    def again(weeks: int, status: str) -> None:
        run(
            """INSERT INTO ponte.batch (model, window_start, window_end, as_of, run_id, run_key, epoch, version,
                version_reason, status, row_count, page_count)
            SELECT model, window_start, window_end, as_of, 'manual__9', 'again', 9, version, version_reason, :status,
                row_count, page_count FROM ponte.batch WHERE model = :model AND window_start = :day LIMIT 1""",
            weeks, status=status,
        )  # fmt: skip

    def show(weeks: int) -> None:
        run(
            "INSERT INTO ponte.published (model, window_start, batch_id, epoch) SELECT model, window_start, batch_id, "
            "epoch FROM ponte.batch WHERE model = :model AND window_start = :day ORDER BY batch_id DESC LIMIT 1",
            weeks,
        )

    def waiting(planned: Planned | None = None) -> list[Need]:
        return needs(read_overview(viewer, {MODEL: planned or Planned()}, now=NOW))

    assert waiting() == []
    end(WINDOWS, "rejected", "guard")  # before the windows that are looked at
    assert waiting() == []

    end(WINDOWS - 1, "rejected", "guard")  # the oldest of these; all later ones are shown
    [need] = waiting()
    assert (need.kind, need.action, need.window) == ("guard", "publish", ago(WINDOWS - 1))
    assert need.what == f"{ago(WINDOWS - 1)} is kept back: twelve rows"
    assert need.batch is not None

    end(3, "rejected", "check")
    [need] = waiting()
    assert (need.kind, need.action, need.window, need.batch) == ("batch", "score", ago(3), None)
    assert need.what == f"{ago(3)} and 1 more window were rejected and are not shown: twelve rows"

    end(2, "failed", None)
    [need] = waiting()
    assert need.what == f"{ago(2)} and 2 more windows were rejected or failed and are not shown: twelve rows"
    late = Planned(due_window=MONDAY + dt.timedelta(weeks=1), due_since=NOW - dt.timedelta(hours=1))
    assert [need.kind for need in waiting(late)] == ["late", "batch"]

    again(2, "frozen")  # scored again: its batch is being made
    assert [need.window for need in waiting()] == [ago(3)]
    again(3, "staged")
    show(3)
    assert [need.window for need in waiting()] == [ago(WINDOWS - 1)]
    end(WINDOWS - 1, "staged", "guard")  # published anyway
    show(WINDOWS - 1)
    assert waiting() == []
