"""The schema: made once, by whoever comes first; documented; append-only where history is kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from tests.conftest import Cluster, Template
from tests.postgres.checks.test_quarantine import budget, check
from tests.postgres.children import process_of
from tests.sample_model import EMPTY_WEEK, FEATURES_SQL, LATER, NEXT_WEEK, NOW, WEEK, World, load_visits, run_named
from upath import UPath

from ponte.decisions import approvals
from ponte.errors import BatchRejected
from ponte.model.spec import Retention
from ponte.publishing import pointer, retention
from ponte.schema import migrations, provision, roles
from ponte.scoring import shards
from ponte.scoring.window import stage_window
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.runs import Run
from ponte.versions.loading import METRICS_FILE, REPORT, artifact_facts, read_files

if TYPE_CHECKING:
    from tests.conftest import Cluster

CATALOG = (
    "SELECT string_agg(format('%s %s %s %s', n.nspname, c.relname, c.oid, c.xmin), ',' ORDER BY c.oid), "
    "(SELECT max(xmin::text::bigint) FROM pg_rewrite), (SELECT max(xmin::text::bigint) FROM pg_description) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^(pg_|information_schema)'"
)
#: All that a view of the schema `ponte` is.
VIEWS = (
    "SELECT c.relname, pg_get_viewdef(c.oid), c.relowner::regrole::text, c.reloptions, "
    "(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) AS a), "
    "(SELECT array_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) "
    "FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), "
    "(SELECT array_agg(format('%s %s', d.objsubid, d.description) ORDER BY d.objsubid) FROM pg_description d "
    "WHERE d.objoid = c.oid AND d.classoid = 'pg_class'::regclass) "
    "FROM pg_class c WHERE c.relnamespace = 'ponte'::regnamespace AND c.relkind = 'v' ORDER BY 1"
)
VERSIONS = migrations.FOLDER / "versions"


def _ask(db: Database, query: str) -> list[tuple[object, ...]]:
    with db.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_an_upgrade_of_an_upgraded_database_changes_nothing_and_locks_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make up` asks a database that people and runs are using."""
    before = _ask(db, CATALOG)
    relations = "SELECT format('ponte.%I', relname) FROM pg_class WHERE relnamespace = 'ponte'::regnamespace "
    names = [name for (name,) in _ask(db, f"{relations} AND relkind IN ('r', 'v') AND relname <> 'schema_version'")]
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "200ms")
    with db.begin() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {', '.join(map(str, names))} IN ACCESS EXCLUSIVE MODE")
        connection.exec_driver_sql("LOCK TABLE ponte.schema_version IN SHARE MODE")
        migrations.upgrade(str(db.url.render_as_string(hide_password=False)))

    assert _ask(db, CATALOG) == before
    assert "ponte batch " in str(before)


def test_upgrades_at_once_all_succeed(empty_url: str) -> None:
    """In processes, because Alembic keeps its state in globals."""
    processes = [process_of(migrations.upgrade, empty_url) for _ in range(4)]
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    assert _ask(Database(empty_url), "SELECT version_num FROM ponte.schema_version") == [("0028",)]


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
        approvals.record_approval(
            world.db, 1, "approved", run=run_named("a"), actor="a person", reason="test", answered_at=LATER
        )
        world.run(run_id="again")
        retention.retire(world.db, "visits", Retention(replaced_batches=0))
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


# ---------------------------------------------------------------- views


