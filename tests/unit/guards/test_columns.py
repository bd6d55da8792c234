"""What is told of a column by its counts, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponte.counting.bins import Bins
from ponte.guards.columns import CHANCE, ERRORS, MINIMUM_WINDOWS, RANGES, allowed, broken, in_words

NUMBER = Bins(name="amount", kind="number", edges=tuple(float(i) for i in range(10)))
TEXT = Bins(name="region", kind="value", values=("north", "south"))
#: Shares of the bins of a usual week: 10 % in each between the edges, 2 % NULL; of a text 5 % other.
USUAL = {NUMBER: [0, *[0.1] * 9, 0.08, 0.02], TEXT: [0.6, 0.33, 0.05, 0.02]}


def weeks(bins: Bins, count: int, rows: int = 1000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(rows, USUAL[bins], size=count)


def shares(bins: Bins, rows: int, **places: float) -> np.ndarray:
    """Return counts of `rows` rows: the shares at these places (`p3=0.5`), the rest as usual."""
    given = {int(name[1:]): share for name, share in places.items()}
    rest = 1 - sum(given.values())
    usual = np.array([0 if place in given else share for place, share in enumerate(USUAL[bins])])
    counts = np.round(rows * rest * usual / max(usual.sum(), 1e-9)).astype(np.int64)
    for place, share in given.items():
        counts[place] = round(rows * share)
    return counts


@pytest.mark.parametrize(
    ("bins", "batch", "constant", "fault"),
    [
        pytest.param(NUMBER, {}, False, None, id="as usual"),
        pytest.param(NUMBER, {"p11": 1}, False, "all_null", id="all NULL"),
        pytest.param(NUMBER, {"p5": 1}, True, "constant", id="constant"),
        pytest.param(NUMBER, {"p5": 0.6, "p11": 0.4}, True, "constant", id="constant beside NULL"),
        pytest.param(NUMBER, {"p11": 0.4}, False, "null_share", id="more NULL"),
        pytest.param(NUMBER, {"p10": 0.98}, False, "median", id="in another unit, greater"),
        pytest.param(NUMBER, {"p0": 0.98}, False, "median", id="in another unit, smaller"),
        pytest.param(NUMBER, {"p6": 0.25}, False, None, id="a bin that doubles is drift"),
        pytest.param(TEXT, {}, False, None, id="texts as usual"),
        pytest.param(TEXT, {"p2": 0.5}, False, "unseen_share", id="texts that nobody knew"),
        pytest.param(TEXT, {"p2": 0}, False, None, id="fewer unusual texts are no fault"),
        pytest.param(TEXT, {"p0": 1}, True, "constant", id="one text"),
        pytest.param(TEXT, {"p1": 0.9}, False, None, id="another usual text is drift"),
    ],
)
def test_gross_faults_are_told_and_drift_is_not(
    bins: Bins, batch: dict[str, float], constant: bool, fault: str
) -> None:
    found = broken(bins, shares(bins, 1000, **batch), weeks(bins, 12), constant=constant)
    assert (found and found.fault) == fault
    if found:
        assert found.column == bins.name
        assert bins.name in str(found)


@pytest.mark.parametrize("count", [1, MINIMUM_WINDOWS - 1, MINIMUM_WINDOWS])
def test_with_few_windows_only_all_null_and_constant_are_told(count: int) -> None:
    windows = weeks(NUMBER, count)
    assert broken(NUMBER, shares(NUMBER, 1000, p11=1), windows, constant=False)
    assert broken(NUMBER, shares(NUMBER, 1000, p5=1), windows, constant=True)
    told = broken(NUMBER, shares(NUMBER, 1000, p10=0.98), windows, constant=False)
    assert (told is not None) == (count >= MINIMUM_WINDOWS)


def test_what_was_so_in_a_window_before_is_no_fault() -> None:
    """The NULL of a column that came late, a flag that only summer sets."""
    before = np.vstack([weeks(NUMBER, 12), shares(NUMBER, 1000, p11=1), shares(NUMBER, 1000, p5=1)])
    assert not broken(NUMBER, shares(NUMBER, 1000, p11=1), before, constant=False)
    assert not broken(NUMBER, shares(NUMBER, 1000, p5=1), before, constant=True)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_handful_of_rows_may_be_alike(rows: int) -> None:
    assert not broken(TEXT, shares(TEXT, rows, p0=1), weeks(TEXT, 12), constant=True)
    assert not broken(NUMBER, shares(NUMBER, rows, p10=1), weeks(NUMBER, 12), constant=False) or rows >= 5


@given(share=st.floats(0.01, 0.999), rows=st.integers(1, 400))
def test_alike_is_a_fault_exactly_when_it_is_no_chance(share: float, rows: int) -> None:
    windows = np.array([[round(1000 * share), 1000 - round(1000 * share), 0, 0]])
    batch = np.array([rows, 0, 0, 0])
    chance = ((round(1000 * share) + 1) / 1001) ** rows
    assert (broken(TEXT, batch, windows, constant=True) is not None) == (chance < CHANCE)


@given(low=st.floats(0, 1), width=st.floats(0, 1), rows=st.integers(1, 10**6))
def test_what_is_allowed_contains_the_range_and_is_wider_for_fewer_rows(low: float, width: float, rows: int) -> None:
    high = min(1.0, low + width)
    lowest, highest = allowed(low, high, rows)
    assert lowest <= low - RANGES * (high - low) - ERRORS / rows + 1e-12
    assert highest >= high + RANGES * (high - low) + ERRORS / rows - 1e-12
    assert allowed(low, high, 4 * rows)[0] >= lowest


@given(counts=st.lists(st.integers(0, 50), min_size=12, max_size=12), windows=st.integers(0, 8))
@settings(max_examples=50)
def test_any_counts_are_judged(counts: list[int], windows: int) -> None:
    """Windows without rows, batches without rows or without a value: nothing divides by nothing."""
    with np.errstate(all="raise"):
        broken(NUMBER, np.array(counts), np.vstack([weeks(NUMBER, windows), np.zeros((2, 12), int)]), constant=False)


def test_many_faults_are_one_line() -> None:
    found = broken(NUMBER, shares(NUMBER, 1000, p11=1), weeks(NUMBER, 12), constant=False)
    assert found is not None
    assert in_words([found] * 7) == "; ".join(["amount: NULL in every row"] * 5) + "; 2 more columns"
