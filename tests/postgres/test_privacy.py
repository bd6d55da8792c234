"""Values of rows reach nobody who may not read rows: by no error, no log, no check, no condition of a reader."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from tests import sample_model
from tests.sample_model import NEXT_WEEK, WEEK, World

from ponte.checks.validation import validate
from ponte.errors import BatchRejected, ModelFolderError, PonteError
from ponte.model import inspection
from ponte.model.queries import AuthorQuery, QueryRefused, columns_of
from ponte.schema import migrations, roles
from ponte.storage.database import Database
from ponte.storage.withholding import said_of, without_values

if TYPE_CHECKING:
    pass

VALUE = "secret text"
VERSIONS = Path(migrations.__file__).parent / "versions"
STRICT = sample_model.ESTIMATOR.format(kind="LogisticRegression").replace(
    'OneHotEncoder(handle_unknown="ignore")', 'OneHotEncoder(handle_unknown="error")'
)


def as_analyst(world: World) -> World:
    roles.grant(world.db)
    return replace(world, db=Database(world.db.url.set(username=roles.ANALYST)))


# ---------------------------------------------------------------- errors


@pytest.fixture
def strict(world: World) -> World:
    """A trained model that raises at a shop that it has not seen, with the shop in its words."""
    world = world.with_model(files={"estimator.py": STRICT}, checks="[quarantine]\nbudget = 0.01\n")
    world.execute("UPDATE shop.visit SET shop = 'mill' WHERE shop IS NULL")
    world.train(run_id="t")
    return world


def test_what_an_estimator_says_of_rows_is_in_the_quarantine_and_nowhere_else(
    strict: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    week = f"UPDATE shop.visit SET shop = '{VALUE}' WHERE day >= :day AND visit_id % "
    strict.execute(f"{week} 175 = 0", day=WEEK)
    strict.run(run_id="some")
    assert strict.ask("SELECT count(*) FROM ponte.quarantine WHERE reasons::text LIKE '%secret%'") == 2
    assert "2 rows of shard 0 cannot be scored: 2 rows: ValueError" in caplog.text
    strict.execute(f"{week} 10 = 0", day=NEXT_WEEK)
    with pytest.raises(BatchRejected) as caught:
        strict.run(run_id="many", week=NEXT_WEEK)
    assert "ValueError" in str(caught.value)
    [why] = as_analyst(strict).rows("SELECT why FROM ponte.batch_overview WHERE status = 'rejected'")[0]
    assert "rows: ValueError" in why
    for text in (why, str(caught.value), caplog.text):
        assert "secret" not in text


#: What to run → what may be said of it. A value is in PostgreSQL's own words of each but the last ones.
ERRORS = {
    f"SELECT '{VALUE}'::text::int": r"^\w+ \(SQLSTATE 22P02\)$",
    f"SELECT CAST('\"{VALUE}\"' AS text)::regclass": r"^\w+ \(SQLSTATE 42P01\)$",
    f"INSERT INTO twice VALUES ('{VALUE}'), ('{VALUE}')": r'23505\): duplicate key .* constraint "twice_pkey"$',
    f"INSERT INTO checked VALUES ('{VALUE}')": r'23514\): new row .* violates check constraint "checked_a_check"$',
    f"DO $$ BEGIN RAISE '%', '{VALUE}'; END $$": r"^\w+ \(SQLSTATE P0001\)$",
    "SELECT nope FROM twice": r'42703\): column "nope" does not exist$',
    "SELECT * FROM nowhere": r'42P01\): relation "nowhere" does not exist$',
}


def by_adbc(world: World) -> Callable[[str], object]:
    def run(statement: str) -> object:
        with world.db.adbc() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    return run


@pytest.mark.parametrize("statement", ERRORS)
@pytest.mark.parametrize("way", ["psycopg2", "adbc"])
def test_of_an_error_of_postgresql_nothing_is_said_that_may_be_a_value(world: World, statement: str, way: str) -> None:
    world.execute("CREATE TABLE twice (a text PRIMARY KEY)")
    world.execute("CREATE TABLE checked (a text CHECK (a < 'b'))")
    run = world.execute if way == "psycopg2" else by_adbc(world)
    with pytest.raises(Exception, match=r"(?s).") as caught:
        run(statement)
    said = said_of(caught.value)
    assert re.search(ERRORS[statement], said), said
    assert VALUE not in said + str(without_values(caught.value))


def test_of_a_copy_neither_row_nor_key_is_told(world: World) -> None:
    world.execute("CREATE TABLE twice (a text PRIMARY KEY)")
    with pytest.raises(Exception, match=VALUE) as caught, world.db.adbc() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("twice", pa.table({"a": [VALUE, VALUE]}), mode="append")
    assert VALUE not in said_of(caught.value)
    assert "duplicate key" in said_of(caught.value)


def test_a_check_that_a_value_breaks_is_told_without_the_value(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Great Expectations logs PostgreSQL's words, and hands them on."""
    world = world.with_model(checks=sample_model_check())
    world.execute(
        f"CREATE VIEW ponte_data.broken AS SELECT (CASE WHEN visit_id % 2 = 0 THEN '{VALUE}' ELSE '1' END)::numeric "
        "AS price FROM shop.visit"
    )
    caplog.set_level(logging.DEBUG)
    results, _ = validate(world.db, world.folder, "broken")
    assert [(r.outcome, r.detail) for r in results] == [("error", "InvalidTextRepresentation (SQLSTATE 22P02)")]
    assert "secret" not in str(results) + caplog.text


