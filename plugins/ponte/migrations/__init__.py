"""Alembic revisions of the schema `ponte`.

Each revision is a `.sql` file beside a short Python file, so that the tables can be read as SQL.
"""

from __future__ import annotations

from pathlib import Path


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to `revision`; does nothing when it is there. Needs CREATE on the database."""
    from alembic import command
    from alembic.config import Config

    from ponte.database import Database

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    with Database(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
