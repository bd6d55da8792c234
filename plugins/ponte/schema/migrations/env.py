"""Alembic's entry point: run the revisions on the connection that `upgrade` opened, in its one transaction."""

from alembic import context
from sqlalchemy import text

from ponte.schema import migrations

connection = context.config.attributes["connection"]
# Before the schema, because CREATE SCHEMA IF NOT EXISTS fails when two sessions run it at once.
migrations.lock(connection)
connection.execute(text("CREATE SCHEMA IF NOT EXISTS ponte"))
context.configure(connection=connection, version_table="schema_version", version_table_schema="ponte")
context.run_migrations()
connection.execute(
    text("COMMENT ON TABLE ponte.schema_version IS 'Revision of this schema; written by the migrations.'")
)
connection.execute(text("COMMENT ON COLUMN ponte.schema_version.version_num IS 'Revision.'"))
