"""What it costs to keep an answer: CPU of the process when it is put and when it is flushed, and of the server.

    PYTHONPATH=plugins:. .venv/bin/python tests/bench/journal.py

Rows of a binary model with a key, put one by one and 64 at once, with features and without; the fastest of five rounds
of 20,000 rows, microseconds per row. Beside it what else could have been done with a flush of 5,000 rows.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from ponte.embedded import postgres
from ponte.live import journal as journals
from ponte.live.journal import Journal
from ponte.live.tables import LiveTable, request_ids
from ponte.storage.database import Database

ROWS, ROUNDS = 20_000, 5
FEATURES = {f"column_{n}": n * 1.5 for n in range(12)}
TABLE = LiveTable(
    "m",
    {"request_id": "uuid", "asked_at": "timestamp", "source": "text", "key": "integer", "prediction": "integer",
     "score": "number", "scored_at": "timestamp", "model_version": "integer", "features": "json"},
)  # fmt: skip
MAKE = """
CREATE SCHEMA ponte; CREATE SCHEMA ponte_data;
CREATE TABLE ponte_data.live_m (request_id uuid NOT NULL, asked_at timestamptz NOT NULL, source text NOT NULL
    CHECK (source IN ('api', 'form', 'queue', 'offline')), key bigint, prediction bigint NOT NULL,
    score float8 CHECK (score BETWEEN 0 AND 1), scored_at timestamptz NOT NULL, model_version integer NOT NULL,
    features jsonb,
    PRIMARY KEY (request_id, asked_at)) PARTITION BY RANGE (asked_at);
CREATE INDEX ON ponte_data.live_m USING brin (asked_at);
CREATE TABLE ponte_data.live_m__default PARTITION OF ponte_data.live_m DEFAULT;
"""
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ponte' AND backend_type = 'client backend'"


def main() -> None:
    """Measure on a server of its own that syncs, and print a line per case."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        server = postgres.start(folder / "data", superuser_password="bench")  # noqa: S106
        db = Database(server.url("postgres", "postgres", "bench", "psycopg2"))
        with db.begin() as connection:
            connection.exec_driver_sql(MAKE)
        journals.prepare = lambda *_: None  # type: ignore[assignment]
        for at_once in (1, 64):
            for features in (None, FEATURES):
                put, flush, backend = measure(db, at_once, features)
                what = f"{at_once:2} at once, {'with' if features else 'without'} features"
                print(f"{what:30} put {put:5.1f}  flush {flush:5.1f}  server {backend:5.1f}")
        for name, write in (("COPY", by_copy), ("INSERT, ON CONFLICT", by_insert)):
            print(f"5,000 rows by {name:20} {min(seconds(db, write) for _ in range(ROUNDS)) / 5_000 * 1e6:5.1f} wall")
    finally:
        postgres.stop(folder / "data", mode="immediate")
        shutil.rmtree(folder)


def measure(db: Database, at_once: int, features: object) -> tuple[float, float, float]:
    """Return microseconds of CPU per row: of put, of flush, and of the server's process for the flush."""
    found = []
    journal = Journal(db, limit=ROWS)
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(ROWS // at_once):
            now = dt.datetime.now(dt.UTC)
            columns = {
                "request_id": request_ids(at_once, now), "key": list(range(at_once)), "prediction": [1] * at_once,
                "score": [0.123456789] * at_once, "scored_at": now, "model_version": 3,
                "features": features and [features] * at_once,
            }  # fmt: skip
            journal.put(TABLE, columns, source="api", asked_at=now)
        put, before = time.process_time(), server_cpu(journal)
        journal.flush()
        found.append((put - begun, time.process_time() - put, server_cpu(journal) - before))
    return tuple(min(figures) / (ROWS // at_once * at_once) * 1e6 for figures in zip(*found[1:], strict=True))  # type: ignore[return-value]


def server_cpu(journal: Journal) -> float:
    """Return the seconds of CPU that the server's process of the journal has used."""
    connection = journal._connection
    if connection is None:
        return 0.0
    pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


def seconds(db: Database, write: Callable[[sa.Connection, list[str]], None]) -> float:
    """Return how long a transaction of 5,000 new rows takes."""
    now = dt.datetime.now(dt.UTC)
    columns = {"request_id": request_ids(5_000, now), "asked_at": now, "source": "api", "prediction": 1, "score": 0.5,
               "scored_at": now, "model_version": 3}  # fmt: skip
    lines = TABLE.lines(columns)
    begun = time.perf_counter()
    with db.begin() as connection:
        write(connection, lines)
    return time.perf_counter() - begun


def by_copy(connection: sa.Connection, lines: list[str]) -> None:
    """As the journal does."""
    TABLE.copy(connection, lines)


def by_insert(connection: sa.Connection, lines: list[str]) -> None:
    """Hundreds of rows per statement, which tolerate that they are there."""
    rows = [[None if v == "\\N" else v for v in line.rstrip("\n").split("\t")] for line in lines]
    text = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s)"] * 500)
    for at in range(0, len(rows), 500):
        values = tuple(value for row in rows[at : at + 500] for value in row)
        connection.exec_driver_sql(f"INSERT INTO ponte_data.live_m VALUES {text} ON CONFLICT DO NOTHING", values)


if __name__ == "__main__":
    main()
