"""Counts of training windows come with the version, counts of a batch with its shards, each once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from tests.sample_model import ESTIMATOR, FEATURES_SQL, VISITS_PER_WEEK, WEEK, World

from ponte.batches import lifecycle as batches
from ponte.counting import reference
from ponte.counting.auditing import audit_query
from ponte.counting.bins import FAMILIES
from ponte.counting.reference import Reference
from ponte.scoring.plan import plan_shards
from ponte.storage.database import quote

FEATURES = ["shop", "items", "price", "distance", "member", "shop_rate"]
WEEKS = [dt.date(2024, 1, 1) + dt.timedelta(days=7 * n) for n in range(6)]
#: What features.sql of the sample returns, and a date, a time and a text that is nobody else's.
MORE_SQL = FEATURES_SQL.replace(
    "SELECT v.visit_id,", "SELECT v.visit_id, v.day, v.day::timestamptz AS at, v.visit_id::text AS card,"
)


def read(world: World, version: int = 1) -> Reference:
    """Return the reference of a version."""
    with world.db.begin() as connection:
        found = reference.read(connection, "visits", version)
    assert found is not None
    return found


def batch_counts(world: World, batch_id: int) -> dict[tuple[str, str], list[int]]:
    """Return the counts of a batch."""
    with world.db.begin() as connection:
        found = reference.batch_counts(connection, batch_id)
    return {key: counts.tolist() for key, counts in found.items()}


def audited(world: World, batch_id: int, version: int = 1) -> dict[tuple[str, str], list[int]]:
    """Return the counts of a batch by SQL, of its frozen rows and its predictions."""
    batch = batches.get_batch(world.db, batch_id)
    names = {"features": batches.frozen_name(batch), "answers": batches.prediction_name(batch)}
    with world.db.begin() as connection:
        bins = reference.read_bins(connection, "visits", version)
        return {
            (family, b.name): connection.exec_driver_sql(
                audit_query(b, quote(*names[family]), as_of=batch.as_of)
            ).one()[0]
            for family in FAMILIES
            for b in bins[family]
        }


@pytest.mark.parametrize(
    ("task", "answers"),
    [
        ("binary", ["prediction", "score"]),
        ("multiclass", ["prediction", "scores[1]", "scores[2]", "scores[3]"]),
        ("regression", ["prediction"]),
    ],
)
def test_every_training_window_and_every_batch_is_counted(world: World, task: str, answers: list[str]) -> None:
    own = world.with_model(task=task, shard_rows=100, chunk_rows=30, files={"features.sql": MORE_SQL})
    own.train(run_id="t")
    found = read(own)
    assert [c.bins.name for c in found.features.columns] == ["day", "at", "card", *FEATURES]
    assert [c.bins.name for c in found.answers.columns] == answers
    assert list(found.features.window_starts) == WEEKS
    assert list(found.features.parts) == ["fitting"] * 4 + ["holdout"] * 2
    assert list(found.answers.window_starts) == WEEKS[4:]
    windows = own.ask("SELECT windows FROM ponte.snapshot")
    rows = {dt.date.fromisoformat(window["window_start"]): window["rows"] for window in windows}
    for family in FAMILIES:
        expected = [rows[start] for start in found[family].window_starts]
        assert all(c.counts.sum(axis=1).tolist() == expected for c in found[family].columns)
        assert all(c.counts.shape[1] == c.bins.size for c in found[family].columns)

    batch = own.run(run_id="s", until="guard")
    assert own.ask("SELECT count(DISTINCT shard) FROM ponte.batch_count") > 1
    counts = batch_counts(own, batch.batch_id)
    assert counts == audited(own, batch.batch_id)
    assert all(sum(of_column) == VISITS_PER_WEEK for of_column in counts.values())


def test_counts_of_a_week_are_stationary(world: World) -> None:
    own = world.with_model(files={"features.sql": MORE_SQL})
    own.train(run_id="t")
    [day] = [c for c in read(own).features.columns if c.bins.name == "day"]
    batch = own.run(run_id="s", until="score")
    assert batch_counts(own, batch.batch_id)["features", "day"] == day.counts[0].tolist()


def test_a_shard_and_its_counts_are_there_together_and_once(trained: World) -> None:
    small = trained.with_model(shard_rows=100)
    batch = small.freeze(run_id="a")
    small.check(batch.batch_id)
    [first, *_] = plan_shards(small.db, small.folder, batch.batch_id)
    small.execute(
        "CREATE TRIGGER late BEFORE INSERT ON ponte.shard FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change()"
    )
    with pytest.raises(Exception, match="append-only"):
        small.score(batch.batch_id)
    assert small.ask("SELECT count(*) FROM ponte.batch_count") == 0
    small.execute("DROP TRIGGER late ON ponte.shard")
    small.score(batch.batch_id)
    once = batch_counts(small, batch.batch_id)
    small.score(batch.batch_id)
    assert batch_counts(small, batch.batch_id) == once == audited(small, batch.batch_id)
    assert first.shards > 1


def test_rows_that_cannot_be_scored_count_as_read_only(trained: World) -> None:
    picky = ESTIMATOR.format(kind="LogisticRegression") + (
        "\n\nclass Picky(LogisticRegression):\n"
        "    def predict_proba(self, X):\n"
        "        found = super().predict_proba(X)\n"
        "        found[X[:, -4] > 100] = float('nan')\n"
        "        return found\n"
    )
    picky = picky.replace("make_pipeline(columns, LogisticRegression())", "make_pipeline(columns, Picky())")
    own = trained.with_model(files={"estimator.py": picky}, checks="[quarantine]\nbudget = 0.5\n")
    trained.execute("UPDATE shop.visit SET price = 99999 WHERE day >= :day AND visit_id % 50 = 0", day=WEEK)
    version = own.train(run_id="picky", promote=False).version.version
    own.set_champion(version)
    batch = own.run(run_id="s", until="score")
    predicted = own.ask("SELECT sum(row_count) FROM ponte.shard WHERE batch_id = :b", b=batch.batch_id)
    totals = {family: set() for family in FAMILIES}
    for (family, _), counts in batch_counts(own, batch.batch_id).items():
        totals[family].add(sum(counts))
    assert predicted < VISITS_PER_WEEK
    assert totals == {"features": {VISITS_PER_WEEK}, "answers": {predicted}}


def test_a_version_of_before_scores_without_counts(trained: World) -> None:
    for table in ("reference_count", "reference_column"):
        trained.execute(f"ALTER TABLE ponte.{table} DISABLE TRIGGER append_only")
        trained.execute(f"DELETE FROM ponte.{table}")
    batch = trained.run(run_id="s")
    with trained.db.begin() as connection:
        assert reference.read(connection, "visits", 1) is None
    assert batch_counts(trained, batch.batch_id) == {}


def test_a_constant_column_is_seen_over_all_shards(trained: World) -> None:
    trained.execute("UPDATE shop.visit SET price = 7.5, distance = NULL, shop = 'gone' WHERE day >= :day", day=WEEK)
    trained.execute("UPDATE shop.visit SET items = 3 WHERE day >= :day AND items IS NOT NULL", day=WEEK)
    trained.execute("UPDATE shop.visit SET items = 4 WHERE visit_id = 2150")
    batch = trained.with_model(shard_rows=100).run(run_id="s", until="score")
    with trained.db.begin() as connection:
        found = reference.constant_columns(connection, batch.batch_id)
    assert found & {("features", name) for name in FEATURES} == {
        ("features", "price"),
        ("features", "shop"),
    } | ({("features", "shop_rate")} & found)
    assert not any(c.constant.any() for c in read(trained).features.columns)


@pytest.mark.parametrize("width", [1000])
def test_a_thousand_columns_are_counted(world: World, width: int) -> None:
    more = ", ".join(f"v.items * {n} AS column_{n}" for n in range(width))
    own = world.with_model(
        files={"features.sql": FEATURES_SQL.replace("v.visit_id,", f"v.visit_id, {more},")},
        evaluation="importance_seconds = 0",  # it would take them all
    )
    own.train(run_id="wide", promote=False)
    own.set_champion(1)
    found = read(own)
    batch = own.run(run_id="s", until="score")
    counts: Any = batch_counts(own, batch.batch_id)
    assert len(found.features.columns) == width + len(FEATURES)
    assert all(np.sum(counts["features", c.bins.name]) == VISITS_PER_WEEK for c in found.features.columns)
