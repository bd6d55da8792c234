"""The width of an interval: how many outcomes it holds, of which rows it is made, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from tests.unit.training.test_fitting import FEATURES, SIGNATURE, parts_of, spec_of

from ponte.errors import TrainingRefused
from ponte.snapshots.parts import Part
from ponte.training.fitting import fit, half_width, rank_of, rows_for
from ponte.versions.predicting import Fitted, Output, predict
from ponte.versions.signature import to_frame

SHARES = st.integers(50, 99).map(lambda percent: percent / 100)
#: Some are equal, some are not, some are 0.
ERRORS = st.lists(st.integers(-40, 40).map(float), min_size=1, max_size=120)


@given(errors=ERRORS, share=SHARES)
def test_of_rows_that_are_left_out_in_turn_at_least_the_share_lies_within(errors: list[float], share: float) -> None:
    """That rows are exchangeable means that each of them is as likely as another to be the one that comes later.

    So this is the promise itself, without any sampling: of n + 1 rows, whichever is the later one, at least
    (n + 1) * share lie within the width that the others give.
    """
    if rank_of(share, len(errors) - 1) > len(errors) - 1:
        return
    values = np.array(errors)
    within = [abs(values[n]) <= half_width(np.delete(values, n), share) for n in range(len(values))]
    assert sum(within) >= share * len(values) - 1e-9


@given(share=SHARES, rows=st.integers(1, 400))
def test_without_ties_not_many_more_lie_within_than_were_promised(share: float, rows: int) -> None:
    """At most 1 in (n + 1) more: an interval is not wider than it has to be."""
    if rank_of(share, rows) > rows:
        return
    values = np.random.default_rng(rows).permutation(np.arange(1.0, rows + 2))
    within = sum(value <= half_width(np.delete(values, n), share) for n, value in enumerate(values))
    assert within <= share * (rows + 1) + 1


@given(share=SHARES)
def test_the_fewest_rows_are_those_of_which_an_interval_has_ends(share: float) -> None:
    fewest = rows_for(share)
    assert rank_of(share, fewest) <= fewest
    assert rank_of(share, fewest - 1) > fewest - 1


@pytest.mark.parametrize(
    ("share", "rows", "rank"),
    # As doubles, 0.55 * 100 is a little more than 55.
    [(0.8, 4, 4), (0.8, 9, 8), (0.8, 100, 81), (0.9, 9, 9), (0.55, 99, 55), (0.99, 99, 99), (0.5, 1, 1)],
)
def test_which_of_the_errors_it_is(share: float, rows: int, rank: int) -> None:
    assert rank_of(share, rows) == rank
    errors = np.arange(1.0, rows + 1) * np.where(np.arange(rows) % 2, 1, -1)
    assert half_width(np.random.default_rng(0).permutation(errors), share) == rank


@pytest.mark.parametrize(
    ("errors", "share", "said"),
    [
        ([1.0, 2.0, 3.0], 0.8, ["endless", "3 rows", "at least 4 for interval = 0.8", "raise calibration_windows"]),
        ([], 0.5, ["endless", "0 rows", "at least 1"]),
        ([1.0] * 98, 0.99, ["endless", "98 rows", "at least 99"]),
        ([1.0, np.nan] * 50, 0.8, ["cannot be set", "50 of 100 errors are NaN or infinite", "finite labels"]),
        ([1.0] * 99 + [np.inf], 0.8, ["cannot be set", "1 of 100"]),
    ],
    ids=["too few", "none", "one too few", "NaN", "infinite"],
)
def test_a_width_that_cannot_be_told_is_refused(errors: list[float], share: float, said: list[str]) -> None:
    with pytest.raises(TrainingRefused) as caught:
        half_width(np.array(errors), share)
    for words in said:
        assert words in str(caught.value)


SPEC = spec_of("interval = 0.8  # set on the calibration part", "regression")


def numbers(part: Part, *, shift: float = 0.0) -> Part:
    """Return the part with labels that are numbers: feature `a`, twice, and noise."""
    noise = np.random.default_rng(part.rows.num_rows).normal(size=part.rows.num_rows)
    labels = 2 * part.rows.column("a").to_numpy() + noise + shift
    rows = part.rows.drop_columns(["label"]).append_column("label", pa.array(labels))
    return Part(rows=rows, features=to_frame(rows, FEATURES), labels=labels)


PARTS = replace(
    (of_classes := parts_of(calibration_rows=400)),
    fitting=numbers(of_classes.fitting),
    calibration=numbers(of_classes.calibration),
    holdout=numbers(of_classes.holdout),
)


def fitted(estimator: Any, parts: Any = PARTS) -> Fitted:
    return fit(SPEC, estimator, parts)


def test_the_width_is_that_of_the_calibration_rows_alone() -> None:
    """The errors of rows that were fitted on would be too small, those of the holdout are what measures."""
    own = fitted(LinearRegression())
    errors = np.abs(PARTS.calibration.labels - own.estimator.predict(PARTS.calibration.features))
    assert own.output.half_width == np.sort(errors)[rank_of(0.8, 400) - 1]
    assert own.output.interval == 0.8
    for other in ("fitting", "holdout"):
        shifted = replace(PARTS, **{other: numbers(getattr(PARTS, other), shift=0.5)})
        assert (fitted(LinearRegression(), shifted).output.half_width == own.output.half_width) == (other == "holdout")


def test_every_prediction_gets_ends_and_nobody_elses_does() -> None:
    own = fitted(LinearRegression())
    said = predict(own.estimator, PARTS.holdout.rows, SIGNATURE, own.output)
    assert said.low is not None
    assert said.high is not None
    assert (said.low == said.prediction - own.output.half_width).all()
    assert (said.high == said.prediction + own.output.half_width).all()
    share = ((said.low <= PARTS.holdout.labels) & (PARTS.holdout.labels <= said.high)).mean()
    assert 0.65 < share < 0.95
    some = said.take(np.array([3, 1]))
    assert some.low is not None
    assert some.low.tolist() == said.low[[3, 1]].tolist()
    without = predict(own.estimator, PARTS.holdout.rows, SIGNATURE, Output(task="regression"))
    assert (without.low, without.high) == (None, None)


@pytest.mark.parametrize("value", [0.0, 1e308])
def test_constant_predictions_have_an_interval_too(value: float) -> None:
    """Of labels that are all equal it has no width, and holds them all the same."""
    rows = PARTS.calibration.rows.num_rows
    equal = replace(PARTS, calibration=replace(PARTS.calibration, labels=np.full(rows, value)))
    own = fitted(DummyRegressor(strategy="constant", constant=value), equal)
    assert own.output.half_width == 0.0
    said = predict(own.estimator, PARTS.holdout.rows, SIGNATURE, own.output)
    assert said.low is not None
    assert (said.low == value).all()
