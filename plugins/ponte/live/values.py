"""A value of JSON as the type of its family, and the JSON Schema that says the same.

What JSON can say it has to say: 3.0 is the integer 3, "3" is no number, true is no number. Else a value means what it
means in a file and in PostgreSQL.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ponte.storage.columns import Family

if TYPE_CHECKING:
    import pyarrow as pa

_LEAST, _GREATEST = -(2**63), 2**63 - 1
_LARGEST = 1.7976931348623157e308
# Years that fit with any zone.
_DATE = (
    "(?!000[01]|9999)[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6}0{0,3})?)?"
_ZONE = "(?:Z|[+-](?:0[0-9]|1[0-5]):?[0-5][0-9])"
_MOMENT = f"(?:{_DATE})(?:[T ]{_CLOCK}{_ZONE}?)?"
_IS_DATE, _IS_MOMENT = re.compile(_DATE).fullmatch, re.compile(_MOMENT).fullmatch


class Unfit(Exception):
    """A value is none of its family; holds what it is not, what is expected, and what may help."""

    def __init__(self, what: str, expected: str, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.expected, self.fix = what, expected, fix


def arrow_types() -> dict[Family, pa.DataType]:
    """Return family → the type by which its values travel, as ADBC reads them from the database."""
    import pyarrow as pa

    return {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }


NONE = type(None)
#: Family → types of Python whose values need no look at each, but for their range.
_QUICK: dict[Family, frozenset[type]] = {
    "integer": frozenset({int, NONE}),
    "number": frozenset({float, int, NONE}),
    "boolean": frozenset({bool, NONE}),
    "text": frozenset({str, NONE}),
    "date": frozenset({NONE}),
    "timestamp": frozenset({NONE}),
}


def quickly(family: Family, kinds: set[type], values: list[Any]) -> list[Any] | None:
    """Return the values when all of them are fine at a glance; None when each has to be looked at.

    kinds : the types of the values.
    """
    if not kinds <= _QUICK[family]:
        return None
    given = [v for v in values if v is not None] if NONE in kinds else values
    if not _in_range(family, given, all_floats=int not in kinds):
        return None
    if family == "number" and int in kinds:
        return [None if v is None else float(v) for v in values]
    return values


def _in_range(family: Family, given: list[Any], *, all_floats: bool) -> bool:
    if not given or family == "boolean":
        return True
    if family == "integer":
        return bool(min(given) >= _LEAST and max(given) <= _GREATEST)
    if family == "number":
        return all(map(math.isfinite, given)) if all_floats else all(-_LARGEST <= v <= _LARGEST for v in given)
    together = "".join(given)
    return "\0" not in together and (together.isascii() or _is_utf8(together))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(value: Any) -> int:
    if type(value) is float and value.is_integer():  # infinity and NaN are not
        value = int(value)
    if type(value) is not int:
        fix = "leave out the quotes" if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value) else ""
        raise Unfit("is no integer", "an integer", fix)
    if not _LEAST <= value <= _GREATEST:
        raise Unfit("is out of range", f"an integer from {_LEAST} to {_GREATEST}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        fix = "leave out the quotes" if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) else ""
        raise Unfit("is no number", "a number", fix)
    if not -_LARGEST <= value <= _LARGEST:
        raise Unfit("is out of range", f"a number from -{_LARGEST} to {_LARGEST}")
    return float(value)


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Unfit("is no boolean", "true or false")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Unfit("is no text", "a text", "put it in quotes" if type(value) in (int, float) else "")
    if "\0" in value:
        raise Unfit("has the character NUL", "a text without it")
    if not _is_utf8(value):
        raise Unfit("has half a surrogate pair", "a text in UTF-8")
    return value


def _date(value: Any) -> dt.date:
    if type(value) is not str or not _IS_DATE(value):
        raise Unfit("is no date", 'a date as "2026-11-28"')
    return dt.date.fromisoformat(value)


def _moment(value: Any) -> dt.datetime:
    if type(value) is not str or not _IS_MOMENT(value):
        raise Unfit("is no timestamp", 'a timestamp as "2026-11-28T09:30:00Z"', "without a zone it is UTC")
    moment = dt.datetime.fromisoformat(value)
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


READERS: dict[Family, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "text": _text,
    "date": _date,
    "timestamp": _moment,
}
#: The end of a text for every dialect: to some, $ is also before a last line feed.
_END = r"$(?![\s\S])"
SCHEMAS: dict[Family, dict[str, Any]] = {
    "integer": {"type": ["integer", "null"], "minimum": _LEAST, "maximum": _GREATEST},
    # All digits: as a float it is cut to a number that is a little less, and integers between the two are taken.
    "number": {"type": ["number", "null"], "minimum": int(-_LARGEST), "maximum": int(_LARGEST)},
    "boolean": {"type": ["boolean", "null"]},
    "text": {"type": ["string", "null"], "pattern": "^[^\\u0000]*$"},
    "date": {"type": ["string", "null"], "format": "date", "pattern": f"^(?:{_DATE}){_END}"},
    "timestamp": {"type": ["string", "null"], "pattern": f"^{_MOMENT}{_END}"},
}
