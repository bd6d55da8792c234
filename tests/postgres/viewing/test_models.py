"""What the page of a model reads: as the role of the web server, the same number of queries whatever there is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ponte.schema import roles
from ponte.storage.database import Database

if TYPE_CHECKING:
    from tests.conftest import Cluster

WINDOWS = 20


@pytest.fixture(scope="module")
def stand(server: Cluster, migrated: str) -> Iterator[Database]:
    """A stand as the web server sees it."""
    from tests.bench.stand import fill

    with server.database(migrated) as (_, url):
        fill(url, models=14, windows=WINDOWS, today=dt.date(2024, 6, 12))
        db = Database(url)
        yield Database(db.url.set(username=roles.VIEWER))


def names(stand: Database) -> list[str]:
    """Return the models, whatever is special about them."""
    with stand.begin() as connection:
        return list(connection.execute(sa.text("SELECT DISTINCT model FROM ponte.version ORDER BY 1")).scalars())


def test_as_many_queries_for_any_model_and_none_for_a_name_that_is_none(stand: Database) -> None:
    from ponte.viewing.models import read_model

    counts = set()
    for model in [*names(stand), "no_such"]:
        seen: list[str] = []
        sa.event.listen(
            stand.engine, "before_cursor_execute", listener := lambda *given, seen=seen: seen.append(given[2])
        )
        found = read_model(stand, model)
        sa.event.remove(stand.engine, "before_cursor_execute", listener)
        assert (found is None) == (model == "no_such")
        counts.add(len(seen))
    assert len(counts) == 1
    assert counts.pop() <= 9
    assert read_model(stand, "nul\0") is None


def test_windows_and_figures_are_those_of_the_views_oldest_first(stand: Database) -> None:
    from ponte.viewing.models import read_model

    model = names(stand)[0]
    found = read_model(stand, model)
    assert found is not None
    with stand.begin() as connection:
        query = "SELECT window_start, state, value FROM ponte.window_overview WHERE model = :model ORDER BY 1"
        expected = connection.execute(sa.text(query), {"model": model}).all()
    assert [(w.window_start, w.state, w.value) for w in found.windows] == [tuple(row) for row in expected]
    for points in found.quality.values():
        assert [p.window_start for p in points] == sorted(p.window_start for p in points)
    champion = found.champion
    assert champion is not None
    assert [v.version for v in found.versions] == sorted((v.version for v in found.versions), reverse=True)
    assert found.bound == pytest.approx(0.6)


def test_the_columns_that_are_named_come_first_and_no_more_than_have_room(
    stand: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.viewing import models

    monkeypatch.setattr(models, "MOST_COLUMNS", 3)
    for model in names(stand):
        found = models.read_model(stand, model)
        assert found is not None
        assert len(found.columns) <= 3 <= max(3, found.of_columns)
        if not found.windows:
            continue
        with stand.begin() as connection:
            query = """SELECT DISTINCT family, column_name FROM ponte.drift_column
                WHERE batch_id = ANY(:batches) AND named"""
            batches = [w.batch_id for w in found.windows]
            named = {tuple(row) for row in connection.execute(sa.text(query), {"batches": batches})}
        assert len(named & found.columns.keys()) == min(3, len(named))
        moved = [
            (sum(cell.named for cell in cells), max(cell.statistic or 0 for cell in cells))
            for cells in found.columns.values()
        ]
        assert moved == sorted(moved, reverse=True)


def test_all_that_changed_is_told_but_windows_that_were_shown_as_planned(
    stand: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.viewing import models

    monkeypatch.setattr(models, "MOST_CHANGES", 10_000)
    query = """SELECT (SELECT count(*) FROM ponte.change WHERE model = :model)
        - (SELECT count(*) FROM ponte.publication_event WHERE model = :model AND previous_batch_id IS NULL)"""
    for model in names(stand):
        found = models.read_model(stand, model)
        assert found is not None
        with stand.begin() as connection:
            assert len(found.changes) == connection.execute(sa.text(query), {"model": model}).scalar_one()
