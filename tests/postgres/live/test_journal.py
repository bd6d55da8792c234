"""The journal: rows logged + dropped = answered, as long as the process lives to write them, and nobody waits."""

from __future__ import annotations

import datetime as dt
import inspect
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.postgres.live.conftest import add_model
from tests.postgres.schema.test_roles import as_role

from ponte.live import journal as journals
from ponte.live.journal import Journal
from ponte.live.tables import LiveTable, Unscored, request_ids
from ponte.schema import roles
from ponte.storage.columns import Column
from ponte.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cluster
    from tests.sample_model import World

DOCS = Path(__file__).parents[3] / "docs"
NOW = dt.datetime.now(dt.UTC)


def put(journal: Journal, table: LiveTable, count: int = 1, **changed: Any) -> bool:
    beside = changed.pop("beside", None)
    columns = {"prediction": 1, "score": 0.5, "scored_at": NOW, "model_version": 1, **changed}
    ids = request_ids(count, NOW)
    return journal.put(table, {"request_id": ids, **columns}, source="api", asked_at=NOW, beside=beside)


def kept(world: World, model: str = "visits") -> int:
    return int(world.ask(f"SELECT count(*) FROM predictions.{model}_live"))


def dropped(world: World) -> int:
    return int(world.ask("SELECT coalesce(sum(rows), 0) FROM ponte.live_dropped"))


@pytest.fixture
def cut(server: Cluster, live: World) -> Callable[[], None]:
    """Ends the sessions of the API."""
    end = "SELECT count(pg_terminate_backend(pid, 1000)) FROM pg_stat_activity WHERE usename = 'ponte_api'"
    return lambda: server.execute(f"{end} AND datname = '{live.db.url.database}'")


@pytest.fixture
def journal(live: World) -> Journal:
    """Of the API, without a thread."""
    return Journal(as_role(live, roles.API).db, limit=100)


def test_rows_are_written_once(live: World, journal: Journal, table: LiveTable) -> None:
    for _ in range(3):
        assert put(journal, table, 5)
    assert (journal.waiting, kept(live)) == (15, 0)
    assert journal.flush()
    assert journal.flush()
    assert (journal.waiting, journal.written, kept(live)) == (0, 15, 15)


def test_a_full_journal_drops_the_newest_and_says_so(live: World, journal: Journal, table: LiveTable) -> None:
    answers = [put(journal, table, 30, score=i / 10) for i in range(5)]
    assert answers == [True, True, True, False, False]
    assert journal.dropped == 60
    journal.flush()
    assert live.rows("SELECT score, count(*) FROM predictions.visits_live GROUP BY 1 ORDER BY 1") == [
        (0.0, 30),
        (0.1, 30),
        (0.2, 30),
    ]
    assert live.rows("SELECT model, source, rows, from_at, to_at FROM ponte.live_dropped") == [
        ("visits", "api", 60, NOW, NOW)
    ]
    journal.flush()
    assert dropped(live) == 60
    assert put(journal, table)


def test_while_the_database_is_away_rows_wait_and_come_with_it(live: World, journal: Journal, table: LiveTable) -> None:
    away, there = Database(live.db.url.set(database="nowhere")), journal._db
    journal._db = away
    put(journal, table, 60)
    assert not journal.flush()
    put(journal, table, 30)
    put(journal, table, 30)
    assert not journal.flush()
    assert (journal.failures, journal.waiting, journal.dropped) == (2, 90, 30)
    journal._db = there
    assert journal.flush()
    assert (kept(live), dropped(live)) == (90, 30)


def test_a_session_that_was_ended_costs_no_row(
    live: World, journal: Journal, table: LiveTable, cut: Callable[[], None]
) -> None:
    put(journal, table, 3)
    journal.flush()
    cut()
    put(journal, table, 4)
    assert not journal.flush()
    assert journal.flush()
    assert kept(live) == 7


