"""What do the guards catch? A week of car loans spoilt in 32 ways, scored by Ponte's own flow with the default guards.

Columns are NULL, constant at their usual value or at 0, in another unit (x 1000, x 0.001, x 1.6); half of the rows is
missing. A quiet week before them, 20 of which are published first, must pass.

    OMP_WAIT_POLICY=passive PYTHONPATH=plugins:. .venv/bin/python tests/bench/spoilt_weeks.py

Not collected by pytest. Writes nothing but a temporary folder.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator

from tabulate import tabulate
from tests.bench import car_loan
from tests.bench.scoring_cases import Server, private_server
from tests.sample_model import World

from ponte.errors import BatchRejected
from ponte.model.windows import midnight
from ponte.schema import migrations
from ponte.storage.database import Database

#: Published weeks before the one that is spoilt, unless said otherwise; the set drifts from the 22nd on.
QUIET_WEEKS = 20
_TRIPPED = "SELECT guard, got FROM ponte.guard_result WHERE batch_id = {} AND outcome = 'tripped' ORDER BY guard"


def main() -> int:
    """Print what was caught; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quiet", type=int, default=QUIET_WEEKS, help="weeks published before the spoilt one")
    parser.add_argument("--windows", type=int, default=car_loan.TRAINING_WEEKS, help="training windows")
    options = parser.parse_args()
    loans = car_loan.read_loans()
    first = car_loan.first_monday(loans) + dt.timedelta(weeks=car_loan.TRAINING_WEEKS)
    with private_server() as server:
        found = {}
        for estimator in car_loan.ESTIMATORS:
            db = _database(server, estimator)
            car_loan.load(db, loans)
            world = car_loan.world(db, server.folder, estimator, windows=options.windows)
            world.train(run_id="train", as_of=midnight(first))
            rejected = [_score(world, first + dt.timedelta(weeks=week), "weekly") for week in range(options.quiet)]
            print(f"{estimator}: {sum(map(bool, rejected))} of {options.quiet} quiet weeks rejected", flush=True)
            week = first + dt.timedelta(weeks=options.quiet)
            found[estimator] = {name: _spoilt(world, week, name, spoil) for name, spoil in ways()}
    rows = [[name, *(found[estimator][name] or "-" for estimator in found)] for name, _ in ways()]
    print(tabulate(rows, headers=["week", *found]))
    for estimator, guards in found.items():
        print(f"{estimator}: {sum(map(bool, guards.values()))} of {len(guards)} caught")
    return 0


def ways() -> Iterator[tuple[str, str]]:
    """Yield each way to spoil a week by name, as what becomes of `source.loan`."""
    for column in car_loan.FEATURES:
        yield f"{column} NULL", f"UPDATE source.loan SET {column} = NULL"
    for column in car_loan.FEATURES:
        usual = f"(SELECT mode() WITHIN GROUP (ORDER BY {column}) FROM source.loan)"
        yield f"{column} constant", f"UPDATE source.loan SET {column} = {usual}"
    for factor in ("0", "1000", "0.001", "1.6"):
        for column in car_loan.NUMBERS:
            yield f"{column} x {factor}", f"UPDATE source.loan SET {column} = {column} * {factor}"
    yield "half of the rows", "DELETE FROM source.loan"
    yield "49 % of the rows", "DELETE FROM source.loan"


def _spoilt(world: World, week: dt.date, name: str, spoil: str) -> str:
    """Return the guards that tripped for the week spoilt like that; what was done to the source is undone."""
    days = f"applied_at >= '{week}' AND applied_at < '{week + dt.timedelta(days=7)}'"
    if spoil.startswith("DELETE"):
        share = 0.5 if name.startswith("half") else 0.51
        days = (
            f"loan_id IN (SELECT loan_id FROM source.loan WHERE {days} ORDER BY loan_id "
            f"LIMIT (SELECT {share} * count(*) FROM source.loan WHERE {days}))"
        )
    with world.db.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE source.kept AS TABLE source.loan")
        connection.exec_driver_sql(f"{spoil} WHERE {days}")
    try:
        return _score(world, week, name, until="guard")
    finally:
        with world.db.begin() as connection:
            connection.exec_driver_sql("TRUNCATE source.loan")
            connection.exec_driver_sql("INSERT INTO source.loan SELECT * FROM source.kept")
            connection.exec_driver_sql("DROP TABLE source.kept")


def _score(world: World, week: dt.date, run_id: str, *, until: str = "publish") -> str:
    """Score the week; return the guards that tripped, "" for none."""
    batch = world.freeze(run_id=run_id, week=week, now=midnight(week) + dt.timedelta(days=30))
    try:
        for step in ("check", "score", "guard", "publish"):
            getattr(world, step)(batch.batch_id)
            if step == until:
                return ""
    except BatchRejected:
        with world.db.begin() as connection:
            tripped = connection.exec_driver_sql(_TRIPPED.format(batch.batch_id)).all()
        return ", ".join(row.guard for row in tripped) or "rejected"
    return ""


def _database(server: Server, name: str) -> Database:
    server.execute(f"CREATE DATABASE bench_{name}")
    migrations.upgrade(server.url(f"bench_{name}"))
    return Database(server.url(f"bench_{name}"))


if __name__ == "__main__":
    raise SystemExit(main())
