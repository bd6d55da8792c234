"""The schema: made once, by whoever comes first; documented; append-only where history is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.conftest import Cluster, Template
from tests.postgres.children import process_of
from tests.sample_model import FEATURES_SQL, LATER, NEXT_WEEK, WEEK, World, load_visits
from upath import UPath

from ponte import housekeeping, migrations, promotion
from ponte.artifacts import ArtifactStore
from ponte.database import Database
from ponte.spec import Retention
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
    assert _ask(Database(empty_url), "SELECT version_num FROM ponte.schema_version") == [("0004",)]


def test_every_table_view_function_and_column_for_people_has_a_comment(scored: World) -> None:
    """Alembic's own table too; a model's table and views are made by its first run."""
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
    assert scored.ask(f"SELECT count(*) {relations}") > 15
    assert scored.rows(bare) == []
    assert scored.rows(bare_columns) == []
    assert scored.rows(bare_functions) == []


@pytest.fixture(scope="module")
def eventful_template(
    server: Cluster, scored_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """Every append-only table has a row."""

    def happen(world: World) -> None:
        world.mark(1, "not bad", run_id="m")
        promotion.record_approval(
            world.db, 1, "approved", run_id="a", actor="a person", reason="test", answered_at=LATER
        )
        world.run(run_id="again")
        housekeeping.retire(world.db, "visits", Retention(replaced_batches=0))
        world.execute("INSERT INTO ponte.guard_override (batch_id, run_id, actor, reason) VALUES (2, 'r', 'a', 'why')")

    with scored_template.after(server, tmp_path_factory.mktemp("eventful"), happen) as found:
        yield found


@pytest.fixture
def eventful(server: Cluster, eventful_template: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of it."""
    with eventful_template.copy(server, tmp_path) as world:
        yield world


@pytest.mark.parametrize(
    "table",
    [
        "alias_event", "publication_event", "gate_verdict", "version", "version_mark", "approval", "guard_override",
        "retention_event",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "statement", ["UPDATE ponte.{0} SET {1} = {1}", "DELETE FROM ponte.{0}", "TRUNCATE ponte.{0} CASCADE"]
)
def test_history_refuses_changes_even_from_its_owner(eventful: World, table: str, statement: str) -> None:
    count = f"SELECT count(*) FROM ponte.{table}"
    before = eventful.ask(count)

    with pytest.raises(sa.exc.DBAPIError, match=f"ponte.{table} is append-only"):
        eventful.execute(
            statement.format(table, {"approval": "verdict_id", "guard_override": "reason"}.get(table, "model"))
        )
    assert eventful.ask(count) == before > 0


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


# ---------------------------------------------------------------- from revision 0002

#: What the model `visits` had at revision 0002 beside its version: one published batch of the first week, and one of
#: the second that a run is in the middle of.
TABLES_OF_2 = ("snapshot", "version", "gate_verdict", "alias_event", "claim", "batch", "shard", "published",
               "publication_event", "check_result", "receipt")  # fmt: skip
NUMBERED = {"snapshot": "snapshot_id", "gate_verdict": "verdict_id", "alias_event": "event_id", "batch": "batch_id",
            "publication_event": "event_id", "check_result": "result_id", "receipt": "receipt_id"}  # fmt: skip


def of_revision_2(trained: World, url: str, *, under_way: str) -> World:
    """Return a world as revision 0002 knew it: a published week, and a batch that has got as far as `under_way`.

    The rows are those that the steps of today make, put into the tables of then; the columns of then are the same.
    """
    trained.run(run_id="published")
    trained.run(run_id="under way", week=NEXT_WEEK, until=under_way)
    migrations.upgrade(url, "0002")
    old = replace(trained, db=Database(url))
    load_visits(old.db)
    for table in TABLES_OF_2:
        for (row,) in trained.rows(f"SELECT to_jsonb(t) FROM ponte.{table} t ORDER BY t"):
            old.execute(
                f"INSERT INTO ponte.{table} OVERRIDING SYSTEM VALUE "
                f"SELECT * FROM jsonb_populate_record(NULL::ponte.{table}, CAST(:row AS jsonb))",
                row=json.dumps(row),
            )
        if table in NUMBERED:
            old.ask(f"SELECT setval(pg_get_serial_sequence('ponte.{table}', '{NUMBERED[table]}'), 100)")
    body = (
        "batch_id bigint NOT NULL, window_start date NOT NULL, visit_id bigint NOT NULL, "
        "prediction bigint NOT NULL CONSTRAINT score_is_probability CHECK (score BETWEEN 0 AND 1), "
        "score double precision NOT NULL, scored_at timestamp with time zone NOT NULL"
    )
    view = trained.ask("SELECT pg_get_viewdef('predictions.visits'::regclass)").replace("ponte_data.", "ponte.")
    latest = trained.ask("SELECT pg_get_viewdef('predictions.visits_latest'::regclass)")
    with old.db.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE ponte.prediction_visits ({body}, PRIMARY KEY (batch_id, visit_id)) "
            "PARTITION BY LIST (batch_id); "
            f"CREATE VIEW predictions.visits AS {view}; CREATE VIEW predictions.visits_latest AS {latest}"
        )
    _copy_table(trained, old, "visits__prediction_1", body)
    old.execute("ALTER TABLE ponte_data.visits__prediction_1 ADD PRIMARY KEY (batch_id, visit_id)")
    old.execute(
        "ALTER TABLE ponte.prediction_visits ATTACH PARTITION ponte_data.visits__prediction_1 FOR VALUES IN (1)"
    )
    for table in trained.data_tables():
        if table == "visits__prediction_2":
            _copy_table(trained, old, table, body)
            old.execute(f"ALTER TABLE ponte_data.{table} ALTER batch_id SET DEFAULT 2, "
                        f"ALTER window_start SET DEFAULT '{NEXT_WEEK}'")  # fmt: skip
        elif "frozen" in table:
            columns = trained.ask(
                "SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum) "
                "FROM pg_attribute WHERE attrelid = CAST(:t AS regclass) AND attnum > 0", t=f"ponte_data.{table}"
            )  # fmt: skip
            _copy_table(trained, old, table, columns)
    return old


