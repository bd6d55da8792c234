"""Bins of a column, and how rows fall into them."""

from __future__ import annotations

import datetime as dt
import math

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from ponte.counting.bins import Bins, Tally, digest_of_number, digest_of_text, empty_tally, microseconds
from ponte.counting.choosing import bins_of_classes, choose_bins

NUMBERS = st.lists(st.one_of(st.none(), st.floats(width=64), st.sampled_from([0.0, -0.0, 1.0, 5e-324])), max_size=60)
EDGES = st.sets(st.one_of(st.floats(allow_nan=False), st.sampled_from([0.0, 5e-324, 1.0]))).map(
    lambda edges: tuple(sorted({edge + 0.0 for edge in edges}))
)
MOMENT = dt.datetime(2024, 2, 12, tzinfo=dt.UTC)


def tally(bins: Bins, *arrays: pa.Array, as_of: dt.datetime = MOMENT) -> Tally:
    """Return the counts of these arrays."""
    found = empty_tally(bins)
    for array in arrays:
        found.add(array, as_of=microseconds(as_of))
    return found


@given(numbers=NUMBERS, edges=EDGES)
def test_every_number_is_in_the_bin_that_a_search_finds(numbers: list[float | None], edges: tuple[float, ...]) -> None:
    found = tally(Bins(name="x", kind="number", edges=edges), pa.array(numbers, pa.float64()))
    expected = np.zeros(len(edges) + 2, dtype=int)
    for number in numbers:
        null = number is None or math.isnan(number)
        expected[-1 if null else np.searchsorted(edges, number, side="right")] += 1
    assert found.counts.tolist() == expected.tolist()


@given(first=NUMBERS, second=NUMBERS, edges=EDGES)
def test_counts_of_two_shards_are_those_of_all_rows(
    first: list[float | None], second: list[float | None], edges: tuple[float, ...]
) -> None:
    bins = Bins(name="x", kind="number", edges=edges)
    one, two = (pa.array(n, pa.float64()) for n in (first, second))
    whole, halves = tally(bins, pa.concat_arrays([one, two])), tally(bins, one, two)
    assert whole.counts.tolist() == (tally(bins, one).counts + tally(bins, two).counts).tolist()
    assert whole.only_value == halves.only_value


def test_a_constant_is_told_from_a_narrow_spread_in_one_bin() -> None:
    bins = Bins(name="x", kind="number", edges=(0.0, 10.0))
    assert tally(bins, pa.array([5.0, None, 5.0])).only_value == digest_of_number(5.0)
    assert tally(bins, pa.array([5.0]), pa.array([5.0])).only_value == digest_of_number(5.0)
    assert tally(bins, pa.array([5.0]), pa.array([5.5]), pa.array([5.0])).only_value is None
    assert tally(bins, pa.array([0.0, -0.0])).only_value == digest_of_number(0.0)
    assert tally(bins, pa.array([None, float("nan")], pa.float64())).only_value is None


@pytest.mark.parametrize("kind", ["value", "length"])
def test_a_constant_text_is_seen_though_no_bin_names_it(kind: str) -> None:
    bins = Bins(name="t", kind=kind, edges=(1.0, 5.0) if kind == "length" else (), values=())
    assert tally(bins, pa.array(["abcd", None, "abcd"])).only_value == digest_of_text("abcd")
    assert tally(bins, pa.array(["abcd", "abce"])).only_value is None


def test_texts_that_few_rows_have_are_named_nowhere() -> None:
    texts = pa.array(["a"] * 30 + ["b"] * 20 + ["c"] * 19 + [""] * 25 + [None] * 40)
    bins = choose_bins("t", "text", texts)
    assert bins.values == ("a", "", "b")
    assert tally(bins, texts, pa.array(["never seen"])).counts.tolist() == [30, 25, 20, 20, 40]


def test_at_most_20_texts_are_named() -> None:
    texts = pa.array([f"text {n}" for n in range(30) for _ in range(30 + n)])
    assert choose_bins("t", "text", texts).values == tuple(f"text {n}" for n in range(29, 9, -1))


