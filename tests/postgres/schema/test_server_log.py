"""What PostgreSQL writes into its own log about rows, requests and comments: nothing."""

from __future__ import annotations

import io
import re
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from tests.conftest import Cluster

from ponte.schema import roles
from ponte.storage.database import Database

SECRET = "who-earns-what"  # noqa: S105
REFUSED = (
    "SELECT ponte.enqueue('visits', NULL, CAST(:value AS jsonb), 0)",
    "SELECT ponte.give_live_feedback(gen_random_uuid(), 'wrong', :value, :value, 'form')",
    "SELECT ponte.give_feedback('visits', date '2026-11-23', '{}', 'wrong', :value, :value)",
    """INSERT INTO ponte.live_unscored (request_id, model, source, why, kind, asked_at)
        VALUES (gen_random_uuid(), 'visits', 'nobody', :value, 'input', now())""",
    # A text that a query of a model folder casts: it is in the message, whatever the statement says.
    "SELECT CAST(v AS integer) FROM CAST(:value AS text) AS v",
)
COPIED = "COPY ponte.live_dropped (rows) FROM STDIN"


@pytest.mark.parametrize("role", [roles.TRAINER, roles.SCORER, roles.MONITOR, roles.API, roles.STREAM, roles.ANALYST])
def test_an_error_of_who_meets_rows_leaves_no_value_in_the_log_of_the_server(
    db: Database, server: Cluster, role: str
) -> None:
    secret = f"{SECRET}-of-{role}"
    user = Database(db.url.set(username=role))
    for statement in REFUSED:
        with pytest.raises(sa.exc.DBAPIError), user.begin() as connection:
            connection.execute(sa.text(statement), {"value": f'"{secret}"'})
    with pytest.raises(psycopg2.Error), user.begin() as connection:
        connection.connection.cursor().copy_expert(COPIED, io.StringIO(secret))
    log = server.log()
    assert "database system is ready" in log
    assert secret not in log


def test_the_page_says_it_of_the_same_roles() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/roles.md").read_text("utf-8")
    said = re.findall(r"^ALTER ROLE (ponte_\w+) SET log_min_messages = 'log';$", page, re.MULTILINE)
    assert sorted(said) == sorted(roles.QUIET)
