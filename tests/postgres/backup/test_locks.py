"""A backup locks the table of every batch: no lock longer than it must, and what is too many it says beforehand."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.sample_model import World

from ponte.backup import dumping
from ponte.embedded import postgres
from ponte.errors import PonteError
from ponte.storage.database import Database

LOCKS = (
    "SELECT c.relkind::text, count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation WHERE pid = pg_backend_pid() "
)
#: Locks for 120 relations, and half as many tables that three sessions hold each.
FEW = {"max_locks_per_transaction": "10", "max_connections": "12", "fsync": "off", "scram_iterations": "1"}


def held(connection: sa.Connection) -> dict[str, int]:
    """Return how many locks the transaction holds on tables and indexes of people, by kind."""
    rows = connection.exec_driver_sql(f"{LOCKS} AND relnamespace::regnamespace::text !~ '^pg_' GROUP BY 1").all()
    return {kind: count for kind, count in rows}  # noqa: C416 - rows are no pairs to a type checker


@pytest.fixture
def small_server(postgres_programs: None) -> Iterator[sa.URL]:
    """URL of a server that can hold few locks."""
    folder = Path(tempfile.mkdtemp(prefix="ponte-test-"))
    try:
        server = postgres.start(folder / "data", superuser_password="sesame", options=FEW)  # noqa: S106 - private
        yield sa.make_url(server.url("postgres", "postgres", "sesame", "psycopg2"))
    finally:
        postgres.stop(folder / "data", mode="immediate")
        shutil.rmtree(folder, ignore_errors=True)


def test_counting_gives_its_locks_back(scored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tables that were locked before only these locks stay; no index stays locked."""
    monkeypatch.setattr(dumping, "_AT_ONCE", 3)
    with Database(scored.db.url).begin() as connection:
        connection.exec_driver_sql("LOCK TABLE ONLY ponte.batch IN ACCESS SHARE MODE")
        counts = dumping.row_counts(connection)
        assert held(connection) == {"r": 1}
    assert counts["ponte.batch"] == 1
    assert counts["ponte_data.visits__prediction_1"] == 350
    assert len(counts) > 20


def test_a_server_without_room_for_the_locks_is_refused_before_any_is_taken(
    small_server: sa.URL, tmp_path: Path
) -> None:
    with Database(small_server).begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA ponte")
        connection.exec_driver_sql("CREATE TABLE ponte.schema_version AS SELECT '0028' AS version_num")
        connection.exec_driver_sql("CREATE TABLE ponte.version (path text, manifest_sha256 text)")
        connection.exec_driver_sql("CREATE TABLE ponte.snapshot (path text, sha256 text, status text)")
    for number in range(85):
        with Database(small_server).begin() as connection:
            connection.exec_driver_sql(f"CREATE TABLE public.t{number} (n int PRIMARY KEY)")
    with pytest.raises(PonteError) as caught:
        dumping.dump(small_server, tmp_path / "database")
    assert str(caught.value) == (
        "the server has no room for the locks of a backup\n"
        "  where: database postgres\n"
        "  got: 88 tables, max_locks_per_transaction = 10\n"
        "  expected: max_locks_per_transaction of 11 or more\n"
        "  next: start the server with max_locks_per_transaction = 16 (ALTER SYSTEM, or its command line), then "
        "back up again; or keep fewer batches: [retention] of model.toml"
    )
    assert not (tmp_path / "database").exists()
    for number in range(9):
        with Database(small_server).begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE public.t{number}")
    assert len(dumping.dump(small_server, tmp_path / "database").row_counts) == 79