def test_every_view_has_a_file_and_every_file_is_a_view(db: Database) -> None:
    made = "SELECT relname FROM pg_class WHERE relnamespace = 'ponte'::regnamespace AND relkind IN ('v', 'm')"
    assert {name for (name,) in _ask(db, made)} == {file.stem for file in migrations.VIEWS.glob("*.sql")}
    for file in migrations.VIEWS.glob("*.sql"):
        made_here = re.findall(r"^CREATE .*VIEW .*$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert made_here == [f"CREATE OR REPLACE VIEW ponte.{file.stem} WITH (security_barrier) AS"]


def test_no_revision_since_0005_holds_the_text_of_a_view() -> None:
    late = [file for file in VERSIONS.glob("r*.sql") if file.name > "r0005"]
    assert late
    # Those of a model are made by functions, when it is first asked or scored.
    made = re.compile(r"\bCREATE\b.*\bVIEW\b (?!predictions\.)")
    assert not [file.name for file in late if made.search(file.read_text(encoding="utf-8"))]


def test_a_view_is_made_after_those_it_reads() -> None:
    made = {"a": "TABLE ponte.c", "b": "TABLE ponte.version", "c": "TABLE ponte.b JOIN ponte.b ON ponte.is_bad()"}
    assert migrations.in_order(made) == ["b", "c", "a"]


def test_a_fresh_database_and_one_upgraded_from_revision_0004_have_the_same_views(
    server: Cluster, empty_url: str
) -> None:
    """Text, columns, comments, owner, options and rights."""
    old = Database(empty_url)
    migrations.upgrade(empty_url, "0004")
    views = ", ".join(f"ponte.{name}" for (name, *_) in _ask(old, VIEWS))
    with old.begin() as connection:  # as then: the rights of today are about columns that there are not yet
        connection.exec_driver_sql(f"GRANT SELECT ON {views} TO ponte_analyst")
    before = {row[0]: row[5] for row in _ask(old, VIEWS)}
    migrations.upgrade(empty_url)
    for name in before:
        may = f"SELECT has_table_privilege('ponte_analyst', 'ponte.{name}', 'SELECT')"
        assert _ask(old, may) == [(True,)], "before the rights are given anew: people go on reading"
    roles.grant(old)
    upgraded = _ask(old, VIEWS)
    with server.database() as (_, url):
        provision.upgrade(url)
        fresh = _ask(Database(url), VIEWS)

    assert upgraded == fresh
    assert [row[0] for row in fresh] == sorted(file.stem for file in (VERSIONS.parents[1] / "views").glob("*.sql"))
    assert all("ponte_analyst=r/ponte_owner" in str(row[4]) for row in fresh if row[0] in before)
    # What was there stays in its place, for the views that others have made of these.
    now = {row[0]: list(row[5]) for row in fresh}
    for name, columns in before.items():
        assert now[name][: len(columns)] == columns


def later_revision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a revision that takes a column from a table and from the view that shows it, one view goes, another comes."""
    for name in ("FOLDER", "VIEWS"):
        copy = folder / name
        shutil.copytree(getattr(migrations, name), copy)
        monkeypatch.setattr(migrations, name, copy)
    versions = migrations.FOLDER / "versions"
    newest = max(versions.glob("r*.py"))
    number = newest.name[1:5]
    text = newest.read_text(encoding="utf-8").replace(f'revision = "{number}"', 'revision = "9999"', 1)
    text = re.sub(r"^down_revision = .*$", f'down_revision = "{number}"', text, flags=re.MULTILINE)
    (versions / "r9999_later.py").write_text(text, encoding="utf-8")
    (versions / "r9999_later.sql").write_text(
        "DROP VIEW IF EXISTS ponte.batch_overview, ponte.gate_rule, ponte.lineage, ponte.window_overview; "
        "ALTER TABLE ponte.batch DROP COLUMN version_reason;",
        encoding="utf-8",
    )
    for name in ("gate_rule", "lineage", "window_overview"):  # the last two read the first
        (migrations.VIEWS / f"{name}.sql").unlink()
    overview = migrations.VIEWS / "batch_overview.sql"
    text = overview.read_text(encoding="utf-8").replace(" b.version_reason,", "")
    text = re.sub(r"^COMMENT ON COLUMN ponte.batch_overview.version_reason .*\n", "", text, flags=re.MULTILINE)
    overview.write_text(text, encoding="utf-8")
    (migrations.VIEWS / "a_new_one.sql").write_text(
        "CREATE OR REPLACE VIEW ponte.a_new_one AS SELECT batch_id FROM ponte.batch_overview WHERE published;",
        encoding="utf-8",
    )


def test_a_later_revision_changes_views_of_a_fresh_database_and_of_one_that_is_there(
    db: Database, empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fresh one a view is, until the last revision has run, as an early revision made it."""
    later_revision(tmp_path, monkeypatch)
    databases = (db, Database(empty_url))
    for database in databases:
        migrations.upgrade(database.url.render_as_string(hide_password=False))
        assert _ask(database, "SELECT version_num FROM ponte.schema_version") == [("9999",)]
    there, fresh = ({row[0]: (row[1], row[5], row[6]) for row in _ask(database, VIEWS)} for database in databases)
    assert there == fresh
    stems = {file.stem for file in (VERSIONS.parents[1] / "views").glob("*.sql")}
    assert list(there) == sorted((stems | {"a_new_one"}) - {"gate_rule", "lineage", "window_overview"})
    assert "version_reason" not in str(there)


#: Columns of `ponte.snapshot` that revisions 0007 and 0008 have added.
SINCE_5 = (
    *("champion_event_id", "champion_version", "champion_table", "champion_rows", "champion_why"),
    *("champion_path", "champion_sha256", "champion_byte_count"),
    *("feature_rows", "no_label_rows", "null_label_rows", "late_label_rows", "set_aside_rows"),
)
#: Columns of `ponte.batch` that revisions since 0009 have added.
BATCH_SINCE_9 = ("stopped_in", "waits_since", "slice_table")
#: Columns of `ponte.version` that revisions 0011 and 0021 have added, as they are for versions of before, and the way
#: back of 0011.
IMPORTS = {"origin": "trained", "import_id": None, "interval": None, "half_width": None}
WITHOUT_IMPORTS = (
    "ALTER TABLE ponte.version DROP COLUMN origin CASCADE, DROP COLUMN import_id; DROP TABLE ponte.imported_file"
)


def of_revision_11(world: World) -> None:
    """Take back what the revisions since have made: tables, functions, indexes, columns, and the views of them."""
    since = "".join(file.read_text(encoding="utf-8") for file in VERSIONS.glob("r*.sql") if file.name > "r0012")
    gone = [f"TABLE IF EXISTS ponte.{name}" for name in re.findall(r"^CREATE TABLE ponte\.(\w+)", since, re.MULTILINE)]
    gone += [
        f"FUNCTION IF EXISTS ponte.{name}" for name in re.findall(r"^CREATE FUNCTION ponte\.(\w+)", since, re.MULTILINE)
    ]
    gone += [f"INDEX IF EXISTS ponte.{name}" for name in re.findall(r"^CREATE INDEX (\w+)", since, re.MULTILINE)]
    for kind in gone:
        world.execute(f"DROP {kind} CASCADE")  # some went with others
    for table, changes in re.findall(r"^ALTER TABLE ponte\.(\w+)(.*?);", since, re.MULTILINE | re.DOTALL):
        for column in re.findall(r"ADD COLUMN (\w+)", changes):
            world.execute(f"ALTER TABLE IF EXISTS ponte.{table} DROP COLUMN IF EXISTS {column} CASCADE")
        for constraint in set(re.findall(r"ADD CONSTRAINT (\w+)", changes)) - set(
            re.findall(r"DROP CONSTRAINT (\w+)", changes)
        ):
            world.execute(f"ALTER TABLE ponte.{table} DROP CONSTRAINT IF EXISTS {constraint}")


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
INSERT INTO ponte.publication_event (model, window_start, batch_id, row_count, actor, reason)
VALUES ('visits', '2024-02-12', 1, 1, 'old', 'scored by its run');
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
        patch.setattr("ponte.storage.artifacts.FORMAT", 1)
        for name in ("classes", "threshold", "interval", "half_width"):
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
        "snapshot": {"calibration_from": None, **dict.fromkeys(SINCE_5)},
        "gate_verdict": {"outcome": "passed"},
        "version": {"classes": None, "threshold": None, "calibration_rows": 0, "purged_rows": 0, **IMPORTS},
        "metric": {"slice": "", "low": None, "high": None},
        "batch": {"hindsight": False, **dict.fromkeys(("version_reason", "rejected_by", *BATCH_SINCE_9))},
    }
    for table in ("snapshot", "gate_verdict", "batch"):
        before[table] = [{**row, "run_key": row["run_id"]} for row in before[table]]
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
            if row.get("on_failure") == "quarantine":
                continue  # the checks of values that every model gets came later
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

    since = dict.fromkeys(("rejected_by", *BATCH_SINCE_9))
    new = {"batch": since, "snapshot": dict.fromkeys(SINCE_5), "gate_verdict": {"outcome": "passed"}}
    new["version"] = IMPORTS
    for table, columns in new.items():
        before[table] = [({**row, **columns},) for (row,) in before[table]]
    for table in ("snapshot", "gate_verdict", "batch"):
        before[table] = [({**row, "run_key": row["run_id"]},) for (row,) in before[table]]
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
    assert old.ask("SELECT count(*) FROM ponte.guard_result WHERE batch_id = 2") == 8
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


