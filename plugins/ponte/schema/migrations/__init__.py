"""Alembic revisions of the schema `ponte`.

Each revision is a `.sql` file beside a short Python file, so that the tables can be read as SQL.

A view is one file in `schema/views/`, which says what the view is now. No revision holds the text of a view (but for
those of before there were these files), so whoever reads or changes one has one place to look. A view can stand only on
tables as they are now, so all are made when the last revision has run, and in no state between two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import sqlalchemy as sa

from ponte.storage.database import Database, limit_lock_waits

#: Readers queue behind a change that waits for a lock on what they read.
LOCK_TIMEOUT = "5s"
FOLDER = Path(__file__).parent
VIEWS = FOLDER.with_name("views")


def lock(connection: sa.Connection) -> None:
    """Let nobody else change the schema or its rights until the transaction ends, and wait for no reader for long.

    Two at once would change the same rows of the catalog.
    """
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.migrations'))"))
    limit_lock_waits(connection, LOCK_TIMEOUT)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to `revision`; changes and locks nothing when it is there.

    Needs CREATE on the database. The views become those of today with the newest revision only: until then they are
    what the revisions of before `schema/views/` made.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    with Database(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def make_views(connection: sa.Connection) -> None:
    """Make every view as its file says, in the caller's transaction; rights on one that is there stay.

    PostgreSQL refuses to take a column from a view that is there: the revision that wants to has dropped the view.
    """
    texts = {file.stem: file.read_text(encoding="utf-8") for file in VIEWS.glob("*.sql")}
    connection = connection.execution_options(no_parameters=True)  # a percent sign means itself
    for name in in_order(texts):
        connection.exec_driver_sql(texts[name])


def in_order(texts: Mapping[str, str]) -> list[str]:
    """Return the names of views, each after those that its text speaks of; raises CycleError when none can be first.

    >>> in_order({"a": "CREATE VIEW ponte.a AS TABLE ponte.b", "b": "CREATE VIEW ponte.b AS TABLE ponte.version"})
    ['b', 'a']
    """
    spoken_of = {name: {*re.findall(r"\bponte\.(\w+)", text)} & texts.keys() - {name} for name, text in texts.items()}
    return list(TopologicalSorter(spoken_of).static_order())
