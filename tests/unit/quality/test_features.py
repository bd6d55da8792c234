"""An outcome in disguise shows, however rare it is and however it is dressed; what knows nothing does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.quality.test_measurement import parts_of, signature_of, spec_of

from ponte.model.spec import Task
from ponte.quality.features import of_features
from ponte.quality.figures import FEATURE, Measured
from ponte.quality.groups import bin_edges, places_in_order
from ponte.versions.predicting import Output

ROWS = 600
CLASSES: dict[Task, tuple[Any, ...]] = {"binary": (0, 1), "multiclass": (0, 1, 2), "regression": ()}


def measured(task: Task, feature: np.ndarray, labels: np.ndarray) -> list[Measured]:
    """Return what is said of a number; NaN is NULL. The first half of the rows fits, the second is the holdout."""
    values: list[Any] = [None if np.isnan(v) else float(v) for v in feature]
    half = len(labels) // 2
    known: Sequence[Any] = labels.tolist()
    parts = parts_of({("x", "number"): (values[:half], values[half:])}, known[:half], known[half:])
    return of_features(spec_of(task), Output(task=task, classes=CLASSES[task]), signature_of(parts_features()), parts)


def parts_features() -> dict[tuple[str, Any], Any]:
    return {("x", "number"): ((), ())}


def alone(task: Task, feature: np.ndarray, labels: np.ndarray) -> float:
    [found] = [m for m in measured(task, feature, labels) if m.subject.startswith(FEATURE)]
    return found.figure.value


def rare(count: int, rows: int = ROWS) -> np.ndarray:
    """Return an outcome that `count` rows of each half have, spread over it."""
    labels = np.zeros(rows, dtype=int)
    for half in (0, rows // 2):
        labels[half + np.linspace(0, rows // 2 - 1, count).astype(int)] = 1
    return labels


RISING = {
    "as it is": lambda v: v,
    "cubed": lambda v: v**3,
    "exponential": lambda v: np.exp(v / 10),
    "squeezed": np.arctan,
    "falling": lambda v: -v,
}


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, ROWS // 2 - 1),
    shape=st.sampled_from(sorted(RISING)),
    elsewhere=st.sampled_from([0.0, 1e6, -1e6, float("nan")]),
    seed=st.integers(0, 2**16),
)
@example(count=2, shape="as it is", elsewhere=0.0, seed=0)  # 0.7 % positives
@example(count=298, shape="falling", elsewhere=float("nan"), seed=0)
def test_an_amount_that_only_one_outcome_has_reaches_1_at_every_prevalence(
    count: int, shape: str, elsewhere: float, seed: int
) -> None:
    labels = rare(count)
    amount = RISING[shape](np.random.default_rng(seed).uniform(10, 100, ROWS))
    assert alone("binary", np.where(labels == 1, amount, elsewhere), labels) == 1.0


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(5, ROWS // 2 - 1),
    shape=st.sampled_from(sorted(RISING)),
    tail=st.sampled_from([0.1, 1.0, 3.0]),
    elsewhere=st.sampled_from(["constant", "NULL"]),
    seed=st.integers(0, 2**16),
)
def test_a_monotone_function_of_a_quantity_reaches_1_however_long_its_tail(
    count: int, shape: str, tail: float, elsewhere: str, seed: int
) -> None:
    happened = rare(count) == 1
    quantity = np.where(happened, np.random.default_rng(seed).lognormal(0, tail, ROWS), 0.0)
    # A function of the logarithm, which is in reach of all of them.
    feature = RISING[shape](np.log1p(quantity))
    if elsewhere == "NULL":
        feature = np.where(happened, feature, np.nan)
    assert alone("regression", feature, quantity) == pytest.approx(1.0)


def test_a_number_amid_those_of_the_other_outcome_reaches_nearly_1() -> None:
    """Not monotone: only bins find it, and only if the one value has its own."""
    labels = rare(150)
    amount = np.random.default_rng(0).uniform(-50, 50, ROWS)
    assert alone("binary", np.where(labels == 1, amount, 0.0), labels) == 1.0


@pytest.mark.parametrize("count", [3, 30, 150])
def test_noise_is_not_taken_for_knowledge(count: int) -> None:
    """The way up or down is learned in the fitting rows: the holdout cannot choose what suits it."""
    labels = rare(count)
    found = [alone("binary", np.random.default_rng(seed).normal(size=ROWS), labels) for seed in range(40)]
    assert abs(np.mean(found) - 0.5) < 0.12
    assert max(found) < 0.95


def filled(task: Task, feature: np.ndarray, labels: np.ndarray) -> list[tuple[str, str, float, int]]:
    others = [m for m in measured(task, feature, labels) if not m.subject.startswith(FEATURE)]
    return [(m.subject, m.slice, m.figure.value, m.row_count) for m in others]


def test_a_column_that_is_filled_in_only_for_one_outcome_is_named_though_it_reaches_little() -> None:
    labels = rare(150)
    rng = np.random.default_rng(0)
    feature = np.where((labels == 1) & (rng.uniform(size=ROWS) < 0.3), rng.normal(size=ROWS), np.nan)
    count = int((~np.isnan(feature)).sum())

    assert alone("binary", feature, labels) < 0.75
    assert filled("binary", feature, labels) == [("filled:x", "label=1", 1.0, count)]


def test_a_column_that_is_missing_only_for_one_outcome_is_named() -> None:
    labels = rare(150)
    rng = np.random.default_rng(0)
    feature = np.where((labels == 0) & (rng.uniform(size=ROWS) < 0.3), np.nan, rng.normal(size=ROWS))
    assert [(s, p, v) for s, p, v, _ in filled("binary", feature, labels)] == [("missing:x", "label=0", 1.0)]


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        (rare(150), np.arange(ROWS) % 3 == 0),
        (rare(150), np.arange(ROWS) > 5),  # six rows: chance
        (rare(2), np.arange(ROWS) % 3 == 0),  # nearly all rows have one outcome, with a value or without
        (rare(150), np.zeros(ROWS, dtype=bool)),
        (rare(150), np.ones(ROWS, dtype=bool)),
    ],
    ids=["at random", "a handful", "a rare outcome", "never missing", "always missing"],
)
def test_being_filled_in_by_chance_is_no_suspicion(labels: np.ndarray, missing: np.ndarray) -> None:
    feature = np.where(missing, np.nan, np.random.default_rng(0).normal(size=ROWS))
    assert filled("binary", feature, labels) == []


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=300))
def test_the_value_that_most_rows_have_shares_its_bin_with_no_other(values: list[float]) -> None:
    known = np.array(values)
    bins = np.searchsorted(bin_edges(known), known, side="right")
    distinct, counts = np.unique(known, return_counts=True)
    for value in distinct[(counts > 1) & (counts == counts.max())]:
        assert set(known[bins == bins[known == value][0]]) == {value}


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_places_are_in_the_order_of_the_values_and_what_is_missing_is_at_an_end(values: list[float]) -> None:
    known = np.array(values)
    missing = np.isnan(known)
    ways = places_in_order(known)
    assert len(ways) == 1 + bool(missing.any())
    for end, places in zip((-1, 1), ways, strict=False):
        assert np.array_equal(np.argsort(known[~missing], kind="stable"), np.argsort(places[~missing], kind="stable"))
        if missing.any() and not missing.all():
            rest = places[~missing]
            assert all(places[missing] < rest.min()) if end < 0 else all(places[missing] > rest.max())