def sample_model_check() -> str:
    return (
        '[[checks]]\nexpectation = "expect_column_values_to_be_between"\ncolumn = "price"\nmin_value = 0\n'
        'max_value = 100000\non_failure = "stop"\n'
    )


def test_what_older_releases_kept_of_words_goes(trained: World) -> None:
    """Where it can be told apart: of rows that could not be scored, and of checks that could not be evaluated."""
    batch = trained.run(run_id="a")
    statement = (VERSIONS / "r0010_withheld.sql").read_text(encoding="utf-8")
    scored = (
        "more rows cannot be scored than [quarantine] budget = 0.01 of 350 rows leaves: "
        "too many rows cannot be scored\n"
        "  got: ValueError: Found unknown categories ['secret\n  got: text'] in column 0\n  expected: at most 3 rows"
    )
    detail = 'invalid input syntax for type integer: "secret"'
    check = f"expect_column_max_to_be_between(column='price'): error ({detail}); another: failed, 3 of 9 rows"
    trained.execute(
        "INSERT INTO ponte.check_result (batch_id, position, expectation, arguments, on_failure, outcome, detail) "
        "VALUES (:id, 77, 'e', '{}', 'stop', 'error', :detail)",
        id=batch.batch_id,
        detail=detail,
    )
    for why, kept in (
        (scored, r"^more rows .* of 350 rows leaves: ValueError \(.*withheld"),
        (check, r"error \(its words were withheld.*\); another: failed, 3 of 9 rows$"),
        ("a guard has tripped: row_count", "^a guard has tripped: row_count$"),
        (scored.partition("ValueError")[0] + "5 rows: ValueError", "5 rows: ValueError$"),
    ):
        trained.execute("UPDATE ponte.batch SET why = :why", why=why)
        trained.execute("UPDATE ponte.check_result SET detail = :detail WHERE position = 77", detail=detail)
        with trained.db.begin() as connection:
            connection.execution_options(no_parameters=True).exec_driver_sql(statement)
        [now] = trained.rows("SELECT why FROM ponte.batch")[0]
        assert re.search(kept, now), now
        assert "secret" not in now + str(trained.rows("SELECT detail FROM ponte.check_result"))


# ---------------------------------------------------------------- one statement

TAIL = " SELECT 1 AS visit_id, 'x' AS shop FROM (SELECT 'x' AS y --'\n"
WRITES = "INSERT INTO ponte.claim (model, window_start, epoch, run_id) VALUES ('x', '2026-01-05', 99, 'author');"
#: For sqlparse one statement each: to it a backslash takes away what a quote means.
SMUGGLED = [
    f"SELECT visit_id, shop FROM shop.visit WHERE shop <> '\\' ) AS features; {WRITES}{TAIL}",
    f"SELECT visit_id, shop FROM shop.visit WHERE shop <> '\\' ) AS features; COMMIT; BEGIN; {WRITES} COMMIT;{TAIL}",
    f"SELECT visit_id, '\\' AS shop FROM shop.visit; {WRITES} SELECT 1 AS visit_id --'",
]


