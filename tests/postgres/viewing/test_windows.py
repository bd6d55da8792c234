"""What the page of a window reads: as the role of the web server, the same number of queries whatever there is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ponte.schema import roles
from ponte.storage.database import Database
from ponte.versions.choice import NAMED

if TYPE_CHECKING:
    from tests.conftest import Cluster
    from tests.sample_model import World

TODAY = dt.date(2024, 6, 12)
WINDOWS = 24


def week(number: int) -> dt.date:
    """Return the first day of a window of the stand, 1 to WINDOWS."""
    return dt.date(2024, 6, 10) - dt.timedelta(weeks=WINDOWS - number)


@pytest.fixture(scope="module")
def stand(server: Cluster, migrated: str) -> Iterator[Database]:
    """The owner's database of a stand; tests of it change nothing."""
    from tests.bench.stand import fill

    with server.database(migrated) as (_, url):
        fill(url, models=12, windows=WINDOWS, today=TODAY)
        yield Database(url)


def viewing(db: Database) -> Database:
    """Return the database as the web server is let in."""
    return Database(db.url.set(username=roles.VIEWER))


@pytest.fixture(scope="module")
def models(stand: Database) -> dict[str, str]:
    """Name of a model of the stand, by its kind."""
    from tests.bench.stand import KINDS

    query = sa.text("SELECT (min(batch_id) / 10000) + 1, model FROM ponte.batch GROUP BY model")
    with stand.begin() as connection:
        return {KINDS.get(number % 20, ""): name for number, name in connection.execute(query)}


def test_what_people_saw_is_told_with_who_and_why(stand: Database, models: dict[str, str]) -> None:
    from ponte.viewing.windows import WindowFacts, read_window

    found = read_window(viewing(stand), models["rollback"], week(WINDOWS - 5).isoformat())
    assert isinstance(found, WindowFacts)
    first, second = found.events
    assert (first.what, first.previous_batch_id, first.reason) == ("shown", None, "scored")
    assert (second.batch_id, second.previous_batch_id, second.actor) == (second.batch_id, first.batch_id, "grace")
    assert second.rollback_id is not None
    assert second.reason == "complaints about two weeks"
    assert found.shown is not None
    assert found.shown.batch_id == second.batch_id == found.batch.batch_id
    assert [b.state for b in found.batches] == ["published", "hidden"]
    assert found.last_seen is not None
    assert found.last_seen.batch_id == first.batch_id
    assert (found.before, found.after) == (week(WINDOWS - 6), week(WINDOWS - 4))


@pytest.mark.parametrize(
    ("kind", "state", "publishable"),
    [
        ("guard", "rejected", True),
        ("check", "rejected", False),
        ("failed", "failed", False),
        ("running", "running", False),
    ],
)
def test_a_window_that_nobody_sees_says_what_became_of_it(
    stand: Database, models: dict[str, str], kind: str, state: str, publishable: bool
) -> None:
    from ponte.viewing.windows import WindowFacts, read_window

    found = read_window(viewing(stand), models[kind], week(WINDOWS).isoformat())
    assert isinstance(found, WindowFacts)
    assert (found.shown, found.batch.state, found.batch.can_be_published) == (None, state, publishable)
    assert found.after is None


def test_a_batch_is_shown_beside_the_batches_that_people_see_of_the_weeks_before(
    stand: Database, models: dict[str, str]
) -> None:
    """With the share of each bin of scores as it is counted, of weeks of the same version alone."""
    from ponte.viewing.evidence import EARLIER
    from ponte.viewing.windows import WindowFacts, read_window

    found = read_window(viewing(stand), models[""], week(18).isoformat())
    assert isinstance(found, WindowFacts)
    evidence = found.evidence
    assert [one.window_start for one in evidence.weeks] == [week(18 - back) for back in range(EARLIER + 1)]
    [score] = evidence.scores
    alike = [one for one in evidence.weeks[1:] if one.version == found.batch.version]
    assert 0 < len(score.before) == len(alike) < EARLIER
    query = sa.text(
        "SELECT counts FROM ponte.batch_count WHERE batch_id = :id AND column_name = 'score' AND family = 'answers'"
    )
    with stand.begin() as connection:
        [counts] = connection.execute(query, {"id": found.batch.batch_id}).scalars()
    assert score.shares == pytest.approx([count / sum(counts[:-1]) for count in counts[:-1]])
    assert score.missing == counts[-1]
    [check] = [one for one in evidence.checks if not one.in_order] or [evidence.checks[0]]
    assert len(check.before) == EARLIER
    assert evidence.bound == {"metric": "roc_auc", "bound": "≥ 0.6"}
    assert evidence.metrics[0] == "roc_auc"
    assert evidence.maturities == [7, 28]


