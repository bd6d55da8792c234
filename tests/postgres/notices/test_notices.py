"""What is told, once, in the transaction that it reports, and without any content of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from tests.sample_model import EMPTY_WEEK, NEXT_WEEK, NOW, WEEK, World

from ponte.errors import BatchRejected
from ponte.notices import writing
from ponte.notices.messages import Notice, message

SHOP = "quay"  # a value of rows, and of the words of checks


def notices(world: World) -> list[Any]:
    return world.rows("SELECT event, subject, window_start FROM ponte.notice ORDER BY notice_id")


def failing_check(world: World) -> World:
    check = f'[[checks]]\nexpectation = "expect_column_values_to_be_in_set"\ncolumn = "shop"\nvalue_set = ["{SHOP}"]'
    return world.with_model(checks=check)


def over_budget(world: World) -> World:
    check = f'[[checks]]\nexpectation = "expect_column_values_to_be_in_set"\ncolumn = "shop"\nvalue_set = ["{SHOP}"]'
    return world.with_model(checks=check + '\non_failure = "quarantine"')


def few_rows(world: World) -> World:
    world.execute("DELETE FROM shop.visit WHERE visit_id >= 2550")
    return world.with_model(checks="[guard]\nminimum_batches = 1")


@pytest.mark.parametrize(
    ("change", "week", "event"),
    [
        (failing_check, NEXT_WEEK, "batch_rejected"),
        (over_budget, NEXT_WEEK, "batch_rejected"),
        (lambda world: world, EMPTY_WEEK, "batch_rejected"),
        (few_rows, NEXT_WEEK, "guard_tripped"),
    ],
    ids=["check", "budget", "empty", "guard"],
)
def test_a_rejected_batch_is_told_once_and_no_row_of_it(
    scored: World, change: Callable[[World], World], week: Any, event: str
) -> None:
    world = change(scored)
    for _ in range(2):  # the task, and its retry
        with pytest.raises(BatchRejected):
            world.run(run_id="bad", week=week)
    batch = world.ask("SELECT max(batch_id) FROM ponte.batch")
    assert notices(world) == [(event, f"batch {batch}", week)]
    [row] = world.rows("SELECT to_jsonb(n) FROM ponte.notice n")
    assert SHOP not in json.dumps(row[0])


def test_a_verdict_that_leaves_something_to_do_is_told_once(world: World) -> None:
    refused = world.with_model(bound="minimum = 0.99")
    done = refused.train(run_id="refused")
    refused.judge(done.version.version, done.snapshot.snapshot_id, run_id="refused")
    assert notices(world) == [("version_refused", f"verdict {done.verdict_id}", None)]
    asked = world.with_model(promotion="approval")
    other = asked.judge(done.version.version, done.snapshot.snapshot_id, run_id="again")[0]
    assert notices(world)[1:] == [("question_waiting", f"verdict {other}", None)]
    world.with_model().judge(done.version.version, done.snapshot.snapshot_id, run_id="passed")
    assert len(notices(world)) == 2  # what is decided needs nobody


def test_what_was_rolled_back_was_never_told(world: World) -> None:
    with world.db.begin() as connection:
        writing.add(connection, "batch_rejected", subject="batch 1", model="visits", what="it", then="look")
        connection.rollback()
    assert notices(world) == []


@pytest.mark.parametrize(
    ("event", "page"),
    [
        ("guard_tripped", "/dags/visits__score"),
        ("window_late", "/dags/visits__score"),
        ("alarm_opened", "/dags/visits__monitor"),
        ("live_astray", "/dags/visits__monitor"),
        ("question_waiting", "/ponte/report/visits/3"),
    ],
)
def test_a_message_leads_to_where_it_can_be_looked_at(event: str, page: str) -> None:
    facts = {"what": "it has happened", "next": "look"}
    notice = Notice(
        notice_id=7, event=event, subject="batch 1", model="visits", window_start=WEEK, batch_id=None, version=3,
        facts=facts, created_at=NOW,
    )  # fmt: skip
    found = message(notice, base_url="https://ui.example/")
    assert found.link == f"https://ui.example{page}"
    assert found.text.splitlines()[1:] == [
        "what: it has happened",
        f"where: model visits, window {WEEK}, version 3",
        "since: 2024-02-12T06:00:00+00:00",
        "next: look",
        found.link,
        "(ponte-notice-7)",
    ]


CHANGES = ("UPDATE ponte.{} SET {} = {}", "DELETE FROM ponte.{}", "TRUNCATE ponte.{} CASCADE")


@pytest.mark.parametrize(("table", "column"), [("alarm_event", "at"), ("notice", "created_at"), ("notice_sent", "at")])
def test_what_was_told_is_never_changed(world: World, table: str, column: str) -> None:
    for change in CHANGES:
        with pytest.raises(sa.exc.DBAPIError, match="is append-only"):
            world.execute(change.format(table, column, column))
