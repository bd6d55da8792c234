"""The Airflow connections of a test: every task works as its own database role, as in production."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ponte.schema import roles

if TYPE_CHECKING:
    import pytest

    from ponte.storage.database import Database


def set_connections(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the Airflow connections of all roles to the database; whatever they were not granted fails here too."""
    url = db.url
    with db.begin() as connection:
        for schema in connection.exec_driver_sql("SELECT nspname FROM pg_namespace WHERE nspname = 'shop'").scalars():
            roles.open_source(connection, schema)
    place = {"conn_type": "postgres", "password": url.password, "host": url.query["host"], "schema": url.database}
    for role in (roles.TRAINER, roles.SCORER, roles.PROMOTER, roles.MONITOR, roles.VIEWER):
        connection = {**place, "login": role, "port": int(str(url.query.get("port", 5432)))}
        monkeypatch.setenv(f"AIRFLOW_CONN_{role.upper()}", json.dumps(connection))
