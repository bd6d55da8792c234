"""Figures of two versions beside each other: whose, on which rows, and which way the difference goes."""

from __future__ import annotations

from typing import Any

from ponte.quality.figures import Figure
from ponte.viewing.versions import beside


def row(
    version: int, snapshot: int, subject: str, value: float, ends: tuple[float | None, float | None]
) -> dict[str, Any]:
    return {"version": version, "snapshot_id": snapshot, "subject": subject, "name": "mae", "value": value,
            "low": ends[0], "high": ends[1], "row_count": snapshot * 10}  # fmt: skip


#: Version 2 was measured beside champion 1 twice, the newest first; before that on rows of its own.
METRICS = [
    row(2, 7, "candidate", 5.0, (4.0, 6.0)), row(2, 7, "champion:1", 8.0, (7.0, 9.0)),
    row(2, 7, "difference:champion:1", -3.0, (-3.5, None)),
    row(2, 5, "candidate", 50.0, (40.0, 60.0)), row(2, 5, "champion:1", 80.0, (70.0, 90.0)),
    row(2, 5, "difference:champion:1", -30.0, (-35.0, -25.0)),
    row(1, 4, "candidate", 70.0, (60.0, 80.0)),
]  # fmt: skip


def test_one_that_was_measured_with_the_other_as_its_champion_is_compared_on_these_rows() -> None:
    [figure], same_rows, row_count = beside(METRICS, 4, 7, 1, 2)
    assert (figure.first, figure.second) == (Figure(8.0, 7.0, 9.0), Figure(5.0, 4.0, 6.0))
    assert figure.difference == Figure(-3.0, -3.5, None)
    assert (same_rows, row_count) == (True, 70)


def test_the_other_way_round_figures_sign_and_interval_are_turned() -> None:
    [figure], same_rows, row_count = beside(METRICS, 7, 4, 2, 1)
    assert (figure.first, figure.second) == (Figure(5.0, 4.0, 6.0), Figure(8.0, 7.0, 9.0))
    assert figure.difference == Figure(3.0, None, 3.5)
    assert (same_rows, row_count) == (True, 70)


def test_else_each_stands_with_the_holdout_of_its_own_snapshot() -> None:
    others = [*METRICS, *(row(3, snapshot, "candidate", snapshot, (None, None)) for snapshot in (9, 8, 6))]
    [figure], same_rows, row_count = beside(others, 8, 7, 3, 2)
    assert (figure.first, figure.second, figure.difference) == (Figure(8, None, None), Figure(5.0, 4.0, 6.0), None)
    assert (same_rows, row_count) == (False, None)
