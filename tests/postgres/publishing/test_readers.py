"""Readers of predictions.<model>: they see whole batches, and wait for nobody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from tests.postgres.children import PATIENCE, wait_for
from tests.sample_model import NEXT_WEEK, VISITS_PER_WEEK, WEEK, World

#: How long the analyst's query takes.
SECONDS = float(os.environ.get("PONTE_READER_SECONDS", "3"))
#: What a reader may wait at most. Far above what is measured: these machines are shared.
LIMIT = 2.0
EVERY = 0.01


@dataclass
class Sampler:
    """A reader that asks again and again, in a session of its own, and remembers what it saw."""

    world: World
    waits: list[float] = field(default_factory=list)
    seen: set[tuple[int, ...]] = field(default_factory=set)
    errors: list[BaseException] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        query = sa.text(
            "SELECT count(*), count(DISTINCT visit_id), count(DISTINCT batch_id), min(batch_id) "
            "FROM predictions.visits WHERE window_start = :week"
        )
        try:
            with self.world.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while not self._over.wait(EVERY):
                    begin = time.perf_counter()
                    row = connection.execute(query, {"week": WEEK}).one()
                    self.waits.append(time.perf_counter() - begin)
                    self.seen.add(tuple(row))
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            self.errors.append(error)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


@contextmanager
def analyst(world: World, seconds: float) -> Iterator[threading.Thread]:
    """Read the predictions in one query that takes so many seconds, in a session of its own."""

    def read() -> None:
        world.rows(
            f"SELECT count(*) FROM predictions.visits p, LATERAL (SELECT pg_sleep({seconds} / {2 * VISITS_PER_WEEK}) "
            "FROM (VALUES (p.visit_id)) AS v) AS slow"
        )

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


def test_readers_wait_for_nothing_while_batches_come_and_go(trained: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A sampler, every 10 ms, and a long query, while a week is published, published again, and retired."""
    world = trained.with_model(checks="[retention]\nreplaced_batches = 0")
    world.run(run_id="first")
    world.run(run_id="other", week=NEXT_WEEK)
    sampler, rounds = Sampler(world), 0
    with sampler.at_work(), analyst(world, SECONDS) as query:
        while query.is_alive() or not rounds:
            # Retiring waits for the query, which has begun before; publishing does not.
            batch = world.run(run_id=f"{rounds}", until="publish")
            rounds += 1
            if rounds == 1:
                retiring = threading.Thread(target=world.clean, args=(batch.batch_id,))
                retiring.start()
        retiring.join()
    world.clean(batch.batch_id)

    with capsys.disabled():
        print(
            f"\n{SECONDS:g} s query, {rounds} publications, {len(sampler.waits)} reads: "
            f"the worst wait was {1000 * max(sampler.waits):.0f} ms"
        )
    assert sampler.errors == []
    batches = {row[3] for row in sampler.seen}
    assert sampler.seen == {(VISITS_PER_WEEK, VISITS_PER_WEEK, 1, batch) for batch in batches}
    assert len(batches) >= 2
    assert rounds >= 2
    # The batches that were replaced are gone, whatever was read meanwhile.
    assert world.data_tables() == sorted(
        r[0] for r in world.rows("SELECT prediction_table FROM ponte.batch JOIN ponte.published USING (batch_id)")
    )
    assert max(sampler.waits) < LIMIT


def test_a_reader_that_is_planned_before_a_publication_and_runs_after_it_sees_a_whole_batch(scored: World) -> None:
    """PostgreSQL lists the partitions when it plans a query, and decides later which rows it sees.

    A batch that becomes a partition in between would be seen by nobody: the pointer names it, the plan does not.
    The planner asks shop.gate() for its estimates, so a lock holds the reader there.
    """
    batch = scored.run(run_id="second", until="guard")
    scored.execute(
        "CREATE FUNCTION shop.gate() RETURNS bigint LANGUAGE sql STABLE AS "
        "$$SELECT pg_advisory_xact_lock_shared(4711); SELECT -1::bigint$$"
    )
    query = (
        "SELECT count(*), min(batch_id) FROM predictions.visits WHERE window_start = :week AND visit_id > shop.gate()"
    )
    with ThreadPoolExecutor() as pool:
        with scored.db.begin() as gatekeeper:
            gatekeeper.exec_driver_sql("SELECT pg_advisory_xact_lock(4711)")
            reading = pool.submit(scored.rows, query, week=WEEK)
            wait_for(lambda: scored.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"))
            scored.publish(batch.batch_id)
        assert reading.result(PATIENCE) == [(VISITS_PER_WEEK, batch.batch_id)]
