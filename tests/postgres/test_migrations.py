"""The schema: made once, by whoever comes first; documented; append-only where history is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.postgres.children import process_of
from tests.sample_model import FEATURES_SQL, LATER, NEXT_WEEK, WEEK, World, load_visits
from upath import UPath

from ponte import migrations, promotion
from ponte.artifacts import ArtifactStore
from ponte.database import Database
from ponte.versions import METRICS_FILE, REPORT, artifact_facts, read_files

CATALOG = (
    "SELECT string_agg(format('%s %s %s %s', n.nspname, c.relname, c.oid, c.xmin), ',' ORDER BY c.oid) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^(pg_|information_schema)'"
)


def _ask(db: Database, query: str) -> list[tuple[object, ...]]:
    with db.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_an_upgrade_of_an_upgraded_database_changes_nothing(db: Database) -> None:
    before = _ask(db, CATALOG)
    migrations.upgrade(str(db.url.render_as_string(hide_password=False)))

    assert _ask(db, CATALOG) == before
    assert "ponte batch " in str(before)


def test_upgrades_at_once_all_succeed(empty_url: str) -> None:
    """In processes, because Alembic keeps its state in globals."""
    processes = [process_of(migrations.upgrade, empty_url) for _ in range(4)]
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    assert _ask(Database(empty_url), "SELECT version_num FROM ponte.schema_version") == [("0002",)]


def test_every_table_view_function_and_column_for_people_has_a_comment(trained: World) -> None:
    """Alembic's own table too; a model's table and views are made by its first run."""
    trained.run(run_id="r")
    relations = (
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname IN ('ponte', 'predictions') AND c.relkind IN ('r', 'p', 'v')"
    )
    bare = f"SELECT n.nspname, c.relname, c.relkind::text {relations} AND obj_description(c.oid, 'pg_class') IS NULL"
    bare_columns = (
        "SELECT n.nspname, c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace {relations.partition('n.oid = c.relnamespace ')[2]} "
        "AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL"
    )
    bare_functions = (
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'ponte'::regnamespace "
        "AND obj_description(p.oid, 'pg_proc') IS NULL"
    )
    assert trained.ask(f"SELECT count(*) {relations}") > 15
    assert trained.rows(bare) == []
    assert trained.rows(bare_columns) == []
    assert trained.rows(bare_functions) == []


@pytest.mark.parametrize(
    "table", ["alias_event", "publication_event", "gate_verdict", "version", "version_mark", "approval"]
)
@pytest.mark.parametrize(
    "statement", ["UPDATE ponte.{0} SET {1} = {1}", "DELETE FROM ponte.{0}", "TRUNCATE ponte.{0} CASCADE"]
)
def test_history_refuses_changes_even_from_its_owner(trained: World, table: str, statement: str) -> None:
    trained.run(run_id="r")
    trained.mark(1, "not bad", run_id="m")
    promotion.record_approval(trained.db, 1, "approved", run_id="a", actor="a person", reason="test", answered_at=LATER)
    count = f"SELECT count(*) FROM ponte.{table}"
    before = trained.ask(count)

    with pytest.raises(sa.exc.DBAPIError, match=f"ponte.{table} is append-only"):
        trained.execute(statement.format(table, "verdict_id" if table == "approval" else "model"))
    assert trained.ask(count) == before > 0


# ---------------------------------------------------------------- from revision 0001

#: What the model `visits` had at revision 0001 beside its versions: one published row, seen through a view of then.
OLD_BATCH = """
INSERT INTO ponte.claim (model, window_start, epoch, run_id) VALUES ('visits', '2024-02-12', 1, 'old');
INSERT INTO ponte.batch (model, window_start, window_end, as_of, run_id, epoch, version, status, row_count,
                         prediction_table)
VALUES ('visits', '2024-02-12', '2024-02-19', '2024-02-12', 'old', 1, 1, 'staged', 1, 'visits__prediction_1');
CREATE TABLE ponte.prediction_visits (
    batch_id bigint NOT NULL, window_start date NOT NULL, visit_id bigint NOT NULL, prediction bigint NOT NULL,
    score double precision NOT NULL CONSTRAINT score_is_probability CHECK (score BETWEEN 0 AND 1),
    scored_at timestamp with time zone NOT NULL, PRIMARY KEY (batch_id, visit_id)
) PARTITION BY LIST (batch_id);
CREATE TABLE ponte_data.visits__prediction_1 PARTITION OF ponte.prediction_visits FOR VALUES IN (1);
INSERT INTO ponte.prediction_visits VALUES (1, '2024-02-12', 2100, 1, 0.75, '2024-02-12 06:00+00');
INSERT INTO ponte.published (model, window_start, batch_id, epoch) VALUES ('visits', '2024-02-12', 1, 1);
CREATE VIEW predictions.visits AS
    SELECT p.window_start, p.visit_id, p.prediction, p.score, p.scored_at, b.version AS model_version, p.batch_id
    FROM ponte.prediction_visits p
    JOIN ponte.published u ON u.batch_id = p.batch_id AND u.window_start = p.window_start
    JOIN ponte.batch b ON b.batch_id = p.batch_id WHERE u.model = 'visits';
