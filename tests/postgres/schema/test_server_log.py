"""What PostgreSQL writes into its own log about requests: nothing."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.conftest import Cluster

from ponte.schema import roles
from ponte.storage.database import Database

SECRET = "who-earns-what"  # noqa: S105
REFUSED = (
    "SELECT ponte.enqueue('visits', NULL, CAST(:value AS jsonb), 0)",
    "SELECT ponte.give_live_feedback(gen_random_uuid(), 'wrong', :value, :value, 'form')",
    """INSERT INTO ponte.live_unscored (request_id, model, source, why, kind, asked_at)
        VALUES (gen_random_uuid(), 'visits', 'nobody', :value, 'input', now())""",
)


@pytest.mark.parametrize("role", [roles.API, roles.STREAM])
def test_an_error_about_a_request_leaves_no_value_in_the_log_of_the_server(
    db: Database, server: Cluster, role: str
) -> None:
    for statement in REFUSED:
        with (
            pytest.raises(sa.exc.DBAPIError),
            Database(db.url.set(username=role)).begin() as connection,
        ):
            connection.execute(sa.text(statement), {"value": f'"{SECRET}"'})
    log = server.log()
    assert "database system is ready" in log
    assert SECRET not in log
