"""Which window does this run mean, and what was known at its time?

A window is a half-open range of days in UTC, named by its first day. Windows of one model tile the calendar: with
`days = 7` and `starts_on = "monday"` they are the weeks from Monday to Monday.

Every run has a *tick*: the end of its data interval when it has one (scheduled runs, backfills, dated manual runs),
else the moment it was asked for. The tick never moves, so a late retry still means the same window.

=================  ===========================================  =======================
`[window] covers`  window                                       as_of (00:00 UTC)
=================  ===========================================  =======================
`"coming"`         the one that holds the day of the tick: on   first day of the window
                   the day a window starts, the coming one
`"past"`           the one before that: the last window that    day after its last day
                   has ended at the tick
=================  ===========================================  =======================

So as_of never lies after the tick. The parameter `window_start` of the trigger form wins over the tick; a window whose
as_of is still to come is refused.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import get_args

from ponte.errors import WindowError
from ponte.model.spec import Weekday, WindowRule

_MONDAY = dt.date(1970, 1, 5)
#: A day outside these years is a slip of the pen, and a window near year 9999 cannot be computed.
FIRST_YEAR, LAST_YEAR = 1900, 2200
_WEEKDAYS: tuple[str, ...] = get_args(Weekday)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Window:
    """Days `[start, end)` in UTC, predicted with what was known at `as_of`."""

    start: dt.date
    end: dt.date
    as_of: dt.datetime

    def parameters(self) -> dict[str, dt.date | dt.datetime]:
        """Return the parameters of `features.sql` and `labels.sql`."""
        return {"window_start": self.start, "window_end": self.end, "as_of": self.as_of}

    def __str__(self) -> str:
        return f"[{self.start}, {self.end})"


def midnight(day: dt.date) -> dt.datetime:
    """Return 00:00 UTC of `day`."""
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


def window_starting(rule: WindowRule, start: dt.date) -> Window:
    """Return the window that starts on `start`; raises WindowError when none does, naming the nearest two."""
    late = _days_into_window(rule, start)
    if late:
        before = start - dt.timedelta(days=late)
        after = before + dt.timedelta(days=rule.days)
        raise WindowError(
            f"no window starts on {start}, a {_WEEKDAYS[start.weekday()].capitalize()}",
            expected=f"a window of {rule.days} days, counted from a {rule.starts_on.capitalize()}",
            fix=f"did you mean {before} or {after}?",
        )
    end = start + dt.timedelta(days=rule.days)
    return Window(start=start, end=end, as_of=midnight(start if rule.covers == "coming" else end))


def window_holding(rule: WindowRule, day: dt.date) -> Window:
    """Return the window that `day` lies in."""
    return window_starting(rule, day - dt.timedelta(days=_days_into_window(rule, day)))


def window_of_tick(rule: WindowRule, tick: dt.datetime) -> Window:
    """Return the window that a run with this tick means (see the table above)."""
    window = window_holding(rule, _utc_day(tick))
    return window if rule.covers == "coming" else window_starting(rule, window.start - dt.timedelta(days=rule.days))


def resolve(
    rule: WindowRule, *, window_start: str | None, interval_end: dt.datetime | None, run_after: dt.datetime
) -> Window:
    """Return the window of a run: parameter, else end of the data interval, else the moment it was asked for.

    Raises WindowError when the run comes before the window's as_of.
    """
    if window_start:
        window = window_starting(rule, parse_day(window_start))
    else:
        window = window_of_tick(rule, interval_end or run_after)  # a logical date of the form may lie in the future
    require_past(window.as_of, run_after, f"window {window}")
    return window


def resolve_as_of(*, as_of: str | None, interval_end: dt.datetime | None, run_after: dt.datetime) -> dt.datetime:
    """Return the as_of of a training run: 00:00 UTC of the parameter's day, else of the tick's day.

    Raises WindowError when that is still to come.
    """
    moment = midnight(parse_day(as_of) if as_of else _utc_day(interval_end or run_after))
    require_past(moment, run_after, "training")
    return moment


def require_past(as_of: dt.datetime, run_after: dt.datetime, place: str) -> None:
    """Raise WindowError when `as_of` is still to come at the moment of the run: nothing is known yet of that time."""
    if as_of > run_after:
        got = f"as_of {as_of.isoformat()} in a run of {run_after.isoformat()}"
        raise WindowError("nothing is known yet of that time", where=place, got=got, fix="run it at as_of or later")


def matured_windows(rule: WindowRule, *, as_of: dt.datetime, count: int, label_delay_days: int = 0) -> list[Window]:
    """Return the latest `count` windows that had ended `label_delay_days` before `as_of`, oldest first."""
    day = _utc_day(as_of) - dt.timedelta(days=label_delay_days)
    end = day - dt.timedelta(days=_days_into_window(rule, day))
    length = dt.timedelta(days=rule.days)
    return [window_starting(rule, end - n * length) for n in range(count, 0, -1)]


def parse_day(text: str) -> dt.date:
    """Return the day in `text`, `YYYY-MM-DD`; raises WindowError otherwise."""
    try:
        # Not date.fromisoformat: that also takes week numbers, 2026-W53-1, which name no window here.
        day = dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
    except ValueError as error:
        raise WindowError("not a day", got=repr(text), expected="YYYY-MM-DD, for example 2013-10-07") from error
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise WindowError("no such window", got=text, expected=f"a day from {FIRST_YEAR} to {LAST_YEAR}")
    return day


def _days_into_window(rule: WindowRule, day: dt.date) -> int:
    anchor = _MONDAY + dt.timedelta(days=_WEEKDAYS.index(rule.starts_on))
    return (day - anchor).days % rule.days


def _utc_day(moment: dt.datetime) -> dt.date:
    if moment.tzinfo is None:
        raise WindowError("a moment without a time zone has no day", got=repr(moment), expected="an aware datetime")
    return moment.astimezone(dt.UTC).date()
