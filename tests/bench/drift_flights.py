"""Drift of the demo's model over 2013: which weeks, which columns, by the steps that Airflow would run.

Trains flight_delay on so many weeks before a day, scores every later week of the year, publishes and judges each, and
prints what `ponte.drift` says. No simulation, and no label is looked at.

    OMP_WAIT_POLICY=passive PYTHONPATH=plugins:. .venv/bin/python tests/bench/drift_flights.py
    ... --windows 20 --as-of 2013-06-24        (as if the model had been trained in June)

Not collected by pytest. Makes a PostgreSQL of its own, which is gone afterwards. About five minutes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import datetime as dt
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate
from tests.sample_model import World
from upath import UPath

from ponte.demo import flights
from ponte.embedded import postgres
from ponte.errors import BatchRejected
from ponte.model.folders import get_folder
from ponte.model.windows import midnight
from ponte.monitoring.judging import judge_batch
from ponte.runtime import models_root
from ponte.schema import provision, roles
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database

MODEL = "flight_delay"
LAST_WEEK = dt.date(2013, 12, 23)
PASSWORD = "flights"  # noqa: S105 - of a server that listens on a private unix socket only


def main() -> int:
    """Print the verdicts; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--windows", type=int, default=34, help="weeks to train on (34, as the demo does)")
    parser.add_argument(
        "--as-of", type=dt.date.fromisoformat, default=dt.date(2013, 9, 30), help="a Monday (2013-09-30)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="df-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # as root, PostgreSQL runs as another user
        try:
            server = postgres.start(root / "data", superuser_password=PASSWORD, options={"fsync": "off"})
            admin = server.url("postgres", postgres.SUPERUSER, PASSWORD)
            provision.prepare_server(admin, dict.fromkeys((provision.AIRFLOW, *roles.LOGINS), PASSWORD))
            owner = server.url(provision.PONTE, roles.OWNER, PASSWORD)
            provision.upgrade(owner)
            flights.load(server.url(provision.PONTE, postgres.SUPERUSER, PASSWORD))
            # One superuser does it all here; that each role may do its step is what the tests are for.
            year(
                Database(server.url(provision.PONTE, postgres.SUPERUSER, PASSWORD)),
                root,
                options.windows,
                options.as_of,
            )
        finally:
            postgres.stop(root / "data", mode="immediate")
    return 0


def year(db: Database, root: Path, windows: int, as_of: dt.date) -> None:
    """Train, score, publish and judge; print."""
    shutil.copytree(models_root() / MODEL, root / "models" / MODEL)
    settings = root / "models" / MODEL / "model.toml"
    text, count = re.subn(r"(?m)^windows = \d+", f"windows = {windows}", settings.read_text(encoding="utf-8"))
    assert count == 1
    settings.write_text(text, encoding="utf-8")
    (root / "artifacts").mkdir()
    store = ArtifactStore(UPath(root / "artifacts"))
    world = World(db=db, store=store, folder=get_folder(root / "models", MODEL))
    snapshot = world.snapshot(run_id="train", as_of=midnight(as_of))
    world.set_champion(world.fit(snapshot.snapshot_id, run_id="train").version)
    week = as_of + dt.timedelta(weeks=1)
    while week <= LAST_WEEK:
        try:
            judge_batch(db, world.run(run_id=str(week), week=week).batch_id)
        except BatchRejected as rejected:
            print(f"{week}: {rejected}", file=sys.stderr)
        week += dt.timedelta(weeks=1)
    rows = world.rows(
        "SELECT family, window_start, coalesce(would_be || ' (provisional)', state), round(statistic::numeric, 1), "
        'round("limit"::numeric, 1), round(p::numeric, 4), round(detectable::numeric, 3), windows, '
        "round(effective_windows::numeric), row_count, episode_start, array_to_string(columns, ', ') "
        "FROM ponte.drift ORDER BY family DESC, window_start"
    )
    print(f"{MODEL}, trained on {windows} weeks before {as_of}")
    headers = (
        "family",
        "week",
        "state",
        "statistic",
        "limit",
        "p",
        "detectable",
        "windows",
        "effective",
        "rows",
        "episode",
    )
    print(tabulate([list(row) for row in rows], headers=(*headers, "named")))


if __name__ == "__main__":
    sys.exit(main())
