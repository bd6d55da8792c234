"""A run that stands still while a newer one publishes, and then goes on: it ends as Fenced, nobody sees its rows."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tests import rotation
from tests.postgres.children import PATIENCE, At, in_child, run_flow, wait_for
from tests.postgres.crash_points import POINTS, some_of_each_step
from tests.postgres.stages import RUN, Stages, tables
from tests.sample_model import NEXT_WEEK, World

from ponte.errors import DatabaseUnavailable

#: A resumed zombie must have ended after so many seconds. On a quiet machine 5 are enough for all steps that are left.
SOON = 15.0
NEWER = "newer"
#: Who stands still before this has claimed nothing: it goes on as the newest run, and rightly publishes.
CLAIM = next(n for n, point in enumerate(POINTS) if point.endswith("before INSERT ponte.claim"))
#: From here on the zombie has published: after the COMMIT that follows.
PUBLISHED = 2 + next(n for n, point in enumerate(POINTS) if point.endswith("before INSERT ponte.publication_event"))
#: Longer than the sweep waits for a lock: whoever waits so long waits for the zombie.
BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
    "AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '2500 ms'"
)


def chosen_now() -> list[str]:
    """Return the points of this run, or those that PONTE_CRASH_POINTS asks for."""
    points = POINTS[CLAIM:]
    wanted = os.environ.get("PONTE_CRASH_POINTS", "")
    if wanted:
        return [p for p in points if wanted == "all" or wanted in p]
    return some_of_each_step(points, rotation.number())


def comparable(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the tables without what tells that another run was there before: its epoch, and what it showed."""
    hidden = ("epoch", "previous_batch_id")
    return {
        table: sorted(json.dumps({k: v for k, v in json.loads(row).items() if k not in hidden}) for row in rows)
        for table, rows in found.items()
        if table not in {"shapes", "receipts"}
    } | {name: found[name] for name in ("shapes", "receipts")}


def left(world: World) -> set[str]:
    """Return the tables that hold rows of batches."""
    return {name for name in tables(world) if name.startswith("ponte_data.")}


@pytest.fixture(scope="module")
def alone(stages: Stages) -> tuple[dict[str, list[str]], set[str]]:
    """What the newer run leaves when there is no other."""
    with stages.before("freeze") as world:
        run_flow(world, run_id=NEWER)
        return comparable(tables(world, {NEWER})), left(world)


@pytest.mark.parametrize("point", chosen_now())
def test_a_zombie_ends_as_fenced_and_leaves_what_the_newer_run_made(
    stages: Stages, alone: tuple[dict[str, list[str]], set[str]], tmp_path: Path, point: str
) -> None:
    """SIGSTOP at a crash point; a newer run publishes and cleans up, the tables of the zombie too; SIGCONT.

    A zombie that stands still within a transaction may hold what the newer run needs: then the newer run waits, and
    both go on together. One that has published before it stood still finds nothing to do.
    """
    step, sign = point.split(maxsplit=1)[0], tmp_path / "sign"
    with stages.before(step) as world, ThreadPoolExecutor() as pool:
        _, batch_id = stages.arguments(step)
        mischief = At(step, point, sign, signal.SIGSTOP)
        zombie = in_child(
            world, run_flow, run_id=RUN, first=step, batch_id=batch_id, shards=stages.shards, mischief=mischief
        )
        process = psutil.Process(zombie.process.pid)
        try:
            wait_for(lambda: sign.exists() or zombie.process.exitcode is not None)
            # Otherwise crash_points.txt is not up to date.
            assert sign.exists(), f"the run ended as {zombie.ending()} and never passed the point"
            wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
            newer = pool.submit(run_flow, world, run_id=NEWER)
            wait_for(lambda: newer.done() or world.ask(BLOCKED))
            blocked = not newer.done() or newer.exception() is not None
        finally:
            zombie.go_on()
        begin = time.monotonic()
        ending = zombie.ending()
        seconds = time.monotonic() - begin
        try:
            newer_id = newer.result(PATIENCE)
        except DatabaseUnavailable:  # it has waited for the zombie longer than a step waits: Airflow tries again
            newer_id = run_flow(world, run_id=NEWER)

        shown = world.ask(
            "SELECT count(*) FROM ponte.publication_event JOIN ponte.batch USING (batch_id) WHERE run_id = :run",
            run=RUN,
        )
        has_published = POINTS.index(point) >= PUBLISHED or (step == "publish" and blocked)
        assert (ending, shown) == (("done", 1) if has_published else ("Fenced", 0)), f"blocked: {blocked}"
        assert blocked or seconds < SOON
        world.clean(newer_id)  # the next run sweeps what the zombie has made since
        assert world.rows(
            "SELECT DISTINCT batch_id FROM predictions.visits WHERE window_start = :week", week=NEXT_WEEK
        ) == [(newer_id,)]
        assert (comparable(tables(world, {NEWER})), left(world)) == alone
