"""The overview read from a made-up stand in which each of twenty models has something else the matter with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.bench import stand

from ponte.schema import roles
from ponte.storage.database import Database
from ponte.viewing.choosing import ORDERS, Choice
from ponte.viewing.needs import KINDS, needs
from ponte.viewing.overview import WINDOWS, Line, Planned, Version, read_overview

if TYPE_CHECKING:
    from tests.conftest import Cluster

NOW = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)
MODELS, WEEKS = 20, 30
MONDAY = dt.date(2026, 11, 23)


@pytest.fixture(scope="module")
def viewed(server: Cluster, migrated: str) -> Iterator[tuple[Database, Database]]:
    """The stand as the web server's role reads it, and as its owner does."""
    with server.database(migrated) as (name, url):
        stand.fill(url, models=MODELS, windows=WEEKS, today=NOW.date())
        yield Database(server.url(name, roles.VIEWER)), Database(url)


@pytest.fixture(scope="module")
def lines(viewed: tuple[Database, Database]) -> dict[str, Line]:
    """Line by kind of the stand."""
    with viewed[1].begin() as connection:
        names = connection.execute(sa.text("SELECT DISTINCT model FROM ponte.version")).scalars().all()
    found = read_overview(viewed[0], dict.fromkeys([*names, "untrained"], Planned()), now=NOW)
    assert [line.model for line in found] == sorted([*names, "untrained"])
    kinds = {_name(n): kind for n, kind in stand.KINDS.items()}
    return {kinds.get(line.model, line.model): line for line in found}


def _name(n: int) -> str:
    things = ("churn", "demand", "fraud", "returns", "delay", "credit", "leads", "stock", "energy", "staff")
    return f"{things[n % 10]}_{('at', 'be', 'ch')[n // 10]}"


PLAIN = _name(1)


def test_a_model_without_anything_special_needs_nobody(lines: dict[str, Line]) -> None:
    line = lines[PLAIN]
    assert needs([line]) == []
    assert (line.seen.window_start, line.seen.state, line.late) == (MONDAY, "published", None)
    assert (line.version.champion, line.version.bad, line.drifting, line.misses) == (3, False, "quiet", False)
    assert line.measured.window_start < MONDAY
    assert line.bound == 0.6
    assert len(line.windows) == WINDOWS
    assert line.cpu_seconds is not None
    assert line.cpu_seconds > 0


@pytest.mark.parametrize(
    ("kind", "needed", "action", "pointing"),
    [
        ("late", "late", "score", {"window": MONDAY - dt.timedelta(days=7)}),
        ("guard", "guard", "publish", {"window": MONDAY}),
        ("check", "batch", "score", {"window": MONDAY}),
        ("failed", "batch", "score", {"window": MONDAY}),
        ("refused", "refused", "report", {"version": 3}),
        ("question", "question", "question", {"version": 3}),
        ("quality", "quality", "alarm", {"alarm": 6}),
        ("drift", "drift", "alarm", {"alarm": 7}),
        ("new", "refused", "report", {"version": 1}),
        ("untrained", "first", "train", {}),
    ],
)
def test_what_needs_a_person_says_where_one_acts(
    lines: dict[str, Line], kind: str, needed: str, action: str, pointing: dict[str, Any]
) -> None:
    [need] = needs([lines[kind]])
    assert (need.kind, need.action) == (needed, action)
    assert {name: getattr(need, name) for name in pointing} == pointing


@pytest.mark.parametrize("kind", ["drifted", "running", "rollback", "retention", "challenger", "live"])
def test_what_goes_its_way_or_was_acknowledged_needs_nobody(lines: dict[str, Line], kind: str) -> None:
    assert [need for need in needs([lines[kind]]) if kind != "rollback" or need.kind != "bad"] == []


def test_the_most_urgent_comes_first(lines: dict[str, Line]) -> None:
    found = [KINDS.index(need.kind) for need in needs(lines.values())]
    assert found == sorted(found)
    assert found[0] == KINDS.index("late")


def test_states_are_those_of_the_windows(lines: dict[str, Line]) -> None:
    assert (lines["guard"].newest.state, lines["guard"].newest.guards_tripped) == ("rejected", ["mean_score"])
    assert lines["guard"].seen.window_start == MONDAY - dt.timedelta(days=7)
    assert lines["running"].newest.state == "running"
    assert (lines["drift"].drifting, lines["drift"].drift["features"].columns) == ("drift", ["f1", "f2"])
    assert [alarm.state for alarm in lines["drifted"].alarms] == ["acknowledged"]
    assert lines["new"].newest is None


@pytest.mark.parametrize(
    ("planned", "late"),
    [
        (Planned(due_window=MONDAY, due_since=NOW - dt.timedelta(hours=1)), True),
        (Planned(due_window=MONDAY, due_since=NOW + dt.timedelta(hours=1)), False),
        (Planned(due_window=MONDAY, due_since=NOW - dt.timedelta(hours=1), paused=True), False),
        (Planned(due_window=MONDAY - dt.timedelta(days=7), due_since=NOW - dt.timedelta(hours=1)), False),
    ],
)
def test_a_window_is_late_by_the_schedule_when_people_see_neither_it_nor_a_later_one(
    viewed: tuple[Database, Database], planned: Planned, late: bool
) -> None:
    """Of a model whose batch of the week is still being made, and of which no notice says that it is late."""
    [line] = read_overview(viewed[0], {_name(9): planned}, now=NOW)
    assert line.late == (MONDAY if late else None)