def test_as_many_queries_for_a_window_of_everything_as_for_one_of_nothing(
    stand: Database, models: dict[str, str]
) -> None:
    from ponte.viewing.windows import read_window

    counts = set()
    for kind, number in (("rollback", WINDOWS - 5), ("running", WINDOWS), ("failed", 1), ("", 13)):
        db = viewing(stand)
        seen: list[str] = []
        sa.event.listen(db.engine, "before_cursor_execute", lambda *given, seen=seen: seen.append(given[2]))
        read_window(db, models[kind], week(number).isoformat())
        counts.add(len(seen))
    assert len(counts) == 1
    assert counts.pop() <= 20


@pytest.mark.parametrize(
    ("asked", "said", "nearest"),
    [
        (
            ("2024-06-04", None),
            "No batch was ever made for a window of {model} that begins on 2024-06-04",
            [21, 22, 23, 24],
        ),
        (("1999-01-04", None), "begins on 1999-01-04", [1, 2, 3]),
        (("2024-02-30", None), "'2024-02-30' is no day", range(19, 25)),
        (("20240610", None), "is no day", range(19, 25)),
        (("<script>", None), "'<script>' is no day", range(19, 25)),
        (("2024-06-10", "1"), "has no batch '1'", [24]),
        (("2024-06-10", "x" * 999), f"has no batch '{'x' * 100}'", [24]),
    ],
)
def test_what_is_no_window_is_answered_with_the_nearest(
    stand: Database, models: dict[str, str], asked: tuple[str, str | None], said: str, nearest: list[int]
) -> None:
    from ponte.viewing.windows import NoWindow, read_window

    found = read_window(viewing(stand), models[""], *asked)
    assert isinstance(found, NoWindow)
    assert said.format(model=models[""]) in found.why
    assert found.nearest == tuple(map(week, nearest))


@pytest.mark.parametrize("model", ["nobody", "\0", "'; DROP TABLE x --"])
def test_of_a_model_that_is_not_there_no_window_is_near(stand: Database, model: str) -> None:
    from ponte.viewing.windows import NoWindow, read_window

    found = read_window(viewing(stand), model, "2024-06-10")
    assert isinstance(found, NoWindow)
    assert found.nearest == ()


def test_what_the_page_offers_as_sql_runs_as_an_analyst(scored: World) -> None:
    """And the real flow leaves all that the page shows of a batch."""
    from tests.sample_model import WEEK

    from ponte.schema import provision
    from ponte.viewing.windows import WindowFacts, read_window

    provision.upgrade(scored.db.url)  # gives what the world has made to the roles that make it in production
    found = read_window(viewing(scored.db), "visits", WEEK.isoformat())
    assert isinstance(found, WindowFacts)
    assert found.batch.dag_id == "visits__score"
    assert [step["step"] for step in found.evidence.steps] == ["freeze", "check", "score", "guard", "publish"]
    assert found.evidence.guards
    assert sum(found.evidence.scores[0].shares) == pytest.approx(1)
    analyst = Database(scored.db.url.set(username=roles.ANALYST))
    with analyst.begin() as connection:
        rows = connection.execute(sa.text(found.queries["rows"])).all()
        assert len(rows) == found.batch.rows_scored
        assert len(connection.execute(sa.text(found.queries["overview"])).all()) == 1
        assert len(connection.execute(sa.text(found.queries["changes"])).all()) == 1


def test_batches_of_a_rollback_lead_to_the_run_of_the_rollback(scored: World) -> None:
    from tests.sample_model import WEEK

    from ponte.viewing.windows import WindowFacts, read_window

    # As `stage_window` leaves it, before it is shown.
    scored.execute("UPDATE ponte.batch SET version_reason = :named", named=NAMED)
    found = read_window(viewing(scored.db), "visits", WEEK.isoformat())
    assert isinstance(found, WindowFacts)
    assert found.batch.dag_id == "ponte__rollback"