# ---------------------------------------------------------------- from revision 0004


def of_revision_4(world: World) -> None:
    """Take back what the revisions since have done, and what the code since then keeps."""
    of_revision_5(world)
    [overview] = re.findall(
        r"^CREATE OR REPLACE VIEW ponte\.batch_overview AS.*?;",
        (VERSIONS / "r0003_scoring_at_scale.sql").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    with world.db.begin() as connection:
        connection.exec_driver_sql(
            f"DROP VIEW ponte.batch_overview; ALTER TABLE ponte.batch DROP COLUMN rejected_by; {overview} "
            "UPDATE ponte.batch SET why = NULL WHERE status = 'staged'; "
            "UPDATE ponte.schema_version SET version_num = '0004'"
        )


#: Judged by them, a week that differs a little from the one before is rejected by three guards.
NARROW = """[guard]
columns = "off"
minimum_batches = 1
row_count_minimum = 1.0
mean_score_jump = 1e-9
class_share_jump = 1e-9
"""
TRIPPED = ["row_count", "mean_score", "class_share"]
STOPS = check("expect_table_row_count_to_be_between", "stop", min_value=1000)
DEAR = check("expect_column_values_to_be_between", column="price", max_value=60)


def rejected(world: World, run_id: str, said: str, **settings: Any) -> int:
    """Run the next week; return the number of its batch, which is rejected."""
    with pytest.raises(BatchRejected, match=said):
        world.run(run_id=run_id, **{"week": NEXT_WEEK, **settings})
    return int(world.ask("SELECT batch_id FROM ponte.batch WHERE run_id = :run", run=run_id))


def every_kind_of_batch(trained: World) -> dict[str, int]:
    """Make a batch of each kind that the code can make; return their numbers."""
    found = {"published": trained.run(run_id="published").batch_id}
    found["empty"] = rejected(trained, "empty", "the window is empty", week=EMPTY_WEEK)
    found["check"] = rejected(trained.with_model(checks=STOPS), "check", "expect_table_row_count")
    both = trained.with_model(checks=budget(0.0) + STOPS + DEAR)
    found["check and budget"] = rejected(both, "check and budget", "expect_table_row_count.*would be set aside")
    over = trained.with_model(checks=budget(0.0) + DEAR)
    found["budget in check"] = rejected(over, "budget in check", "rows would be set aside")
    trained = trained.with_model()
    trained.execute("UPDATE shop.visit SET distance = 'Infinity' WHERE day >= :week", week=NEXT_WEEK)
    found["budget in score"] = rejected(trained, "budget in score", "more rows cannot be scored")
    batch = trained.run(run_id="budget in guard", week=NEXT_WEEK, until="check")
    with patch.object(shards, "_budget", lambda *_: 1000):
        trained.score(batch.batch_id)
    found["budget in guard"] = rejected(trained, "budget in guard", "350 of 350 rows were set aside")
    trained.execute("UPDATE shop.visit SET distance = 1 WHERE day >= :week", week=NEXT_WEEK)
    trained.execute("DELETE FROM shop.visit WHERE day >= :week AND visit_id % 9 = 0", week=NEXT_WEEK)
    narrow = trained.with_model(checks=NARROW)
    found["guard"] = rejected(narrow, "guard", "a guard has tripped")
    # A window that a rollback made is never rejected, and yet can be published for a reason.
    back = stage_window(
        narrow.db, narrow.store, narrow.folder, 1, NEXT_WEEK, run=run_named("back"), now=NOW, allow_hindsight=False
    )
    found["of a rollback, asked for"] = back.batch_id
    publish_anyway(narrow, back.batch_id)
    found["of a rollback"] = stage_window(
        narrow.db, narrow.store, narrow.folder, 1, NEXT_WEEK, run=run_named("again"), now=NOW, allow_hindsight=False
    ).batch_id
    found["published anyway"] = rejected(narrow, "published anyway", "a guard has tripped")
    publish_anyway(narrow, found["published anyway"])
    found["superseded"] = trained.run(run_id="superseded", week=NEXT_WEEK, until="score").batch_id
    found["under way"] = trained.run(run_id="under way", week=NEXT_WEEK, until="freeze").batch_id
    return found


def publish_anyway(world: World, batch_id: int) -> None:
    pointer.prepare_publication(world.db, batch_id, model="visits")
    pointer.publish_anyway(world.db, batch_id, model="visits", run_id="p", actor="a person", reason="a holiday")


def test_a_database_of_revision_0004_knows_afterwards_what_rejected_each_batch_and_why(trained: World) -> None:
    """The code writes down what the upgrade finds out; so both have to come to the same."""
    numbers = every_kind_of_batch(trained)
    state = "SELECT batch_id, to_jsonb(b) FROM ponte.batch b"
    written = dict(trained.rows(state))
    kinds = {kind: (written[number]["status"], written[number]["rejected_by"]) for kind, number in numbers.items()}
    assert kinds == {
        "published": ("staged", None),
        "empty": ("rejected", "empty"),
        "check": ("rejected", "check"),
        "check and budget": ("rejected", "check"),
        "budget in check": ("rejected", "budget"),
        "budget in score": ("rejected", "budget"),
        "budget in guard": ("rejected", "budget"),
        "guard": ("rejected", "guard"),
        "of a rollback, asked for": ("staged", None),
        "of a rollback": ("failed", None),
        "published anyway": ("staged", "guard"),
        "superseded": ("failed", None),
        "under way": ("frozen", None),
    }
    why = {kind: written[number]["why"] for kind, number in numbers.items()}
    for kind in ("guard", "published anyway"):
        named = [part.split(":")[0] for part in why[kind].removeprefix("a guard has tripped: ").split("; ")]
        assert named == TRIPPED, "in the order in which they judge"
    assert trained.ask("SELECT count(*) FROM ponte.guard_override") == 2

    of_revision_4(trained)
    assert trained.ask("SELECT why FROM ponte.batch WHERE batch_id = :id", id=numbers["published anyway"]) is None
    provision.upgrade(trained.db.url)
    assert dict(trained.rows(state)) == written
    overview = trained.rows("SELECT batch_id, rejected_by, why FROM ponte.batch_overview ORDER BY 1")
    assert overview == [(n, row["rejected_by"], row["why"]) for n, row in sorted(written.items())]


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'rejected', why = 'x'", "batch_rejected_by_something"),
        ("rejected_by = 'guard', why = NULL", "batch_rejected_for_a_reason"),
        ("status = 'rejected', why = 'x', rejected_by = 'somebody'", "batch_rejected_by_check"),
    ],
    ids=["rejected by nothing", "rejected without a reason", "rejected by something else"],
)
def test_a_batch_is_not_rejected_without_saying_by_what_and_why(trained: World, change: str, constraint: str) -> None:
    trained.run(run_id="r", until="freeze")
    with pytest.raises(sa.exc.IntegrityError, match=constraint):
        trained.execute(f"UPDATE ponte.batch SET {change}")


