"""A made-up stand of many models over years: Ponte's tables filled by SQL, to look at pages and to measure them.

Nothing in it was ever computed: no artifact, no `predictions.<model>`, no DAG. All numbers follow from the arguments,
so the same arguments give the same stand.

    with database(models=100, windows=156) as url: ...        # a private server, thrown away at the end
    fill(url, models=3, windows=12)                           # in a test: the URL of the fixture `db`

PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.stand [models] [windows] [hostile]
prints the URL of the owner and waits until Ctrl-C.

Models are alike but for KINDS of `n % 20`, n = 1 being the first; what is not listed has nothing special.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

#: What is special about model n, by n % 20.
KINDS = {
    2: "late",  # the newest two windows are not there
    3: "guard",  # the newest batch was rejected by a guard: a person can publish it
    4: "refused",  # the newest version was refused by the gate
    5: "question",  # the newest version waits for an answer
    6: "quality",  # an open alarm about quality
    7: "drift",  # an open alarm about drift, over the last three windows
    8: "rollback",  # the windows 5 and 4 from the end were taken back to the version before
    9: "running",  # the newest batch is being checked
    10: "check",  # the newest batch was rejected by a check
    11: "failed",  # the newest run ended without publishing
    12: "retention",  # only the newest half of the windows is kept
    13: "challenger",  # the newest version is challenger, in a duel
    14: "new",  # its only version was refused: no champion, no batch
    15: "feedback",  # people say that it is wrong
    16: "live",  # it answers requests, too
    17: "drifted",  # an alarm about drift that somebody acknowledged
}
#: Names that would like to be more than a name, for the first models of a hostile stand.
HOSTILE = (
    "<script>document.title='ran'</script>",
    '"><img src=x onerror="document.title=1">',
    "\u202egnp.elif\u202c \u0645\u0631\u062d\u0628\u0627",
    "a/b?c=d&e#f%00",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 400,
)
#: Windows between two versions.
QUARTER = 13
FEATURES = 12

_ANALYZE = sa.text("ANALYZE")


def fill(
    url: str, *, models: int = 100, windows: int = 156, today: dt.date | None = None, hostile: bool = False
) -> None:
    """Fill the empty tables of a migrated database, as its owner.

    windows : weeks of each model, the newest of them the one that holds `today`; None: today.
    hostile : the first models have names of HOSTILE, texts that people see are a megabyte, and 500 columns drift.
    """
    long = "repeat('<b onclick=alert(1)>&amp;', 40000) || " if hostile else ""
    words = {
        "names": _array(HOSTILE if hostile else ()),
        "kinds": _array([KINDS.get(n, "") for n in range(20)]),
        "models": str(models),
        "windows": str(windows),
        "quarter": str(QUARTER),
        "features": str(FEATURES),
        "hostile": str(hostile),
        "today": f"'{today or dt.datetime.now(dt.UTC).date()}'::date",
        "long ||": long,
        "before ||": "'<i>' || " if hostile else "",
    }
    text = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for name, value in words.items():
        text = text.replace(f":{name}", value)
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"options": "-c TimeZone=UTC"})
    with engine.begin() as connection:
        connection.execution_options(no_parameters=True).exec_driver_sql(text)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(_ANALYZE)


def register(models: Sequence[str], *, now: dt.datetime) -> None:
    """Let Airflow's metadata database know the DAGs of these models: on Mondays at six, with tags and owners."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    due = dt.datetime.combine(now.date() - dt.timedelta(days=now.weekday()), dt.time(6), dt.UTC)
    week = dt.timedelta(days=7)
    with create_session() as session:
        session.merge(DagBundleModel(name="stand"))
        session.flush()
        for place, model in enumerate(models):
            for pipeline in ("train", "score"):
                dag = DagModel(dag_id=f"{model}__{pipeline}", bundle_name="stand", owners=f"team {'abc'[place % 3]}")
                dag.is_paused, dag.is_stale, dag.max_active_tasks = place % 20 == 0, False, 16
                dag.has_task_concurrency_limits = False
                dag.next_dagrun_data_interval_start, dag.next_dagrun_create_after = due, due + week
                dag.tags = [
                    DagTag(name=tag, dag_id=dag.dag_id) for tag in ("ponte", model, ("money", "people")[place % 2])
                ]
                session.merge(dag)


def _array(values: tuple[str, ...] | list[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"ARRAY[{quoted}]::text[]"


@contextmanager
def database(
    *, models: int = 100, windows: int = 156, today: dt.date | None = None, hostile: bool = False
) -> Iterator[str]:
    """Yield the owner's URL of a stand on a server of its own, which is thrown away at the end."""
    from tests.conftest import Cluster

    from ponte.schema import provision

    with tempfile.TemporaryDirectory(prefix="ponte-stand-") as folder:
        cluster = Cluster(Path(folder))
        try:
            with cluster.database() as (_, url):
                provision.upgrade(url)
                fill(url, models=models, windows=windows, today=today, hostile=hostile)
                yield url
        finally:
            cluster.stop()


def main(arguments: list[str]) -> None:
    """Print the URL of a stand, and keep it until Ctrl-C."""
    numbers = [int(one) for one in arguments if one.isdigit()]
    models, windows = (numbers + [100, 156][len(numbers) :])[:2]
    started = time.monotonic()
    with database(models=models, windows=windows, hostile="hostile" in arguments) as url:
        print(f"{models} models, {windows} windows each, in {time.monotonic() - started:.0f} s\n{url}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
