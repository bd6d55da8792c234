"""Database roles on real PostgreSQL: each can do all of its work, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.door import ponte
from tests.postgres.children import process_of
from tests.postgres.schema.test_migrations import of_revision_4
from tests.sample_model import AS_OF, ESTIMATOR, LATER, NEXT_WEEK, NOW, STEPS, WEEK, World, run_named

from ponte.batches import lifecycle as batches
from ponte.decisions import approvals, promotion, rollback, verdicts
from ponte.decisions import log as decision_log
from ponte.embedded import postgres
from ponte.errors import BatchRejected, PonteError
from ponte.publishing import janitor, pointer
from ponte.publishing.staging import require_conservation
from ponte.quality import comparison
from ponte.schema import migrations, provision, roles
from ponte.scoring.window import stage_window
from ponte.snapshots import parquet
from ponte.snapshots.checking import check_snapshot
from ponte.snapshots.freezing import freeze_snapshot
from ponte.storage.database import Database
from ponte.versions import registry

if TYPE_CHECKING:
    from tests.conftest import Cluster, Template

#: Some tests start servers of their own.
pytestmark = pytest.mark.usefixtures("postgres_programs")


def opened(world: World) -> World:
    """Return the world as a platform has it: the source is somebody else's, and open to those who may read it."""
    world.execute("ALTER SCHEMA shop OWNER TO ponte_owner")
    with world.db.begin() as connection:
        roles.open_source(connection, "shop")
    roles.grant(world.db)  # what concerns the database itself is not copied from a template
    return world


@pytest.fixture
def sources(world: World) -> World:
    """A database as a platform has it."""
    return opened(world)


def as_role(world: World, role: str) -> World:
    """Return the world as a role sees it."""
    return replace(world, db=Database(world.db.url.set(username=role)))


def work(world: World) -> None:
    """Do everything that Ponte does, each step as the role that its operator connects as."""
    sources = opened(world)
    trainer, scorer, promoter = (as_role(sources, r) for r in (roles.TRAINER, roles.SCORER, roles.PROMOTER))
    for run_id in ("first", "second"):
        edited = ESTIMATOR.format(kind="LogisticRegression") + f"# {run_id}\n"  # else it would be the same version
        trainer = trainer.with_model(files={"estimator.py": edited})
        written = trainer.snapshot(run_id=run_id)
        janitor.sweep_snapshots(trainer.db, "visits")
        version = trainer.fit(written.snapshot_id, run_id=run_id)
        comparison.evaluate(trainer.db, trainer.store, trainer.folder, version.version, written.snapshot_id)
        verdict_id, verdict = verdicts.judge(
            promoter.db, promoter.folder, version.version, written.snapshot_id, run=run_named(run_id)
        )
        assert verdict.passed
        approvals.record_approval(
            promoter.db, verdict_id, "approved", run=run_named(run_id), actor="a", reason="b", answered_at=NOW
        )
        promotion.promote(promoter.db, verdict_id, actor=run_id)
    promoter.set_champion(2)
    # A row that a check sets aside.
    sources.execute("UPDATE shop.visit SET price = -1 WHERE visit_id = 2110")
    bad = '[[checks]]\nexpectation = "expect_column_values_to_be_between"\ncolumn = "price"\n'
    bad += 'min_value = 0\non_failure = "quarantine"\n[quarantine]\nbudget = 0.2\n'
    scorer = scorer.with_model(checks=bad + "[guard]\nminimum_batches = 1\n[retention]\nreplaced_batches = 0\n")
    promoter = replace(promoter, folder=scorer.folder)
    scorer.run(run_id="week", week=WEEK)

    # A rollback that scores a window anew; what it replaces is retired.
    plan = rollback.plan_rollback(
        promoter.db, promoter.store, promoter.folder, 1, windows=[WEEK], now=LATER, every_window=False,
        allow_bad=False, allow_hindsight=False,
    )  # fmt: skip
    assert plan.rescore
    stage_window(scorer.db, scorer.store, scorer.folder, 1, WEEK, run=run_named("back"), now=NOW, allow_hindsight=False)
    rollback.roll_back(
        promoter.db, plan, run=run_named("back"), actor="a person", reason="test", mark_bad=False, allow_bad=False
    )
    promoter.set_champion(2)
    promoter.mark(1, "bad", run_id="mark")
    assert janitor.tidy(scorer.db, scorer.folder)["retired_batches"] == 1

    # A batch that a guard rejects, and a person publishes all the same.
    sources.execute("DELETE FROM shop.visit WHERE day >= :day AND visit_id % 5 <> 0", day=NEXT_WEEK)
    with pytest.raises(BatchRejected, match="a guard has tripped"):
        scorer.run(run_id="next", week=NEXT_WEEK)
    batch_id = sources.ask("SELECT max(batch_id) FROM ponte.batch")
    pointer.prepare_publication(scorer.db, batch_id, model="visits")
    pointer.publish_anyway(promoter.db, batch_id, model="visits", run_id="p", actor="a", reason="a holiday")
    janitor.tidy(scorer.db, scorer.folder)