def test_texts_that_are_all_different_are_counted_by_length_and_the_empty_ones_apart() -> None:
    texts = pa.array(["x" * (n % 40) + f"{n}" for n in range(2000)])
    bins = choose_bins("t", "text", texts)
    assert bins.kind == "length"
    counts = tally(bins, pa.array(["", "", "é" * 500, None])).counts.tolist()
    assert (counts[0], counts[-2], counts[-1], sum(counts)) == (2, 1, 1, 4)


def test_numbers_have_deciles_and_two_edges_far_away() -> None:
    numbers = pa.array(np.random.default_rng(1).normal(100, 5, 20_000))
    bins = choose_bins("x", "number", numbers)
    counts = tally(bins, numbers).counts
    assert len(bins.edges) == 11
    assert counts[0] == counts[-2] == 0
    assert (abs(counts[1:-2] - 2000) <= 1).all()
    assert tally(bins, pa.array(np.asarray(numbers) * 1000)).counts[-2] == 20_000
    assert tally(bins, pa.array(np.asarray(numbers) * 0.001)).counts[0] == 20_000


def test_a_frequent_number_has_a_bin_of_its_own() -> None:
    rng = np.random.default_rng(1)
    numbers = np.where(rng.random(5000) < 0.06, 0.0, rng.lognormal(0, 2, 5000))
    bins = choose_bins("x", "number", pa.array(numbers))
    place = bins.edges.index(0.0) + 1
    assert tally(bins, pa.array(numbers)).counts[place] == (numbers == 0).sum()


def test_few_numbers_have_a_bin_each_unless_few_rows_have_them() -> None:
    bins = choose_bins("n", "integer", pa.array([1] * 30 + [2] * 40 + [7] * 19 + [None]))
    assert tally(bins, pa.array([0, 1, 2, 3, 7, None])).counts.tolist() == [1, 1, 0, 1, 2, 1]


def test_dates_are_counted_by_their_age() -> None:
    days = pa.array([dt.date(2024, 2, 1) - dt.timedelta(n) for n in range(100)])
    bins = choose_bins("d", "date", days, as_of=microseconds(MOMENT))
    later = MOMENT + dt.timedelta(days=365)
    moved = pa.array([day.as_py() + dt.timedelta(365) for day in days] + [None])
    assert bins.kind == "age"
    assert tally(bins, moved, as_of=later).counts[:-1].tolist() == tally(bins, days).counts[:-1].tolist()
    exactly = pa.array([MOMENT - dt.timedelta(days=2), MOMENT], pa.timestamp("us", tz="UTC"))
    assert tally(Bins(name="d", kind="age", edges=(0.0, 2.0)), exactly).counts.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("family", "values", "size"),
    [("number", [None, None], 2), ("text", [None], 2), ("boolean", [None], 3), ("date", [None], 2), ("integer", [], 2)],
)
def test_columns_without_a_value_have_bins(family: str, values: list[None], size: int) -> None:
    types = {"number": pa.float64(), "text": pa.string(), "boolean": pa.bool_(), "date": pa.date32()}
    array = pa.array(values, types.get(family, pa.int64()))
    bins = choose_bins("c", family, array, as_of=0)
    assert bins.size == size
    assert tally(bins, array).counts.tolist() == [0] * (size - 1) + [len(values)]


def test_infinite_numbers_make_no_edge_and_are_beyond_all() -> None:
    numbers = np.r_[np.arange(100.0), np.inf, -np.inf, np.nan]
    bins = choose_bins("x", "number", pa.array(numbers))
    assert np.isfinite(bins.edges).all()
    counts = tally(bins, pa.array(numbers)).counts
    assert (counts[0], counts[-2], counts[-1]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("family", "classes", "values", "counts"),
    [
        ("integer", (1, 0), pa.array([0, 0, 1]), [2, 1, 0]),
        ("integer", (3, 5, 9), pa.array([9, 3, 9]), [1, 0, 2, 0]),
        ("boolean", (False, True), pa.array([True]), [0, 1, 0]),
        ("text", ("b", "a"), pa.array(["a"]), [1, 0, 0, 0]),
    ],
)
def test_each_class_has_a_bin(family: str, classes: tuple[object, ...], values: pa.Array, counts: list[int]) -> None:
    assert tally(bins_of_classes("prediction", family, classes), values).counts.tolist() == counts
