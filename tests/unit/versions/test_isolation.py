"""Rows that an estimator cannot score are found by halves: exactly they, at the cost of a few predictions."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from math import ceil, log2
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.errors import PonteError, UnpredictableRows
from ponte.versions.isolation import MESSAGE_LENGTH, Isolated, TooManyUnscored, isolate
from ponte.versions.predicting import Predictions

Predict = Callable[[pa.Table], Predictions]


def rows_of(count: int) -> pa.Table:
    return pa.table({"n": np.arange(count)})


def estimator(*, raises: AbstractSet[int] = frozenset(), says: AbstractSet[int] = frozenset()) -> Predict:
    """Return a predict() that raises when it sees a row of `raises`, and names those of `says` that it sees."""

    def predict(rows: pa.Table) -> Predictions:
        numbers = rows.column("n").to_numpy()
        assert len(numbers), "nobody asks about no rows"
        if raises & set(numbers.tolist()):
            raise ValueError("cannot convert")
        bad = np.isin(numbers, list(says))
        if bad.any():
            error = UnpredictableRows("predict() returned NaN")
            error.rows = bad
            raise error
        return Predictions(numbers * 2, numbers / 7)

    return predict


def counted(predict: Predict) -> tuple[Predict, list[int]]:
    """Return the same predict(), and how many rows it is asked about each time."""
    asked: list[int] = []

    def count(rows: pa.Table) -> Predictions:
        asked.append(rows.num_rows)
        return predict(rows)

    return count, asked


def numbers_of(tables: list[Any]) -> list[int]:
    return [n for table, *_ in tables for n in table.column("n").to_pylist()]


@given(st.data())
def test_the_bad_rows_and_only_they_are_set_aside_and_nothing_is_lost(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 120), label="rows")
    numbers = st.sets(st.integers(0, count - 1))
    raises, says = data.draw(numbers, label="raises"), data.draw(numbers, label="says")
    bad = raises | says
    found = isolate(estimator(raises=raises, says=says), rows_of(count), allowed=len(bad))

    assert sorted(numbers_of(found.unscored)) == sorted(bad)
    assert sorted(numbers_of(found.scored)) == sorted(set(range(count)) - bad)
    assert found.unscored_rows == len(bad)
    for table, predictions in found.scored:
        assert table.column("n").to_pylist() == (predictions.prediction // 2).tolist()
        assert predictions.score.tolist() == (predictions.prediction // 2 / 7).tolist()
    reasons = {n: why for table, _, why in found.unscored for n in table.column("n").to_pylist()}
    assert {reasons[n] for n in raises} <= {"ValueError: cannot convert"}
    assert {reasons[n] for n in says - raises} <= {"predict() returned NaN"}


@given(st.data())
def test_one_row_more_than_allowed_is_too_many(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60), label="rows")
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1), label="bad")
    how = data.draw(st.sampled_from(["raises", "says"]), label="how")
    isolate(estimator(**{how: bad}), rows_of(count), allowed=len(bad))
    with pytest.raises(TooManyUnscored, match=f"expected: at most {len(bad) - 1} rows"):
        isolate(estimator(**{how: bad}), rows_of(count), allowed=len(bad) - 1)


@pytest.mark.parametrize("place", [0, 1, 32_767, 32_768, 65_535])
def test_one_bad_row_of_65_536_costs_at_most_forty_predictions(place: int) -> None:
    predict, asked = counted(estimator(raises={place}))
    found = isolate(predict, rows_of(65_536), allowed=1)
    assert numbers_of(found.unscored) == [place]
    assert len(asked) == 1 + 2 * 16 <= 40
    assert sum(asked) <= 3 * 65_536


@given(st.integers(1, 5000), st.data())
def test_a_bad_row_costs_two_predictions_per_halving(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=4), label="bad")
    predict, asked = counted(estimator(raises=bad))
    isolate(predict, rows_of(count), allowed=len(bad))
    assert len(asked) <= 1 + 2 * len(bad) * ceil(log2(max(2, count)))


def test_rows_that_the_estimator_names_cost_one_more_prediction_however_many() -> None:
    predict, asked = counted(estimator(says=set(range(0, 1000, 2))))
    assert isolate(predict, rows_of(1000), allowed=500).unscored_rows == 500
    assert asked == [1000, 500]


@pytest.mark.parametrize(("how", "allowed", "predictions"), [("raises", 0, 17), ("raises", 3, 22), ("says", 20_000, 1)])
def test_an_estimator_that_can_score_nothing_is_found_out_at_once(how: str, allowed: int, predictions: int) -> None:
    """Not after a prediction per row."""
    predict, asked = counted(estimator(**{how: set(range(65_536))}))
    with pytest.raises(TooManyUnscored):
        isolate(predict, rows_of(65_536), allowed=allowed)
    assert len(asked) <= predictions


@pytest.mark.parametrize("error", [MemoryError(), PonteError("wrong shape"), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_no_fault_of_a_row_passes_through_at_once(error: BaseException) -> None:
    """Halving would turn a bug, or a machine that is too small, into rows that look bad."""
    asked = []

    def predict(rows: pa.Table) -> Predictions:
        asked.append(rows.num_rows)
        raise error

    with pytest.raises(type(error)) as caught:
        isolate(predict, rows_of(100), allowed=100)
    assert caught.value is error
    assert asked == [100]


def test_no_rows_are_not_asked_about() -> None:
    assert isolate(estimator(), rows_of(0), allowed=0) == Isolated()


def test_good_rows_stay_one_table_with_one_prediction() -> None:
    predict, asked = counted(estimator())
    assert len(isolate(predict, rows_of(1000), allowed=0).scored) == len(asked) == 1


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("x" * 1000, f"ValueError: {'x' * (MESSAGE_LENGTH - 13)}…"),
        ("x" * (MESSAGE_LENGTH - 12), f"ValueError: {'x' * (MESSAGE_LENGTH - 12)}"),
        ("a\0b", "ValueError: a?b"),
        ("a\ud800b", "ValueError: a?b"),
        ("price 'ünïcode' 😀", "ValueError: price 'ünïcode' 😀"),
        ("", "ValueError: "),
    ],
    ids=["too long", "just fits", "NUL", "a lone surrogate", "any language", "empty"],
)
def test_a_reason_is_cut_and_holds_nothing_that_jsonb_refuses(message: str, kept: str) -> None:
    def predict(rows: pa.Table) -> Predictions:
        raise ValueError(message)

    [(_, _, reason)] = isolate(predict, rows_of(1), allowed=1).unscored
    assert reason == kept
    assert len(reason) <= MESSAGE_LENGTH