# ---------------------------------------------------------------- from revision 0005

#: Tables that are unique by run → what they are unique by.
BY_RUN = {
    "snapshot": "model, run_id", "batch": "model, window_start, run_id", "gate_verdict": "model, version, run_id",
    "approval": "verdict_id, run_id, answered_at", "version_mark": "model, version, mark, run_id",
    "rollback": "model, run_id",
}  # fmt: skip


def of_revision_5(world: World) -> None:
    """Take back what the revisions since have done."""
    of_revision_11(world)
    with world.db.begin() as connection:
        connection.exec_driver_sql(
            "DROP VIEW ponte.gate_rule, ponte.version_overview CASCADE; "
            "ALTER TABLE ponte.gate_verdict DROP COLUMN outcome"
        )
        for column in SINCE_5:
            connection.exec_driver_sql(f"ALTER TABLE ponte.snapshot DROP COLUMN {column} CASCADE")
        connection.exec_driver_sql("ALTER TABLE ponte.batch DROP COLUMN stopped_in, DROP COLUMN waits_since")
        connection.exec_driver_sql(WITHOUT_IMPORTS)
    for table, columns in BY_RUN.items():
        name = f"{table}_{columns.replace(', ', '_')}_key"
        world.execute(f"ALTER TABLE ponte.{table} DROP COLUMN run_key, ADD CONSTRAINT {name} UNIQUE ({columns})")
    each = "jsonb_array_elements(windows) WITH ORDINALITY AS e (w, n)"
    counts = f"SELECT jsonb_agg(w - 'features' - 'left_out' ORDER BY n) FROM {each}"
    world.execute(f"UPDATE ponte.snapshot SET windows = coalesce(({counts}), '[]') WHERE status <> 'written'")
    world.execute("UPDATE ponte.schema_version SET version_num = '0005'")