@pytest.mark.parametrize("committed", [True, False])
def test_an_answer_to_commit_that_is_lost_doubles_and_loses_nothing(  # noqa: PLR0917 - fixtures
    live: World,
    journal: Journal,
    table: LiveTable,
    monkeypatch: pytest.MonkeyPatch,
    committed: bool,
    cut: Callable[[], None],
) -> None:
    commit = sa.engine.RootTransaction.commit

    def lose(transaction: sa.engine.RootTransaction) -> None:
        if committed:
            commit(transaction)
        monkeypatch.undo()
        cut()
        raise sa.exc.OperationalError("COMMIT", (), Exception("server closed the connection unexpectedly"))

    put(journal, table, 70)
    put(journal, table, 70)  # dropped
    unscored = Unscored(
        request_id=request_ids(1, NOW)[0], model="visits", source="api", asked_at=NOW, why="no", kind="ValueError"
    )
    journal.put(table, {"request_id": []}, source="api", asked_at=NOW, unscored=[unscored])
    journals.prepare(journal._db, "visits")
    journal._prepared.add("visits")
    monkeypatch.setattr(sa.engine.RootTransaction, "commit", lose)
    assert not journal.flush()
    put(journal, table, 5)
    assert journal.flush()
    assert (kept(live), dropped(live), live.ask("SELECT count(*) FROM ponte.live_unscored")) == (75, 70, 1)
    assert (journal.waiting, journal.written, journal.put_rows) == (0, 76, 146)


def test_rows_that_the_database_refuses_are_dropped_alone(live: World, journal: Journal, table: LiveTable) -> None:
    put(journal, table, 4)
    put(journal, table, 3, score=[0.5, 7.0, 0.5])
    put(journal, table, 4)
    journal.put(LiveTable("unknown", table.columns), {"request_id": request_ids(2, NOW)}, source="form", asked_at=NOW)
    assert journal.flush()
    assert (kept(live), journal.waiting) == (10, 0)
    assert sorted(live.rows("SELECT model, source, rows FROM ponte.live_dropped")) == [
        ("unknown", "form", 2),
        ("visits", "api", 1),
    ]
    assert journal.put_rows == journal.written + journal.dropped == 13


def test_what_is_put_beside_is_written_in_the_same_transaction(
    live: World, table: LiveTable, cut: Callable[[], None]
) -> None:
    live.execute(
        "CREATE TABLE public.seen (flush uuid, what int); GRANT INSERT ON public.seen TO ponte_api; "
        "GRANT USAGE ON SCHEMA public TO ponte_api"
    )
    faults = ["session", None, "own"]

    def count(connection: sa.Connection, flush: Any, given: Any) -> None:
        connection.execute(sa.text("INSERT INTO public.seen VALUES (:f, :w)"), {"f": flush, "w": sum(given)})
        fault = faults.pop(0)
        if fault == "session":
            cut()
        if fault == "own":
            connection.exec_driver_sql("SELECT 1 / 0")

    journal = Journal(as_role(live, roles.API).db, beside=count)
    put(journal, table, 2, beside=2)
    put(journal, table, 3, beside=3)
    put(journal, table, 1)
    assert not journal.flush()
    assert (kept(live), live.ask("SELECT count(*) FROM public.seen")) == (0, 0)
    assert journal.flush()
    assert live.rows("SELECT what FROM public.seen") == [(5,)]
    put(journal, table, 4, beside=4)
    assert journal.flush()
    assert (kept(live), dropped(live), live.ask("SELECT count(*) FROM public.seen")) == (10, 0, 1)


def test_several_models_share_a_flush(live: World, journal: Journal, table: LiveTable) -> None:
    other = LiveTable.of(
        add_model(live, "other", key=(Column(name="name", family="text"),), task="multiclass", label="text")
    )
    for i in range(3):
        put(journal, table, 2, visit_id=[i, None])
        put(journal, other, 2, prediction="a", score=None, scores=[[0.5, 0.25, 0.25], None], name=["\t", "\\N"])
    assert journal.flush()
    assert (kept(live), kept(live, "other")) == (6, 6)
    assert live.rows("SELECT DISTINCT name, scores FROM predictions.other_live ORDER BY 1") == [
        ("\t", [0.5, 0.25, 0.25]),
        ("\\N", None),
    ]


