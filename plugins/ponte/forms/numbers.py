"""Numbers as people write and read them.

English writes 1,234.5, Portuguese 1.234,5. Both are read in either language where they can mean one thing only: a sign
that comes twice groups digits, and of two different signs the last one is the decimal point. The one text that may mean
two things is a single sign with exactly three digits behind it and one to three before, as 1.234: it is read as the
language of the page writes it, except that it is a thousand and some in a column of whole numbers. What was understood
is shown with the answer, in full.
"""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from fractions import Fraction

from ponte.forms.words import Language, say

#: Sign of groups, and decimal sign.
_SIGNS: dict[Language, tuple[str, str]] = {"en": (",", "."), "pt": (".", ",")}
#: The largest integer of PostgreSQL, and of Arrow.
LARGEST_INTEGER = 2**63 - 1
#: Longer texts are no number that somebody has typed.
LONGEST = 400
#: Digits that count of a double precision, and of what people are told when nothing says how wide it is.
DIGITS, FEW_DIGITS = 15, 3
#: A usual value is rounded to so many digits.
HINT_DIGITS = 2

_GROUPED = re.compile(r"\d{1,3}([.,])\d{3}(?:\1\d{3})*")
_PLAIN = re.compile(r"\d+(?:[.,]\d*)?|[.,]\d+")
_BOTH = re.compile(r"\d{1,3}(?:(?P<group>[.,])\d{3})+(?!(?P=group))[.,]\d*")
#: A blank between two digits groups them.
_BLANK = re.compile(r"(?<=\d)[ \u00a0\u2009\u202f](?=\d{3}(?:\D|$))")


class NotANumber(ValueError):
    """The text is none; its first argument is the text of `words` that says why."""


def read_number(text: str, language: Language, *, whole: bool = False) -> int | float:
    """Return what the text means: int with `whole`, else float; raises NotANumber.

    >>> [read_number(t, "en") for t in ("1,234.5", "1.234,5", "1,234", "1.234", "1.234.567", "-0,5", "12 345")]
    [1234.5, 1234.5, 1234.0, 1.234, 1234567.0, -0.5, 12345.0]
    >>> read_number("1,234", "pt"), read_number("1,234", "pt", whole=True)
    (1.234, 1234)
    """
    value = _decimal(text, language, whole=whole)
    if whole:
        if value != value.to_integral_value():
            raise NotANumber("no_whole")
        if abs(value) > LARGEST_INTEGER:
            raise NotANumber("too_large")
        return int(value)
    found = float(value)
    if not math.isfinite(found):
        raise NotANumber("too_large")
    return found


def _decimal(text: str, language: Language, *, whole: bool) -> Decimal:
    if len(text) > LONGEST:
        raise NotANumber("no_number")
    plain = "".join(_ascii(character) for character in text.strip())
    sign = "-" if plain.startswith("-") else ""
    digits = _BLANK.sub("", plain.lstrip("+-").lstrip() if plain[:2] not in ("--", "++", "+-", "-+") else plain)
    group, _ = _SIGNS[language]
    grouped = _GROUPED.fullmatch(digits)
    if grouped and (digits.count(grouped[1]) > 1 or (digits[0] != "0" and (whole or grouped[1] == group))):
        digits = digits.replace(grouped[1], "")
    elif both := _BOTH.fullmatch(digits):
        digits = digits.replace(both["group"], "")
    elif not _PLAIN.fullmatch(digits):
        raise NotANumber("no_number")
    try:
        return Decimal(sign + digits.replace(",", "."))
    except InvalidOperation as error:
        raise NotANumber("no_number") from error


def _ascii(character: str) -> str:
    """Return the digit or minus that a character of another script is; it itself when it is neither."""
    if character in "\u2212\u2010\u2011\u2013":
        return "-"
    return str(unicodedata.decimal(character, character))


def write_number(value: float | Decimal, language: Language, *, digits: int = DIGITS) -> str:
    """Return a number with at most so many digits that count, and no zeros behind them.

    >>> write_number(1234567.5, "en"), write_number(1234567.5, "pt"), write_number(-0.00012, "pt")
    ('1,234,567.5', '1.234.567,5', '\u22120,00012')
    """
    exact = value if isinstance(value, Decimal) else _exact(value)
    if exact and not isinstance(value, int):
        exact = _rounded(exact, exact.adjusted() - digits + 1)
    return _written(exact, language)


def write_rounded(value: float, exponent: int, language: Language, rounding: str = ROUND_HALF_EVEN) -> str:
    """Return a number rounded to tens to the power of `exponent`: 2 → hundreds, -1 → tenths.

    >>> write_rounded(12687.3, 2, "en"), write_rounded(0.25, -2, "pt")
    ('12,700', '0,25')
    """
    return _written(rounded(value, exponent, rounding), language)


def rounded(value: float, exponent: int, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """Return what `write_rounded` writes."""
    return _rounded(_exact(value), exponent, rounding)


#: How the ends of an interval are rounded, so that what is said holds no less than what was promised.
DOWN, UP = ROUND_FLOOR, ROUND_CEILING


def hint(value: float, language: Language) -> str:
    """Return a number of the reference, rounded to HINT_DIGITS; next to nothing, as the edge above 0 is, is 0."""
    exact = _exact(value)
    if not exact or exact.adjusted() < -300:  # noqa: PLR2004 - edges are neighbours of 0 among doubles, and no data
        return "0"
    return _written(_rounded(exact, exact.adjusted() - HINT_DIGITS + 1), language)


def example(language: Language) -> str:
    """Return how a number looks."""
    return write_number(1234.5, language)


def write_share(share: float, language: Language) -> str:
    """Return a share as so many of so many.

    >>> write_share(0.8, "en"), write_share(0.95, "pt"), write_share(0.875, "en")
    ('8 of 10', '19 de cada 20', '7 of 8')
    """
    for of in (10, 20, 100):
        if math.isclose(share * of, round(share * of), abs_tol=1e-9):
            return say("share", language, count=str(round(share * of)), all=str(of))
    near = Fraction(share).limit_denominator(1000)
    return say("share", language, count=str(near.numerator), all=write_number(near.denominator, language))


def write_percent(share: float, language: Language) -> str:
    """Return a probability in whole per cent; what is nearly 0 or 1 is said to be."""
    if share < 0.01:  # noqa: PLR2004
        return say("below_1", language)
    if share > 0.99:  # noqa: PLR2004
        return say("above_99", language)
    return f"{round(share * 100)}\u00a0%"


def _exact(value: float) -> Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _rounded(value: Decimal, exponent: int, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    with localcontext() as context:
        context.prec = 700  # the digits of the largest and of the smallest double precision together
        return value.quantize(Decimal(1).scaleb(exponent), rounding=rounding)


def _written(value: Decimal, language: Language) -> str:
    group, point = _SIGNS[language]
    whole, _, part = f"{abs(value):,f}".partition(".")
    part = part.rstrip("0")
    text = whole.replace(",", group) + (point + part if part else "")
    return f"\u2212{text}" if value < 0 and text.strip("0.,") else text
