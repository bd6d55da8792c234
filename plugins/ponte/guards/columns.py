"""Has a column of a batch broken? Its counts per bin beside those of windows before; pure functions of counts.

A broken source is not drift: what a level or a share does from week to week is measured on the windows themselves, and
only what lies far outside of all that they did stops a batch. Windows are compared by shares of rows and never by
values, so a unit, a scale or an outlier makes no difference.
"""

from __future__ import annotations

import math
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
#: ... and so many standard errors of a binomial share. Both together, see `allowed`.
ERRORS = 4.0
#: Rows that are all alike are a fault when that was less probable than this.
CHANCE = 1e-6

Fault = Literal["all_null", "constant", "null_share", "unseen_share", "median"]
_IN_WORDS: dict[Fault, str] = {
    "null_share": "rows are NULL",
    "unseen_share": "values are none of the usual ones",
    "median": "values are below the usual median",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """What is wrong with one column of a batch."""

    column: str
    fault: Fault
    #: Shares of rows, 0 to 1: of the batch, and between which it was allowed to lie.
    share: float
    lowest: float
    highest: float
    windows: int

    def __str__(self) -> str:
        if self.fault in _IN_WORDS:
            what = f"{self.share:.1%} of the {_IN_WORDS[self.fault]}"
            return f"{self.column}: {what}, expected {self.lowest:.1%} to {self.highest:.1%}"
        return f"{self.column}: {'NULL' if self.fault == 'all_null' else 'the same value'} in every row"


@dataclass(frozen=True, slots=True)
class _Share:
    """So many of so many rows: of the batch, and of each window, shape (n_windows,)."""

    count: int
    rows: int
    counts: Counts
    rows_of_windows: Counts


def broken(bins: Bins, batch: Counts, windows: Counts, *, constant: bool) -> Broken | None:
    """Return what is wrong with a column of a batch, the gravest fault only; None: nothing that can be told.

    batch : counts, shape (bins.size,), laid out as `ponte.counting.bins` says: the last one is NULL.
    windows : those of the windows that it is compared with, shape (n_windows, bins.size).
    constant : whether all rows of the batch that have a value have the same one.
    """
    name, other = bins.name, bins.other
    nulls = _Share(int(batch[-1]), int(batch.sum()), windows[:, -1], windows.sum(axis=1))
    return (
        _never_so(name, "all_null", nulls)
        or (_never_so(name, "constant", _greatest_bin(batch, windows)) if constant else None)
        or _outside(name, "null_share", nulls)
        or (_outside(name, "median", _below_median(batch, windows)) if other is None else None)
        or (_more(name, "unseen_share", _of_values(batch, windows, other)) if other is not None else None)
    )


def _of_values(batch: Counts, windows: Counts, place: int) -> _Share:
    return _Share(int(batch[place]), int(batch[:-1].sum()), windows[:, place], windows[:, :-1].sum(axis=1))


def _greatest_bin(batch: Counts, windows: Counts) -> _Share:
    return _of_values(batch, windows, int(batch[:-1].argmax()))


def _below_median(batch: Counts, windows: Counts) -> _Share:
    """The values below the edge that is nearest to the median of all windows.

    A change of unit moves their share to 0 or 1 and a usual week by a few hundredths, whatever the scale of the values.
    """
    below, values = windows[:, :-1].cumsum(axis=1), windows[:, :-1].sum(axis=1)
    pooled = below.sum(axis=0) / max(1, int(values.sum()))
    edge = int(abs(pooled - 0.5).argmin())
    return _Share(int(batch[: edge + 1].sum()), int(batch[:-1].sum()), below[:, edge], values)


def _never_so(column: str, fault: Fault, share: _Share) -> Broken | None:
    """A fault when all rows are alike, and that is no chance.

    It is no wonder in a week of 3 rows, or where 99 % always are. With the greatest share s that such rows had in any
    window it happens to n rows with probability s^n; a fault is what is less probable than CHANCE. The share is taken
    with one more such row, so that it is never 0.
    """
    known = share.rows_of_windows > 0
    if not share.rows or share.count != share.rows or not known.any():
        return None
    usual = float(((share.counts[known] + 1) / (share.rows_of_windows[known] + 1)).max())
    if usual**share.rows >= CHANCE:
        return None
    return Broken(column=column, fault=fault, share=1.0, lowest=0.0, highest=usual, windows=int(known.sum()))


def _more(column: str, fault: Fault, share: _Share) -> Broken | None:
    found = _outside(column, fault, share)
    return found if found is not None and found.share > found.highest else None


def _outside(column: str, fault: Fault, share: _Share) -> Broken | None:
    known = share.rows_of_windows > 0
    if not share.rows or known.sum() < MINIMUM_WINDOWS:
        return None
    of_windows = share.counts[known] / share.rows_of_windows[known]
    lowest, highest = allowed(float(of_windows.min()), float(of_windows.max()), share.rows)
    got = share.count / share.rows
    if lowest <= got <= highest:
        return None
    lowest, highest = max(0.0, lowest), min(1.0, highest)
    return Broken(column=column, fault=fault, share=got, lowest=lowest, highest=highest, windows=len(of_windows))


def allowed(lowest: float, highest: float, rows: int) -> tuple[float, float]:
    """Return between which shares one of `rows` rows may lie when that of windows lay between `lowest` and `highest`.

    RANGES times the range wider on both sides, and ERRORS standard errors of a binomial share of so many rows, which
    are never less than those of one row in `rows`.
    """
    room = RANGES * (highest - lowest)
    return lowest - room - ERRORS * _error(lowest, rows), highest + room + ERRORS * _error(highest, rows)


def _error(share: float, rows: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / rows) / rows)


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
