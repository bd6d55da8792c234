"""The main job on real input: train on 2013 up to the end of September, then score the four weeks of October.

Everything runs in the Airflow that `./ponte up` has started, as an operator would do it in the UI; or in that of
docker compose, when the environment says where (PONTE_UI_URL, AIRFLOW_ADMIN_PASSWORD, PONTE_ADMIN_URL). Can be
repeated: what is there already is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from tabulate import tabulate

from ponte.demo import flights
from ponte.errors import PonteError
from ponte.local.airflow_api import AirflowApi, connect
from ponte.local.stack import admin_database
from ponte.local.status import airflow_of
from ponte.schema import roles
from ponte.storage.database import Database

MINUTES_30 = 1800.0
AGAIN = "correct that; the same command goes on from here"
_HERE = Path(__file__).parent
#: Of flights.departure, so that analysts can say which flight a prediction is about; nothing of how it went.
TIMETABLE = ("departure_id", "scheduled_departure", "carrier", "flight", "origin", "dest")


#: The youngest age of labels that is measured, and what was estimated before any label came.
_QUALITY = """SELECT q.window_start AS week, q.row_count AS rows, q.labelled_rows AS labelled,
    round(q.value::numeric, {digits}) AS value, round(q.low::numeric, {digits}) AS low,
    round(q.high::numeric, {digits}) AS high, round(e.estimated_value::numeric, {digits}) AS estimated
FROM ponte.quality q LEFT JOIN ponte.estimated_quality e USING (batch_id, metric)
WHERE q.model = '{model}' AND q.published AND q.metric = '{metric}' AND q.slice_column = ''
AND q.maturity_days = (SELECT min(maturity_days) FROM ponte.quality WHERE model = '{model}')
ORDER BY q.window_start"""
_DRIFT = """SELECT window_start AS week, family, windows, round(statistic::numeric, 2) AS statistic,
    round("limit"::numeric, 2) AS "limit", state, coalesce(array_to_string(columns, ', '), why) AS columns
FROM ponte.drift WHERE model = '{model}' ORDER BY window_start, family"""
_COST = """SELECT window_start AS week, round(sum(seconds)::numeric, 1) AS seconds,
    round(sum(cpu_seconds)::numeric, 1) AS cpu_seconds, round(max(peak_bytes) / 1e6) AS peak_mb,
    round(sum(estimated_wh)::numeric, 3) AS estimated_wh, round(sum(cpu_seconds_per_1000)::numeric, 2) AS cpu_per_1000
FROM ponte.cost WHERE model = '{model}' AND window_start IS NOT NULL GROUP BY window_start ORDER BY window_start"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """When a model of the demo is trained, and which weeks it scores."""

    model: str
    #: The metric of its gate, and how many decimals of it are worth a look.
    metric: str
    digits: int = 3
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
        roles.let_analysts_read(connection, "flights", "departure", TIMETABLE)
    with connect(target.ui_url, user="admin", password=target.admin_password) as api:
        train(api, FLIGHTS)
        score(api, FLIGHTS)
        monitor(api, FLIGHTS)
    report(db, FLIGHTS)
    _show_flights(db)
    watched(db, FLIGHTS)
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


def monitor(api: AirflowApi, plan: Plan) -> None:
    """Run the monitoring DAG of the model once; raises PonteError when it failed."""
    dag_id, run_id = f"{plan.model}__monitor", f"demo__{plan.train_as_of}"
    say(f"Reading the outcomes, and measuring: DAG {dag_id}")
    api.wait_for_dag(dag_id)
    api.run(dag_id, run_id, {})
    api.follow(dag_id, run_id, seconds=MINUTES_30, fix=AGAIN)


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


def watched(db: Database, plan: Plan) -> None:
    """Print what monitoring says of the published weeks: quality beside its estimate, drift, cost."""
    say(f"How good were the predictions? {plan.metric}, now that the outcomes are known")
    table(db, _QUALITY.format(model=plan.model, metric=plan.metric, digits=plan.digits))
    say("Do these weeks differ from those that the version was trained on?")
    table(db, _DRIFT.format(model=plan.model))
    say("What did they cost?")
    table(db, _COST.format(model=plan.model))


def table(db: Database, query: str) -> None:
    """Print what a query finds."""
    with db.begin() as connection:
        result = connection.execute(sa.text(query))
        print(tabulate(result.all(), headers=list(result.keys()), disable_numparse=True))


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)
