"""The main job on real input: train on 2013 up to the end of September, then score the four weeks of October.

Everything runs in the Airflow that `./ponte up` has started, as an operator would do it in the UI; or in that of
docker compose, when the environment says where (PONTE_UI_URL, AIRFLOW_ADMIN_PASSWORD, PONTE_ADMIN_URL). Can be
repeated: what is there already is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tabulate import tabulate

from ponte.demo import flights
from ponte.errors import PonteError
from ponte.local.airflow_api import AirflowApi, connect
from ponte.local.secrets import load_or_create
from ponte.local.settings import Settings
from ponte.local.stack import admin_database, as_running
from ponte.schema import roles
from ponte.storage.database import Database

MODEL = "flight_delay"
TRAIN_AS_OF = "2013-09-30"
#: Data intervals of the score runs: each ends on the Monday its window starts on, 7, 14, 21 and 28 October.
FIRST_INTERVAL, LAST_INTERVAL = "2013-09-30T00:00:00Z", "2013-10-22T00:00:00Z"
WEEKS = 4
MINUTES_30 = 1800.0
AGAIN = "correct that; the same command goes on from here"
_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The stack that the demo runs in."""

    ui_url: str
    admin_password: str = field(repr=False)
    #: What to do next, for the last lines.
    hints: str


def in_compose(environ: Mapping[str, str]) -> bool:
    """Say whether the environment names a server, as that of docker compose does; else it is the local stack's."""
    return bool(environ.get("PONTE_ADMIN_URL"))


def run(environ: Mapping[str, str]) -> None:
    """Train, score and print what came of it; raises PonteError when a run failed."""
    started = time.monotonic()
    # As the superuser: the sources belong to somebody else than Ponte's roles.
    db = Database(admin_database(environ))
    target = _compose(environ) if in_compose(environ) else _local(environ)
    _say("Loading the demo data: the flights out of New York in 2013")
    print(f"    {flights.load(db.url.render_as_string(hide_password=False))}")
    with db.begin() as connection:
        roles.open_source(connection, "flights")
    with connect(target.ui_url, user="admin", password=target.admin_password) as api:
        _train(api)
        _score(api)
    _report(db)
    print(f"\nDone in {time.monotonic() - started:.0f} s. The stack is still running:\n{target.hints}")


def _local(environ: Mapping[str, str]) -> Target:
    settings = as_running(Settings.from_environment(environ))
    return Target(
        ui_url=settings.ui_url,
        admin_password=load_or_create(settings.secrets_file).admin_password,
        hints=f"""\
  Airflow UI   {settings.ui_url}   user admin; `./ponte password` prints the password
  report       {settings.ui_url}/ponte/report/{MODEL}/1   of version 1, after the login
  SQL          ./ponte psql        then: SELECT * FROM predictions.{MODEL}_latest ORDER BY score DESC LIMIT 10;
  stop         ./ponte down        the data stay; `./ponte up` goes on with them""",
    )


def _compose(environ: Mapping[str, str]) -> Target:
    missing = [name for name in ("PONTE_UI_URL", "AIRFLOW_ADMIN_PASSWORD") if not environ.get(name)]
    if missing:
        raise PonteError("the stack is not described", where="environment", expected=", ".join(missing))
    return Target(
        ui_url=environ["PONTE_UI_URL"],
        admin_password=environ["AIRFLOW_ADMIN_PASSWORD"],
        hints=f"""\
  Airflow UI   the port that docker compose publishes, by default http://localhost:8080; user admin, password in .env
  report       /ponte/report/{MODEL}/1 there   of version 1, after the login
  stop         docker compose --profile "*" down   the data stay; `docker compose up -d --wait` goes on with them""",
    )


def _train(api: AirflowApi) -> None:
    dag_id, run_id = f"{MODEL}__train", f"demo__{TRAIN_AS_OF}"
    _say(f"Training {MODEL} as of {TRAIN_AS_OF}: DAG {dag_id}")
    api.wait_for_dag(dag_id)
    api.run(dag_id, run_id, {"as_of": TRAIN_AS_OF})
    _follow(api, dag_id, run_id)


