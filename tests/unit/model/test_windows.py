"""Windows tile the calendar, and a tick means one of them for ever."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.errors import WindowError
from ponte.model.spec import Weekday, WindowRule
from ponte.model.windows import Window, matured_windows, midnight, parse_day, resolve, resolve_as_of, window_of_tick
from ponte.model.windows import window_starting as starting

DAY = dt.timedelta(days=1)
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
LENGTHS = (1, 7, 14, 30)
WEEKLY = WindowRule()
PAST = WindowRule(covers="past")

rules = st.builds(
    WindowRule,
    days=st.sampled_from(LENGTHS),
    starts_on=st.sampled_from(WEEKDAYS),
    covers=st.sampled_from(["coming", "past"]),
)
days = st.dates(dt.date(2000, 1, 1), dt.date(2100, 12, 31))
ticks = st.datetimes(
    dt.datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds and adds the zone itself
    dt.datetime(2100, 12, 31),  # noqa: DTZ001
    timezones=st.timezones(),
)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


@pytest.mark.parametrize("starts_on", WEEKDAYS)
@pytest.mark.parametrize("length", LENGTHS)
def test_windows_tile_the_calendar_from_2000_to_2100(length: int, starts_on: Weekday) -> None:
    """Each window ends where the next one starts, so no day is left out and none is in two windows."""
    rule = WindowRule(days=length, starts_on=starts_on)
    window = window_of_tick(rule, at("2000-01-01T00:00:00+00:00"))
    while window.end.year < 2101:
        following = starting(rule, window.end)
        assert (following.start, following.end - following.start) == (window.end, length * DAY)
        window = following


@given(rules, days)
def test_every_day_is_in_exactly_one_window(rule: WindowRule, day: dt.date) -> None:
    holding = []
    for back in range(rule.days):
        try:
            holding.append(starting(rule, day - back * DAY))
        except WindowError:
            continue
    assert len(holding) == 1
    assert holding[0].start <= day < holding[0].end


@pytest.mark.parametrize("starts_on", WEEKDAYS)
def test_weekly_windows_start_on_their_weekday(starts_on: Weekday) -> None:
    window = window_of_tick(WindowRule(starts_on=starts_on), at("2026-11-22T12:00:00+00:00"))
    assert window.start.strftime("%A").lower() == starts_on


@given(rules, ticks)
def test_tick_means_the_window_that_holds_its_day_or_the_one_before(rule: WindowRule, tick: dt.datetime) -> None:
    day = tick.astimezone(dt.UTC).date()
    window = window_of_tick(rule, tick)
    holding = window if rule.covers == "coming" else starting(rule, window.end)
    assert holding.start <= day < holding.end


@given(rules, ticks)
def test_as_of_never_lies_after_the_tick(rule: WindowRule, tick: dt.datetime) -> None:
    """Features of a moment that is still to come would be computed from what happens to be there already."""
    assert window_of_tick(rule, tick).as_of <= tick


@given(rules, ticks)
def test_as_of_is_the_first_day_of_a_coming_window_and_the_day_after_a_past_one(
    rule: WindowRule, tick: dt.datetime
) -> None:
    window = window_of_tick(rule, tick)
    assert window.as_of == midnight(window.start if rule.covers == "coming" else window.end)
    assert window.as_of.utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize(
    ("rule", "tick", "start"),
    [
        (WEEKLY, "2026-12-21T06:00:00+00:00", "2026-12-21"),
        (WEEKLY, "2026-12-22T06:00:00+00:00", "2026-12-21"),
        (WEEKLY, "2026-12-27T23:59:59+00:00", "2026-12-21"),
        (WEEKLY, "2026-12-28T00:00:00+00:00", "2026-12-28"),
        (WEEKLY, "2027-01-01T00:00:00+00:00", "2026-12-28"),
        (PAST, "2027-01-04T00:00:00+00:00", "2026-12-28"),
        (PAST, "2027-01-03T23:59:59+00:00", "2026-12-21"),
        (WEEKLY, "2026-12-28T01:00:00+02:00", "2026-12-21"),
        (WEEKLY, "2026-12-28T23:00:00-02:00", "2026-12-28"),
    ],
    ids=[
        "on the day", "day after", "last second", "first day of ISO week 53", "in ISO week 53 of 2026",
        "past over the year's end", "past, a second too early", "still Sunday in UTC", "already Tuesday in UTC",
    ],
)  # fmt: skip
def test_weekly_windows_around_a_year_with_53_weeks(rule: WindowRule, tick: str, start: str) -> None:
    assert window_of_tick(rule, at(tick)).start == dt.date.fromisoformat(start)


def test_start_between_two_windows_is_refused_with_the_nearest_two() -> None:
    with pytest.raises(WindowError) as caught:
        starting(WEEKLY, dt.date(2026, 12, 30))
    assert str(caught.value).splitlines() == [
        "no window starts on 2026-12-30, a Wednesday",
        "  expected: a window of 7 days, counted from a Monday",
        "  next: did you mean 2026-12-28 or 2027-01-04?",
    ]


@given(rules, days)
def test_both_starts_that_the_refusal_suggests_are_starts(rule: WindowRule, day: dt.date) -> None:
    try:
        starting(rule, day)
    except WindowError as error:
        words = str(error).splitlines()[-1].rstrip("?").split()
        before, after = (dt.date.fromisoformat(w) for w in (words[-3], words[-1]))
        assert before < day < after
        assert starting(rule, before).end == starting(rule, after).start


@pytest.mark.parametrize(
    ("window_start", "interval_end", "start"),
    [
        ("2026-11-02", "2026-11-16T00:00:00+00:00", "2026-11-02"),
        (None, "2026-11-16T00:00:00+00:00", "2026-11-16"),
        ("", "2026-11-16T00:00:00+00:00", "2026-11-16"),
        (None, None, "2026-11-23"),
        ("2026-11-02", None, "2026-11-02"),
    ],
    ids=["parameter over interval", "interval over moment", "empty parameter", "moment alone", "parameter over moment"],
)
def test_parameter_wins_over_interval_end_which_wins_over_run_after(
    window_start: str | None, interval_end: str | None, start: str
) -> None:
    end = at(interval_end) if interval_end else None
    window = resolve(WEEKLY, window_start=window_start, interval_end=end, run_after=at("2026-11-25T09:30:00+00:00"))
    assert window.start == dt.date.fromisoformat(start)


@pytest.mark.parametrize(
    ("rule", "as_of"), [(WEEKLY, "2026-11-16"), (PAST, "2026-11-23")], ids=["coming: its first day", "past: its end"]
)
def test_window_asked_for_before_its_as_of_is_refused_with_both_moments(rule: WindowRule, as_of: str) -> None:
    """Half of what the features need would not have happened yet, and nobody would see it in the figures."""
    moment = at(f"{as_of}T00:00:00+00:00")
    assert resolve(rule, window_start="2026-11-16", interval_end=None, run_after=moment).as_of == moment
    with pytest.raises(WindowError) as caught:
        resolve(rule, window_start="2026-11-16", interval_end=None, run_after=moment - dt.timedelta(seconds=1))
    assert str(caught.value).splitlines() == [
        "nothing is known yet of that time",
        "  where: window [2026-11-16, 2026-11-23)",
        f"  got: as_of {as_of}T00:00:00+00:00 in a run of {(moment - dt.timedelta(seconds=1)).isoformat()}",
        "  next: run it at as_of or later",
    ]


@pytest.mark.parametrize(
    ("as_of", "interval_end"),
    [("2026-11-26", None), (None, "2026-11-26T00:00:00+00:00")],
    ids=["parameter", "interval"],
)
def test_training_as_of_a_day_to_come_is_refused(as_of: str | None, interval_end: str | None) -> None:
    end = at(interval_end) if interval_end else None
    with pytest.raises(WindowError, match="nothing is known yet of that time"):
        resolve_as_of(as_of=as_of, interval_end=end, run_after=at("2026-11-25T23:59:59+00:00"))
    found = resolve_as_of(as_of=as_of, interval_end=end, run_after=at("2026-11-26T00:00:00+00:00"))
    assert found == at("2026-11-26T00:00:00+00:00")


@given(rules, ticks, st.timedeltas(dt.timedelta(0), dt.timedelta(days=400)))
def test_late_retry_with_the_same_tick_means_the_same_window(
    rule: WindowRule, tick: dt.datetime, late: dt.timedelta
) -> None:
    """`run_after` of a cleared or repeated run may lie anywhere after the interval's end."""
    retry = tick.astimezone(dt.UTC) + late
    first = resolve(rule, window_start=None, interval_end=tick, run_after=tick)
    assert resolve(rule, window_start=None, interval_end=tick, run_after=retry) == first


