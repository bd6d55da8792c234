"""How values are written on a page: one way for figures, rows, shares, moments, days and durations."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ponte.quality.figures import Figure

#: From MANY on the digits before the point are enough; below SMALL two digits that count are.
MANY, SMALL = 1000, 0.01
#: What stands where there is nothing to say.
NOTHING = "–"
#: Names of lengths of time, longest first, in seconds.
LENGTHS = (("d", 86_400), ("h", 3_600), ("min", 60))
#: A number in a sentence: no part of a name, of a day, of a version of something, or of `column=value`.
_NUMBERS = re.compile(r"(?<![\w.=:/-])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?![\w:/-]|\.\d)")


def number(value: float, *, signed: bool = False) -> str:
    """Return a figure as people read it: three or four digits that count.

    >>> [number(v) for v in (0.66012, 12.3456, 25085.0, 0.000123)]
    ['0.660', '12.35', '25,085', '0.00012']
    >>> number(-0.0321, signed=True)
    '−0.032'
    """
    size = abs(value)
    if size >= MANY:
        text = f"{size:,.0f}"
    elif size >= 1:
        text = f"{size:#.4g}"
    elif size == 0 or size >= SMALL:
        text = f"{size:.3f}"
    else:
        text = f"{size:.2g}"
    if value < 0:
        return f"−{text}"
    return f"+{text}" if signed and value > 0 else text


def compared(figure: Figure, *, higher_is_better: bool) -> str:
    """Return what a difference says: "better" or "worse" when its interval leaves out 0, else "no clear difference"."""
    if figure.low is None or figure.high is None or figure.low <= 0 <= figure.high:
        return "no clear difference"
    return "better" if (figure.low > 0) == higher_is_better else "worse"


def out_of(share: float) -> str:
    """Return a share of rows in words.

    >>> [out_of(share) for share in (0.8, 0.85, 0.9995)]
    ['8 of 10', '85 of 100', '99.95 of 100']
    """
    tenths = f"{share * 10:g}"
    return f"{share * 100:g} of 100" if "." in tenths else f"{tenths} of 10"


def rows(count: int | None) -> str:
    """Return a number of rows.

    >>> [rows(count) for count in (6504, None)]
    ['6,504', '–']
    """
    return NOTHING if count is None else f"{count:,}"


def percent(share: float | None) -> str:
    """Return a share, 0 to 1, in per cent; what is there is never "0 %".

    >>> [percent(share) for share in (0.1234, 0.00004, 0.0, None)]
    ['12.3 %', '<0.1 %', '0 %', '–']
    """
    if share is None:
        return NOTHING
    if 0 < share < 0.0005:  # noqa: PLR2004 - what would be rounded to 0.0
        return "<0.1 %"
    return f"{share * 100:.1f} %".replace(".0 %", " %")


def retold(text: str) -> str:
    """Return what a gate or a guard has found, its large numbers as pages write them; a bound keeps all its digits.

    >>> retold("better, by -1858 [-2143, -1563], 1.501e+05 rows since 2013-10-21, year=2013 0.59961")
    'better, by −1,858 [−2,143, −1,563], 150,100 rows since 2013-10-21, year=2013 0.59961'
    """
    return _NUMBERS.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    large = abs(float(found[0])) >= MANY
    return (f"{float(found[0]):,.10g}" if large else found[0]).replace("-", "−", int(found[0].startswith("-")))


def moment(at: dt.datetime) -> str:
    """Return an aware moment, to the minute, in UTC."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units.

    >>> [duration(seconds) for seconds in (0.004, 0.42, 42, 3_725, 200_000, None)]
    ['<0.1 s', '0.4 s', '42 s', '1 h 2 min', '2 d 7 h', '–']
    """
    if seconds is None:
        return NOTHING
    if 0 < seconds < 0.05:  # noqa: PLR2004 - what would be rounded to 0.0
        return "<0.1 s"
    found = []
    left = seconds
    for name, size in LENGTHS:
        if left >= size:
            count, left = divmod(left, size)
            found.append(f"{count:.0f} {name}")
        elif found:
            break
    if len(found) < 2 and seconds < LENGTHS[1][1]:  # noqa: PLR2004 - the two largest units
        found.append(f"{left:.0f} s" if seconds >= 10 else f"{left:.1f} s")  # noqa: PLR2004 - digits that count
    return " ".join(found[:2])
