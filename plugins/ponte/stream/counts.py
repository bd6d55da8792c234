"""Counts of what a worker has answered, in the transactions of its takes, a row of `ponte.live_count` a minute.

A worker may make fifty takes a second. Each adds to the row of its minute, if the monitor has not folded it meanwhile.
"""

from __future__ import annotations

import time
import uuid

import sqlalchemy as sa

from ponte.live.counting import Answered, counts_of, statement

#: Seconds until a worker begins another row.
SECONDS = 60.0

_ADD = """ ON CONFLICT (flush_id, model, version, window_start) DO UPDATE SET
    row_count = c.row_count + excluded.row_count, seconds = c.seconds + excluded.seconds,
    cpu_seconds = c.cpu_seconds + excluded.cpu_seconds, peak_bytes = excluded.peak_bytes,
    features = ARRAY(SELECT a + b FROM unnest(c.features, excluded.features) WITH ORDINALITY AS u (a, b, n) ORDER BY n),
    answers = ARRAY(SELECT a + b FROM unnest(c.answers, excluded.answers) WITH ORDINALITY AS u (a, b, n) ORDER BY n)"""


class RunningCounts:
    """Adds up what one process has answered."""

    def __init__(self) -> None:
        self._flush, self._since = uuid.uuid4(), time.monotonic()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def add(self, connection: sa.Connection, answered: Answered) -> None:
        """Count rows in the transaction that writes them; what the process used since the call before goes with it."""
        if time.monotonic() - self._since > SECONDS:
            self._flush, self._since = uuid.uuid4(), time.monotonic()
        wall, cpu = time.perf_counter(), time.process_time()
        rows = counts_of([answered], flush_id=self._flush, cost=(wall - self._wall, cpu - self._cpu))
        self._wall, self._cpu = wall, cpu
        if rows:
            insert = statement(rows).replace("INTO ponte.live_count (", "INTO ponte.live_count AS c (", 1)
            connection.exec_driver_sql(insert + _ADD)
