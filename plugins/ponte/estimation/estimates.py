"""Estimates of a batch: summed while it is scored, finished when it is guarded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.estimation.calibration import Calibration, places
from ponte.estimation.sums import figures_of, sums_of_regression
from ponte.model.spec import METRICS, Task
from ponte.storage.database import insert_rows
from ponte.versions.predicting import Output

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from adbc_driver_manager.dbapi import Cursor

    Array = np.ndarray[Any, Any]

_SUMS = sa.text("""SELECT sums, method, spread, calibrated_on, calibrated_rows FROM ponte.estimate_sum
    WHERE batch_id = :id ORDER BY shard""")
#: Of a normal distribution: 95 % lie within.
_DEVIATIONS = 1.96


@dataclass(slots=True)
class Estimation:
    """The sums of a shard, so far."""

    calibration: Calibration
    output: Output
    sums: Array | None = field(default=None)

    def add(self, predictions: pa.RecordBatch) -> None:
        """Add rows of the prediction table; those of a regression are added by their `expected` errors."""
        import numpy as np

        if self.output.task == "regression":
            return
        predicted = places(predictions.column("prediction").to_numpy(zero_copy_only=False), self.output)
        if self.output.task == "binary":
            score = predictions.column("score").to_numpy(zero_copy_only=False)
        else:
            flat: Any = predictions.column("scores")
            score = np.asarray(flat.flatten()).reshape(predictions.num_rows, -1)
        self._add(self.calibration.sums(score, predicted))

    def add_errors(self, expected: Array) -> None:
        """Add the errors to be expected of rows, shape (n,)."""
        self._add(sums_of_regression(expected))

    def _add(self, sums: Array) -> None:
        self.sums = sums if self.sums is None else self.sums + sums

    def write(self, writing: Cursor, batch_id: int, shard: int) -> None:
        """Insert the sums of the shard, in the transaction of the cursor; nothing for a shard without predictions."""
        if self.sums is None:
            return
        sums = ", ".join(repr(float(value)) for value in self.sums)
        known = self.calibration
        # Names of metrics and numbers, and nothing else.
        spread = json.dumps(known.spread, allow_nan=False)
        writing.execute(
            "INSERT INTO ponte.estimate_sum "
            "(batch_id, shard, sums, method, spread, calibrated_on, calibrated_rows) VALUES "
            f"({batch_id:d}, {shard:d}, CAST(ARRAY[{sums}] AS float8[]), '{known.method}', '{spread}', "
            f"'{known.calibrated_on}', {known.calibrated_rows:d})"
        )


def finish(connection: sa.Connection, batch_id: int, task: Task) -> None:
    """Make the estimates of a batch from the sums of its shards, in the caller's transaction; none without sums."""
    import numpy as np

    rows = connection.execute(_SUMS, {"id": batch_id}).all()
    if not rows:
        return
    sums, known = np.sum([row.sums for row in rows], axis=0), rows[0]
    figures = figures_of(task, sums)
    insert_rows(
        connection,
        "ponte.estimate",
        [
            {
                "batch_id": batch_id,
                "metric": metric,
                "method": known.method,
                **_interval(metric, value, (variance + known.spread.get(metric, 0.0) ** 2) ** 0.5),
                "calibrated_on": known.calibrated_on,
                "calibrated_rows": known.calibrated_rows,
                "row_count": int(sums[0]),
            }
            for metric, (value, variance) in figures.items()
            if metric in METRICS[task]
        ],
    )


def _interval(metric: str, value: float, deviation: float) -> dict[str, float]:
    highest = 1.0 if metric not in ("log_loss", "mae") else float("inf")
    low, high = value - _DEVIATIONS * deviation, value + _DEVIATIONS * deviation
    return {"value": value, "low": max(0.0, low), "high": min(highest, high)}