@pytest.fixture(scope="module")
def worked_template(
    server: Cluster, shop_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """A world in which everything was done, once."""
    with shop_template.after(server, tmp_path_factory.mktemp("worked"), work) as found:
        yield found


@pytest.fixture
def worked(server: Cluster, worked_template: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of it."""
    with worked_template.copy(server, tmp_path) as world:
        roles.grant(world.db)
        yield world


def test_the_whole_work_is_done_without_the_owner(worked: World) -> None:
    assert worked.rows("SELECT window_start, count(*) FROM predictions.visits GROUP BY 1 ORDER BY 1") == [
        (WEEK, 349),
        (NEXT_WEEK, 70),
    ]
    assert worked.ask("SELECT count(*) FROM ponte.quarantine WHERE closed_at IS NULL") == 1
    viewer = as_role(worked, roles.VIEWER)
    assert registry.get_version(viewer.db, "visits", 1).version == 1
    assert [d["what"] for d in decision_log.decisions(viewer.db, "visits", 1)][-1] == "marked: bad"
    assert decision_log.newest_rules(viewer.db, "visits", 1)
    # Whoever makes a table owns it.
    owners = dict(
        worked.rows(
            "SELECT relowner::regrole::text, count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v') "
            "AND relnamespace IN ('ponte_data'::regnamespace, 'predictions'::regnamespace) GROUP BY 1"
        )
    )
    assert set(owners) == {roles.SCORER}


def test_an_analyst_reads_predictions_and_the_views(worked: World) -> None:
    analyst = as_role(worked, roles.ANALYST)
    assert analyst.ask("SELECT count(*) FROM predictions.visits") == 349 + 70
    assert analyst.ask("SELECT count(*) FROM predictions.visits_latest") == 70
    assert analyst.ask("SELECT bad FROM ponte.version_overview WHERE version = 1") is True
    assert analyst.ask("SELECT ponte.champion_at('visits', clock_timestamp())") == 2
    assert len(analyst.rows("SELECT * FROM ponte.published_at('visits', clock_timestamp())")) == 2
    for view in ("batch_overview", "champion", "gate_rule"):
        assert analyst.rows(f"SELECT * FROM ponte.{view}")


_COPY_OF_A_CHECK = """(batch_id, snapshot_id, position, expectation, arguments, on_failure, outcome)
    SELECT batch_id, snapshot_id, 99, 'mine', '{}', 'warn', 'passed' FROM ponte.check_result WHERE"""

#: What neither the API nor a worker of the queue may do.
ANSWERING = [
    "SELECT * FROM shop.visit",
    "SELECT * FROM ponte.batch",
    "SELECT * FROM ponte.quarantine",
    "SELECT * FROM ponte.label_seen",
    "SELECT * FROM ponte.snapshot",
    "SELECT * FROM predictions.visits",
    "SELECT * FROM ponte_data.prediction_visits",
    "INSERT INTO ponte.alias_event OVERRIDING SYSTEM VALUE TABLE ponte.alias_event",
    "INSERT INTO ponte.version OVERRIDING SYSTEM VALUE TABLE ponte.version",
    "INSERT INTO ponte.receipt DEFAULT VALUES",
    "UPDATE ponte.published SET batch_id = 1",
    "CREATE TABLE ponte_data.mine (n int)",
    "CREATE TABLE predictions.mine (n int)",
    "CREATE TEMPORARY TABLE mine (n int)",
]
#: What each role must not be able to do, beside what `EVERYBODY` must not.
REFUSED: dict[str, list[str]] = {
    roles.TRAINER: [
        "INSERT INTO ponte.alias_event OVERRIDING SYSTEM VALUE TABLE ponte.alias_event",
        "INSERT INTO ponte.gate_verdict OVERRIDING SYSTEM VALUE TABLE ponte.gate_verdict",
        "INSERT INTO ponte.approval OVERRIDING SYSTEM VALUE TABLE ponte.approval",
        "INSERT INTO ponte.batch OVERRIDING SYSTEM VALUE TABLE ponte.batch",
        "UPDATE ponte.published SET batch_id = 1",
        "UPDATE ponte.batch SET status = 'staged'",
        "UPDATE ponte.metric SET value = 1",
        "UPDATE ponte.version SET path = 'elsewhere'",
        "UPDATE ponte.snapshot SET features_sql = 'SELECT 1'",
        "SELECT content FROM ponte.quarantine",
        "INSERT INTO ponte.quarantine (batch_id, key, reasons, content) VALUES (1, '{}', '[]', '{}')",
        "DELETE FROM ponte.check_result WHERE batch_id IS NOT NULL",
        f"INSERT INTO ponte.check_result {_COPY_OF_A_CHECK} batch_id IS NOT NULL",
        "SELECT * FROM predictions.visits",
        "SELECT * FROM ponte_data.prediction_visits",
        "CREATE TABLE predictions.mine (n int)",
    ],
    roles.SCORER: [
        "INSERT INTO ponte.alias_event OVERRIDING SYSTEM VALUE TABLE ponte.alias_event",
        "INSERT INTO ponte.version OVERRIDING SYSTEM VALUE TABLE ponte.version",
        "INSERT INTO ponte.metric OVERRIDING SYSTEM VALUE TABLE ponte.metric",
        "INSERT INTO ponte.gate_verdict OVERRIDING SYSTEM VALUE TABLE ponte.gate_verdict",
        "INSERT INTO ponte.version_mark OVERRIDING SYSTEM VALUE TABLE ponte.version_mark",
        "INSERT INTO ponte.guard_override OVERRIDING SYSTEM VALUE TABLE ponte.guard_override",
        "UPDATE ponte.guard_result SET outcome = 'passed'",
        "UPDATE ponte.snapshot SET status = 'written'",
        "DELETE FROM ponte.batch",
        "DELETE FROM ponte.quarantine",
        "UPDATE ponte.quarantine SET content = '{}'",
        "UPDATE ponte.quarantine SET snapshot_id = 1, batch_id = NULL",
        "INSERT INTO ponte.quarantine (snapshot_id, key, reasons, content) VALUES (1, '{}', '[]', '{}')",
        "DELETE FROM ponte.check_result WHERE snapshot_id IS NOT NULL",
        f"INSERT INTO ponte.check_result {_COPY_OF_A_CHECK} snapshot_id IS NOT NULL",
    ],
    roles.PROMOTER: [
        "SELECT * FROM shop.visit",
        "INSERT INTO ponte.version OVERRIDING SYSTEM VALUE TABLE ponte.version",
        "INSERT INTO ponte.metric OVERRIDING SYSTEM VALUE TABLE ponte.metric",
        "UPDATE ponte.batch SET version = 1",
        "SELECT content FROM ponte.quarantine",
        "UPDATE ponte.gate_verdict SET passed = true",
        "DELETE FROM ponte.published",
        "UPDATE ponte_data.prediction_visits SET score = 1",
        "DELETE FROM ponte_data.prediction_visits",
        "CREATE TABLE ponte_data.mine (n int)",
        "CREATE TEMPORARY TABLE mine (n int)",
    ],
    roles.MONITOR: [
        "INSERT INTO ponte.version OVERRIDING SYSTEM VALUE TABLE ponte.version",
        "INSERT INTO ponte.metric OVERRIDING SYSTEM VALUE TABLE ponte.metric",
        "INSERT INTO ponte.gate_verdict OVERRIDING SYSTEM VALUE TABLE ponte.gate_verdict",
        "INSERT INTO ponte.alias_event OVERRIDING SYSTEM VALUE TABLE ponte.alias_event",
        "INSERT INTO ponte.batch OVERRIDING SYSTEM VALUE TABLE ponte.batch",
        "UPDATE ponte.batch SET status = 'staged'",
        "UPDATE ponte.published SET batch_id = 1",
        "DELETE FROM ponte.published",
        "UPDATE ponte.claim SET epoch = 9",
        "SELECT content FROM ponte.quarantine",
        "UPDATE ponte_data.prediction_visits SET score = 1",
        "DELETE FROM ponte_data.prediction_visits",
    ],
    **dict.fromkeys((roles.API, roles.STREAM), ANSWERING),
    roles.VIEWER: [
        "SELECT * FROM shop.visit",
        "SELECT * FROM predictions.visits",
        "SELECT * FROM ponte_data.prediction_visits",
        "INSERT INTO ponte.receipt OVERRIDING SYSTEM VALUE TABLE ponte.receipt",
        "UPDATE ponte.claim SET epoch = 9",
        "SELECT content FROM ponte.quarantine",
        "SELECT features FROM ponte.live_unscored",
        "SELECT features FROM ponte.live_count",
        "SELECT features FROM ponte.request",
    ],
    roles.ANALYST: [
        "SELECT * FROM shop.visit",
        "SELECT * FROM ponte.batch",
        "SELECT * FROM ponte.quarantine",
        "SELECT * FROM ponte_data.prediction_visits",
        "CREATE TEMPORARY TABLE mine (n int)",
    ],
    roles.OWNER: [],
}
EVERYBODY = [
    "INSERT INTO shop.visit OVERRIDING SYSTEM VALUE TABLE shop.visit",
    "UPDATE shop.visit SET price = 0",
    "DELETE FROM shop.visit",
    "DROP TABLE shop.visit",
    "CREATE TABLE shop.mine (n int)",
    "CREATE ROLE friend",
    "CREATE DATABASE mine",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT lo_creat(-1)",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_lock_shared(1, 2)",
    "SELECT pg_try_advisory_lock(1, 2)",
    "SELECT pg_try_advisory_lock_shared(1)",
    "SELECT pg_logical_emit_message(false, 'x', 'y')",
]
#: Nobody but the owner.
OWNERS = [
    "DROP TABLE ponte.batch",
    "SELECT pg_terminate_backend(0)",
    "SELECT pg_cancel_backend(0)",
    "ALTER TABLE ponte.version DISABLE TRIGGER append_only",
    "TRUNCATE ponte.publication_event",
    "DELETE FROM ponte.alias_event",
    "CREATE TABLE ponte.mine (n int)",
    "CREATE SCHEMA mine",
    "CREATE TABLE public.mine (n int)",
    "GRANT ponte_scorer TO CURRENT_USER",
    "SET ROLE ponte_owner",
    "DO $$ BEGIN END $$",
    "CREATE FUNCTION ponte_data.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
]


def test_no_role_can_do_what_is_not_its_work(worked: World, server: Cluster) -> None:
    """Each attempt in a transaction that is rolled back: whatever succeeds is a hole, and is named."""
    server.execute("ALTER SCHEMA shop OWNER TO postgres", str(worked.db.url.database))
    server.execute("ALTER TABLE shop.visit OWNER TO postgres", str(worked.db.url.database))
    allowed = []
    for role, statements in REFUSED.items():
        db = as_role(worked, role).db
        for statement in (*statements, *EVERYBODY, *([] if role == roles.OWNER else OWNERS)):
            why = _refusal(db, statement)
            if not re.search(r"permission denied|must be owner", why):
                allowed.append((role, statement, why))
    assert not allowed, "\n".join(map(str, allowed))
    for role in (roles.TRAINER, roles.SCORER, roles.MONITOR):
        assert as_role(worked, role).ask("SELECT count(*) FROM shop.visit") > 0


def _refusal(db: Database, statement: str) -> str:
    """Return what the server says; "done" when it does it, which is taken back."""
    with db.engine.connect().execution_options(
        isolation_level="AUTOCOMMIT" if "DATABASE" in statement else "READ COMMITTED"
    ) as connection:
        try:
            connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            return str(error.orig)
        return "done"


#: Beside SELECT.
MAY_WRITE = {
    roles.TRAINER: {
        "reference_column": "INSERT",
        "reference_count": "INSERT",
        "check_result": "INSERT DELETE",
        "imported_file": "INSERT",
        "metric": "INSERT DELETE",
        "notice": "INSERT",
        "quarantine": "INSERT",
        "receipt": "INSERT",
        "snapshot": "INSERT UPDATE",
        "version": "INSERT",
    },
    roles.SCORER: {
        "batch_count": "INSERT",
        "estimate": "INSERT",
        "estimate_sum": "INSERT",
        "batch": "INSERT UPDATE",
        "batch_profile": "INSERT",
        "check_result": "INSERT DELETE",
        "claim": "INSERT UPDATE",
        "drift_verdict": "INSERT",
        "drift_verdict_column": "INSERT",
        "duel_batch": "INSERT UPDATE",
        "guard_result": "INSERT",
        "live_count": "INSERT",
        "live_dropped": "INSERT",
        "live_unscored": "INSERT",
        "notice": "INSERT",
        "publication_event": "INSERT",
        "published": "INSERT UPDATE DELETE",
        "quarantine": "INSERT UPDATE",
        "receipt": "INSERT",
        "retention_event": "INSERT",
        "shard": "INSERT",
    },
    roles.PROMOTER: {
        "alarm_event": "INSERT",
        "alias_event": "INSERT",
        "approval": "INSERT",
        "batch": "UPDATE",
        "claim": "INSERT UPDATE",
        "gate_verdict": "INSERT",
        "guard_override": "INSERT",
        "normal_event": "INSERT",
        "notice": "INSERT",
        "publication_event": "INSERT",
        "published": "INSERT UPDATE",
        "quarantine": "UPDATE",
        "receipt": "INSERT",
        "rollback": "INSERT",
        "version_mark": "INSERT",
    },
    roles.MONITOR: dict.fromkeys(
        (
            *("alarm_event", "drift_verdict", "drift_verdict_column", "duel_figure", "duel_look"),
            *("label_read", "label_seen", "notice", "notice_sent", "realised", "receipt"),
        ),
        "INSERT",
    )
    | dict.fromkeys(
        ("live_drift_verdict", "live_drift_verdict_column", "live_label_read", "live_label_seen", "live_realised"),
        "INSERT",
    )
    | {"live_count": "DELETE", "live_window": "INSERT UPDATE", "live_window_count": "INSERT UPDATE"},
    roles.API: dict.fromkeys(("live_count", "live_dropped", "live_unscored", "queue_in"), "INSERT"),
    roles.STREAM: {
        **dict.fromkeys(("live_dropped", "live_unscored"), "INSERT"),
        "live_count": "INSERT UPDATE",
        **dict.fromkeys(("stream_progress", "stream_take"), "INSERT DELETE"),
        "queue": "INSERT UPDATE",
        "request": "UPDATE DELETE",
    },
    roles.VIEWER: {},
    roles.ANALYST: {},
}


@pytest.mark.parametrize("role", MAY_WRITE)
def test_the_rights_are_these_and_no_others(db: Database, role: str) -> None:
    """A wider right is a decision: it changes this list."""
    query = f"""
        SELECT c.relname::text, string_agg(p, ' ' ORDER BY place) FROM pg_class c
        CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN'])
                   WITH ORDINALITY AS privilege (p, place)
        WHERE relnamespace = 'ponte'::regnamespace AND relkind IN ('r', 'v')
          AND (has_table_privilege('{role}', c.oid, p)
               OR p IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege('{role}', c.oid, p))
        GROUP BY 1"""
    assert dict(_rows(db.url, query)) == MAY_WRITE[role]


#: Tables and views that every role but the analyst's reads whole.
BOOK_KEEPING = {
    "alias_event", "approval", "batch", "batch_overview", "batch_profile", "champion", "check_result", "claim",
    "gate_rule", "gate_verdict", "guard_override", "guard_result", "imported_file", "metric", "publication_event",
    "published", "receipt", "retention_event", "rollback", "schema_version", "shard", "snapshot", "version",
    "version_mark", "version_overview",
}  # fmt: skip
TASKS = {roles.TRAINER, roles.SCORER, roles.PROMOTER, roles.MONITOR, roles.VIEWER}
ANALYST = {roles.ANALYST}
#: Who answer one by one.
LIVE = {roles.API, roles.STREAM}
#: Who reads what: (whole, some columns). What stands here for nobody is read by nobody but the owner.
MAY_READ: dict[str, tuple[set[str], set[str]]] = {
    **{name: (TASKS, set()) for name in BOOK_KEEPING},
    **dict.fromkeys(("batch_overview", "gate_rule", "version_overview"), (TASKS | ANALYST, set())),
    "champion": (TASKS | ANALYST | LIVE, set()),
    **dict.fromkeys(("alias_event", "schema_version", "version", "version_mark"), (TASKS | LIVE, set())),
    **dict.fromkeys(("api_key", "api_key_revoked"), ({roles.API}, set())),
    "queue_in": ({roles.API}, set()),
    **dict.fromkeys(("request", "stream_take"), ({roles.STREAM}, set())),
    **dict.fromkeys(("queue", "stream_progress"), ({roles.STREAM, roles.PROMOTER, roles.MONITOR, roles.VIEWER}, set())),
    "queue_overview": (TASKS | ANALYST | LIVE, set()),
    **dict.fromkeys(
        ("live_dropped", "live_retired"), ({roles.PROMOTER, roles.MONITOR, roles.VIEWER, roles.ANALYST}, set())
    ),
    "live_unscored": (set(), {roles.MONITOR, roles.VIEWER, roles.ANALYST}),
    "live_feedback": (set(), {roles.MONITOR}),
    "check_result": (TASKS, ANALYST),
    "quarantine": ({roles.SCORER}, TASKS - {roles.SCORER}),
    "label_read": ({roles.PROMOTER, roles.MONITOR, roles.VIEWER}, set()),
    "label_seen": ({roles.MONITOR}, set()),
    "realised": ({roles.PROMOTER, roles.MONITOR, roles.VIEWER}, set()),
    "quality": ({roles.PROMOTER, roles.MONITOR, roles.VIEWER, roles.ANALYST}, set()),
    **dict.fromkeys(("alarm_event", "notice", "notice_overview"), (TASKS, set())),
    "alarm": (TASKS | ANALYST, set()),
    "notice_sent": ({roles.PROMOTER, roles.MONITOR, roles.VIEWER}, set()),
    "challenger": (TASKS | ANALYST, set()),
    "duel_batch": (TASKS - {roles.TRAINER}, set()),
    **dict.fromkeys(("duel", "duel_figure", "duel_look"), ({roles.PROMOTER, roles.MONITOR, roles.VIEWER}, set())),
    "feedback_given": (set(), {roles.MONITOR}),
    "feedback": (TASKS | ANALYST, set()),
    "energy_setting": (TASKS | ANALYST, set()),
    "cost": (TASKS | ANALYST, set()),
    "reference_column": ({roles.SCORER} | LIVE, {roles.MONITOR, roles.VIEWER}),
    "reference_count": ({roles.SCORER, roles.MONITOR}, {roles.VIEWER, roles.API}),
    "batch_count": ({roles.SCORER, roles.MONITOR}, {roles.VIEWER}),
    **dict.fromkeys(("drift_verdict", "drift_verdict_column", "normal_event"), (TASKS, set())),
    **dict.fromkeys(("drift", "drift_column"), (TASKS | ANALYST, set())),
    "live_count": ({roles.MONITOR, roles.STREAM}, {roles.VIEWER}),
    "live_label_seen": ({roles.MONITOR}, set()),
    **dict.fromkeys(
        ("live_window", "live_drift", "live_drift_column"),
        ({roles.PROMOTER, roles.MONITOR, roles.VIEWER, roles.ANALYST}, set()),
    ),
    **dict.fromkeys(
        ("live_window_count", "live_drift_verdict", "live_drift_verdict_column", "live_label_read", "live_realised"),
        ({roles.MONITOR, roles.VIEWER}, set()),
    ),
    "live_quality": ({roles.MONITOR, roles.VIEWER}, ANALYST),
    **dict.fromkeys(
        ("window_overview", "change", "lineage"), ({roles.PROMOTER, roles.MONITOR, roles.VIEWER, roles.ANALYST}, set())
    ),
    "estimate_sum": ({roles.SCORER}, set()),
    "estimate": ({roles.SCORER, roles.MONITOR, roles.VIEWER}, set()),
    "estimated_quality": ({roles.VIEWER, roles.ANALYST}, set()),
}


def test_each_table_is_read_by_these_roles_and_no_others(db: Database) -> None:
    """A wider right is a decision: it changes this list."""
    every = sorted(TASKS | ANALYST | LIVE)
    query = f"""
        SELECT relname::text, role, has_table_privilege(role, oid, 'SELECT') FROM pg_class
        CROSS JOIN unnest(ARRAY[{", ".join(f"'{role}'" for role in every)}]) AS role
        WHERE relnamespace = 'ponte'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
          AND has_any_column_privilege(role, oid, 'SELECT')"""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for name, role, whole in _rows(db.url, query):
        found.setdefault(name, (set(), set()))[0 if whole else 1].add(role)
    assert found == MAY_READ


#: Called by functions of their owner only.
INNER = {"give_up_requests", "make_live_months", "put_request", "refuse_request", "require_room"}


def test_every_table_and_view_is_named_in_the_list_of_rights_and_no_right_is_for_all_of_them(db: Database) -> None:
    """Whoever adds one decides who reads it: nothing is granted, or forgotten, by being there."""
    text = (Path(roles.__file__).with_name("grants.sql")).read_text(encoding="utf-8")
    statements = re.sub(r"--.*", "", text)
    assert not re.search(r"GRANT[^;]*ON ALL (TABLES|FUNCTIONS|ROUTINES|SEQUENCES)", statements)
    assert not re.search(r"DEFAULT PRIVILEGES[^;]*IN SCHEMA ponte\b", statements)
    granted = set(re.findall(r"\bponte\.(\w+)", " ".join(re.findall(r"GRANT[^;]*;", statements))))
    tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'ponte'::regnamespace AND relkind IN ('r', 'v')"
    functions = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'ponte'::regnamespace "
    functions += "AND prorettype <> 'trigger'::regtype"
    there = {name for query in (tables, functions) for (name,) in _rows(db.url, query)}
    assert sorted(there - granted - INNER) == []
    assert sorted(granted - there) == [], "it is gone"


def test_no_function_can_be_called_by_a_role_that_it_was_not_granted_to(db: Database) -> None:
    """Every new function is open to everybody: one with its owner's rights must not be."""
    query = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'ponte'::regnamespace "
    query += "AND has_function_privilege('public', oid, 'EXECUTE')"
    assert _rows(db.url, query) == []


def test_a_right_that_somebody_gave_by_hand_ends_with_the_next_upgrade(worked: World) -> None:
    worked.execute("GRANT DELETE ON ponte.published TO ponte_viewer")
    provision.upgrade(worked.db.url)
    assert worked.ask("SELECT has_table_privilege('ponte_viewer', 'ponte.published', 'DELETE')") is False


def test_who_reads_predictions_runs_nothing_that_the_scorer_has_written(worked: World) -> None:
    scorer, promoter, monitor = (as_role(worked, r) for r in (roles.SCORER, roles.PROMOTER, roles.MONITOR))
    batch = batches.get_batch(promoter.db, promoter.ask("SELECT max(batch_id) FROM ponte.published"))
    table = ".".join(batches.prediction_name(batch))
    count = f"SELECT count(*) FROM {table}"
    assert promoter.ask(count) == monitor.ask(count) > 0
    scorer.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    scorer.execute(f"CREATE POLICY mine ON {table} USING (pg_backend_pid() > 0)")
    for reader in (promoter, monitor):
        with pytest.raises(sa.exc.DBAPIError, match="would be affected by row-level security"):
            reader.ask(count)
    scorer.execute(f"DROP POLICY mine ON {table}")
    scorer.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    run_by = "set_config('search_path', 'predictions', false)"
    scorer.execute(f"CREATE VIEW {table} AS SELECT * FROM ponte_data.elsewhere WHERE {run_by} <> ''")
    scorer.execute(f"GRANT SELECT ON {table} TO ponte_promoter")
    with pytest.raises(PonteError, match="the predictions are no table"), promoter.db.begin() as connection:
        require_conservation(connection, batch)


def test_nobody_who_decides_reads_what_was_frozen(sources: World) -> None:
    """Before a check has set the bad rows aside, they are all in there."""
    sources.set_champion(sources.train(run_id="t").version.version)
    as_role(sources, roles.SCORER).run(run_id="r", until="freeze")
    [[table]] = sources.rows("SELECT 'ponte_data.' || frozen_table FROM ponte.batch")
    assert as_role(sources, roles.SCORER).rows(f"SELECT * FROM {table} LIMIT 1")
    for when in ("before an upgrade", "after it"):
        if when == "after it":
            provision.upgrade(sources.db.url)
        for role in (roles.TRAINER, roles.PROMOTER, roles.MONITOR, roles.VIEWER, roles.ANALYST):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                as_role(sources, role).rows(f"SELECT * FROM {table} LIMIT 1")


def test_a_table_that_its_owner_adds_to_a_source_is_open_too(sources: World) -> None:
    sources.execute("CREATE TABLE shop.later AS SELECT 1 AS n")
    assert as_role(sources, roles.TRAINER).ask("SELECT n FROM shop.later") == 1


def test_what_a_version_is_scored_with_stands_for_good_once_it_is_written(worked: World) -> None:
    """Even for who may change it before: the trainer, and the owner."""
    for role in (roles.TRAINER, roles.OWNER):
        with pytest.raises(sa.exc.DBAPIError, match=r"ponte\.snapshot is append-only"):
            as_role(worked, role).execute("UPDATE ponte.snapshot SET path = 'elsewhere' WHERE snapshot_id = 1")


def test_a_name_that_another_role_has_written_down_gives_it_nothing(worked: World) -> None:
    """The owner of a table does not follow from what a row says, once it has one of the new owners."""
    trainer = as_role(worked, roles.TRAINER)
    trainer.execute(
        "INSERT INTO ponte.snapshot (model, run_id, run_key, as_of, windows, holdout_from, frozen_table, features_sql, "
        "labels_sql, spec_digest) "
        "SELECT model, 'greedy', 'greedy', as_of, windows, holdout_from, 'prediction_visits', '', '', '' "
        "FROM ponte.snapshot LIMIT 1"
    )
    provision.upgrade(worked.db.url)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        trainer.ask("SELECT count(*) FROM ponte_data.prediction_visits")
    assert as_role(worked, roles.ANALYST).ask("SELECT count(*) FROM predictions.visits") == 349 + 70


@pytest.mark.parametrize("name", ["prediction_visits", "visits__prediction_1"])
def test_a_table_in_the_place_of_the_scorers_is_not_touched(sources: World, name: str) -> None:
    trainer, scorer = as_role(sources, roles.TRAINER), as_role(sources, roles.SCORER)
    sources.train(run_id="t")
    trainer.execute(f"CREATE TABLE ponte_data.{name} (n int)")
    trainer.execute(f"GRANT ALL ON ponte_data.{name} TO ponte_scorer")
    with pytest.raises(PonteError, match="is somebody else's"):
        scorer.run(run_id="r")


def test_a_view_of_somebody_else_among_the_predictions_disturbs_no_upgrade(worked: World, server: Cluster) -> None:
    server.execute("CREATE VIEW predictions.weekly AS SELECT 1 AS n", str(worked.db.url.database))
    provision.upgrade(worked.db.url)


def test_an_upgrade_lets_readers_pass_and_is_tried_again(scored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while it waits for a long query queues behind it, so it lets go, and begins anew."""
    of_revision_3(scored)
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "200ms")
    revisions = []
    with scored.db.engine.connect() as reader:

        def read_meanwhile(_: float) -> None:
            revisions.append(scored.ask("SELECT version_num FROM ponte.schema_version"))
            assert scored.ask("SELECT count(*) FROM predictions.visits") == 350
            reader.rollback()

        monkeypatch.setattr("ponte.storage.database.time.sleep", read_meanwhile)
        reader.exec_driver_sql("SELECT count(*) FROM predictions.visits")  # in the way of the migration
        provision.upgrade(scored.db.url)
        scored.execute("ALTER VIEW predictions.visits OWNER TO ponte_owner")
        reader.exec_driver_sql("SELECT count(*) FROM predictions.visits")  # in the way of the grants
        provision.upgrade(scored.db.url)
    assert revisions == ["0003", "0028"]


def test_no_two_of_the_working_roles_can_act_for_one_another(server: Cluster, migrated: str) -> None:
    members = "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members "
    members += "WHERE roleid::regrole::text ~ '^ponte'"
    found = _rows(server.url(migrated, roles.OWNER), members)
    assert {tuple(row) for row in found} == {
        (roles.READER, roles.TRAINER),
        (roles.READER, roles.SCORER),
        (roles.READER, roles.MONITOR),
        (roles.ENQUEUER, roles.API),
        (roles.TRAINER, roles.OWNER),
        (roles.SCORER, roles.OWNER),
        (roles.MONITOR, roles.OWNER),
    }
    attributes = "SELECT rolname FROM pg_roles WHERE rolname ~ '^ponte' "
    attributes += "AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls)"
    assert _rows(server.url(migrated, roles.OWNER), attributes) == []


def _rows(url: str, query: str) -> list[Any]:
    with Database(url).begin() as connection:
        return list(connection.exec_driver_sql(query))


# ---------------------------------------------------------------- provisioning


@contextmanager
def new_server() -> Iterator[str]:
    """Yield the URL of the superuser of a server on which nothing has been made yet."""
    folder = Path(tempfile.mkdtemp(prefix="ponte-fresh-"))
    try:
        server = postgres.start(folder / "data", superuser_password="pw", options={"fsync": "off"})  # noqa: S106
        yield server.url("postgres", "postgres", "pw")
    finally:
        postgres.stop(folder / "data", mode="immediate")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def fresh() -> Iterator[str]:
    """URL of the superuser of a server of this module's own."""
    with new_server() as url:
        yield url


def environment(admin_url: str, **changes: str) -> dict[str, str]:
    passwords = {f"{role.upper()}_PASSWORD": f"secret of {role} $%'\\" for role in roles.LOGINS}
    return {"PONTE_ADMIN_URL": admin_url, "AIRFLOW_DB_PASSWORD": "a", **passwords, **changes}


def provisioned(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> int:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return ponte("provision")


def test_one_command_makes_a_server_ready_and_a_second_one_changes_nothing(
    fresh: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = environment(fresh)
    assert provisioned(monkeypatch, environ) == 0
    state = (
        "SELECT (SELECT json_agg(r ORDER BY rolname) FROM pg_authid r)::text, "
        "(SELECT json_agg((datname, datdba, datacl) ORDER BY datname) FROM pg_database)::text"
    )
    acl = (
        "SELECT json_agg((relname, relacl) ORDER BY oid)::text FROM pg_class WHERE relnamespace = 'ponte'::regnamespace"
    )
    inside = str(sa.make_url(fresh).set(database="ponte").render_as_string(hide_password=False))
    before = (_rows(fresh, state), _rows(inside, acl))
    assert provisioned(monkeypatch, environ) == 0
    assert (_rows(fresh, state), _rows(inside, acl)) == before
    for role in roles.LOGINS:
        url = sa.make_url(fresh).set(database="ponte", username=role, password=environ[f"{role.upper()}_PASSWORD"])
        assert _rows(url, "SELECT current_user") == [(role,)]
        with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
            _rows(url.set(database="airflow"), "SELECT 1")
    assert _rows(fresh, "SELECT datlocprovider FROM pg_database WHERE datname = 'ponte'") == [("b",)]
    assert capsys.readouterr().out.count("PostgreSQL is ready for Ponte") == 2


def test_a_changed_password_counts_from_the_next_run_on(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provisioned(monkeypatch, environment(fresh)) == 0
    assert provisioned(monkeypatch, environment(fresh, PONTE_ANALYST_PASSWORD="another")) == 0  # noqa: S106
    url = sa.make_url(fresh).set(database="ponte", username=roles.ANALYST, password="another")  # noqa: S106
    assert _rows(url, "SELECT 1") == [(1,)]
    with pytest.raises(sa.exc.OperationalError, match="password authentication failed"):
        _rows(url.set(password=environment(fresh)["PONTE_ANALYST_PASSWORD"]), "SELECT 1")


def test_a_password_is_set_where_the_server_asks_nobody_who_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any password works there, so that one works says nothing; other machines are asked."""
    with new_server() as url:
        with sa.create_engine(
            Database(url).url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        ).connect() as admin:
            file = Path(admin.exec_driver_sql("SHOW hba_file").scalar_one())
            asking = file.read_text()
            file.write_text("local all all trust\nhost all all all trust\n")
            admin.exec_driver_sql("SELECT pg_reload_conf()")
        assert provisioned(monkeypatch, environment(url)) == 0
        assert provisioned(monkeypatch, environment(url, PONTE_ANALYST_PASSWORD="another")) == 0  # noqa: S106
        file.write_text(asking)
        _rows(url, "SELECT pg_reload_conf()")
        analyst = sa.make_url(url).set(database="ponte", username=roles.ANALYST, password="another")  # noqa: S106
        assert _rows(analyst, "SELECT 1") == [(1,)]


def test_a_server_of_before_there_was_a_monitor_gets_the_role_and_its_rights(
    fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = environment(fresh)
    assert provisioned(monkeypatch, environ) == 0
    ponte_database = sa.make_url(fresh).set(database="ponte")
    with sa.create_engine(Database(ponte_database).url, isolation_level="AUTOCOMMIT").connect() as admin:
        admin.exec_driver_sql("DROP OWNED BY ponte_monitor CASCADE")
        admin.exec_driver_sql("DROP ROLE ponte_monitor")
    owner = ponte_database.set(username=roles.OWNER, password=environ["PONTE_OWNER_PASSWORD"])
    with pytest.raises(PonteError, match="database roles are missing") as caught:
        provision.upgrade(owner)
    assert "ponte_monitor" in str(caught.value)
    assert provisioned(monkeypatch, environ) == 0
    monitor = ponte_database.set(username=roles.MONITOR, password=environ["PONTE_MONITOR_PASSWORD"])
    assert _rows(monitor, "SELECT count(*) FROM ponte.batch") == [(0,)]
    assert _rows(monitor, "SELECT pg_has_role('ponte_reader', 'USAGE'), current_setting('row_security')") == [
        (True, "off")
    ]


def test_a_role_of_somebody_else_keeps_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with new_server() as url:
        with sa.create_engine(
            Database(url).url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        ).connect() as admin:
            admin.exec_driver_sql("CREATE ROLE airflow LOGIN PASSWORD 'of another airflow'")
        assert provisioned(monkeypatch, environment(url)) == 1
        assert "the server has roles of others" in capsys.readouterr().err
        other = sa.make_url(url).set(username="airflow", password="of another airflow")  # noqa: S106
        assert _rows(other, "SELECT 1") == [(1,)]
        environ = environment(url, AIRFLOW_DB_PASSWORD="of another airflow")  # noqa: S106
        assert provisioned(monkeypatch, environ) == 0, "with its password it is taken for ours"


def test_an_administrator_need_not_be_a_superuser(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a managed server: it may create databases and roles, and nothing else."""
    with new_server() as url:
        with sa.create_engine(Database(url).url, poolclass=sa.NullPool).begin() as connection:
            connection.exec_driver_sql("CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'pw'")
        environ = environment(sa.make_url(url).set(username="manager").render_as_string(hide_password=False))
        assert provisioned(monkeypatch, environ) == 0
        assert provisioned(monkeypatch, environ) == 0, "and again"


def test_a_database_that_was_open_to_all_is_closed_and_one_of_somebody_else_is_refused(
    fresh: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert provisioned(monkeypatch, environment(fresh)) == 0
    with sa.create_engine(Database(fresh).url, isolation_level="AUTOCOMMIT").connect() as admin:
        admin.exec_driver_sql("GRANT TEMPORARY ON DATABASE airflow TO PUBLIC")
        assert provisioned(monkeypatch, environment(fresh)) == 0
        open_ = "SELECT count(*) FROM pg_database, aclexplode(datacl) a WHERE datname = 'airflow' AND a.grantee = 0"
        assert admin.exec_driver_sql(open_).scalar_one() == 0
        admin.exec_driver_sql("ALTER DATABASE airflow OWNER TO postgres")
        assert provisioned(monkeypatch, environment(fresh)) == 1
        assert "the database airflow is somebody else's" in capsys.readouterr().err
        admin.exec_driver_sql("ALTER DATABASE airflow OWNER TO airflow")


def test_no_password_and_nothing_made_of_one_is_printed_when_the_server_refuses(
    fresh: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert provisioned(monkeypatch, environment(fresh)) == 0
    analyst = sa.make_url(fresh).set(
        username=roles.ANALYST, password=environment(fresh)["PONTE_ANALYST_PASSWORD"]
    ).render_as_string(hide_password=False)  # fmt: skip
    assert provisioned(monkeypatch, environment(analyst, PONTE_VIEWER_PASSWORD="new")) == 1  # noqa: S106
    said = "".join(capsys.readouterr())
    assert "permission denied" in said
    assert "SCRAM" not in said
    assert "secret of" not in said


def test_the_documented_statements_close_a_database_as_provisioning_does(server: Cluster, empty_url: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "roles.md").read_text(encoding="utf-8")
    [statements] = re.findall(r"```sql\n(REVOKE USAGE ON LANGUAGE.*?)```", text, flags=re.DOTALL)
    rights = "SELECT array_agg(lanname || lanacl::text ORDER BY lanname) FROM pg_language UNION ALL "
    rights += (
        "SELECT array_agg(oid::regprocedure || proacl::text ORDER BY oid) FROM pg_proc "
        "WHERE proname ~ '^(lo_|pg_(try_)?advisory|pg_terminate|pg_cancel|pg_logical)'"
    )
    server.execute("CREATE DATABASE by_hand TEMPLATE template0")
    try:
        server.execute(statements, "by_hand")
        assert _rows(server.url("by_hand"), rights) == _rows(empty_url, rights)
        assert roles.OWNER in str(_rows(empty_url, rights))
    finally:
        server.execute("DROP DATABASE by_hand WITH (FORCE)")


def test_provisions_at_once_all_succeed() -> None:
    with new_server() as url:
        processes = [process_of(_provision, environment(url)) for _ in range(6)]
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 6


def _provision(environ: dict[str, str]) -> None:
    os.environ.update(environ)
    provision.provision(os.environ)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("PONTE_ADMIN_URL",), "no administrator to connect as"),
        (("PONTE_SCORER_PASSWORD", "AIRFLOW_DB_PASSWORD"), "AIRFLOW_DB_PASSWORD, PONTE_SCORER_PASSWORD"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: tuple[str, ...], said: str
) -> None:
    assert provisioned(monkeypatch, environment("postgresql://x", **dict.fromkeys(missing, ""))) == 1
    assert said in capsys.readouterr().err


def test_rights_without_roles_are_explained(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provisioned(monkeypatch, environment(fresh)) == 0
    monkeypatch.setattr(roles, "GROUPS", ("nobody_at_all",))
    with pytest.raises(PonteError, match="database roles are missing"):
        roles.grant(Database(sa.make_url(fresh).set(database="ponte")))


def test_every_table_of_the_registry_is_granted_to_somebody(worked: World) -> None:
    """A table that a migration adds without a grant would be found out by a run in production."""
    query = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'ponte'::regnamespace AND relkind = 'r' "
        "AND relname NOT IN ('schema_version', 'energy_setting') "  # the owner's
        "AND relname NOT IN ('api_key', 'api_key_revoked', 'live_retired') "
        # Written by functions of the owner's.
        "AND relname NOT IN ('feedback_given', 'live_feedback', 'request') "
        "AND NOT has_table_privilege('ponte_trainer', oid, 'INSERT') "
        "AND NOT has_table_privilege('ponte_scorer', oid, 'INSERT') "
        "AND NOT has_table_privilege('ponte_promoter', oid, 'INSERT') "
        "AND NOT has_table_privilege('ponte_monitor', oid, 'INSERT') "
        "AND NOT has_any_column_privilege('ponte_stream', oid, 'INSERT')"
    )
    assert worked.rows(query) == []


# ---------------------------------------------------------------- from a release with one role


def of_revision_3(world: World) -> None:
    """Take back what the revisions since and the grants did: everything is the owner's, nobody else may do anything."""
    of_revision_4(world)
    others = ", ".join((*roles.LOGINS[1:], *roles.GROUPS))
    world.execute("ALTER TABLE ponte_data.prediction_visits SET SCHEMA ponte")
    for function in ("is_bad(text, integer)", "champion_at(text, timestamptz)", "published_at(text, timestamptz)"):
        world.execute(f"ALTER FUNCTION ponte.{function} SECURITY INVOKER RESET ALL")
    world.execute("DROP TRIGGER written_is_final ON ponte.snapshot")
    world.execute("DROP FUNCTION ponte.refuse_row() CASCADE")
    world.execute("UPDATE ponte.schema_version SET version_num = '0003'")
    for kind, schema in (("TABLES", "ponte"), ("TABLES", "ponte_data"), ("TABLES", "predictions")):
        world.execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {others}")
    world.execute(f"REVOKE ALL ON SCHEMA ponte, ponte_data, predictions FROM {others}")
    world.execute(f"REVOKE ALL ON DATABASE {world.db.url.database} FROM {others}")
    defaults = "ALTER DEFAULT PRIVILEGES FOR ROLE ponte_scorer IN SCHEMA predictions"
    world.execute(f"{defaults} REVOKE SELECT ON TABLES FROM ponte_analyst, ponte_monitor")


@pytest.mark.parametrize("under_way", ["freeze", "check", "score", "guard"])
def test_a_database_of_revision_0003_is_split_between_the_roles_in_the_middle_of_a_run(
    scored: World, under_way: str
) -> None:
    batch = scored.run(run_id="under way", week=NEXT_WEEK, until=under_way)
    unfinished = freeze_snapshot(scored.db, scored.folder, scored.windows(), as_of=AS_OF, run=run_named("t"))
    seen = scored.published_checksum()
    defaults = "SELECT defaclnamespace, defaclacl FROM pg_default_acl WHERE defaclrole = 'ponte_scorer'::regrole"
    given = scored.rows(defaults)
    assert given
    of_revision_3(scored)
    assert scored.rows(defaults) == []
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        as_role(scored, roles.SCORER).ask("SELECT count(*) FROM predictions.visits")
    with scored.db.begin() as connection:
        roles.open_source(connection, "shop")

    provision.upgrade(scored.db.url)
    assert scored.rows(defaults) == given
    trainer, scorer, promoter, analyst = (
        as_role(scored, role) for role in (roles.TRAINER, roles.SCORER, roles.PROMOTER, roles.ANALYST)
    )
    for step in STEPS[STEPS.index(under_way) + 1 :]:
        getattr(scorer, step)(batch.batch_id)
    assert analyst.published_checksum() == seen
    assert analyst.rows("SELECT window_start, count(*) FROM predictions.visits GROUP BY 1 ORDER BY 1") == [
        (WEEK, 350),
        (NEXT_WEEK, 350),
    ]
    check_snapshot(trainer.db, trainer.folder, unfinished.snapshot_id)
    parquet.write_snapshot(trainer.db, trainer.store, unfinished.snapshot_id)
    scorer.run(run_id="again", week=WEEK)
    plan = rollback.plan_rollback(
        promoter.db, promoter.store, promoter.folder, 1, windows=[WEEK], now=LATER, every_window=False,
        allow_bad=False, allow_hindsight=False,
    )  # fmt: skip
    rollback.roll_back(
        promoter.db, plan, run=run_named("back"), actor="a person", reason="test", mark_bad=False, allow_bad=False
    )
    assert analyst.published_checksum() == seen