@pytest.mark.parametrize(
    ("as_of", "interval_end", "expected"),
    [
        ("2013-10-07", "2026-11-16T05:00:00+00:00", "2013-10-07"),
        (None, "2026-11-16T05:00:00+00:00", "2026-11-16"),
        (None, None, "2026-11-25"),
    ],
    ids=["parameter", "interval", "moment"],
)
def test_as_of_of_a_training_run_is_midnight_of_parameter_interval_or_moment(
    as_of: str | None, interval_end: str | None, expected: str
) -> None:
    end = at(interval_end) if interval_end else None
    found = resolve_as_of(as_of=as_of, interval_end=end, run_after=at("2026-11-25T09:30:00+00:00"))
    assert found == at(f"{expected}T00:00:00+00:00")


@given(rules, ticks, st.integers(1, 60))
def test_matured_windows_are_the_latest_that_had_ended_oldest_first_without_a_gap(
    rule: WindowRule, as_of: dt.datetime, count: int
) -> None:
    day = as_of.astimezone(dt.UTC).date()
    found = matured_windows(rule, as_of=as_of, count=count)
    assert len(found) == count
    assert all(earlier.end == later.start for earlier, later in pairwise(found))
    assert dt.timedelta(0) <= day - found[-1].end < rule.days * DAY


