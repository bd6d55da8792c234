"""Alembic's entry point: run the revisions on the connection that `upgrade` opened, in its one transaction."""

from alembic import context
from sqlalchemy import text

from ponte.schema import migrations

connection = context.config.attributes["connection"]
# Before the schema, because CREATE SCHEMA IF NOT EXISTS fails when two sessions run it at once.
migrations.lock(connection)
connection.execute(text("CREATE SCHEMA IF NOT EXISTS ponte"))
context.configure(connection=connection, version_table="schema_version", version_table_schema="ponte")
before = context.get_context().get_current_heads()
context.run_migrations()
after = context.get_context().get_current_heads()
# Nothing at all on a database that is up to date: it is asked at every start, and may be busy.
if after != before:
    connection.execute(
        text("COMMENT ON TABLE ponte.schema_version IS 'Revision of this schema; written by the migrations.'")
    )
    connection.execute(text("COMMENT ON COLUMN ponte.schema_version.version_num IS 'Revision.'"))
    if after == (context.get_head_revision(),):
        migrations.make_views(connection)
