"""Alembic's entry point: run the revisions on the connection that `upgrade` opened, in its one transaction."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
# Two installers at once: the second waits here and then finds nothing left to do. The lock comes before the schema,
# because CREATE SCHEMA IF NOT EXISTS fails when two sessions run it at once.
connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('ponte.migrations'))"))
# A change that waits for a reader lets those behind it wait too; who called us tries again.
connection.execute(text("SET LOCAL lock_timeout = '5s'"))
connection.execute(text("CREATE SCHEMA IF NOT EXISTS ponte"))
context.configure(connection=connection, version_table="schema_version", version_table_schema="ponte")
context.run_migrations()
connection.execute(
    text("COMMENT ON TABLE ponte.schema_version IS 'Revision of this schema; written by the migrations.'")
)
connection.execute(text("COMMENT ON COLUMN ponte.schema_version.version_num IS 'Revision.'"))
