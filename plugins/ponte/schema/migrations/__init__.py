"""Alembic revisions of the schema `ponte`.

Each revision is a `.sql` file beside a short Python file, so that the tables can be read as SQL. The views are in
`ponte.schema.views`; they are made anew after the last revision.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ponte.storage.database import Database, limit_lock_waits

#: Readers queue behind a change that waits for a lock on what they read.
LOCK_TIMEOUT = "5s"
FOLDER = Path(__file__).parent


def lock(connection: sa.Connection) -> None:
    """Let nobody else change the schema or its rights until the transaction ends, and wait for no reader for long.

    Two at once would change the same rows of the catalog.
    """
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.migrations'))"))
    limit_lock_waits(connection, LOCK_TIMEOUT)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to `revision`; changes and locks nothing when it is there.

    Needs CREATE on the database. The views become those of today with the newest revision only: until then they are
    what the revisions of before `ponte.schema.views` made.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    with Database(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
