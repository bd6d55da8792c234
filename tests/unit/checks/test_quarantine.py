"""The budget of rows that may be set aside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.checks.quarantine import allowed_rows


@pytest.mark.parametrize(
    ("budget", "row_count", "allowed"),
    [(0.02, 6504, 130), (0.02, 49, 0), (0.02, 50, 1), (0.0, 10**9, 0), (0.5, 1, 0), (0.999, 1000, 999), (0.02, 0, 0)],
)
def test_budget_is_a_share_of_the_frozen_rows_rounded_down(budget: float, row_count: int, allowed: int) -> None:
    assert allowed_rows(budget, row_count) == allowed


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**7))
def test_at_least_one_row_is_left_to_score_whatever_the_budget(budget: float, row_count: int) -> None:
    assert 0 <= allowed_rows(budget, row_count) < row_count