@pytest.mark.parametrize(
    "call",
    [
        lambda naive: window_of_tick(WEEKLY, naive),
        lambda naive: resolve(WEEKLY, window_start=None, interval_end=naive, run_after=naive),
        lambda naive: resolve_as_of(as_of=None, interval_end=None, run_after=naive),
        lambda naive: matured_windows(WEEKLY, as_of=naive, count=1),
    ],
    ids=["window_of_tick", "resolve", "resolve_as_of", "matured_windows"],
)
def test_moment_without_a_time_zone_is_refused(call: object) -> None:
    with pytest.raises(WindowError, match="without a time zone"):
        call(dt.datetime(2026, 11, 22))  # type: ignore[operator]  # noqa: DTZ001 - naive is the point


@pytest.mark.parametrize(
    "text", ["2026-13-01", "22.11.2026", "next monday", "2026-11-22T00:00:00", "20261122", "2026-W47-1"]
)
def test_day_that_is_not_written_year_month_day_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WindowError, match="not a day") as caught:
        parse_day(text)
    assert repr(text) in str(caught.value)
    assert "YYYY-MM-DD" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "taken"),
    [("1899-12-31", False), ("1900-01-01", True), ("2200-12-31", True), ("2201-01-01", False), ("9999-12-31", False)],
)
def test_day_outside_the_years_1900_to_2200_is_refused_as_a_slip_of_the_pen(text: str, taken: bool) -> None:
    if taken:
        assert parse_day(text).isoformat() == text
    else:
        with pytest.raises(WindowError) as caught:
            parse_day(text)
        assert str(caught.value) == f"no such window\n  got: {text}\n  expected: a day from 1900 to 2200"


def test_window_shows_as_a_half_open_range_and_offers_the_three_parameters() -> None:
    window = Window(start=dt.date(2026, 11, 16), end=dt.date(2026, 11, 23), as_of=at("2026-11-16T00:00:00+00:00"))
    assert str(window) == "[2026-11-16, 2026-11-23)"
    assert window.parameters() == {"window_start": window.start, "window_end": window.end, "as_of": window.as_of}
