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
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from tabulate import tabulate

from ponte.demo import flights
from ponte.errors import PonteError
from ponte.local.airflow_api import AirflowApi, connect
from ponte.local.stack import admin_database
from ponte.local.status import airflow_of
from ponte.schema import roles
from ponte.storage.database import Database

if TYPE_CHECKING:
    import pandas as pd

MINUTES_30 = 1800.0
AGAIN = "correct that; the same command goes on from here"
_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """When a model of the demo is trained, and which weeks it scores."""

    model: str
    #: The metric of its gate.
    metric: str
    #: The column of its predictions by which they are worth a look.
    order: str
    train_as_of: str
    #: First and last data interval of the score runs, by their beginning; each ends on a Monday.
    first_interval: str
    last_interval: str
    weeks: int
    #: Where these weeks lie, for people.
    period: str


#: The windows begin where the intervals end: 7, 14, 21 and 28 October.
FLIGHTS = Plan(
    model="flight_delay",
    metric="roc_auc",
    order="score",
    train_as_of="2013-09-30",
    first_interval="2013-09-30T00:00:00Z",
    last_interval="2013-10-22T00:00:00Z",
    weeks=4,
    period="October 2013",
)


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
    target = target_of(environ, FLIGHTS)
    say("Loading the demo data: the flights out of New York in 2013")
    print(f"    {flights.load(db.url.render_as_string(hide_password=False))}")
    with db.begin() as connection:
        roles.open_source(connection, "flights")
    with connect(target.ui_url, user="admin", password=target.admin_password) as api:
        train(api, FLIGHTS)
        score(api, FLIGHTS)
    report(db, FLIGHTS)
    _show_flights(db)
    print(f"\nDone in {time.monotonic() - started:.0f} s. The stack is still running:\n{target.hints}")


def target_of(environ: Mapping[str, str], plan: Plan) -> Target:
    """Return the stack that the environment describes, with hints about the model; raises PonteError."""
    return _compose(environ, plan) if in_compose(environ) else _local(environ, plan)


def _local(environ: Mapping[str, str], plan: Plan) -> Target:
    url, password = airflow_of(environ)
    query = f"SELECT * FROM predictions.{plan.model}_latest ORDER BY {plan.order} DESC LIMIT 10;"
    return Target(
        ui_url=url,
        admin_password=password,
        hints=f"""\
  Airflow UI   {url}   user admin; `./ponte password` prints the password
  report       {url}/ponte/report/{plan.model}/1   of version 1, after the login
  SQL          ./ponte psql        then: {query}
  stop         ./ponte down        the data stay; `./ponte up` goes on with them""",
    )


def _compose(environ: Mapping[str, str], plan: Plan) -> Target:
    url, password = airflow_of(environ)
    return Target(
        ui_url=url,
        admin_password=password,
        hints=f"""\
  Airflow UI   the port that docker compose publishes, by default http://localhost:8080; user admin, password in .env
  report       /ponte/report/{plan.model}/1 there   of version 1, after the login
  stop         docker compose --profile "*" down   the data stay; `docker compose up -d --wait` goes on with them""",
    )


def train(api: AirflowApi, plan: Plan) -> None:
    """Run the training DAG of the model once; raises PonteError when it failed."""
    dag_id, run_id = f"{plan.model}__train", f"demo__{plan.train_as_of}"
    say(f"Training {plan.model} as of {plan.train_as_of}: DAG {dag_id}")
    api.wait_for_dag(dag_id)
    api.run(dag_id, run_id, {"as_of": plan.train_as_of})
    api.follow(dag_id, run_id, seconds=MINUTES_30, fix=AGAIN)


def score(api: AirflowApi, plan: Plan) -> None:
    """Score the weeks of the plan by a backfill; raises PonteError when a run failed."""
    dag_id = f"{plan.model}__score"
    say(f"Scoring {plan.weeks} weeks of {plan.period}: Airflow backfill of DAG {dag_id}")
    api.wait_for_dag(dag_id)
    api.backfill(dag_id, first=plan.first_interval, last=plan.last_interval, max_active_runs=2)
    deadline = time.monotonic() + 120
    interval = {"logical_date_gte": plan.first_interval, "logical_date_lte": plan.last_interval}
    while len(runs := api.runs(dag_id, **interval)) < plan.weeks:
        if time.monotonic() > deadline:
            raise PonteError("the backfill made too few runs", got=str(len(runs)), expected=str(plan.weeks))
        time.sleep(1)
    for run in runs:
        print(f"    week from {run['data_interval_end'][:10]}")
        api.follow(dag_id, run["dag_run_id"], seconds=MINUTES_30, fix=AGAIN)


def report(db: Database, plan: Plan) -> None:
    """Print the versions of the model, what the gate said of the newest, and what was published."""
    say("Versions")
    table(
        db,
        f"SELECT version, champion, round((metrics->>'{plan.metric}')::numeric, 3) AS {plan.metric}, train_rows, "
        f"holdout_rows, trained_as_of::date AS as_of FROM ponte.version_overview WHERE model = '{plan.model}' "
        "ORDER BY version",
    )
    say("What the gate said of the newest version")
    table(
        db,
        "SELECT rule, got, expected, CASE WHEN passed THEN 'yes' ELSE 'NO' END AS passed FROM ponte.gate_rule "
        f"WHERE verdict_id = (SELECT max(verdict_id) FROM ponte.gate_verdict WHERE model = '{plan.model}') "
        "ORDER BY position",
    )
    say("Batches: what was published")
    table(
        db,
        "SELECT window_start, window_end, rows_frozen AS rows, version, round(seconds::numeric, 1) AS seconds "
        f"FROM ponte.batch_overview WHERE published AND model = '{plan.model}' ORDER BY window_start",
    )


def _show_flights(db: Database) -> None:
    say("The ten riskiest flights of the last week, and what happened to them")
    table(db, (_HERE / "riskiest.sql").read_text(encoding="utf-8"))
    say("How good were the predictions? Realised ROC AUC, now that the outcomes are known")
    print(tabulate(_realised(db), headers=["week", "flights", "late", "auc"], floatfmt=".3f"))


def _realised(db: Database) -> Sequence[tuple[Any, ...]]:
    """Return (week, flights that arrived, share late, AUC) per published week."""
    from sklearn.metrics import roc_auc_score

    found = frame(db, (_HERE / "realised.sql").read_text(encoding="utf-8"))
    return [
        (week, len(rows), rows["label"].mean(), roc_auc_score(rows["label"], rows["score"]))
        for week, rows in found.groupby("window_start")
    ]


def frame(db: Database, query: str) -> pd.DataFrame:
    """Return what a query finds."""
    import pandas as pd

    with db.begin() as connection:
        return pd.read_sql(sa.text(query), connection)


def table(db: Database, query: str) -> None:
    """Print what a query finds."""
    with db.begin() as connection:
        result = connection.execute(sa.text(query))
        print(tabulate(result.all(), headers=list(result.keys()), disable_numparse=True))


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)
