"""What the scoring benchmark scores: a private server, a table of events, two models trained by Ponte's own flow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import sqlalchemy as sa
from tests.sample_model import AS_OF, WEEK, World
from upath import UPath

from ponte.embedded import cluster, postgres
from ponte.model.folders import get_folder
from ponte.schema import migrations, roles
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database

TRAINING_ROWS = 200_000
TRAINING_WEEKS = 4
#: Ways that need a whole table in memory, and the floor, are measured on at most so many rows.
SAMPLE_ROWS = 5_000_000
_PASSWORD = "bench"  # noqa: S105 - of a server that listens on a private unix socket only

#: Key and features, as features.sql returns them.
COLUMNS = (
    "event_id", "amount", "ratio", "distance", "weight", "delay", "balance", "items", "visits", "age", "hour",
    "region", "channel",
)  # fmt: skip

#: CREATE TABLE AS with volatile functions runs in one process, so the seed gives the same table every time.
_EVENTS = f"""
CREATE TABLE bench.event AS
SELECT raw.*, (random() < 1 / (1 + exp(0.5 - 0.05 * coalesce(visits, 10) + 0.02 * coalesce(distance, 20)
               - 0.5 * (region = 'north')::int - 0.002 * balance - 0.4 * coalesce(channel = 'web', false)::int)))::int
               AS answered
FROM (
    SELECT n AS event_id,
           CASE WHEN n < {TRAINING_ROWS} THEN date '{AS_OF:%Y-%m-%d}' - 1 - (n %% {7 * TRAINING_WEEKS})::int
                ELSE date '{WEEK}' + (n %% 7)::int END AS day,
           round(exp(3 + 2 * random())::numeric, 2)::numeric(10, 2) AS amount,
           random() AS ratio,
           CASE WHEN random() > 0.05 THEN -20 * ln(1 - random()) END AS distance,
           60 + 10 * (random() + random() + random() - 1.5) AS weight,
           CASE WHEN random() > 0.02 THEN 100 * random() END AS delay,
           1000 * (random() - 0.5) AS balance,
           floor(10 * random())::int AS items,
           CASE WHEN random() > 0.03 THEN floor(30 * random())::int END AS visits,
           18 + floor(70 * random())::int AS age,
           floor(24 * random())::int AS hour,
           (ARRAY['north', 'south', 'east', 'west', 'centre', 'coast', 'hills', 'valley', 'island', 'lakes', 'plain',
                  'harbour'])[1 + floor(12 * random())::int] AS region,
           CASE WHEN random() > 0.01
           THEN (ARRAY['web', 'phone', 'shop', 'post', 'agent', 'app'])[1 + floor(6 * random())::int] END AS channel
    FROM generate_series(0::bigint, {TRAINING_ROWS} + %(rows)s - 1) AS n
) AS raw
"""

_FEATURES_SQL = f"""\
SELECT {", ".join(COLUMNS)} FROM bench.event
WHERE day >= CAST(:window_start AS date) AND day < CAST(:window_end AS date)
"""

_LABELS_SQL = """\
SELECT event_id, answered AS label FROM bench.event
WHERE day >= CAST(:window_start AS date) AND day < CAST(:window_end AS date)
"""

_MODEL_TOML = f"""\
description = "Will they answer?"
owner = "bench"
task = "binary"
key = ["event_id"]
[training]
windows = {TRAINING_WEEKS}
holdout_windows = 1
[scoring]
shard_rows = SHARD_ROWS
[evaluation]
resamples = 100
[gate]
metric = "roc_auc"
minimum = 0.55
[[checks]]
expectation = "expect_table_row_count_to_be_between"
min_value = 1000
[[checks]]
expectation = "expect_column_values_to_be_in_set"
column = "channel"
value_set = ["web", "phone", "shop", "post", "agent", "app"]
[[checks]]
expectation = "expect_column_values_to_be_between"
column = "age"
min_value = 18
max_value = 120
"""

_ESTIMATORS = {
    "logistic": '''\
"""Linear model behind the usual preparation."""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def build_estimator():
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["region", "channel"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
    )
    return make_pipeline(columns, LogisticRegression())
''',
    "hgb": '''\
"""Boosted trees; they read NULL as it is."""

from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def build_estimator():
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, ["region", "channel"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=100))
''',
}
ESTIMATORS = tuple(_ESTIMATORS)


@dataclass(frozen=True, kw_only=True)
class Server:
    """The private server of one run of the benchmark."""

    folder: Path
    _server: postgres.Server

    def url(self, database: str) -> str:
        """Return the superuser's URL."""
        return self._server.url(database, postgres.SUPERUSER, _PASSWORD)

    def execute(self, statement: str) -> None:
        """Run one statement outside any transaction."""
        url = sa.make_url(self.url("postgres")).set(drivername="postgresql+psycopg2")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all processes of the server so far, ended ones included."""
        main = cluster.postmaster(self._server.data_dir)
        assert main is not None
        total = sum(main.cpu_times()[:4])  # user, system, and both of the children that have ended
        for process in main.children():
            try:
                total += sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return float(total)


@contextmanager
def private_server() -> Iterator[Server]:
    """Yield an embedded PostgreSQL with the settings of `make up`; it and its data are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, PostgreSQL runs as another user
        try:
            server = Server(folder=folder, _server=postgres.start(folder / "data", superuser_password=_PASSWORD))
            for role in (roles.PROMOTER, roles.MONITOR):  # whom the scorer lets read predictions
                server.execute(f"CREATE ROLE {role}")
            yield server
        finally:
            postgres.stop(folder / "data", mode="immediate")


