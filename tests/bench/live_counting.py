"""What counting live rows costs, in µs of CPU per row: 12 columns, requests of 1 and of 64 rows.

PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.live_counting
"""

from __future__ import annotations

import time
from uuid import UUID

import numpy as np
import pyarrow as pa

from ponte.counting.bins import Bins
from ponte.live.counting import Answered, Counted, counts_of, statement
from ponte.model.spec import WindowRule

NUMBERS, TEXTS = 10, 2
EDGES = tuple(float(edge) for edge in np.linspace(-3, 3, 11))
REPEATS = 7


def counted() -> Counted:
    """Return a version with ten numbers in deciles, two texts of 20 values, prediction and score."""
    numbers = tuple(Bins(name=f"n{place}", kind="number", edges=EDGES) for place in range(NUMBERS))
    words = tuple(f"value {place}" for place in range(20))
    texts = tuple(Bins(name=f"t{place}", kind="value", values=words) for place in range(TEXTS))
    answers = (
        Bins(name="prediction", kind="number", edges=(1.0,)),
        Bins(name="score", kind="number", edges=tuple(np.linspace(0.1, 0.9, 9).tolist())),
    )
    return Counted(model="m", version=1, window=WindowRule(), bins={"features": numbers + texts, "answers": answers})


def requests(of: Counted, rows: int, size: int) -> list[Answered]:
    """Return so many rows in requests of one size."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(rows // size):
        columns = {f"n{place}": pa.array(rng.normal(size=size)) for place in range(NUMBERS)}
        columns |= {f"t{place}": pa.array([f"value {n}" for n in rng.integers(0, 25, size)]) for place in range(TEXTS)}
        score = rng.random(size).tolist()
        said = {"prediction": [int(one > 0.5) for one in score], "score": score}
        found.append(Answered(of=of, asked_at=1_790_000_000_000_000, rows=pa.table(columns), answers=said))
    return found


def main() -> None:
    """Print the best of a few repetitions."""
    of = counted()
    print("| rows per request | rows per flush | µs of CPU per row | ms per flush |\n|---|---|---|---|")
    for size in (1, 64):
        for rows in (size, 1024, 5120):
            parts = requests(of, rows, size)
            best = min(_seconds(parts) for _ in range(REPEATS))
            print(f"| {size} | {rows} | {1e6 * best / rows:.1f} | {1e3 * best:.2f} |")


def _seconds(parts: list[Answered]) -> float:
    started = time.process_time()
    statement(counts_of(parts, flush_id=UUID(int=1)))
    return time.process_time() - started


if __name__ == "__main__":
    main()