@pytest.mark.parametrize("text", SMUGGLED)
def test_a_text_that_is_two_statements_for_postgresql_is_refused_and_nothing_runs(world: World, text: str) -> None:
    query = AuthorQuery("features.sql", text)
    assert query.problems() == []
    with pytest.raises(QueryRefused):
        columns_of(world.db, query, world.windows()[0].parameters())
    with pytest.raises(ModelFolderError, match="PostgreSQL refuses the query"):
        inspection.inspect_features(world.db, world.folder, text)
    assert world.rows("SELECT * FROM ponte.claim") == []


def test_an_inspection_whose_transaction_somebody_ends_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ponte.model.queries._require_one_statement", lambda *_: None)
    with pytest.raises(PonteError, match="ended the transaction"):
        columns_of(world.db, AuthorQuery("features.sql", SMUGGLED[1]), world.windows()[0].parameters())


@pytest.mark.parametrize(
    "text",
    [
        "SELECT visit_id, '100%' AS p, E'a\\'b;' AS q, $$;'$$ AS r FROM shop.visit WHERE :as_of::date > :window_start;",
        "SELECT visit_id, shop /* ; ' */ FROM shop.visit -- ; '",
        "SELECT visit_id FROM shop.visit WHERE day >= DATE :window_start - INTERVAL '1 day' OR true LIMIT 0",
        "WITH a AS (SELECT 1 AS visit_id) SELECT a.*, extract(year FROM :as_of) AS y FROM a; ; -- end",
    ],
)
def test_what_is_one_statement_stays_one(world: World, text: str) -> None:
    assert columns_of(world.db, AuthorQuery("features.sql", text), world.windows()[0].parameters())


# ---------------------------------------------------------------- views


@pytest.mark.parametrize("view", ["visits", "visits_latest"])
def test_no_condition_of_a_reader_sees_rows_that_the_view_does_not_show(trained: World, view: str) -> None:
    trained.run(run_id="a")
    trained.execute("UPDATE shop.visit SET price = price + 1 WHERE day >= :day", day=WEEK)
    hidden = trained.run(run_id="b", until="guard").batch_id
    leaks = f"CASE WHEN batch_id = {hidden} THEN concat_ws(' ', 'batch', batch_id, visit_id)::int ELSE 1 END = 0"
    analyst = as_analyst(trained)
    assert analyst.ask(f"SELECT count(*) FROM predictions.{view}") == 350
    assert analyst.rows(f"SELECT * FROM predictions.{view} WHERE {leaks}") == []


def test_every_view_that_analysts_read_is_a_barrier(scored: World) -> None:
    options = "SELECT c.oid::regclass::text, c.reloptions FROM pg_class c WHERE relkind = 'v' "
    found = dict(scored.rows(options + "AND relnamespace IN ('ponte'::regnamespace, 'predictions'::regnamespace)"))
    assert len(found) == len([*(VERSIONS.parents[1] / "views").glob("*.sql")]) + 2, "those of the model, too"
    assert set(map(str, found.values())) == {"['security_barrier=true']"}
    for name in ("visits", "visits_latest"):
        scored.execute(f"ALTER VIEW predictions.{name} RESET (security_barrier)")
    with scored.db.begin() as connection:
        revision = (VERSIONS / "r0010_withheld.sql").read_text(encoding="utf-8")
        connection.execution_options(no_parameters=True).exec_driver_sql(revision)
    assert {str(row[1]) for row in scored.rows(f"{options} AND relname LIKE 'visits%'")} == {
        "['security_barrier=true']"
    }


@pytest.mark.parametrize(
    ("condition", "batches"),
    [
        (f"window_start = DATE '{WEEK}'", 1),
        (f"window_start >= DATE '{NEXT_WEEK}'", 1),
        (f"window_start BETWEEN DATE '{WEEK}' AND DATE '{NEXT_WEEK}'", 2),
        (f"window_start = DATE '{WEEK}' AND visit_id = 2110 AND score > 0.5", 1),
        (f"window_start = TIMESTAMPTZ '{WEEK} 00:00+00'", 2),  # may raise, so it has to wait
    ],
)
def test_a_date_still_leaves_out_the_batches_of_other_windows(trained: World, condition: str, batches: int) -> None:
    trained.run(run_id="a")
    trained.run(run_id="b", week=NEXT_WEEK)
    analyst = as_analyst(trained)
    plan = analyst.rows(f"EXPLAIN SELECT * FROM predictions.visits WHERE {condition}")
    assert len(set(re.findall(r"on visits__prediction_(\d+)", str(plan)))) == batches, plan
