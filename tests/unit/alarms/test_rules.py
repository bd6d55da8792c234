"""The rules of alarms about quality, as laws of the pure functions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponte.alarms.events import outlook
from ponte.alarms.rules import ARMED, GAP, NEEDED, Figure, Look, follow

DAYS = [dt.date(2020, 1, 6) + dt.timedelta(days=7 * n) for n in range(200)]
USUAL = (0.80, 0.81, 0.79, 0.805, 0.80, 0.785, 0.815, 0.795)
#: Figures with weeks of a loss in between, so that alarms begin and end.
HISTORIES = st.lists(st.sampled_from((*USUAL, *USUAL, 0.7)), min_size=1, max_size=50)


def looks(values: Sequence[float], *, higher: bool = True, **more: object) -> list[Look]:
    figures = [Figure(window_start=day, value=v, **more) for day, v in zip(DAYS, values, strict=False)]  # type: ignore[arg-type]
    return follow(figures, higher_is_better=higher)


def opened(found: Sequence[Look]) -> list[int]:
    return [n for n, look in enumerate(found) if look.rule and not (n and found[n - 1].lasts)]


def quiet(count: int) -> list[float]:
    return [USUAL[n % len(USUAL)] for n in range(count)]


@settings(max_examples=50, deadline=None)
@given(HISTORIES)
def test_later_figures_change_no_look(values: list[float]) -> None:
    """What was told stays true: a look rests on the windows before it."""
    whole = looks(values)
    assert looks(values[: len(values) // 2]) == whole[: len(values) // 2]


@settings(max_examples=50, deadline=None)
@given(HISTORIES)
def test_lower_is_better_is_the_mirror_image(values: list[float]) -> None:
    ours, theirs = looks(values), looks([-v for v in values], higher=False)
    assert [(a.rule, a.lasts, a.provisional) for a in ours] == [(b.rule, b.lasts, b.provisional) for b in theirs]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(0.0, 0.2))
def test_what_becomes_better_is_no_alarm(length: int, gain: float) -> None:
    assert opened(looks([*quiet(32), *(v + 0.015 + gain for v in quiet(length))])) == []


@pytest.mark.parametrize("past", [NEEDED + GAP - 1, NEEDED + GAP, ARMED + GAP - 1, ARMED + GAP])
def test_how_many_windows_stand_behind_a_look(past: int) -> None:
    last = looks([*quiet(past), 0.7, 0.7])[-2]
    assert (last.z is not None) is (past >= NEEDED + GAP)
    assert last.provisional is (past < ARMED + GAP)


def test_a_slow_loss_needs_an_armed_sum_and_a_sudden_one_two_windows() -> None:
    [place] = opened(looks([*quiet(32), 0.7, 0.8, 0.7]))
    assert place == 34
    slow = looks([*quiet(32), *(v - 0.012 for v in quiet(20))])
    assert slow[opened(slow)[0]].rule == "slow"
    assert opened(looks([*quiet(NEEDED + GAP), *(v - 0.012 for v in quiet(8))])) == []


def test_a_lasting_loss_is_one_alarm_and_does_not_become_the_measure_of_itself() -> None:
    found = looks([*quiet(32), *(v - 0.06 for v in quiet(80))])
    assert len(opened(found)) == 1
    assert found[-1].lasts
    assert found[-1].reference is not None
    assert found[-1].reference.mean == pytest.approx(0.8, abs=0.003)


def test_a_small_week_may_swing_more() -> None:
    """A week of few rows is told from a bad week by its own interval."""
    values = [*quiet(32), 0.7, 0.7]
    figures = [Figure(window_start=day, value=v, error=0.01) for day, v in zip(DAYS, values, strict=False)]
    assert opened(follow(figures, higher_is_better=True)) == [33]
    small = [*figures[:32], *(Figure(window_start=f.window_start, value=f.value, error=0.1) for f in figures[32:])]
    assert opened(follow(small, higher_is_better=True)) == []


def test_weeks_that_resemble_their_neighbours_make_the_rules_patient() -> None:
    """The same spread and the same loss; only the order of the weeks differs."""
    loss = [0.775, 0.775]
    assert opened(looks([*quiet(32), *loss])) == [33]
    assert opened(looks([*sorted(quiet(32)), *loss])) == []


@pytest.mark.parametrize(
    ("estimate", "bound", "own", "higher", "expected"),
    [
        (None, 0.6, 0.8, True, "unknown"),
        ((0.50, 0.59), 0.6, 0.8, True, "worse"),
        ((0.50, 0.61), 0.6, 0.8, True, "unclear"),
        ((0.61, 0.70), 0.6, 0.8, True, "unclear"),
        ((0.81, 0.90), 0.6, 0.8, True, "better"),
        ((0.61, 0.70), None, 0.8, True, "worse"),
        ((0.61, 0.70), None, None, True, "unclear"),
        ((0.31, 0.40), 0.3, 0.2, False, "worse"),
        ((0.10, 0.19), 0.3, 0.2, False, "better"),
    ],
)
def test_what_an_estimate_says_of_drift(
    estimate: tuple[float, float] | None, bound: float | None, own: float | None, higher: bool, expected: str
) -> None:
    assert outlook(estimate, bound=bound, own=own, higher_is_better=higher) == expected


def test_figures_whose_squares_are_no_numbers_are_judged_like_others() -> None:
    """As of an error when one label is 1.8e308, which some sources write for a missing one."""
    values = [*quiet(32), 1e304, 1e304, *quiet(8)]
    for error in (0.0, 1e303):
        found = looks(values, higher=False, error=error)
        assert [look.value for look in found] == values
        assert looks([1e304, *values], higher=False, error=error)[1].value == values[0]
    assert opened(looks(values, higher=False)) == [33]
