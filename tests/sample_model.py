"""A small shop: who will come back? Data, model folders, and both flows as plain functions.

3 500 visits over ten weeks from Monday 2024-01-01, 50 a day, the same in every session. Six weeks train (two of them
are the holdout), the weeks from 2024-02-12 on are scored.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.checking import check_batch
from ponte.batches.freezing import freeze_batch
from ponte.batches.lifecycle import Batch
from ponte.decisions import promotion, rollback, verdicts
from ponte.decisions.rollback import Rollback
from ponte.decisions.rules import Verdict
from ponte.model.folders import ModelFolder, get_folder
from ponte.model.windows import Window, matured_windows, midnight, window_starting
from ponte.monitoring.labels import Reading, read_labels
from ponte.monitoring.realised import measure
from ponte.publishing import janitor, pointer
from ponte.publishing.pointer import Publication
from ponte.publishing.staging import guard_batch
from ponte.quality import comparison
from ponte.scoring.plan import plan_shards
from ponte.scoring.shards import score_shard
from ponte.scoring.window import stage_window
from ponte.snapshots import parquet
from ponte.snapshots.checking import check_snapshot
from ponte.snapshots.freezing import freeze_snapshot
from ponte.snapshots.lifecycle import Snapshot
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.runs import Run
from ponte.training import versioning
from ponte.versions import aliases, marks, registry
from ponte.versions.aliases import Alias
from ponte.versions.registry import Version

#: When training runs, and the first day of the first window to score.
AS_OF = midnight(dt.date(2024, 2, 12))
WEEK = dt.date(2024, 2, 12)
NEXT_WEEK = dt.date(2024, 2, 19)
#: Far enough from the data to be empty.
EMPTY_WEEK = dt.date(2024, 6, 3)
NOW = dt.datetime(2024, 2, 12, 6, tzinfo=dt.UTC)
#: Long after every window.
LATER = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
VISITS_PER_WEEK = 350
#: Numbers the promotions by hand: the second of one run would be a retry of the first.
_BY_HAND = itertools.count(1)

_DATA = """
CREATE SCHEMA shop;
CREATE FUNCTION shop.random(n bigint, salt text) RETURNS float8 LANGUAGE sql IMMUTABLE
    RETURN ('x' || substr(md5(n || salt), 1, 7))::bit(28)::integer / 268435456.0;
CREATE TABLE shop.visit (
    visit_id  bigint PRIMARY KEY,
    day       date NOT NULL,
    shop      text,
    items     integer,
    price     numeric(8, 2),
    distance  float8,
    member    boolean,
    returned  boolean NOT NULL,
    spent     float8 NOT NULL,
    known_at  timestamptz NOT NULL
);
INSERT INTO shop.visit
SELECT n, day, shop, items, price, distance, member, noise < 1 / (1 + exp(-wish)), 20 + 15 * wish + 10 * noise,
       (day + 3)::timestamptz
