"""What the page of a model tells of its live windows and its queue: as the role of the web server, by two queries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.bench import stand

from ponte.live.summary import MOST_WINDOWS, Answers, Live, LiveWindow, Queue, read_live
from ponte.schema import roles
from ponte.storage.database import Database

if TYPE_CHECKING:
    from tests.conftest import Cluster

TODAY = dt.datetime.now(dt.UTC).date()
MONDAY = TODAY - dt.timedelta(days=TODAY.weekday())
MODEL = "demand_at"

MADE = """
INSERT INTO ponte.live_window (model, version, window_start, window_end, row_count, flushes, seconds,
    cpu_seconds, peak_bytes)
SELECT 'demand_at', 1, w, w + 7, 1000, 1, 1, 1, 1 FROM unnest(ARRAY[:monday - 7, :monday - 14, :monday - 56]) AS w
UNION ALL SELECT 'demand_at', 2, :monday - 7, :monday, 50, 1, 1, 1, 1;
INSERT INTO ponte.live_count (flush_id, model, version, window_start, window_end, row_count, seconds,
    cpu_seconds, peak_bytes, features, answers)
SELECT gen_random_uuid(), 'demand_at', 2, w, w + 7, rows, 1, 1, 1, '{}', '{}'
FROM (VALUES (:monday, 3), (:monday, 4), (:monday - 7, 5)) AS v (w, rows);
INSERT INTO ponte.live_unscored (request_id, model, source, why, kind, asked_at)
SELECT gen_random_uuid(), 'demand_at', source, 'no number', 'ValueError', at FROM (VALUES
    ('queue', :monday), ('queue', :monday), ('api', :monday - interval '1 microsecond'),
    ('api', :monday - interval '14 days'), ('api', :monday - interval '14 days 1 microsecond'),
    ('api', :monday - interval '49 days 1 microsecond')) AS v (source, at);
INSERT INTO ponte.live_dropped (flush_id, model, source, rows, from_at, to_at)
SELECT gen_random_uuid(), 'demand_at', 'form', 9, :monday, :monday
UNION ALL SELECT gen_random_uuid(), 'demand_at', 'api', 4, :monday - 21, :monday - 21
UNION ALL SELECT gen_random_uuid(), 'lonely', 'api', 5, :monday - 1, :monday - 1;
INSERT INTO ponte.live_drift_verdict (live_window_id, family, state, beyond, strong, row_count, column_count, windows,
    live_windows, effective_windows, statistic, "limit", p, detectable)
SELECT live_window_id, f, CASE f WHEN 'answers' THEN 'notice' ELSE 'quiet' END, f = 'answers', false,
    1, 1, 1, 0, 1, 1, 1, 1, 1
FROM ponte.live_window, unnest(ARRAY['features', 'answers']) AS f WHERE version = 1 AND window_start > :monday - 20;
INSERT INTO ponte.live_realised (live_window_id, model, window_start, version, maturity_days, metric, slice_column,
    slice_value, value, labelled_rows, feedback_rows, row_count, final, labels_from, label_digest, as_of)
SELECT live_window_id, model, window_start, version, days, metric, slice, slice, days / 100.0, 400 + days, 0, 1000,
    final, 'version', 1, now()
FROM ponte.live_window, (VALUES (7, 'roc_auc', '', true), (28, 'roc_auc', '', false), (84, 'log_loss', '', true),
    (84, 'roc_auc', 'a', true)) AS v (days, metric, slice, final) WHERE version = 1 AND window_start = :monday - 14;
INSERT INTO ponte.queue (model, open) VALUES ('demand_at', true), ('closed', false);
INSERT INTO ponte.request (request_id, model, features, priority, arrived_at, rank)
SELECT gen_random_uuid(), 'demand_at', '{}', g % 2, now() - make_interval(secs => 60 * g), g
FROM generate_series(1, 6) AS g;
INSERT INTO ponte.stream_progress (worker, model, seconds, answered, failed) VALUES ('one', 'demand_at', 60, 120, 0);
"""


@pytest.fixture(scope="module")
def viewer(server: Cluster, migrated: str) -> Iterator[Database]:
    """A stand whose first model answers one by one, as the web server's role reads it."""
    with server.database(migrated) as (name, url):
        stand.fill(url, models=1, windows=14, today=TODAY)
        with Database(url).begin() as connection:
            made = MADE.replace(":monday", f"DATE '{MONDAY}'")
            connection.execution_options(no_parameters=True).exec_driver_sql(made)
        yield Database(server.url(name, roles.VIEWER))


def ago(weeks: int) -> dt.date:
    """Return the first day of the window so many before this one."""
    return MONDAY - dt.timedelta(weeks=weeks)


def answers(version: int, rows: int, **known: Any) -> Answers:
    """Return answers of which nothing more is known than what is given."""
    nothing: dict[str, Any] = dict.fromkeys(("value", "labelled_rows", "maturity_days", "final", "drift"))
    return Answers(version=version, rows=rows, **nothing | known)


def test_each_window_has_its_rows_figures_and_what_got_none(viewer: Database) -> None:
    with viewer.one_moment() as connection:
        found = read_live(connection, MODEL, metric="roc_auc")
    told = {"value": 0.07, "labelled_rows": 407, "maturity_days": 7, "final": True}
    expected = [
        (0, (answers(2, 7),), {"queue": 2}, {"form": 9}),
        (1, (answers(2, 55), answers(1, 1000, drift="drift")), {"api": 1}, {}),
        (2, (answers(1, 1000, drift="notice", **told),), {"api": 1}, {}),
        (3, (), {"api": 1}, {"api": 4}),
        # Of what is eight windows old nothing is told; one microsecond later it would be.
    ]
    assert found.windows == tuple(
        LiveWindow(window_start=ago(weeks), answers=given, unanswered=unanswered, dropped=dropped)
        for weeks, given, unanswered, dropped in expected
    )
    assert MOST_WINDOWS == 8
    assert found.queue is not None
    assert found.queue.oldest_seconds == pytest.approx(360, abs=60)
    assert found.queue == Queue(
        open=True, waiting=6, oldest_seconds=found.queue.oldest_seconds, expected_seconds=3.0, workers=1,
        per_second=2.0, why=None,
    )  # fmt: skip
    assert found.used


@pytest.mark.parametrize(
    ("model", "windows", "used"),
    [
        ("closed", (), False),
        ("no_such", (), False),
        # Without any other window to go by, weeks.
        ("lonely", (LiveWindow(window_start=ago(1), answers=(), unanswered={}, dropped={"api": 5}),), True),
    ],
)
def test_a_model_without_rows_is_told_of_when_something_was_asked_of_it(
    viewer: Database, model: str, windows: tuple[LiveWindow, ...], used: bool
) -> None:
    with viewer.one_moment() as connection:
        found = read_live(connection, model, metric="")
    assert (found.windows, found.used) == (windows, used)
    assert (found.queue is not None) == (model == "closed")
    assert not Live().used
