"""What the two roles that answer one by one may do, in all of the database: this, and nothing beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.postgres.live.conftest import live as live_world
from tests.postgres.schema.test_roles import as_role

from ponte.schema import roles

if TYPE_CHECKING:
    from tests.sample_model import World

live = live_world

#: Beside reading which versions there are: `test_roles.MAY_READ` and `MAY_WRITE` say all of the schema `ponte`.
ELSEWHERE = {"ponte_data.live_visits": "INSERT"}
#: Functions of the schema `ponte`, most of which work with the rights of their owner.
CALLS = {
    roles.API: {
        "champion_at", "enqueue", "give_live_feedback", "is_bad", "prepare_live", "request_state",
    },
    roles.STREAM: {"champion_at", "is_bad", "prepare_live"},
}  # fmt: skip

_ELSEWHERE = """
    SELECT n.nspname || '.' || c.relname, string_agg(p, ' ' ORDER BY place) FROM pg_class c
    JOIN pg_namespace n ON n.oid = relnamespace
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN'])
               WITH ORDINALITY AS privilege (p, place)
    WHERE n.nspname IN ('ponte_data', 'predictions', 'shop', 'public') AND relkind IN ('r', 'p', 'v', 'm', 'f')
      AND (has_table_privilege(:role, c.oid, p)
           OR p IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(:role, c.oid, p))
    GROUP BY 1"""

_CALLS = """SELECT proname::text FROM pg_proc
    WHERE pronamespace = 'ponte'::regnamespace AND has_function_privilege(:role, oid, 'EXECUTE')"""

_SCHEMAS = "SELECT nspname::text FROM pg_namespace WHERE has_schema_privilege(:role, oid, 'CREATE')"

#: Each reaches for what somebody who has broken into the process would want.
REFUSED = [
    "SELECT * FROM predictions.visits_live",
    "SELECT * FROM ponte_data.live_visits",
    "SELECT asked_at FROM ponte_data.live_visits LIMIT 1",
    "COPY (TABLE ponte_data.live_visits) TO STDOUT",
    "SELECT features FROM ponte.live_unscored",
    "SELECT comment FROM ponte.live_feedback",
    "SELECT * FROM ponte.feedback",
    "SELECT * FROM shop.visit",
    "UPDATE ponte_data.live_visits SET score = 1",
    "DELETE FROM ponte_data.live_visits",
    "TRUNCATE ponte_data.live_visits",
    "INSERT INTO ponte_data.live_visits__default (request_id) VALUES (uuidv7())",
    "INSERT INTO ponte.api_key (name, models, sha256, per_minute, created_by) VALUES ('me', '{}', '', 1, 'me')",
    "DELETE FROM ponte.api_key_revoked",
    "SELECT ponte.retire_live('visits', 31)",
    "SELECT ponte.make_live_months('visits', '2001-01-01')",
    "SELECT ponte.give_up_requests('visits', 'x')",
    "UPDATE ponte.request SET priority = 9",
    "INSERT INTO ponte.request (model) VALUES ('visits')",
    "ALTER VIEW predictions.visits_live RENAME TO mine",
    "CREATE VIEW predictions.mine AS SELECT 1 AS n",
    "CREATE TEMPORARY TABLE mine (n int)",
    "SET ROLE ponte_monitor",
    "SET ROLE ponte_owner",
]
#: More that one of them may not do.
OF_ONE = {
    roles.API: ["SELECT features FROM ponte.request", "DELETE FROM ponte.request", "SELECT * FROM ponte.stream_take"],
    roles.STREAM: [
        "SELECT sha256 FROM ponte.api_key",
        "SELECT ponte.enqueue('visits', NULL, '{}')",
        "SELECT * FROM ponte.request_state(uuidv7())",
        "SELECT ponte.give_live_feedback(NULL, 'right', NULL, NULL, 'me')",
        "INSERT INTO ponte.queue_in (model, features) VALUES ('visits', '{}')",
    ],
}


@pytest.mark.parametrize("role", CALLS)
def test_what_answers_may_do_this_and_nothing_beside_it(live: World, role: str) -> None:
    assert dict(live.rows(_ELSEWHERE, role=role)) == ELSEWHERE
    assert {name for (name,) in live.rows(_CALLS, role=role)} == CALLS[role]
    assert live.rows(_SCHEMAS, role=role) == []
    allowed = []
    db = as_role(live, role).db
    for statement in (*REFUSED, *OF_ONE[role]):
        with db.engine.connect() as connection:
            try:
                connection.exec_driver_sql(statement)
                allowed.append((statement, "done"))
            except sa.exc.DBAPIError as error:
                if getattr(error.orig, "pgcode", None) != "42501":
                    allowed.append((statement, str(error.orig)))
    assert not allowed, "\n".join(map(str, allowed))
