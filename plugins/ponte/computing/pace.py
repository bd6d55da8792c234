"""How long batches take, and with that how long somebody would wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

#: Rows in one batch; a request for more is one batch alone.
BATCH_ROWS = 64
#: Of what was learned of the pace before a batch, the share that counts after it.
_DECAY = 0.95


class Pace:
    """How long a batch takes: `per_call + per_row * rows`, by least squares over the latest batches."""

    def __init__(self, seen: Sequence[tuple[int, float]]) -> None:
        """seen : rows and seconds of at least two batches of different sizes; they count for ever, a little."""
        self._first = seen
        self._sums = [0.0] * 5
        self._fit()

    @classmethod
    def of(cls, work: Callable[[int], object]) -> Pace:
        """Return the pace of what does some rows; it is done a few times, and so gets warm."""
        seen = []
        for rows in (1, BATCH_ROWS):
            taken = []
            for _ in range(4):
                began = time.perf_counter()
                work(rows)
                taken.append(time.perf_counter() - began)
            seen.append((rows, min(taken)))
        return cls(seen)

    def saw(self, rows: int, seconds: float) -> None:
        """Learn from a batch."""
        new = (1.0, rows, seconds, rows * rows, rows * seconds)
        self._sums = [_DECAY * old + value for old, value in zip(self._sums, new, strict=True)]
        self._fit()

    def _fit(self) -> None:
        weight, n, t, nn, nt = self._sums
        for rows, seconds in self._first:
            weight, n, t, nn, nt = weight + 1, n + rows, t + seconds, nn + rows * rows, nt + rows * seconds
        self.per_row = max(0.0, (weight * nt - n * t) / (weight * nn - n * n))
        self.per_call = max(0.0, (t - self.per_row * n) / weight)

    def seconds(self, rows: int) -> float:
        """Return how long a batch of so many rows probably takes."""
        return self.per_call + self.per_row * rows

    def wait(self, rows: int) -> float:
        """Return how long it takes until so many rows, in batches, are done."""
        return -(-rows // BATCH_ROWS) * self.per_call + self.per_row * rows

    def __str__(self) -> str:
        """Return it as the log tells it."""
        one, batch = 1e3 * self.seconds(1), 1e3 * self.seconds(BATCH_ROWS)
        return f"one row takes {one:.1f} ms, {BATCH_ROWS} rows {batch:.1f} ms"
