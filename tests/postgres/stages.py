"""One scoring run, stopped before each of its steps: databases to copy, so that a fault costs the step it hits.

The run meets everything that the library does: an earlier window to compare with, an older batch of its own window that
people see and that retention then gives up, tables of a dead run and of a dead training run to sweep, rows that a check
sets aside, rows that the estimator cannot score, two shards, several chunks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.conftest import Cluster
from tests.postgres.children import FLOW, run_step, shards_of
from tests.sample_model import (
    AS_OF,
    ESTIMATOR,
    FEATURES_SQL,
    NEXT_WEEK,
    WEEK,
    World,
    load_visits,
    run_named,
    write_model,
)
from upath import UPath

from ponte.scoring.plan import Shard
from ponte.snapshots.freezing import freeze_snapshot
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database

#: The run that is disturbed.
RUN = "r"

ODD_PRICE = 7.77
_PICKY = ESTIMATOR.replace(
    "def build_estimator():",
    f"""from sklearn.preprocessing import FunctionTransformer


def refuse_odd_prices(rows):
    if (rows["price"] == {ODD_PRICE}).any():
        raise ValueError("an odd price")
    return rows


def build_estimator():""",
).replace("return make_pipeline(columns,", "return make_pipeline(FunctionTransformer(refuse_odd_prices), columns,")

_RULES = """
[quarantine]
budget = 0.2
[guard]
minimum_batches = 1
mean_score_jump = 100.0
class_share_jump = 1.0
freshness_column = "day"
freshness_hours = 1000.0
[retention]
replaced_batches = 0
[[checks]]
expectation = "expect_column_values_to_not_be_null"
column = "items"
on_failure = "quarantine"
[[checks]]
expectation = "expect_table_row_count_to_be_between"
min_value = 1
on_failure = "stop"
"""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The run before each of its steps, and what it leaves when nobody disturbs it."""

    server: Cluster
    #: A world without a database of its own.
    world: World
    #: Names of the databases, by the step that is to come.
    templates: dict[str, str]
    batch_id: int
    shards: list[Shard]
    #: What readers see of the window before the run and after it.
    seen_before: str
    seen_after: str
    after: dict[str, list[str]]

    @contextmanager
    def before(self, step: str) -> Iterator[World]:
        """Yield a private copy of the world as it is before a step."""
        with self.server.database(self.templates[step]) as (name, url):
            # The other tests can do without: a server that crashes may forget what it said was committed.
            self.server.execute(f"ALTER DATABASE {name} SET synchronous_commit = on")
            yield replace(self.world, db=Database(url))

    def arguments(self, step: str) -> tuple[str, int | None]:
        """Return the arguments of `run_step`."""
        return step, None if step == "freeze" else self.batch_id

    def named(self, step: str) -> dict[str, Any]:
        """Return the named arguments of `run_step`."""
        return {"run_id": RUN} | ({"shards": self.shards} if step == "score" else {})

    def assert_readers_see_a_whole_batch(self, world: World) -> None:
        """The older one or the newer one."""
        assert world.published_checksum(NEXT_WEEK) in (self.seen_before, self.seen_after)

    def assert_as_undisturbed(self, world: World) -> None:
        """Compare the world, after the whole run, with that of the undisturbed run, table by table."""
        found = tables(world)
        receipts, expected_receipts = found.pop("receipts"), dict(self.after)["receipts"]
        expected = {name: rows for name, rows in self.after.items() if name != "receipts"}
        assert found.keys() == expected.keys()
        for name, rows in expected.items():
            if checksum(found[name]) != checksum(rows):
                assert found[name] == rows, name
        # A receipt is written after its step has committed: killed in between, it is lost. It is never wrong.
        assert set(receipts) <= set(expected_receipts)