#: A run of then, and the name that it had in the tables after it was cleared.
OF_THEN = ("r", "r#1")


def do_all(world: World, run: Run) -> None:
    """Do, in a run, one thing of each kind that a run does once."""
    world.freeze(run_id=run, week=NEXT_WEEK)
    world.snapshot(run_id=run)
    world.judge(1, 1, run_id=run)
    approvals.record_approval(world.db, 1, "rejected", run=run, actor="a person", reason="test", answered_at=LATER)
    world.mark(1, "other libraries allowed", run_id=run)
    world.roll_back(1, run_id=run)


@pytest.fixture
def of_then(scored: World) -> World:
    """A world of revision 0005."""
    for name in OF_THEN:
        do_all(scored, run_named(name))
        scored.execute("UPDATE ponte.batch SET status = 'frozen', why = NULL WHERE run_id = 'r'")
    of_revision_5(scored)
    return scored


def test_rows_of_revision_0005_get_the_run_id_that_named_them_then_as_key(of_then: World) -> None:
    """Those of a run that was cleared have "#1" in both. History may not be updated, and is not."""
    state = "SELECT to_jsonb(t) FROM ponte.{} t ORDER BY t::text"
    before = {table: of_then.rows(state.format(table)) for table in BY_RUN}
    migrations.upgrade(of_then.db.url.render_as_string(hide_password=False))

    for table, rows in before.items():
        assert set(OF_THEN) <= {row["run_id"] for (row,) in rows}
        then = {"run_key", *rows[0][0]}
        found = [{name: row[name] for name in then} for (row,) in of_then.rows(state.format(table))]
        assert found == [{**row, "run_key": row["run_id"]} for (row,) in rows]
    for table in ("gate_verdict", "approval", "version_mark", "rollback"):
        with pytest.raises(sa.exc.DBAPIError, match=f"ponte.{table} is append-only"):
            of_then.execute(f"UPDATE ponte.{table} SET run_key = 'x'")


