"""When is drift told? 43 weeks of car loans scored one after the other, each judged after it was published.

The set drifts from the Sunday of the 22nd week on (index 21). Guards of columns only tell here (`columns = "warn"`), as
the weeks after that differ by as much as broken ones do; what a guard rejects all the same is published by a person.

    OMP_WAIT_POLICY=passive PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.drift_car_loan

Not collected by pytest. Writes nothing but a temporary folder.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging

from tabulate import tabulate
from tests.bench import car_loan
from tests.bench.scoring_cases import private_server
from tests.sample_model import World

from ponte.errors import BatchRejected
from ponte.model.windows import midnight
from ponte.monitoring.judging import judge_batch
from ponte.publishing import pointer
from ponte.schema import migrations
from ponte.storage.database import Database

_SAID = """SELECT d.window_start, d.family, d.state, d.would_be, round(d.statistic::numeric, 2),
    round(d."limit"::numeric, 2), array_to_string(d.columns, ', ')
FROM ponte.drift d ORDER BY d.family, d.window_start"""


def main() -> int:
    """Print what was said of each week; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--estimator", choices=car_loan.ESTIMATORS, default="trees")
    parser.add_argument("--windows", type=int, default=car_loan.TRAINING_WEEKS, help="training windows")
    parser.add_argument("--weeks", type=int, default=car_loan.SCORED_WEEKS)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    loans = car_loan.read_loans()
    first = car_loan.first_monday(loans) + dt.timedelta(weeks=car_loan.TRAINING_WEEKS)
    with private_server() as server:
        server.execute("CREATE DATABASE bench_drift")
        migrations.upgrade(server.url("bench_drift"))
        db = Database(server.url("bench_drift"))
        car_loan.load(db, loans)
        world = car_loan.world(
            db, server.folder, options.estimator, windows=options.windows, more='[guard]\ncolumns = "warn"\n'
        )
        world.train(run_id="train", as_of=midnight(first))
        for week in range(options.weeks):
            judge_batch(db, _published(world, first + dt.timedelta(weeks=week)))
        with db.begin() as connection:
            rows = connection.exec_driver_sql(_SAID).all()
    lines = [(row[0], (row[0] - first).days // 7, *row[1:]) for row in rows]
    print(tabulate(lines, headers=["week", "index", "family", "state", "would be", "statistic", "limit", "columns"]))
    return 0


def _published(world: World, week: dt.date) -> int:
    """Publish the week, as a person if a guard rejects it; return its batch."""
    batch = world.freeze(run_id="weekly", week=week, now=midnight(week) + dt.timedelta(days=30))
    world.check(batch.batch_id)
    world.score(batch.batch_id)
    try:
        world.guard(batch.batch_id)
    except BatchRejected:
        pointer.prepare_publication(world.db, batch.batch_id, model=car_loan.MODEL)
        pointer.publish_anyway(
            world.db, batch.batch_id, model=car_loan.MODEL, run_id=str(week), actor="bench", reason="it drifts"
        )
    else:
        world.publish(batch.batch_id)
    return batch.batch_id


if __name__ == "__main__":
    raise SystemExit(main())
