"""The one way from rows to prediction rows: for shards and rollbacks, and for whoever asks about a few rows.

It sets nothing for the whole process. How many threads may compute, and what becomes of freed memory, is up to whoever
runs it.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ponte.checks.quarantine import Unscored
from ponte.estimation.errors import expected_errors
from ponte.versions.isolation import Isolated, isolate
from ponte.versions.loading import LoadedVersion
from ponte.versions.predicting import Predictions, as_labels, score_column

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ponte.short_way.plain import PlainRows

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of some rows: each is in exactly one of the two."""

    #: Rows of the prediction table, in parts, without the columns that have a default there.
    predictions: tuple[pa.RecordBatch, ...]
    unscored: tuple[Unscored, ...]
    #: How many of these by the class of what the estimator raised.
    kinds: Counter[str] = field(default_factory=Counter)
    #: Of the predictions, in parts, the absolute errors to be expected; () unless asked for.
    expected_errors: tuple[Array, ...] = ()


class Scorer:
    """A loaded version, asked about rows. Made in the thread that loaded it; asked in any, by one at a time."""

    def __init__(self, loaded: LoadedVersion, *, expect_errors: bool = False) -> None:
        """expect_errors : of a regression that has a model of its errors, say how large they probably are."""
        import sklearn

        self.version = loaded.version
        self._loaded = loaded
        self._error_model = loaded.error_model if expect_errors else None
        # scikit-learn's settings hold for one thread; loading the version may have changed those of this one.
        self._settings: dict[str, Any] = sklearn.get_config()

    def score(self, rows: pa.Table, *, now: dt.datetime, allowed: int) -> Scored:
        """Return the predictions of rows, and the rows that the estimator cannot score with what it said.

        rows : the columns of the version's signature, key and features, in any order. now : goes into `scored_at`.
        allowed : more unscored rows than this raise TooManyUnscored. Otherwise raises what `predicting.predict` raises
        about anything but rows.
        """
        import sklearn

        found = self.isolated(rows, allowed=allowed)
        with sklearn.config_context(**self._settings):
            errors = [] if self._error_model is None else [self._errors(*part) for part in found.scored]
        names = [c.name for c in self.version.signature.key]
        return Scored(
            tuple(self._prediction_rows(part, predictions, now) for part, predictions in found.scored),
            tuple(Unscored(key, why) for part, _, why in found.unscored for key in part.select(names).to_pylist()),
            found.kinds,
            tuple(errors),
        )

    def predictions(self, rows: pa.Table | PlainRows) -> Predictions:
        """Return the predictions of rows, all or none; raises what `predicting.predict` and the estimator raise."""
        import sklearn

        with sklearn.config_context(**self._settings):
            return self._loaded.predictions(rows)

    def isolated(self, rows: pa.Table, *, allowed: int) -> Isolated:
        """Return the predictions of rows, and the rows without; see `score`."""
        import sklearn

        with sklearn.config_context(**self._settings):
            return isolate(self._loaded.predictions, rows, allowed=allowed)

    def _errors(self, rows: pa.Table, predictions: Predictions) -> Array:
        return expected_errors(self._error_model, rows, self._loaded.signature, predictions.prediction)

    def _prediction_rows(self, rows: pa.Table, predictions: Predictions, now: dt.datetime) -> pa.RecordBatch:
        import pyarrow as pa

        signature = self.version.signature
        columns: dict[str, Any] = {c.name: rows.column(c.name).combine_chunks() for c in signature.key}
        columns["prediction"] = as_labels(predictions.prediction, signature, self.version.task)
        scores = score_column(predictions)
        if scores is not None:
            columns[scores[0]] = scores[1]
        ends = {"low": predictions.low, "high": predictions.high}
        columns |= {name: pa.array(values) for name, values in ends.items() if values is not None}
        columns["scored_at"] = pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), rows.num_rows)
        return pa.RecordBatch.from_pydict(columns)
