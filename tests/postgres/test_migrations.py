"""The schema: made once, by whoever comes first; documented; append-only where history is kept."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.postgres.children import process_of
from tests.sample_model import World

from ponte import migrations
from ponte.database import Database

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
    assert _ask(Database(empty_url), "SELECT version_num FROM ponte.schema_version") == [("0001",)]


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


@pytest.mark.parametrize("table", ["alias_event", "publication_event", "gate_verdict", "version"])
@pytest.mark.parametrize(
    "statement", ["UPDATE ponte.{} SET model = model", "DELETE FROM ponte.{}", "TRUNCATE ponte.{} CASCADE"]
)
def test_history_refuses_changes_even_from_its_owner(trained: World, table: str, statement: str) -> None:
    trained.run(run_id="r")
    count = f"SELECT count(*) FROM ponte.{table}"
    before = trained.ask(count)

    with pytest.raises(sa.exc.DBAPIError, match=f"ponte.{table} is append-only"):
        trained.execute(statement.format(table))
    assert trained.ask(count) == before > 0