@contextmanager
def prepare(server: Cluster, migrated: str, folder: Path) -> Iterator[Stages]:
    """Make the databases and the artifacts, and drop the databases at the end."""
    (folder / "models").mkdir()
    model = write_model(
        folder / "models",
        shard_rows=200,
        chunk_rows=40,
        checks=_RULES,
        files={
            "estimator.py": _PICKY.format(kind="LogisticRegression"),
            "features.sql": FEATURES_SQL.replace("v.visit_id,", "v.visit_id, v.day,"),
        },
    )
    with ExitStack() as databases:
        name, url = databases.enter_context(server.database(migrated))
        world = World(db=Database(url), store=ArtifactStore(UPath(folder / "artifacts")), folder=model)
        load_visits(world.db)
        world.train(run_id="training")
        world.run(run_id="earlier", week=WEEK)
        world.run(run_id="before", week=NEXT_WEEK)
        world.run(run_id="dead", week=NEXT_WEEK, until="score")
        freeze_snapshot(world.db, model, world.windows(), as_of=AS_OF, run=run_named("dead training"))
        world.snapshot(run_id="newer training")
        world.execute(f"UPDATE shop.visit SET price = {ODD_PRICE} WHERE visit_id IN (2460, 2580, 2750)")
        seen_before = world.published_checksum(NEXT_WEEK)

        templates: dict[str, str] = {}
        batch_id: int | None = None
        for step in FLOW:
            # Great Expectations keeps its connections.
            world.rows("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = :name "
                       "AND pid <> pg_backend_pid() AND backend_type = 'client backend'", name=name)  # fmt: skip
            templates[step], _ = databases.enter_context(server.database(name))
            batch_id = run_step(world, step, batch_id, run_id=RUN)
        assert batch_id is not None
        yield Stages(
            server=server,
            world=world,
            templates=templates,
            batch_id=batch_id,
            shards=shards_of(world, batch_id),
            seen_before=seen_before,
            seen_after=world.published_checksum(NEXT_WEEK),
            after=tables(world),
        )


# ---------------------------------------------------------------- all tables, comparable

_TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attidentity = ''
    AND coalesce(pg_get_expr(d.adbin, d.adrelid), '') NOT IN ('now()', 'clock_timestamp()'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE (n.nspname IN ('ponte', 'ponte_data') AND c.relkind IN ('r', 'p')) OR (n.nspname = 'predictions')
GROUP BY 1, 2 ORDER BY 1, 2
"""

_SHAPES = """
SELECT c.relname, c.relispartition, array_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname)
FROM pg_class c LEFT JOIN pg_constraint k ON k.conrelid = c.oid
WHERE c.relnamespace = 'ponte_data'::regnamespace AND c.relkind = 'r' GROUP BY 1, 2
"""

#: Columns that name a batch, alone or at the end of a relation's name.
_BATCHES = {"batch_id", "previous_batch_id", "closed_by", "frozen_table", "prediction_table", "relation"}
#: Tables of sums and means, in the order of the rows on disk: a server that crashed in a COPY has left
#: pages there, and the last digit may differ.
COMPUTED = {"batch_profile", "estimate", "estimate_sum", "guard_result"}


def tables(world: World, runs: set[str] | None = None) -> dict[str, list[str]]:
    """Return the rows of all tables of Ponte, as texts in order, without what may differ from run to run.

    That is what the database itself numbers or stamps with the time; a batch is called by its run, and the size of what
    was dropped is left out. "receipts" are the steps with their numbers of rows.

    runs : by default the rows of all; else only the rows that belong to no batch, or to one of these runs.
    """
    ids = {str(batch): f"<{run}>" for batch, run in world.rows("SELECT batch_id, run_id FROM ponte.batch")}

    def named(value: Any) -> str:
        return re.sub(r"\d+$", lambda found: ids.get(found[0], found[0]), str(value))

    def mine(name: object) -> bool:
        owner = re.search(r"<(.*)>$", str(name))
        return runs is None or owner is None or owner[1] in runs

    found: dict[str, list[str]] = {}
    for schema, table, columns in world.rows(_TABLES):
        if table in {"receipt", "schema_version"}:
            continue
        rows = []
        for row in world.rows(f'SELECT to_jsonb(t) FROM "{schema}"."{table}" AS t'):
            kept = {name: value for name, value in row[0].items() if name in columns and name != "byte_count"}
            kept |= {name: named(kept[name]) for name in _BATCHES & kept.keys() if kept[name] is not None}
            if "closed_at" in kept:
                kept["closed_at"] = kept["closed_at"] is not None
            if mine(kept.get("batch_id")) and (runs is None or kept.get("run_id", "") in {"", *runs}):
                rows.append(json.dumps(rounded(kept) if table in COMPUTED else kept, sort_keys=True))
        if mine(named(table)):
            found[f"{schema}.{named(table)}"] = sorted(rows)
    shapes = [(named(name), part, re.sub(r"\d+", "N", str(checks))) for name, part, checks in world.rows(_SHAPES)]
    found["shapes"] = sorted(str(shape) for shape in shapes if mine(shape[0]))
    receipts = world.rows("SELECT step, coalesce(batch_id::text, ''), row_count FROM ponte.receipt")
    found["receipts"] = sorted(f"{step} {named(batch)} {rows}" for step, batch, rows in receipts if mine(named(batch)))
    return found


def rounded(value: Any) -> Any:
    """Return the value with its figures cut to 12 digits."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def checksum(rows: list[str]) -> str:
    """Return a checksum of the rows of a table."""
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
