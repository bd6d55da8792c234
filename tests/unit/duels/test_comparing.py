"""Champion and challenger on the same labelled rows, over arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ponte.duels import comparing
from ponte.duels.comparing import Pairs, compare, pairs_of, together
from ponte.duels.deciding import told_by
from ponte.model.spec import ModelSpec
from ponte.model.toml import parse_spec
from ponte.monitoring.outcomes import Outcomes
from ponte.versions.predicting import Output, Predictions

OUTPUT = Output(task="binary", classes=(0, 1), threshold=None)


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    text = 'description = "d"\nowner = "o"\ntask = "binary"\nkey = ["id"]\n[evaluation]\nresamples = 400\n'
    return parse_spec(text + '[gate]\nmetric = "roc_auc"\nminimum = 0.5\n', model="m")


def rows(n: int, *, seed: int = 0, noise: float = 1.0, units: int | None = None) -> Pairs:
    """Return labels, a champion that knows them half, and a challenger with so much noise beside it."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 2, n)
    mine = labels + draws.normal(0, 1.5, n)
    scores = [1 / (1 + np.exp(-s)) for s in (mine, mine + draws.normal(0, noise, n))]
    first, second = (Predictions((s > 0.5).astype(int), s) for s in scores)
    numbers = np.arange(n) if units is None else draws.integers(0, units, n)
    return Pairs(labels=labels, champion=first, challenger=second, units=numbers, digest=0)


@pytest.mark.parametrize(
    ("low", "high", "higher", "margin", "told"),
    [
        (0.001, 0.02, True, 0.0, "no worse"),
        (-0.001, 0.02, True, 0.0, "undecided"),
        (-0.001, 0.02, True, 0.002, "no worse"),
        (-0.02, -0.003, True, 0.002, "worse"),
        (-0.02, -0.001, True, 0.002, "undecided"),
        (-0.5, -0.1, False, 0.0, "no worse"),  # of an error
        (-0.5, 0.1, False, 0.2, "no worse"),
        (0.3, 0.5, False, 0.2, "worse"),
        (None, None, True, 1.0, "undecided"),
    ],
)
def test_what_an_interval_says(low: float | None, high: float | None, higher: bool, margin: float, told: str) -> None:
    assert told_by(low, high, higher_is_better=higher, margin=margin) == told


def test_the_interval_of_the_difference_holds_it_and_is_narrower_than_of_unpaired_rows(spec: ModelSpec) -> None:
    pairs = rows(2_000, noise=0.3)
    [found] = [c for c in compare(spec, OUTPUT, pairs, confidence=0.95) if c.metric == "roc_auc"]
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high
    shuffled = np.random.default_rng(1).permutation(2_000)
    apart = Pairs(
        labels=pairs.labels,
        champion=pairs.champion,
        challenger=rows(2_000, seed=5, noise=0.3).challenger,
        units=pairs.units[shuffled],
        digest=0,
    )
    [unpaired] = [c for c in compare(spec, OUTPUT, apart, confidence=0.95) if c.metric == "roc_auc"]
    assert found.high - found.low < (unpaired.high or 0) - (unpaired.low or 0)


@pytest.mark.parametrize("units", [None, 3_000])
def test_of_many_rows_some_are_resampled_and_the_interval_is_as_wide(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, units: int | None
) -> None:
    pairs = rows(12_000, units=units)
    [whole] = [c for c in compare(spec, OUTPUT, pairs, confidence=0.95) if c.metric == "roc_auc"]
    monkeypatch.setattr(comparing, "INTERVAL_ROWS", 3_000)
    [part] = [c for c in compare(spec, OUTPUT, pairs, confidence=0.95) if c.metric == "roc_auc"]
    assert part.difference == whole.difference
    width = (whole.high or 0) - (whole.low or 0)
    assert (part.high or 0) - (part.low or 0) == pytest.approx(width, rel=0.25)
    assert part.low == pytest.approx(whole.low, abs=width / 4)


def test_few_units_have_no_interval_and_no_rows_no_figure(spec: ModelSpec) -> None:
    few = rows(200, units=9)
    assert {(c.low, c.high) for c in compare(spec, OUTPUT, few, confidence=0.95)} == {(None, None)}
    none = rows(20)
    empty = Pairs(
        labels=none.labels[:0],
        champion=Predictions(none.labels[:0], None),
        challenger=Predictions(none.labels[:0], None),
        units=none.units[:0],
        digest=0,
    )
    assert compare(spec, OUTPUT, empty, confidence=0.95) == []


def test_units_of_two_windows_are_not_the_same_units() -> None:
    both = together([rows(50, units=5), rows(50, seed=1, units=7)])
    assert len(both) == 100
    assert len(np.unique(both.units)) == 12
    assert set(both.units[:50]) & set(both.units[50:]) == set()


def outcomes(ids: list[int], labels: list[int], passed: list[int], said: list[int], **more: Any) -> Outcomes:
    n = len(ids)
    return Outcomes(
        predictions=Predictions(np.array(said), np.array(said) / 2),
        labels=np.array(labels),
        label_ids=np.array(ids),
        passed=np.array(passed),
        feedback=np.zeros(n, dtype=bool),
        slices={},
        units=more.get("units"),
        output=OUTPUT,
    )


def test_rows_are_joined_by_their_label_and_only_those_that_count() -> None:
    """0 has no label, -1 is a class that nobody knows, 7 came late, 9 was not predicted by the challenger."""
    champion = outcomes([3, 0, 5, 7, 9, 8], [1, 0, -1, 1, 0, 0], [0, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 1])
    challenger = outcomes([0, 8, 5, 7, 3], [0, 0, -1, 1, 1], [0, 0, 0, 1, 0], [1, 0, 0, 1, 0])
    pairs = pairs_of(champion, challenger, place=0)
    assert (list(pairs.labels), list(pairs.champion.prediction), list(pairs.challenger.prediction)) == (
        [1, 0], [1, 1], [0, 0],
    )  # fmt: skip
    assert len(pairs_of(champion, challenger, place=1)) == 3
    assert pairs.digest != pairs_of(champion, challenger, place=1).digest