@contextmanager
def events(server: Server, rows: int) -> Iterator[Database]:
    """Yield a database with `rows` events to score, beside those to train on; it is dropped afterwards.

    `bench.sample` has the columns of features.sql and all of the rows to score, or the first SAMPLE_ROWS.
    """
    name = f"bench_{rows}"
    server.execute(f"CREATE DATABASE {name}")
    try:
        db = Database(server.url(name))
        migrations.upgrade(server.url(name))
        with db.begin() as connection:
            create_events(connection, rows)
            connection.exec_driver_sql(
                f"CREATE TABLE bench.sample AS SELECT {', '.join(COLUMNS)} FROM bench.event "
                f"WHERE event_id >= {TRAINING_ROWS} AND event_id < {TRAINING_ROWS + SAMPLE_ROWS}"
            )
        with db.begin() as connection:
            connection.exec_driver_sql("ANALYZE bench.event")
            connection.exec_driver_sql("ANALYZE bench.sample")
        yield db
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def create_events(connection: sa.Connection, rows: int) -> None:
    """Make the schema `bench` with its table of events, the same for the same number."""
    connection.exec_driver_sql("CREATE SCHEMA bench")
    connection.exec_driver_sql("SELECT setseed(0.5)")
    connection.exec_driver_sql(_EVENTS, {"rows": rows})


def write_folder(folder: Path, estimator: str, *, shard_rows: int, more: str = "") -> None:
    """Write a model folder for the events; `more` stands before the tables of model.toml."""
    folder.mkdir(parents=True)
    texts = {
        "model.toml": more + _MODEL_TOML.replace("SHARD_ROWS", str(shard_rows)),
        "features.sql": _FEATURES_SQL,
        "labels.sql": _LABELS_SQL,
        "estimator.py": _ESTIMATORS[estimator],
        "README.md": "# Benchmark\n",
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


@contextmanager
def trained(server: Server, db: Database, estimator: str, shard_rows: int) -> Iterator[World]:
    """Yield a world whose model `estimator` has a champion, trained on the weeks before the one to score."""
    root = server.folder / "models"
    write_folder(root / estimator, estimator, shard_rows=shard_rows)
    try:
        store = ArtifactStore(UPath(server.folder / "artifacts"))
        world = World(db=db, store=store, folder=get_folder(root, estimator))
        run = world.train(run_id="bench")
        if run.alias is None or not run.verdict.passed:
            raise RuntimeError(f"the gate refused {estimator}: {run.verdict.reason}")
        yield world
    finally:
        shutil.rmtree(root)
        shutil.rmtree(server.folder / "artifacts", ignore_errors=True)
