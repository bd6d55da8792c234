"""What a security barrier on `predictions.<model>` costs a reader, by the condition that is asked.

    PYTHONPATH=plugins:. .venv/bin/python tests/bench/barriers.py

On ten windows of 50,000 rows, each batch a partition, behind the text of the view that Ponte makes. Prints, per
condition and with the barrier and without, the partitions that are read and the milliseconds of the fastest of five.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import sqlalchemy as sa

from ponte.embedded import postgres

WINDOWS, ROWS = 10, 50_000
CONDITIONS = [
    "window_start = DATE '2024-02-12'",
    "window_start >= DATE '2024-02-12'",
    "window_start = DATE '2024-02-12' AND url = 'shop/4711'",
    "score > 0.99",
    "window_start = DATE '2024-02-12' AND url LIKE 'shop/47%'",
    "url LIKE 'shop/47%'",
    "window_start = TIMESTAMPTZ '2024-02-12 00:00+00'",
    "scored_at >= TIMESTAMPTZ '2024-02-12 00:00+00'",
    "url ILIKE '%99' AND score > 0.99",
]
MAKE = f"""
CREATE TABLE published (model text, window_start date, batch_id bigint PRIMARY KEY);
CREATE TABLE batch (batch_id bigint PRIMARY KEY, version integer, hindsight boolean);
CREATE TABLE prediction (batch_id bigint NOT NULL, window_start date NOT NULL, url text NOT NULL,
    prediction bigint NOT NULL, score float8 NOT NULL, scored_at timestamptz NOT NULL, PRIMARY KEY (batch_id, url))
    PARTITION BY LIST (batch_id);
INSERT INTO batch SELECT i, 1, false FROM generate_series(1, {WINDOWS}) i;
INSERT INTO published SELECT 'm', DATE '2024-01-01' + 7 * i::integer, i FROM generate_series(1, {WINDOWS}) i;
DO $$ BEGIN FOR i IN 1..{WINDOWS} LOOP
    EXECUTE format('CREATE TABLE p%s PARTITION OF prediction FOR VALUES IN (%s)', i, i);
    EXECUTE format('INSERT INTO p%s SELECT %s, DATE %L, ''shop/'' || n, n %% 2, n / {ROWS}.0, TIMESTAMPTZ %L '
                   'FROM generate_series(1, {ROWS}) n', i, i, DATE '2024-01-01' + 7 * i, DATE '2024-01-01' + 7 * i);
    EXECUTE format('ALTER TABLE p%s ADD CHECK (window_start = DATE %L)', i, DATE '2024-01-01' + 7 * i);
END LOOP; END $$;
CREATE VIEW visible AS SELECT p.window_start, p.url, p.prediction, p.score, p.scored_at, b.version, p.batch_id
    FROM prediction p JOIN published u ON u.batch_id = p.batch_id AND u.window_start = p.window_start
    JOIN batch b ON b.batch_id = p.batch_id WHERE u.model = 'm';
CREATE VIEW barrier WITH (security_barrier) AS SELECT p.window_start, p.url, p.prediction, p.score, p.scored_at,
    b.version, p.batch_id
    FROM prediction p JOIN published u ON u.batch_id = p.batch_id AND u.window_start = p.window_start
    JOIN batch b ON b.batch_id = p.batch_id WHERE u.model = 'm';
ANALYZE;
"""


def main() -> None:
    """Make the rows on a server of its own and print the table."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        server = postgres.start(folder / "data", superuser_password="bench", options={"fsync": "off"})  # noqa: S106
        engine = sa.create_engine(server.url("postgres", "postgres", "bench", "psycopg2"))
        with engine.connect().execution_options(no_parameters=True) as connection:
            connection.exec_driver_sql(MAKE)
            connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")
            for condition in CONDITIONS:
                measured = [measure(connection, view, condition) for view in ("visible", "barrier")]
                print(condition, "|", " | ".join(f"{read} partitions, {ms:.1f} ms" for read, ms in measured))
    finally:
        postgres.stop(folder / "data", mode="immediate")
        shutil.rmtree(folder)


def measure(connection: sa.Connection, view: str, condition: str) -> tuple[int, float]:
    """Return how many partitions are read, and the milliseconds of the fastest of five."""
    plans = [
        "\n".join(
            connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, TIMING off) SELECT count(*), sum(score) FROM {view} WHERE {condition}"
            ).scalars()
        )
        for _ in range(5)
    ]
    executed = [line for line in plans[0].splitlines() if "never executed" not in line]
    read = len(set(re.findall(r" on (p\d+)", "\n".join(executed))))
    return read, min(float(found) for plan in plans for found in re.findall(r"Execution Time: ([\d.]+)", plan))


if __name__ == "__main__":
    main()