FROM (
    SELECT *, -1 + 0.4 * coalesce(items, 3) - 0.8 * ln(1 + coalesce(distance, 3)) + 1.5 * coalesce(member, false)::int
              + coalesce(shop = 'mill', false)::int AS wish
    FROM (
        SELECT n, date '2024-01-01' + (n / 50)::integer AS day,
               (ARRAY['mill', 'quay', 'park', NULL])[1 + floor(4 * shop.random(n, 'shop'))::int] AS shop,
               CASE WHEN shop.random(n, 'i?') > 0.05 THEN floor(8 * shop.random(n, 'items'))::int END AS items,
               round((5 + 60 * shop.random(n, 'price'))::numeric, 2) AS price,
               CASE WHEN shop.random(n, 'd?') > 0.1 THEN 12 * shop.random(n, 'distance') END AS distance,
               CASE WHEN shop.random(n, 'm?') > 0.2 THEN shop.random(n, 'member') > 0.5 END AS member,
               shop.random(n, 'noise') AS noise
        FROM generate_series(0, 3499) AS n
    ) AS raw
) AS wished;
"""

FEATURES_SQL = """\
-- Visits of the window, with the share of returns per shop as it was known at as_of.
WITH rate AS (
    SELECT shop, round(avg(returned::int), 6)::float8 AS rate FROM shop.visit
    WHERE known_at <= CAST(:as_of AS timestamptz) GROUP BY shop
)
SELECT v.visit_id, v.shop, v.items, v.price, v.distance, v.member, r.rate AS shop_rate
FROM shop.visit v LEFT JOIN rate r USING (shop)
WHERE v.day >= CAST(:window_start AS date) AND v.day < CAST(:window_end AS date)
"""

LABELS_SQL = """\
SELECT visit_id, {label} AS label, known_at AS labelled_at
FROM shop.visit
WHERE day >= CAST(:window_start AS date) AND day < CAST(:window_end AS date)
"""

ESTIMATOR = '''\
"""Linear model behind the usual preparation."""

from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import {kind}
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = ["items", "price", "distance", "member", "shop_rate"]


def build_estimator():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["shop"]), (numbers, NUMBERS))
    return make_pipeline(columns, {kind}())
'''

MODEL_TOML = """\
description = "Will the visitor come back?"
owner = "tests"
task = "{task}"
key = {key}
promotion = "{promotion}"
[training]
windows = 6
holdout_windows = 2
minimum_holdout_rows = {minimum_holdout_rows}
{training}
[scoring]
shard_rows = {shard_rows}
chunk_rows = {chunk_rows}
empty = "{empty}"
[evaluation]
baseline_by = "shop"
resamples = {resamples}
{evaluation}
[gate]
metric = "{metric}"
{bound}
{gate}
{checks}
"""

_TASKS = {
    "binary": {"label": "returned::int", "kind": "LogisticRegression", "metric": "roc_auc", "bound": "minimum = 0.6"},
    "multiclass": {
        "label": "CASE WHEN spent < 20 THEN 'low' WHEN spent < 40 THEN 'some' ELSE 'much' END",
        "kind": "LogisticRegression",
        "metric": "log_loss",
        "bound": "maximum = 1.05",
    },
    "regression": {"label": "spent", "kind": "Ridge", "metric": "mae", "bound": "maximum = 40.0"},
}
_SETTINGS = {
    "key": '["visit_id"]',
    "minimum_holdout_rows": 200,
    "shard_rows": 1_000_000,
    "chunk_rows": 65_536,
    "empty": "reject",
    "promotion": "auto",
    "resamples": 200,
    "training": "",
    "evaluation": "",
    "gate": 'champion_indistinguishable = "promote"',
    "checks": "",
}


def load_visits(db: Database) -> None:
    """Make schema `shop` with its visits."""
    with db.begin() as connection:
        connection.exec_driver_sql(_DATA)


def write_model(
    root: Path, name: str = "visits", *, task: str = "binary", files: Mapping[str, str] | None = None, **settings: Any
) -> ModelFolder:
    """Write a model folder and return it; `settings` fill MODEL_TOML, `files` replace whole files."""
    chosen = {**_TASKS[task], **_SETTINGS, "task": task, **settings}
    path = root / name
    path.mkdir(exist_ok=True)
    texts = {
        "model.toml": MODEL_TOML.format(**chosen),
        "features.sql": FEATURES_SQL,
        "labels.sql": LABELS_SQL.format(**chosen),
        "estimator.py": ESTIMATOR.format(**chosen),
        "README.md": "# Visits\n",
        **(files or {}),
    }
    for file, text in texts.items():
        (path / file).write_text(text, encoding="utf-8")
    return get_folder(root, name)


def run_named(run: str | Run) -> Run:
    """Return the run; where a test names one by its id alone, that is its key too."""
    return run if isinstance(run, Run) else Run(run, run)


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What one training run came to."""

    snapshot: Snapshot
    version: Version
    verdict_id: int
    verdict: Verdict
    alias: Alias | None