def test_one_model_takes_as_many_queries_as_all(viewed: tuple[Database, Database], lines: dict[str, Line]) -> None:
    db = viewed[0]
    asked: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    counts = []
    for models in ([], [PLAIN], [line.model for line in lines.values()]):
        asked.clear()
        read_overview(db, dict.fromkeys(models, Planned()), now=NOW)
        counts.append(len([text for text in asked if not text.startswith("SET")]))
    assert counts == [8, 8, 8]


def test_orders_and_filters_are_those_of_the_address(lines: dict[str, Line]) -> None:
    given = list(lines.values())
    for sort in (None, "nonsense", *ORDERS):
        found = Choice(sort=sort).of(given)
        assert sorted(line.model for line in found) == sorted(line.model for line in given)
    assert Choice().of(given)[0].model == lines["late"].model
    assert Choice(sort="quality").of(given)[0].model == lines["quality"].model
    assert Choice(sort="window").of(given)[0].seen is None
    ages = [line.seen.window_start for line in Choice(sort="window").of(given) if line.seen]
    assert ages == sorted(ages)
    assert Choice(tag="other").of(given) == Choice(owner="other").of(given) == []
    assert Choice(sort="rows", tag="a").fields(tag=None) == {"sort": "rows", "tag": None, "owner": None}


def test_window_overview_says_what_the_views_say_that_each_part_has(viewed: tuple[Database, Database]) -> None:
    """It looks labels, feedback and estimates up by itself, window by window, to be quick with many."""
    question = """
        SELECT o.model, o.window_start, o.value, o.maturity_days, o.estimated_value, o.feedback_right, o.feedback_wrong
        FROM ponte.window_overview o
        EXCEPT
        SELECT o.model, o.window_start, q.value, q.maturity_days, e.estimated_value,
               (SELECT count(*) FROM ponte.feedback f WHERE f.model = o.model AND f.window_start = o.window_start
                AND f.counts AND f.verdict = 'right'),
               (SELECT count(*) FROM ponte.feedback f WHERE f.model = o.model AND f.window_start = o.window_start
                AND f.counts AND f.verdict = 'wrong')
        FROM ponte.window_overview o
        LEFT JOIN (
            SELECT DISTINCT ON (batch_id, metric) batch_id, metric, value, maturity_days FROM ponte.quality
            WHERE slice_column = '' AND value IS NOT NULL
            ORDER BY batch_id, metric, final DESC, maturity_days DESC
        ) q ON q.batch_id = o.batch_id AND q.metric = o.metric
        LEFT JOIN ponte.estimated_quality e ON e.batch_id = o.batch_id AND e.metric = o.metric"""
    with viewed[1].engine.connect() as connection:  # nothing is committed
        # Of the same person only the last word counts.
        connection.exec_driver_sql(
            "INSERT INTO ponte.feedback_given (model, window_start, batch_id, verdict, given_by) "
            "SELECT model, window_start, batch_id, v, 'eve' FROM ponte.published, "
            "unnest(ARRAY['wrong', 'right']) WITH ORDINALITY AS u (v, n) ORDER BY n"
        )
        # Figures of a slice are not those of all rows, however ripe they are.
        connection.exec_driver_sql(
            "INSERT INTO ponte.realised (batch_id, model, window_start, version, maturity_days, metric, slice_column, "
            "slice_value, value, labelled_rows, feedback_rows, row_count, final, labels_from, label_digest, as_of) "
            "SELECT batch_id, model, window_start, version, 999, metric, 'region', 'east', 0.1, labelled_rows, "
            "feedback_rows, row_count, final, labels_from, 0, as_of "
            "FROM ponte.realised WHERE maturity_days = 7 AND slice_column = ''"
        )
        rows = connection.exec_driver_sql("SELECT sum(feedback_right), count(value) FROM ponte.window_overview").one()
        assert min(rows) > 0
        assert connection.exec_driver_sql(question).all() == []


def test_cost_is_that_of_runs_and_not_of_a_service_that_waits_all_week(
    viewed: tuple[Database, Database], lines: dict[str, Line]
) -> None:
    question = """SELECT o.cpu_seconds, sum(c.cpu_seconds) AS all,
            sum(c.cpu_seconds) FILTER (WHERE c.step <> 'live') AS runs
        FROM ponte.window_overview o JOIN ponte.cost c USING (model, window_start)
        WHERE o.model = :model AND o.window_start IN (SELECT window_start FROM ponte.live_window WHERE model = :model)
        GROUP BY o.window_start, o.cpu_seconds"""
    live = lines["live"]
    with viewed[1].engine.connect() as connection:
        found = connection.execute(sa.text(question), {"model": live.model}).all()
    assert found
    for row in found:
        assert row.cpu_seconds == pytest.approx(row.runs)
        assert row.cpu_seconds < row.all
    assert live.cpu_seconds == pytest.approx(sum(row.runs for row in found) / len(found), rel=0.5)
    assert live.cpu_seconds < min(row.all for row in found)


@pytest.mark.parametrize(
    ("champion", "since", "decision", "waits"),
    [
        (1, -1, None, True),
        (1, +1, None, False),  # somebody has made another one champion since
        (2, +1, None, False),  # it is champion itself
        (1, -1, "approved", False),
        (1, -1, "timed out", False),
        (None, None, None, True),
    ],
)
def test_a_verdict_waits_until_somebody_answers_or_another_decision_is_made(
    champion: int | None, since: int | None, decision: str | None, waits: bool
) -> None:
    found = Version(
        champion=champion,
        since=None if since is None else NOW + dt.timedelta(hours=since),
        bad=False,
        judged=2,
        verdict_id=1,
        outcome="passed",
        run_id="r",
        at=NOW,
        decision=decision,
        asked=True,
    )
    assert found.open is waits
