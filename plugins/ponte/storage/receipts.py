"""What a step cost: rows, seconds, CPU seconds, peak memory, bytes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ponte.storage.database import Database, insert_row


@dataclass
class Receipt:
    """Filled in by the step while it runs; mutable, because most of it is known only at the end."""

    model: str
    step: str
    batch_id: int | None = None
    snapshot_id: int | None = None
    version: int | None = None
    row_count: int | None = None
    byte_count: int | None = None


@contextmanager
def recorded(db: Database, receipt: Receipt) -> Iterator[Receipt]:
    """Run the body and record its receipt when it succeeds. CPU and memory are those of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield receipt
    values = {
        **vars(receipt),
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": peak_bytes(),
    }
    with db.begin() as connection:
        insert_row(connection, "ponte.receipt", values)


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB, macOS bytes
