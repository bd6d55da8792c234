"""What the pages of versions read, of one model among others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.bench import stand

from ponte.quality.figures import Figure
from ponte.schema import roles
from ponte.storage.database import Database
from ponte.versions.registry import LARGEST_VERSION
from ponte.viewing.versions import around, compare, list_versions

if TYPE_CHECKING:
    from tests.conftest import Cluster

#: Of a stand of eight models: nothing special; version 2 marked bad after a rollback.
PLAIN, ROLLED_BACK = "demand_at", "energy_at"
WINDOWS = 30
# Version 2 was measured beside version 1 on its own rows, before that on those of version 1, and judged again. And a
# figure of a slice.
_MORE = """
INSERT INTO ponte.metric (model, version, snapshot_id, subject, slice, name, value, row_count)
SELECT 'demand_at', 2, snapshot, subject, slice, name, value, 10 FROM (VALUES
    (2, 'champion:1', '', 'roc_auc', 0.5), (2, 'difference:champion:1', '', 'roc_auc', 0.2),
    (1, 'candidate', '', 'roc_auc', 0.3), (1, 'champion:1', '', 'roc_auc', 0.3),
    (1, 'difference:champion:1', '', 'roc_auc', 0.0), (2, 'candidate', 'region=west', 'accuracy', 0.1)
) AS r (snapshot, subject, slice, name, value);
INSERT INTO ponte.gate_verdict (model, version, snapshot_id, run_id, run_key, passed, outcome, rules)
SELECT model, version, snapshot_id, 'again', 'again', passed, outcome,
       '[{"rule": "asked again", "got": "1", "expected": "1", "passed": true, "outcome": "passed", "evidence": {}}]'
FROM ponte.gate_verdict WHERE model = 'demand_at' AND version = 2;
"""


@pytest.fixture(scope="module")
def owner(server: Cluster, migrated: str) -> Iterator[Database]:
    """The owner's database of the stand."""
    with server.database(migrated) as (_, url):
        stand.fill(url, models=8, windows=WINDOWS, today=dt.date(2024, 6, 12))
        db = Database(url)
        with db.begin() as connection:
            connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('ponte.gate_verdict', 'verdict_id'), 99999)")
            )
            connection.exec_driver_sql(_MORE)
        yield db


@pytest.fixture(scope="module")
def viewer(owner: Database) -> Database:
    """The database as the web server reads it."""
    return Database(owner.url.set(username=roles.VIEWER))


def test_versions_are_listed_with_the_windows_that_people_see_and_the_newest_decision(
    owner: Database, viewer: Database
) -> None:
    found = list_versions(viewer, PLAIN, LARGEST_VERSION)
    assert [row.version for row in found] == [3, 2, 1]
    query = sa.text("SELECT b.version, count(*) AS seen FROM ponte.published p JOIN ponte.batch b USING (batch_id) "
                    "WHERE b.model = :model GROUP BY 1")  # fmt: skip
    with owner.begin() as connection:
        seen = {row.version: row.seen for row in connection.execute(query, {"model": PLAIN})}
    assert {row.version: row.windows for row in found} == seen
    assert sum(seen.values()) == WINDOWS
    assert [row.what for row in found] == ["became champion"] * 3, "not what was said of another model"
    marked = next(row for row in list_versions(viewer, ROLLED_BACK, 3) if row.version == 2)
    assert (marked.what, marked.who, marked.why, marked.bad) == ("marked: bad", "grace", "complaints", True)
    assert [row.version for row in list_versions(viewer, PLAIN, 3)] == [2, 1]


@pytest.mark.parametrize(("version", "before", "after"), [(1, None, 2), (2, 1, 3), (3, 2, None)])
def test_around_a_version_are_its_neighbours_and_its_own_windows(
    owner: Database, viewer: Database, version: int, before: int | None, after: int | None
) -> None:
    found = around(viewer, PLAIN, version)
    assert (found.before, found.after, found.champion) == (before, after, 3)
    assert found.compared_with == (1 if version == 2 else None)
    query = sa.text("SELECT b.window_start FROM ponte.published p JOIN ponte.batch b USING (batch_id) "
                    "WHERE b.model = :model AND b.version = :version ORDER BY 1 DESC LIMIT 12")  # fmt: skip
    with owner.begin() as connection:
        own = connection.execute(query, {"model": PLAIN, "version": version}).scalars().all()
    assert list(found.windows) == own


def test_two_versions_of_the_model_are_compared_by_their_newest_figures_and_verdicts(viewer: Database) -> None:
    found = compare(viewer, PLAIN, 1, 2, largest=10)
    assert found is not None
    assert (found.first["snapshot_id"], found.second["snapshot_id"]) == (1, 2), "and not of another model"
    [figure] = found.figures
    assert (figure.name, found.same_rows, found.row_count) == ("roc_auc", True, 10)
    assert figure.first == Figure(0.5, None, None)
    assert figure.difference == Figure(0.2, None, None)
    assert figure.second is not None
    assert figure.second.value > 0.6, "of all rows, and of the newest snapshot"
    assert [rule["rule"] for rule in found.rules[2]] == ["asked again"]
    assert [rule["rule"] for rule in found.rules[1]] == [
        "roc_auc meets the bound",
        "roc_auc is not worse than champion",
    ]
    apart = compare(viewer, PLAIN, 2, 3, largest=10)
    assert apart is not None
    assert [figure.name for figure in apart.figures] == ["brier", "log_loss", "roc_auc"], "of no slice"
    assert not apart.same_rows
    assert compare(viewer, PLAIN, 1, 9, largest=10) is None
