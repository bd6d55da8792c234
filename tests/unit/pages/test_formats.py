"""One way of writing values on all pages, at the edges."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from ponte.pages.formats import compared, duration, moment, number, out_of, percent, rows
from ponte.pages.rendering import address
from ponte.quality.figures import Figure


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (number, 0.66012, "0.660"),
        (number, 12.3456, "12.35"),
        (number, 1.0, "1.000"),
        (number, 999.94, "999.9"),
        (number, 1000.0, "1,000"),
        (number, 25085.0, "25,085"),
        (number, 0.01, "0.010"),
        (number, 0.0099, "0.0099"),
        (number, 0.0, "0.000"),
        (number, -0.0, "0.000"),
        (number, -1234.0, "−1,234"),
        (number, 0.000123, "0.00012"),
        (out_of, 0.8, "8 of 10"),
        (out_of, 0.85, "85 of 100"),
        (out_of, 0.9995, "99.95 of 100"),
        (rows, 6504, "6,504"),
        (rows, 0, "0"),
        (rows, None, "–"),
        (percent, 0.1234, "12.3 %"),
        (percent, 0.5, "50 %"),
        (percent, 1.0, "100 %"),
        (percent, 0.0005, "0.1 %"),
        (percent, 0.00049, "<0.1 %"),
        (percent, 0.0, "0 %"),
        (percent, None, "–"),
        (duration, 0.42, "0.4 s"),
        (duration, 9.9, "9.9 s"),
        (duration, 10, "10 s"),
        (duration, 42, "42 s"),
        (duration, 60, "1 min 0 s"),
        (duration, 95, "1 min 35 s"),
        (duration, 3_600, "1 h"),
        (duration, 3_725, "1 h 2 min"),
        (duration, 3_605, "1 h"),
        (duration, 86_400, "1 d"),
        (duration, 200_000, "2 d 7 h"),
        (duration, None, "–"),
    ],
)
def test_a_value_is_written(write: Callable[[Any], str], value: Any, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "+0.500"), (-0.5, "−0.500"), (0.0, "0.000")])
def test_a_difference_has_its_sign(value: float, text: str) -> None:
    assert number(value, signed=True) == text


def test_a_moment_is_told_in_utc_to_the_minute() -> None:
    at = dt.datetime(2026, 1, 1, 0, 30, 59, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert moment(at) == "2025-12-31 23:30 UTC"


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "said"),
    [
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, True, "worse"),
        (-0.2, -0.1, False, "better"),
        (0.0, 0.2, True, "no clear difference"),
        (-0.2, 0.0, True, "no clear difference"),
        (-0.1, 0.2, True, "no clear difference"),
        (None, 0.2, True, "no clear difference"),
        (0.1, None, True, "no clear difference"),
    ],
)
def test_only_an_interval_that_leaves_out_0_says_better_or_worse(
    low: float | None, high: float | None, higher_is_better: bool, said: str
) -> None:
    assert compared(Figure(0.1, low, high), higher_is_better=higher_is_better) == said


def test_an_address_quotes_every_part_and_leaves_out_what_is_none() -> None:
    assert address("/ponte", "model", "a/b?c#d\0", window=None) == "/ponte/model/a%2Fb%3Fc%23d%00"
    assert address("/ponte", "act", "promote", "m", version=0, reason="a&b") == (
        "/ponte/act/promote/m?version=0&reason=a%26b"
    )