CREATE VIEW predictions.visits_latest AS SELECT * FROM predictions.visits
    WHERE window_start = (SELECT max(window_start) FROM ponte.published WHERE model = 'visits');
"""


def of_revision_1(trained: World, url: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world with the same version 1 as its database and its folder were before revision 0002."""
    version = trained.champion()
    store = ArtifactStore(UPath(root))
    files = {name: c for name, c in read_files(trained.store, version).items() if name not in (METRICS_FILE, REPORT)}
    facts = artifact_facts(version.model, version.version, version.libraries, version.signature, version.output)
    with monkeypatch.context() as patch:
        patch.setattr("ponte.artifacts.FORMAT", 1)
        for name in ("classes", "threshold"):
            del facts[name]
        digest = store.write_folder(version.path, files, facts).manifest_sha256
    migrations.upgrade(url, "0001")
    old = replace(trained, db=Database(url), store=store)
    load_visits(old.db)
    numbered = {"snapshot": "snapshot_id", "gate_verdict": "verdict_id", "alias_event": "event_id"}
    for table in ("snapshot", "version", "metric", "gate_verdict", "alias_event"):
        for (row,) in trained.rows(f"SELECT to_jsonb(t) FROM ponte.{table} t"):
            if row.get("slice") or row.get("subject", "candidate").partition(":")[0] not in ("candidate", "baseline"):
                continue
            rules = [{k: v for k, v in rule.items() if k != "evidence"} for rule in row.get("rules", [])]
            changed = {**row, "manifest_sha256": digest, "rules": rules}
            old.execute(
                f"INSERT INTO ponte.{table} OVERRIDING SYSTEM VALUE "
                f"SELECT * FROM jsonb_populate_record(NULL::ponte.{table}, CAST(:row AS jsonb))",
                row=json.dumps(changed),
            )
        if table in numbered:
            old.ask(f"SELECT setval(pg_get_serial_sequence('ponte.{table}', '{numbered[table]}'), 100)")
    with old.db.begin() as connection:
        connection.exec_driver_sql(OLD_BATCH)
    return old


def test_a_database_of_revision_0001_keeps_all_it_has_and_its_champion_scores_on(
    trained: World, empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = of_revision_1(trained, empty_url, tmp_path / "old", monkeypatch)
    tables = ("snapshot", "version", "metric", "gate_verdict", "alias_event", "batch", "published", "claim")

    def rows() -> dict[str, list[dict[str, Any]]]:
        return {t: [r for (r,) in old.rows(f"SELECT to_jsonb(t) FROM ponte.{t} t ORDER BY t::text")] for t in tables}

    before, shown = rows(), old.rows("SELECT * FROM predictions.visits")
    assert all(before.values())
    migrations.upgrade(empty_url)

    new = {
        "snapshot": {"calibration_from": None},
        "version": {"classes": None, "threshold": None, "calibration_rows": 0, "purged_rows": 0},
        "metric": {"slice": "", "low": None, "high": None},
        "batch": {"hindsight": False, "version_reason": None},
    }
    assert rows() == {table: [{**row, **new.get(table, {})} for row in kept] for table, kept in before.items()}
    assert old.rows("SELECT * FROM predictions.visits") == shown
    assert old.rows("SELECT DISTINCT passed, evidence::text FROM ponte.gate_rule") == [(True, None)]

    old.run(run_id="new", week=NEXT_WEEK)
    trained.run(run_id="new", week=NEXT_WEEK)
    seen = "SELECT *, hindsight AS last FROM predictions.visits WHERE window_start = :week"
    assert old.rows(seen, week=WEEK) == [(*shown[0], False, False)]
    assert old.rows("SELECT DISTINCT hindsight FROM predictions.visits_latest") == [(False,)]
    assert old.published_checksum(NEXT_WEEK) == trained.published_checksum(NEXT_WEEK)
    run = old.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}).train(run_id="t")
    assert (run.version.version, run.alias.version) == (2, 2)
    assert old.rows("SELECT value FROM ponte.metric WHERE subject = 'champion:1' AND name = 'readable'") == [(1,)]


@pytest.mark.parametrize(
    ("as_of", "hindsight"),
    [("2024-02-11 23:59:59+00", True), ("2024-02-12 00:00:00+00", False), ("2024-02-12 00:00:01+00", False)],
    ids=["before the train cutoff", "at the train cutoff", "after the train cutoff"],
)
def test_an_old_batch_whose_version_had_seen_later_days_is_marked_hindsight(  # noqa: PLR0917
    trained: World, empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_of: str, hindsight: bool
) -> None:
    """Until then the champion of the moment scored every window; the rows that people see say so afterwards."""
    old = of_revision_1(trained, empty_url, tmp_path / "old", monkeypatch)
    assert trained.champion().train_cutoff.isoformat() == "2024-02-12T00:00:00+00:00"
    old.execute("UPDATE ponte.batch SET as_of = :as_of", as_of=as_of)
    migrations.upgrade(empty_url)

    assert old.rows("SELECT hindsight, version_reason FROM ponte.batch") == [(hindsight, None)]
    assert old.rows("SELECT hindsight FROM ponte.batch_overview") == [(hindsight,)]
