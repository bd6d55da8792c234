"""The rows that training leaves out: how many of each window, and why.

Law: in every window, feature rows = rows kept + rows left out. It is asserted wherever either side is written, and once
more by a constraint of `ponte.snapshot`. What is purged later, because a part may not know it yet, is a version's:
`ponte.version.purged_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ponte.errors import RowsLost

#: Why a row that features.sql returns is not trained on, and how that is said; `<reason>_rows` in `ponte.snapshot`.
REASONS = {
    "no_label": "labels.sql returns no row of its key",
    "null_label": "its label is NULL",
    "late_label": "its label became known after as_of",
    "set_aside": "a check set it aside",
}


def describe_window(rows: int, features: int, left_out: Mapping[str, int], *, where: str) -> dict[str, Any]:
    """Return what `ponte.snapshot.windows` says about the rows of a window; raises RowsLost unless they add up.

    left_out : by reason; a reason that is not named has left out nothing.
    """
    counts = {reason: left_out.get(reason, 0) for reason in REASONS}
    if features != rows + sum(counts.values()):
        raise RowsLost(
            "rows of features.sql are not rows kept plus rows left out",
            where=where,
            got=f"{rows} kept; {in_words(counts) or 'none left out'}",
            expected=f"{features} rows of features.sql",
            fix="clear freeze_windows: the rows are frozen anew",
        )
    return {"rows": rows, "features": features, "left_out": counts}


def totals(windows: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
    """Return the columns of `ponte.snapshot` that sum up its windows; None when one is of before they were counted."""
    counted = list(windows)
    if not all("left_out" in window for window in counted):
        return {"feature_rows": None, **{f"{reason}_rows": None for reason in REASONS}}
    return {
        "feature_rows": sum(window["features"] for window in counted),
        **{f"{reason}_rows": sum(window["left_out"][reason] for window in counted) for reason in REASONS},
    }


def in_words(left_out: Mapping[str, int | None]) -> str:
    """Return how many rows were left out and why, for people; empty when none were.

    >>> in_words({"no_label": 3, "null_label": 0, "late_label": 1200, "set_aside": 0})
    '3 left out: labels.sql returns no row of its key; 1,200 left out: its label became known after as_of'
    """
    return "; ".join(f"{left_out[reason]:,} left out: {said}" for reason, said in REASONS.items() if left_out[reason])
