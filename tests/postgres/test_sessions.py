"""What a database, or a pooler before it, has set for every session does not change what Ponte reads and writes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import Cluster
from tests.sample_model import FEATURES_SQL, World

from ponte.storage.database import Database

#: Sees time pass in the zone of the session, as a cast of a moment to a day does.
BY_DAY = FEATURES_SQL.replace(
    "v.shop,", "v.shop, v.day + interval '12 hours' AS noon, extract(hour FROM v.known_at)::int AS hour,"
)


@contextmanager
def pooler(db: Database, folder: Path) -> Iterator[Database]:
    """Yield the database behind a server that keeps the options of a session to itself, as a pooler does."""
    behind = str(db.url.query["host"]), int(str(db.url.query.get("port", 5432)))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / ".s.PGSQL.5432"))
    listening.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(client,), daemon=True).start()

    def carry(client: socket.socket) -> None:
        size, version = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
        words = client.recv(size - 8, socket.MSG_WAITALL).rstrip(b"\0").split(b"\0")
        kept = [w for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != b"options" for w in pair]
        assert len(kept) == len(words) - 2, "there were options to keep"
        body = b"\0".join(kept) + b"\0\0"
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{behind[0]}/.s.PGSQL.{behind[1]}")
        server.sendall(struct.pack("!ii", len(body) + 8, version) + body)
        threading.Thread(target=pump, args=(client, server), daemon=True).start()
        pump(server, client)

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield Database(db.url.update_query_dict({"host": str(folder)}))
    finally:
        listening.close()


@pytest.fixture
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path leaves room for the name of a socket."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="pool-"))
    yield folder
    shutil.rmtree(folder)


def test_sessions_behind_a_pooler_are_in_utc_and_as_long_as_they_have_to_be(
    world: World, server: Cluster, short_folder: Path
) -> None:
    """By both drivers, and by the connections of Great Expectations; the predictions are the same to the last bit."""
    # The frozen timestamps have no zone, so it is the session that knows which moments they are.
    check = '[[checks]]\nexpectation = "expect_column_values_to_be_in_set"\ncolumn = "hour"\nvalue_set = [0]\n'
    dated = world.with_model(files={"features.sql": BY_DAY}, checks=check)
    dated.train(run_id="t")
    expected = (dated.run(run_id="direct"), dated.published_checksum())[1]
    name = dated.db.url.database
    for setting in ("timezone = 'America/New_York'", "statement_timeout = '1min'", "transaction_timeout = '2min'"):
        server.execute(f"ALTER DATABASE {name} SET {setting}")
    names = ("timezone", "statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout")
    asked = "SELECT " + ", ".join(f"current_setting('{n}')" for n in names)
    with pooler(dated.db, short_folder) as db:
        engine = sa.create_engine(db.url, connect_args={"options": "-c TimeZone=UTC"}, poolclass=sa.NullPool)
        with engine.connect() as connection:
            assert connection.execute(sa.text(asked)).one() == ("America/New_York", "1min", "2min", "0")
        with db.begin() as connection:
            assert connection.execute(sa.text(asked)).one() == ("UTC", "0", "0", "0")
        with db.read_only() as connection:
            assert connection.execute(sa.text(asked)).one() == ("UTC", "0", "0", "0")
        with db.adbc() as connection, connection.cursor() as cursor:
            cursor.execute(asked)
            assert cursor.fetchone() == ("UTC", "0", "0", "0")
        behind = replace(dated, db=db)
        assert behind.run(run_id="pooled").status == "staged"
        assert behind.published_checksum() == expected
        assert behind.rows("SELECT DISTINCT outcome FROM ponte.check_result WHERE batch_id = 2") == [("passed",)]


def test_what_a_transaction_sets_does_not_stay_in_a_session_that_a_pooler_lends_to_others(world: World) -> None:
    with world.db.engine.connect() as connection:
        connection.exec_driver_sql("SET timezone = 'Asia/Tokyo'")
        connection.commit()
        assert connection.exec_driver_sql("SHOW timezone").scalar_one() == "UTC"
        connection.rollback()
        driver = connection.connection.dbapi_connection
        assert driver is not None
        with driver.cursor() as cursor:
            cursor.execute("SHOW timezone")
            assert cursor.fetchone() == ("Asia/Tokyo",)


SLOW = """
import time
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Slow(ClassifierMixin, BaseEstimator):
    def fit(self, rows, labels): self.classes_ = np.unique(labels); return self
    def predict_proba(self, rows):
        time.sleep(0.3 if len(rows) == 70 else 0)  # a chunk
        p = np.clip(rows["items"].fillna(3).to_numpy() / 8, 0.01, 0.99)
        return np.c_[1 - p, p]
    def predict(self, rows): return self.classes_[(self.predict_proba(rows)[:, 1] > 0.5).astype(int)]

def build_estimator(): return Slow()
"""


def test_a_shard_takes_longer_than_the_database_lets_sessions_last(world: World, server: Cluster) -> None:
    slow = world.with_model(
        files={"estimator.py": SLOW}, chunk_rows=70, gate="beats_baseline = false", bound="minimum = 0.0"
    )
    slow.train(run_id="t")
    for setting in ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"):
        server.execute(f"ALTER DATABASE {slow.db.url.database} SET {setting} = '250ms'")
    assert slow.run(run_id="r").status == "staged"


def test_text_is_read_and_written_whatever_the_client_encoding_of_the_database(world: World, server: Cluster) -> None:
    world.execute("UPDATE shop.visit SET shop = 'Mühle 😀 ' || shop")
    world.train(run_id="t")
    expected = (world.run(run_id="before"), world.published_checksum())[1]
    server.execute(f"ALTER DATABASE {world.db.url.database} SET client_encoding = 'LATIN1'")
    assert world.run(run_id="latin").status == "staged"
    assert world.published_checksum() == expected