@dataclass(frozen=True, kw_only=True)
class World:
    """All that a run needs; every step of both flows as a method."""

    db: Database
    store: ArtifactStore
    folder: ModelFolder

    # ------------------------------------------------------------ training

    def windows(self, as_of: dt.datetime = AS_OF) -> list[Window]:
        """Return the windows that a training run at `as_of` learns from."""
        spec = self.folder.spec
        delay = spec.training.label_delay_days
        return matured_windows(spec.window, as_of=as_of, count=spec.training.windows, label_delay_days=delay)

    def snapshot(self, *, run_id: str | Run, as_of: dt.datetime = AS_OF) -> Snapshot:
        """Freeze, check and write a snapshot."""
        frozen = freeze_snapshot(self.db, self.folder, self.windows(as_of), as_of=as_of, run=run_named(run_id))
        check_snapshot(self.db, self.folder, frozen.snapshot_id)
        return parquet.write_snapshot(self.db, self.store, frozen.snapshot_id)

    def fit(self, snapshot_id: int, *, run_id: str | Run) -> Version:
        """Train on a written snapshot."""
        name = run_named(run_id).id
        return versioning.train(self.db, self.store, self.folder, snapshot_id, run_id=name, code_revision="test")

    def judge(self, version: int, snapshot_id: int, *, run_id: str | Run) -> tuple[int, Verdict]:
        """Evaluate a version and ask the gate."""
        comparison.evaluate(self.db, self.store, self.folder, version, snapshot_id)
        return verdicts.judge(self.db, self.folder, version, snapshot_id, run=run_named(run_id))

    def train(self, *, run_id: str | Run, as_of: dt.datetime = AS_OF, promote: bool = True) -> TrainingRun:
        """Run the whole training flow."""
        written = self.snapshot(run_id=run_id, as_of=as_of)
        version = self.fit(written.snapshot_id, run_id=run_id)
        verdict_id, verdict = self.judge(version.version, written.snapshot_id, run_id=run_id)
        alias = promotion.promote(self.db, verdict_id, actor=run_named(run_id).id) if promote else None
        return TrainingRun(snapshot=written, version=version, verdict_id=verdict_id, verdict=verdict, alias=alias)

    # ------------------------------------------------------------ scoring

    def freeze(
        self, *, run_id: str | Run, week: dt.date = WEEK, now: dt.datetime = LATER, allow_hindsight: bool = False
    ) -> Batch:
        """Claim the window and freeze its rows."""
        window = window_starting(self.folder.spec.window, week)
        run = run_named(run_id)
        return freeze_batch(self.db, self.folder, window, run=run, now=now, allow_hindsight=allow_hindsight)

    def check(self, batch_id: int) -> None:
        """Evaluate the checks."""
        check_batch(self.db, self.folder, batch_id)

    def score(self, batch_id: int) -> int:
        """Plan and score every shard; return the number of rows."""
        shards = plan_shards(self.db, self.folder, batch_id)
        return sum(score_shard(self.db, self.store, self.folder, batch_id, s, now=NOW) for s in shards)

    def guard(self, batch_id: int) -> int:
        """Stage the batch."""
        return guard_batch(self.db, self.folder, batch_id)

    def publish(self, batch_id: int, *, run_id: str = "somebody") -> Publication:
        """Flip the pointer."""
        return pointer.publish(self.db, batch_id, actor=run_id, reason="test")

    def clean(self, batch_id: int) -> bool:
        """Drop what nobody needs any more; tell whether there was anything."""
        return janitor.tidy(self.db, self.folder)["dropped_tables"] > 0

    def run(self, *, run_id: str | Run, week: dt.date = WEEK, until: str = "clean") -> Batch:
        """Run the scoring flow up to and including the step `until`; return the batch as it is then."""
        batch = self.freeze(run_id=run_id, week=week)
        for step in STEPS[1 : STEPS.index(until) + 1]:
            getattr(self, step)(batch.batch_id)
        return batches.get_batch(self.db, batch.batch_id)

    # ------------------------------------------------------------ monitoring

    def monitor(self, *, now: dt.datetime) -> list[Reading]:
        """Read the labels at a moment and measure; return what was read."""
        readings = read_labels(self.db, self.folder, now=now)
        measure(self.db, self.folder)
        return readings

    # ------------------------------------------------------------ deciding

    def roll_back(
        self,
        version: int,
        *,
        run_id: str | Run,
        windows: Sequence[dt.date] = (),
        every_window: bool = False,
        mark_bad: bool = False,
        allow_bad: bool = False,
        allow_hindsight: bool = False,
    ) -> Rollback:
        """Plan a rollback, score what it needs, and carry it out."""
        plan = rollback.plan_rollback(
            self.db,
            self.store,
            self.folder,
            version,
            windows=windows,
            every_window=every_window,
            allow_bad=allow_bad,
            allow_hindsight=allow_hindsight,
            now=LATER,
        )
        for day in plan.rescore:
            stage_window(
                self.db,
                self.store,
                self.folder,
                version,
                dt.date.fromisoformat(day),
                run=run_named(run_id),
                now=NOW,
                allow_hindsight=allow_hindsight,
            )
        run = run_named(run_id)
        done = rollback.roll_back(
            self.db, plan, run=run, actor="a person", reason="test", mark_bad=mark_bad, allow_bad=allow_bad
        )
        janitor.tidy(self.db, self.folder, retention=False)
        return done

    def mark(self, version: int, mark: marks.Mark, *, run_id: str | Run) -> None:
        """Mark a version."""
        run = run_named(run_id)
        marks.mark_version(self.db, self.folder.name, version, mark, run=run, actor="a person", reason="test")

    def set_champion(self, version: int, *, run_id: str | Run | None = None, allow_bad: bool = False) -> Alias:
        """Make a version champion by hand, by default in a run of its own."""
        found = registry.get_version(self.db, self.folder.name, version)
        return promotion.set_champion(
            self.db,
            found,
            run=run_named(run_id or f"by hand {next(_BY_HAND)}"),
            actor="a person",
            reason="test",
            allow_bad=allow_bad,
        )

    # ------------------------------------------------------------ looking

    def ask(self, query: str, **parameters: object) -> Any:
        """Return the one value of a query."""
        return self.rows(query, **parameters)[0][0]

    def rows(self, query: str, **parameters: object) -> list[Any]:
        """Return the rows of a query as tuples."""
        with self.db.begin() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query), parameters)]

    def execute(self, statement: str, **parameters: object) -> int:
        """Change something; return how many rows."""
        with self.db.begin() as connection:
            return connection.execute(sa.text(statement), parameters).rowcount

    def with_model(self, **changes: Any) -> World:
        """Return a world whose model folder was written anew with other settings or files."""
        return replace(self, folder=write_model(self.folder.path.parent, self.folder.name, **changes))

    def published_checksum(self, week: dt.date = WEEK, score: str = "score") -> str:
        """Return a checksum of what readers see of a week: keys, predictions and scores, by default to the last bit."""
        return self.ask(
            f"SELECT count(*) || ':' || coalesce(md5(string_agg(concat_ws('|', visit_id, prediction, {score}), ',' "
            f"ORDER BY visit_id)), '') FROM predictions.{self.folder.name} WHERE window_start = :week",
            week=week,
        )

    def champion(self) -> Version:
        """Return the champion."""
        return aliases.champion(self.db, self.folder.name)

    def data_tables(self) -> list[str]:
        """Return the names of the tables that hold rows in ponte_data."""
        query = "SELECT relname FROM pg_class WHERE relnamespace = 'ponte_data'::regnamespace AND relkind = 'r'"
        return [row[0] for row in self.rows(f"{query} ORDER BY 1")]


#: The scoring flow, as methods of World; all but `freeze` take the id of the batch.
STEPS = ("freeze", "check", "score", "guard", "publish", "clean")
#: What a test may do to a world before a run.
Change = Callable[[World], object]