def test_the_thread_writes_and_the_end_of_the_process_waits_for_it(live: World, table: LiveTable) -> None:
    journal = Journal(as_role(live, roles.API).db, every=0.01)
    journal.start()
    for _ in range(50):
        put(journal, table, 2)
    assert journal.close() == 0
    assert kept(live) == 100


def test_while_answers_keep_coming_they_are_written_together(live: World, table: LiveTable) -> None:
    """A transaction for each would cost the process more than the answers."""
    every, flushes, ends = 0.1, 0, False

    def another(*_: object) -> None:  # comes while a flush is on its way
        nonlocal flushes
        flushes += 1
        if not ends:
            put(journal, table, 1, beside=flushes)

    journal = Journal(as_role(live, roles.API).db, every=every, beside=another)
    began = time.monotonic()
    journal.start()
    put(journal, table, 1, beside=0)
    time.sleep(1)
    most = (time.monotonic() - began) / (0.9 * every) + 1
    assert 1 <= flushes <= most
    ends = True
    assert journal.close() == 0
    assert kept(live) == flushes


def test_what_cannot_be_written_at_the_end_is_said(
    live: World, table: LiveTable, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(Database(live.db.url.set(database="nowhere")), every=0.01)
    journal.start()
    put(journal, table, 9)
    assert journal.close(timeout=5) == 9
    assert "9 live rows were answered and never written" in caplog.text


def _answer(url: str, table: LiveTable, pipe: Any, seconds: float) -> None:
    """A process that answers; it says each hundred rows that it has put."""
    journal = Journal(Database(url), every=0.02, limit=1_000_000)
    journal.start()
    pipe.send("begun")
    end, answered = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        put(journal, table, 10)
        answered += 10
        time.sleep(0.002)
    journal.close()
    pipe.send(answered)
    os._exit(0)


def _process(live: World, table: LiveTable, seconds: float) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    url = as_role(live, roles.API).db.url.render_as_string(hide_password=False)
    process = context.Process(target=_answer, args=(url, table, theirs, seconds))
    process.start()
    return process, ours


def test_two_processes_at_once(live: World, table: LiveTable) -> None:
    both = [_process(live, table, 0.5) for _ in range(2)]
    for _, pipe in both:
        assert pipe.recv() == "begun"
    answered = sum(pipe.recv() for _, pipe in both)
    for process, _ in both:
        process.join()
    assert kept(live) == answered > 0


def test_a_process_that_is_killed_leaves_whole_flushes(live: World, table: LiveTable) -> None:
    process, pipe = _process(live, table, 60)
    assert pipe.recv() == "begun"
    deadline = time.monotonic() + 30
    while kept(live) == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert kept(live) > 0
    assert live.ask("SELECT count(*) - count(DISTINCT request_id) FROM predictions.visits_live") == 0
    assert kept(live) % 10 == 0


def test_what_it_holds_when_it_ends_without_the_database_is_in_neither_as_the_pages_say(
    live: World, table: LiveTable
) -> None:
    journal = Journal(Database(live.db.url.set(database="nowhere")), limit=100)
    assert [put(journal, table, 30) for _ in range(5)] == [True, True, True, False, False]
    assert journal.close() == 90
    assert (journal.put_rows, kept(live), dropped(live)) == (150, 0, 0)

    most = f"{inspect.signature(Journal).parameters['limit'].default:,}"
    for page in ("how-to/query-predictions.md", "how-to/serve.md", "reference/api.md"):
        assert f" {most}" in (DOCS / page).read_text("utf-8"), page
    told = " ".join((DOCS / "how-to/query-predictions.md").read_text("utf-8").split())
    assert "are all answers, unless a process of the API ended before it had written what it held" in told