def _copy_table(source: World, target: World, table: str, columns: str) -> None:
    """Rows in the same order fill the same pages, so that the ranges of the shards fit."""
    target.execute(f"CREATE TABLE ponte_data.{table} ({columns})")
    rows = [row for (row,) in source.rows(f"SELECT to_jsonb(t) FROM ponte_data.{table} t ORDER BY ctid")]
    target.execute(
        f"INSERT INTO ponte_data.{table} SELECT r.* FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS e, "
        f"LATERAL jsonb_populate_record(NULL::ponte_data.{table}, e) AS r",
        rows=json.dumps(rows),
    )


@pytest.mark.parametrize("under_way", ["freeze", "check", "score"])
def test_a_database_of_revision_0002_keeps_what_people_see_and_its_run_goes_on(
    trained: World, empty_url: str, under_way: str
) -> None:
    """The deployment came in the middle of a run: its next step is one of the new code."""
    old = of_revision_2(trained, empty_url, under_way=under_way)
    shown, seen = old.rows("SELECT * FROM predictions.visits ORDER BY visit_id"), old.published_checksum()
    state = "SELECT to_jsonb(t) FROM ponte.{} t ORDER BY t::text"
    before = {t: old.rows(state.format(t)) for t in TABLES_OF_2}
    assert len(shown) == 350
    migrations.upgrade(empty_url)

    assert {t: old.rows(state.format(t)) for t in TABLES_OF_2} == before
    assert old.rows("SELECT * FROM predictions.visits ORDER BY visit_id") == shown
    assert old.rows("SELECT guards_tripped, published_anyway FROM ponte.batch_overview") == [(None, None)] * 2
    nullable = "SELECT attnotnull FROM pg_attribute WHERE attrelid = CAST(:t AS regclass) AND attname = 'score'"
    for table in ("ponte_data.prediction_visits", "ponte_data.visits__prediction_1"):
        assert old.rows(nullable, t=table) == [(False,)], "a classifier without probabilities comes after it"

    old.run(run_id="under way", week=NEXT_WEEK)
    trained.run(run_id="under way", week=NEXT_WEEK)
    assert old.published_checksum(NEXT_WEEK) == trained.published_checksum(NEXT_WEEK)
    assert old.published_checksum() == seen
    assert old.ask("SELECT count(*) FROM ponte.guard_result WHERE batch_id = 2") == 6
    assert old.data_tables() == ["visits__prediction_1", "visits__prediction_2"]


def test_a_model_of_revision_0002_gets_all_that_is_new(trained: World, empty_url: str) -> None:
    """Quarantine, guards, retention and NULL scores on tables that were made before there were any."""
    old = of_revision_2(trained, empty_url, under_way="freeze")
    migrations.upgrade(empty_url)
    quarantine = (
        '[[checks]]\nexpectation = "expect_column_values_to_not_be_null"\ncolumn = "items"\non_failure = "quarantine"\n'
    )
    new = old.with_model(checks=f"[quarantine]\nbudget = 0.2\n[retention]\nreplaced_batches = 0\n{quarantine}")
    missing = new.ask(
        "SELECT count(*) FROM shop.visit WHERE items IS NULL AND day >= :w AND day < CAST(:w AS date) + 7", w=WEEK
    )
    batch = new.run(run_id="new")
    assert new.ask("SELECT count(*) FROM predictions.visits WHERE window_start = :w", w=WEEK) == 350 - missing
    assert new.ask("SELECT count(*) FROM ponte.quarantine WHERE batch_id = :id", id=batch.batch_id) == missing > 0
    assert new.rows("SELECT batch_id FROM ponte.retention_event") == [(1,)]
    assert "visits__prediction_1" not in new.data_tables()

    text = new.folder.text("estimator.py").replace("LogisticRegression", "RidgeClassifier")
    labels = new.with_model(
        files={"estimator.py": text},
        metric="f1",
        bound="minimum = 0.2",
        gate="beats_baseline = false\nchampion_worse = 'promote'\nchampion_indistinguishable = 'promote'",
    )
    version = labels.train(run_id="t").version.version
    labels.set_champion(version)
    labels.run(run_id="labels", week=NEXT_WEEK)
    assert labels.rows(
        "SELECT count(*), count(score) FROM predictions.visits WHERE window_start = :w", w=NEXT_WEEK
    ) == [(350, 0)]
