"""The day that `./ponte new` names: a training as of it has rows to fit on, and its version can score a window."""

from __future__ import annotations

import datetime as dt

import pytest

from ponte.authoring.choosing import Said, calendar_of
from ponte.model.spec import WindowRule
from ponte.model.windows import matured_windows, midnight, window_starting


def every(days: int, *, first: str, count: int) -> dict[dt.date, int]:
    """Return three hundred rows on each of `count` days."""
    return {dt.date.fromisoformat(first) + dt.timedelta(days=days * n): 300 for n in range(count)}


@pytest.mark.parametrize(
    ("days", "today", "delay", "as_of", "scores"),
    [
        (every(1, first="2005-04-04", count=182), "2026-11-28", 0, "2005-09-26", True),
        (every(1, first="2026-05-04", count=209), "2026-11-28", 0, "2026-11-16", True),
        (every(1, first="2026-05-04", count=210), "2026-11-30", 0, "2026-11-23", True),
        (every(1, first="2005-04-04", count=182), "2026-11-28", 9, "2005-09-26", True),
        (every(31, first="2018-01-01", count=3), "2026-11-28", 0, "2018-02-26", True),
        (every(1, first="2005-04-04", count=42), "2026-11-28", 40, "2005-06-25", False),
        (every(28, first="2018-01-01", count=2), "2026-11-28", 0, "2018-02-26", False),
    ],
    ids=["ended", "in a week", "on a Monday", "late labels", "three windows", "very late labels", "two windows"],
)  # fmt: skip
def test_a_training_as_of_the_day_has_what_it_needs_and_can_score_the_window_of_the_day(
    days: dict[dt.date, int], today: str, delay: int, as_of: str, scores: bool
) -> None:
    now = dt.date.fromisoformat(today)
    calendar = calendar_of(days, today=now, said=Said())
    day = calendar.first_training(delay)
    assert (str(day), day == calendar.latest) == (as_of, scores)
    rule = WindowRule(days=calendar.days, covers="past")
    found = matured_windows(rule, as_of=midnight(day), count=99, label_delay_days=delay)
    assert sum(window.end > min(days) for window in found) > calendar.holdout, "one to fit on, those that measure"
    if scores:
        window = window_starting(rule, day)
        assert midnight(day) <= window.as_of <= midnight(now), "seen by no training, and over"
        assert any(window.start <= d < window.end for d in days)
