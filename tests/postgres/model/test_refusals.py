"""What PostgreSQL refuses for want of a right is answered with the GRANT that lacks."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.conftest import Cluster

from ponte.model.queries import AuthorQuery, QueryRefused, columns_of, refusal
from ponte.storage.database import Database


@pytest.mark.parametrize(
    ("granted", "said", "fix"),
    [
        ("", "permission denied for schema closed", "GRANT USAGE ON SCHEMA closed TO ponte_reader"),
        (
            "GRANT USAGE ON SCHEMA closed TO ponte_reader",
            "permission denied for table visit",
            "GRANT SELECT ON ALL TABLES IN SCHEMA closed TO ponte_reader",
        ),
    ],
)
def test_a_missing_right_is_named_with_the_role_that_needs_it(
    server: Cluster, migrated: str, granted: str, said: str, fix: str
) -> None:
    query = AuthorQuery("features.sql", "SELECT *\nFROM closed.visit")
    with server.database(migrated) as (name, _):
        server.execute(f"CREATE SCHEMA closed; CREATE TABLE closed.visit (id int); {granted}", name)
        trainer = Database(server.url(name, "ponte_trainer"))
        with pytest.raises((QueryRefused, sa.exc.DBAPIError)) as refused:
            columns_of(trainer, query, {})
        trainer.engine.dispose()
    problem = refusal(query, refused.value)
    assert said in problem.what
    assert fix in problem.fix
