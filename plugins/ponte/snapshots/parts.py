"""A snapshot in three parts, independent by time: fitting, then calibration, then holdout."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ponte.snapshots.lifecycle import Snapshot
from ponte.versions.signature import TRAINED_NOW, Signature, categories_of, frame_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a snapshot: features, shape (n_rows, n_features), and labels, shape (n_rows,)."""

    rows: pa.Table
    features: pd.DataFrame
    labels: np.ndarray[Any, Any]

    def since(self, first: dt.date) -> Part:
        """Return its rows of the windows from `first` on."""
        import numpy as np

        return self.take(np.flatnonzero(_starts_from(self.rows, first)))

    def take(self, places: np.ndarray[Any, Any]) -> Part:
        """Return its rows at these places, in this order."""
        return Part(rows=self.rows.take(places), features=self.features.iloc[places], labels=self.labels[places])


@dataclass(frozen=True, slots=True)
class Parts:
    """Each part is later than the one before, and knows no outcome that became known after the next one began."""

    fitting: Part
    #: Calibrates the probabilities and sets the threshold; no rows when the model has no such part.
    calibration: Part
    #: Only measures.
    holdout: Part
    #: Rows of fitting and calibration left out because their outcome was not known yet when the next part began.
    purged_rows: int
    #: The texts of the fitting rows, which all frames were made with; see `Signature.categories`.
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def split(table: pa.Table, snapshot: Snapshot) -> Parts:
    """Return the parts of a snapshot.

    A row of an earlier part counts only when its label was known at the as_of of the next part's first window: what a
    model in production could not have learned by then must not improve its figures. Labels without a `labelled_at`
    count as known.
    """
    holdout_from = snapshot.holdout_from
    calibration_from = snapshot.calibration_from or holdout_from
    fitting = _between(table, None, calibration_from)
    calibration = _between(table, calibration_from, holdout_from)
    known_fitting = _known_at(fitting, snapshot.window_as_of(calibration_from))
    known_calibration = _known_at(calibration, snapshot.window_as_of(holdout_from))
    purged = fitting.num_rows - known_fitting.num_rows + calibration.num_rows - known_calibration.num_rows
    signature = snapshot.signature
    if signature.types == TRAINED_NOW:
        signature = replace(signature, categories=categories_of(known_fitting, signature.features))
    return Parts(
        fitting=_part(known_fitting, signature),
        calibration=_part(known_calibration, signature),
        holdout=_part(_between(table, holdout_from, None), signature),
        purged_rows=purged,
        categories=signature.categories,
    )


def _starts_from(table: pa.Table, first: dt.date) -> Any:
    """Tell for each row whether its window is that of `first` or a later one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.greater_equal(table.column("window_start"), pa.scalar(first, pa.date32()))


def _between(table: pa.Table, first: dt.date | None, end: dt.date | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    if first is not None:
        table = table.filter(_starts_from(table, first))
    if end is not None:
        table = table.filter(pc.less(table.column("window_start"), pa.scalar(end, pa.date32())))
    return table


def _known_at(table: pa.Table, moment: dt.datetime) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    labelled_at = table.column("labelled_at")
    known = pc.less_equal(labelled_at, pa.scalar(moment, labelled_at.type))
    return table.filter(pc.or_kleene(pc.is_null(labelled_at), known))


def _part(table: pa.Table, signature: Signature) -> Part:
    labels = table.column("label").to_pandas().to_numpy()
    return Part(rows=table, features=frame_of(table, signature), labels=labels)