def _score(api: AirflowApi) -> None:
    dag_id = f"{MODEL}__score"
    _say(f"Scoring the four weeks of October 2013: Airflow backfill of DAG {dag_id}")
    api.wait_for_dag(dag_id)
    api.backfill(dag_id, first=FIRST_INTERVAL, last=LAST_INTERVAL, max_active_runs=2)
    deadline = time.monotonic() + 120
    interval = {"logical_date_gte": FIRST_INTERVAL, "logical_date_lte": LAST_INTERVAL}
    while len(runs := api.runs(dag_id, **interval)) < WEEKS:
        if time.monotonic() > deadline:
            raise PonteError("the backfill made too few runs", got=str(len(runs)), expected=str(WEEKS))
        time.sleep(1)
    for run in runs:
        print(f"    week from {run['data_interval_end'][:10]}")
        _follow(api, dag_id, run["dag_run_id"])


def _follow(api: AirflowApi, dag_id: str, run_id: str) -> None:
    def tell(task: dict[str, Any]) -> None:
        shard = f" [{task['rendered_map_index']}]" if task.get("rendered_map_index") else ""
        print(f"    {task['state']:<8} {task['task_id']}{shard}  {task['duration'] or 0:.1f} s", flush=True)

    if api.wait_for_run(dag_id, run_id, seconds=MINUTES_30, on_task=tell) != "success":
        failed = [t for t in api.tasks(dag_id, run_id) if t["state"] == "failed"]
        logs = "\n".join(f"--- log of {t['task_id']}\n{api.log_tail(dag_id, run_id, t)}" for t in failed)
        raise PonteError(f"a run failed\n{logs}", where=f"DAG {dag_id}, run {run_id}", fix=AGAIN)


def _report(db: Database) -> None:
    _say("Versions")
    _table(
        db,
        "SELECT version, champion, round((metrics->>'roc_auc')::numeric, 3) AS holdout_auc, train_rows, holdout_rows, "
        f"trained_as_of::date AS as_of FROM ponte.version_overview WHERE model = '{MODEL}' ORDER BY version",
    )
    _say("What the gate said of the newest version")
    _table(
        db,
        "SELECT rule, got, expected, CASE WHEN passed THEN 'yes' ELSE 'NO' END AS passed FROM ponte.gate_rule "
        f"WHERE verdict_id = (SELECT max(verdict_id) FROM ponte.gate_verdict WHERE model = '{MODEL}') "
        "ORDER BY position",
    )
    _say("Batches: what was published")
    _table(
        db,
        "SELECT window_start, window_end, rows_frozen AS rows, version, round(seconds::numeric, 1) AS seconds "
        f"FROM ponte.batch_overview WHERE published AND model = '{MODEL}' ORDER BY window_start",
    )
    _say("The ten riskiest flights of the last week, and what happened to them")
    _table(db, (_HERE / "riskiest.sql").read_text(encoding="utf-8"))
    _say("How good were the predictions? Realised ROC AUC, now that the outcomes are known")
    print(tabulate(_realised(db), headers=["week", "flights", "late", "auc"], floatfmt=".3f"))


def _realised(db: Database) -> Sequence[tuple[Any, ...]]:
    """Return (week, flights that arrived, share late, AUC) per published week."""
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    with db.begin() as connection:
        found = pd.read_sql(sa.text((_HERE / "realised.sql").read_text(encoding="utf-8")), connection)
    return [
        (week, len(rows), rows["label"].mean(), roc_auc_score(rows["label"], rows["score"]))
        for week, rows in found.groupby("window_start")
    ]


def _table(db: Database, query: str) -> None:
    with db.begin() as connection:
        result = connection.execute(sa.text(query))
        print(tabulate(result.all(), headers=list(result.keys()), disable_numparse=True))


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)
