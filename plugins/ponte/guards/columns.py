"""Has a column of a batch broken? Its counts per bin beside those of windows before; pure functions of counts.

A broken source is not drift: what a level or a share may do from week to week is measured on the windows themselves, and
only what lies far outside of all that they did stops a batch. Windows are compared by shares of rows and never by
values, so a unit, a scale or an outlier makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ponte.counting.bins import Bins

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]

#: With fewer windows than this their range says nothing of what a share may do; only all NULL and constant are told.
MINIMUM_WINDOWS = 6
#: How far outside the range of the windows a share may lie: so many times that range, ...
RANGES = 3.0
#: ... and so many standard errors of a binomial share. Both together, see `outside`.
ERRORS = 4.0
#: A column whose rows are all in one bin is constant when that was less probable than this.
CHANCE = 1e-6

Fault = Literal["all_null", "constant", "null_share", "unseen_share", "median"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """What is wrong with one column of a batch."""

    column: str
    fault: Fault
    #: Shares of rows, 0 to 1: of the batch, and the range that was allowed.
    share: float
    lowest: float
    highest: float
    windows: int

    def __str__(self) -> str:
        if self.fault in ("all_null", "constant"):
            return f"{self.column}: {'NULL' if self.fault == 'all_null' else 'the same'} in every row"
        what = {
            "null_share": "rows are NULL",
            "unseen_share": "values are none of those that are usual",
            "median": "values are below the usual median",
        }[self.fault]
        return f"{self.column}: {self.share:.1%} of the {what}, expected {self.lowest:.1%} to {self.highest:.1%}"


def broken(bins: Bins, batch: Counts, windows: Counts, *, constant: bool) -> Broken | None:
    """Return what is wrong with a column of a batch, the gravest fault only; None: nothing that can be told.

    batch : counts, shape (bins.size,), laid out as `ponte.counting.bins` says: the last one is NULL.
    windows : those of the windows that it is compared with, shape (n_windows, bins.size); without rows they do not count.
    constant : whether all rows of the batch that have a value have the same one.
    """
    windows = windows[windows.sum(axis=1) > 0]
    rows = int(batch.sum())
    if not rows or not len(windows):
        return None
    name, of_windows = bins.name, windows.sum(axis=1)
    return (
        _never_so(name, "all_null", int(batch[-1]), rows, windows[:, -1], of_windows)
        or (_constant(name, batch, windows) if constant else None)
        or _outside(name, "null_share", int(batch[-1]), rows, windows[:, -1], of_windows)
        or (_median(name, batch, windows) if bins.other is None else _unusual(name, batch, windows, bins.other))
    )


def _constant(column: str, batch: Counts, windows: Counts) -> Broken | None:
    place = int(batch[:-1].argmax())
    values = int(batch[:-1].sum())
    return _never_so(column, "constant", values, values, windows[:, place], windows[:, :-1].sum(axis=1))


def _never_so(
    column: str, fault: Fault, count: int, rows: int, of_windows: Counts, rows_of_windows: Counts
) -> Broken | None:
    """A fault when all rows are alike, and that is no chance.

    It is no wonder in a week of 3 rows, or where 99 % always are. With the greatest share s that such rows had in any
    window it happens to n rows with probability s^n; a fault is what is less probable than CHANCE. The share is taken
    with one more such row, so that it is never 0.
    """
    if not rows or count != rows:
        return None
    usual = float(((of_windows + 1) / (rows_of_windows + 1)).max())
    if usual**rows >= CHANCE:
        return None
    return Broken(column=column, fault=fault, share=1.0, lowest=0.0, highest=usual, windows=len(of_windows))


def _median(column: str, batch: Counts, windows: Counts) -> Broken | None:
    """The share of values below the edge that is nearest to the median of all windows.

    A change of unit moves it to 0 or 1 and a usual week by a few hundredths, whatever the scale of the values.
    """
    below, values = windows[:, :-1].cumsum(axis=1), windows[:, :-1].sum(axis=1)
    pooled = below.sum(axis=0) / max(1, int(values.sum()))
    edge = int(abs(pooled - 0.5).argmin())
    known = values > 0
    of_batch = batch[:-1]
    return _outside(
        column, "median", int(of_batch[: edge + 1].sum()), int(of_batch.sum()), below[known, edge], values[known]
    )


def _unusual(column: str, batch: Counts, windows: Counts, other: int) -> Broken | None:
    values = windows[:, :-1].sum(axis=1)
    known, count = values > 0, int(batch[other])
    found = _outside(column, "unseen_share", count, int(batch[:-1].sum()), windows[known, other], values[known])
    return found if found is not None and found.share > found.highest else None  # fewer are no fault


def _outside(
    column: str, fault: Fault, count: int, rows: int, of_windows: Counts, rows_of_windows: Counts
) -> Broken | None:
    if not rows or len(of_windows) < MINIMUM_WINDOWS:
        return None
    shares = of_windows / rows_of_windows
    lowest, highest = allowed(float(shares.min()), float(shares.max()), rows)
    share = count / rows
    if lowest <= share <= highest:
        return None
    return Broken(
        column=column, fault=fault, share=share, lowest=max(0.0, lowest), highest=min(1.0, highest), windows=len(shares)
    )


def allowed(lowest: float, highest: float, rows: int) -> tuple[float, float]:
    """Return between which shares a share of `rows` rows may lie when that of windows lay between `lowest` and `highest`.

    RANGES times the range wider on both sides, and ERRORS standard errors of a binomial share of so many rows, which are
    never less than those of one row in `rows`.
    """
    room = RANGES * (highest - lowest)
    return lowest - room - ERRORS * _error(lowest, rows), highest + room + ERRORS * _error(highest, rows)


def _error(share: float, rows: int) -> float:
    variance: float = max(share * (1 - share), 1 / rows) / rows
    return variance**0.5


def in_words(found: Sequence[Broken], most: int = 5) -> str:
    """Return the first faults as one line of a message."""
    more = f"; {len(found) - most} more columns" if len(found) > most else ""
    return "; ".join(str(fault) for fault in found[:most]) + more


def evidence(found: Sequence[Broken]) -> Mapping[str, Any]:
    """Return the faults by column, for `ponte.guard_result`."""
    return {
        fault.column: {
            "fault": fault.fault,
            "share": fault.share,
            "allowed": [fault.lowest, fault.highest],
            "windows": fault.windows,
        }
        for fault in found
    }