def test_after_the_upgrade_runs_of_then_find_their_work_and_others_under_their_id_do_it_anew(of_then: World) -> None:
    migrations.upgrade(of_then.db.url.render_as_string(hide_password=False))
    count = {table: f"SELECT count(*) FROM ponte.{table}" for table in BY_RUN}
    before = {table: of_then.ask(query) for table, query in count.items()}
    for name in OF_THEN:
        do_all(of_then, run_named(name))
    assert {table: of_then.ask(query) for table, query in count.items()} == before

    do_all(of_then, Run("r", "r@2024-02-12T06:00:00.000000+00:00#0"))
    assert {table: of_then.ask(query) - before[table] for table, query in count.items()} == dict.fromkeys(BY_RUN, 1)


@pytest.mark.parametrize(("days", "freed"), [(6, False), (8, True)])
def test_what_dead_runs_of_before_revision_0009_have_left_keeps_nobody_waiting(
    trained: World, days: int, freed: bool
) -> None:
    """A run of the last days may be at work during the upgrade; the others go on when a task of theirs is cleared."""
    for week, run_id in ((NEXT_WEEK, "dead"), (WEEK, "older"), (WEEK, "published")):
        trained.run(run_id=run_id, week=week, until="clean" if run_id == "published" else "check")
    # A step held it when its window was claimed again, so it was passed over.
    trained.execute("UPDATE ponte.batch SET status = 'checked', why = NULL WHERE run_id = 'older'")
    trained.execute("UPDATE ponte.batch SET created_at = now() - make_interval(days => :days)", days=days)
    trained.execute("ALTER TABLE ponte.batch DROP COLUMN stopped_in, DROP COLUMN waits_since")
    of_revision_11(trained)
    trained.execute(WITHOUT_IMPORTS)
    trained.execute("UPDATE ponte.schema_version SET version_num = '0008'")
    migrations.upgrade(trained.db.url.render_as_string(hide_password=False))
    stopped = trained.rows("SELECT run_id, stopped_in FROM ponte.batch WHERE status = 'failed'")
    assert stopped == [("dead", "checked")] * freed
