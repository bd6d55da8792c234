"""JSON → rows: what a request says, read as the types that a version was trained on, or told apart precisely.

A value means the same as in a file or in PostgreSQL, and what JSON can say it has to say: 3.0 is the integer 3, "3" is
no number, true is no number, and NULL is null and not left out. `parse` and `schema_of` accept the same.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.storage.columns import Column, Family
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

#: Problems that are told at most; which rows have one is always known.
MOST_PROBLEMS = 100
#: Longer values are cut where they are quoted, and longer names.
_QUOTED = 60
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
_MISSING: Any = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why a row cannot be scored, in parts that a person or a program can use."""

    #: Place of the row in the request, from 0.
    instance: int
    #: Name of the column, "key.<name>" of one of the key; "" when the row as a whole is meant.
    column: str
    what: str
    got: str = ""
    expected: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The rows of a request."""

    #: Key and features as Arrow types of their families, one row per instance; NULL where there is a problem.
    rows: pa.Table
    #: At most MOST_PROBLEMS.
    problems: tuple[Problem, ...]
    #: Every instance that has a problem, told or not.
    bad: frozenset[int]


class _Unfit(Exception):
    """A value that is none of its column; holds what, expected and what to do."""


class Reader:
    """Reads rows of one signature. Made once per version, used by many at once."""

    def __init__(self, signature: Signature) -> None:
        import pyarrow as pa

        self.signature = signature
        self._features = {c.name: c for c in signature.features}
        self._key = {c.name: c for c in signature.key}
        types = arrow_types()
        self._types = types
        self._schema = pa.schema([(c.name, types[c.family]) for c in (*signature.key, *signature.features)])

    def parse(self, instances: Sequence[Any], keys: Sequence[Any] | None = None) -> Parsed:
        """Return the rows. instances, keys : what stands in the JSON, of any kind; a key may be null, or all of them.

        Raises nothing about what is given. As many keys as instances are for the caller to see to.
        """
        import pyarrow as pa

        found = _Found()
        whole = self._objects(instances, self._features, found, "")
        named = [None] * len(whole) if keys is None else self._objects(keys, self._key, found, "key.", nullable=True)
        arrays = []
        for column in self.signature.key:
            arrays.append(self._column(column, _values(named, column.name, None), found, "key."))
        for column in self.signature.features:
            arrays.append(self._column(column, _values(whole, column.name, _MISSING), found, ""))
        return Parsed(pa.Table.from_arrays(arrays, schema=self._schema), tuple(found.problems), frozenset(found.bad))

    def _objects(
        self,
        given: Sequence[Any],
        columns: Mapping[str, Column],
        found: _Found,
        prefix: str,
        *,
        nullable: bool = False,
    ) -> list[Any]:
        """Return the objects, None for what is none; finds names that no column has, and those that lack."""
        names = columns.keys()
        objects: list[Any] = []
        for place, row in enumerate(given):
            if type(row) is dict:
                if row.keys() != names:
                    found.extend(place, _wrong_names(place, row, columns, prefix, set(self._key) | set(self._features)))
                objects.append(row)
            else:
                if not (nullable and row is None):
                    expected = f"an object of {', '.join(list(names)[:20])}" + (" or null" if nullable else "")
                    found.add(place, prefix.rstrip("."), "is no object", row, expected)
                objects.append(None)
        return objects

    def _column(self, column: Column, values: list[Any], found: _Found, prefix: str) -> Any:
        import pyarrow as pa

        kinds = set(map(type, values))
        quick = _quickly(column.family, kinds, values)
        if quick is not None:
            if not prefix or type(None) not in kinds:
                return pa.array(quick, self._types[column.family])
        read = _READERS[column.family]
        result = []
        for place, value in enumerate(values):
            fit = None
            if value is not _MISSING and value is not None:
                try:
                    fit = read(value)
                except _Unfit as unfit:
                    what, expected, fix = unfit.args
                    found.add(place, prefix + column.name, what, value, expected, fix)
            result.append(fit)
        return pa.array(result, self._types[column.family])


def parse(signature: Signature, instances: Sequence[Any], keys: Sequence[Any] | None = None) -> Parsed:
    """Return the rows that a request says; see `Reader`, which is to be kept where more than one is read."""
    return Reader(signature).parse(instances, keys)


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


def schema_of(signature: Signature, examples: Mapping[str, Sequence[Any]] | None = None) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one instance: what validates is read without a problem, and only that.

    examples : column → values that may be shown to everybody.
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_object(signature.features, examples or {})}


def schema_of_key(signature: Signature) -> dict[str, Any]:
    """Return the JSON Schema of one of `keys`."""
    found = _object(signature.key, {})
    properties = {name: {**kind, "type": kind["type"][0]} for name, kind in found["properties"].items()}
    return {**found, "type": ["object", "null"], "properties": properties}


def _object(columns: Sequence[Column], examples: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    properties = {}
    for column in columns:
        shown = list(examples.get(column.name, ()))
        properties[column.name] = {**_SCHEMAS[column.family], **({"examples": shown} if shown else {})}
    names = [c.name for c in columns]
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


class _Found:
    """Problems on their way; how many are told is bounded."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.bad: set[int] = set()

    def add(self, place: int, column: str, what: str, value: object, expected: str, fix: str = "") -> None:
        self.bad.add(place)
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(
                Problem(instance=place, column=column, what=what, got=said(value), expected=expected, fix=fix)
            )

    def extend(self, place: int, problems: Iterator[Problem]) -> None:
        self.bad.add(place)
        while len(self.problems) < MOST_PROBLEMS:
            problem = next(problems, None)
            if problem is None:
                break
            self.problems.append(problem)


def said(value: object) -> str:
    """Return a value of JSON as JSON would say it, cut when it is long, with its type when text may be mistaken."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        cut = value[:_QUOTED] + ("…" if len(value) > _QUOTED else "")
        return f"the text {cut!r}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 10**_QUOTED:
        return "an integer of more than 60 digits"
    return str(value)


def _wrong_names(
    place: int, row: dict[Any, Any], columns: Mapping[str, Column], prefix: str, elsewhere: set[str]
) -> Iterator[Problem]:
    extra = [str(name) for name in row if name not in columns]
    lacking = [name for name in columns if name not in row]
    for name in lacking:
        close = difflib.get_close_matches(name, extra, n=1)
        fix = f"rename {close[0][:_QUOTED]!r}" if close else "say null for a value that is not known" * (not prefix)
        expected = f"{columns[name].family}" + (" or null" * (not prefix))
        yield Problem(instance=place, column=prefix + name, what="is missing", expected=expected, fix=fix)
    for name in extra:
        cut = name[:_QUOTED] + ("…" if len(name) > _QUOTED else "")
        close = difflib.get_close_matches(cut, columns, n=1)
        if close:
            fix = f"did you mean {close[0]!r}?"
        elif name in elsewhere:
            fix = "it belongs into the instance" if prefix else "it is of the key: give it in keys"
        else:
            fix = "leave it out"
        expected = "one of " + ", ".join(list(columns)[:20]) + (", …" if len(columns) > 20 else "")  # noqa: PLR2004
        yield Problem(instance=place, column=prefix + cut, what="is no column of the model", expected=expected, fix=fix)


def _values(objects: list[Any], name: str, default: Any) -> list[Any]:
    return [default if row is None else row.get(name, _MISSING) for row in objects]


_NONE = type(None)
#: Family → types of Python whose values need no look at each, but for their range.
_QUICK: dict[Family, frozenset[type]] = {
    "integer": frozenset({int, _NONE}),
    "number": frozenset({float, int, _NONE}),
    "boolean": frozenset({bool, _NONE}),
    "text": frozenset({str, _NONE}),
    "date": frozenset({_NONE}),
    "timestamp": frozenset({_NONE}),
}


def _quickly(family: Family, kinds: set[type], values: list[Any]) -> list[Any] | None:
    """Return the values when all of them are fine at a glance; None when each has to be looked at."""
    if not kinds <= _QUICK[family]:
        return None
    if family == "boolean" or kinds == {_NONE}:
        return values
    given = [v for v in values if v is not None] if _NONE in kinds else values
    if family == "integer":
        return values if not given or (min(given) >= _LEAST and max(given) <= _GREATEST) else None
    if family == "number":
        if int not in kinds:
            return values if all(map(math.isfinite, given)) else None
        if not all(-_LARGEST <= v <= _LARGEST for v in given):
            return None
        return [None if v is None else float(v) for v in values]
    together = "".join(given)
    if "\0" in together or not (together.isascii() or _is_utf8(together)):
        return None
    return values


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
        raise _Unfit("is no integer", "an integer or null", fix)
    if not _LEAST <= value <= _GREATEST:
        raise _Unfit("is out of range", f"an integer from {_LEAST} to {_GREATEST}, or null", "")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        fix = "leave out the quotes" if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) else ""
        raise _Unfit("is no number", "a number or null", fix)
    if not -_LARGEST <= value <= _LARGEST:
        raise _Unfit("is out of range", f"a number from -{_LARGEST} to {_LARGEST}, or null", "")
    return float(value)


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _Unfit("is no boolean", "true, false or null", "")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _Unfit("is no text", "a text or null", "put it in quotes" if type(value) in (int, float) else "")
    if "\0" in value:
        raise _Unfit("has the character NUL", "a text without it, or null", "")
    if not _is_utf8(value):
        raise _Unfit("has half a surrogate pair", "a text in UTF-8, or null", "")
    return value


def _date(value: Any) -> dt.date:
    if type(value) is not str or not _IS_DATE(value):
        raise _Unfit("is no date", 'a date as "2026-11-28", or null', "")
    return dt.date.fromisoformat(value)


def _moment(value: Any) -> dt.datetime:
    if type(value) is not str or not _IS_MOMENT(value):
        raise _Unfit("is no timestamp", 'a timestamp as "2026-11-28T09:30:00Z", or null', "without a zone it is UTC")
    moment = dt.datetime.fromisoformat(value)
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


_READERS: dict[Family, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "text": _text,
    "date": _date,
    "timestamp": _moment,
}
#: The end of a text for every dialect: to some, $ is also before a last line feed.
_END = r"$(?![\s\S])"
_SCHEMAS: dict[Family, dict[str, Any]] = {
    "integer": {"type": ["integer", "null"], "minimum": _LEAST, "maximum": _GREATEST},
    "number": {"type": ["number", "null"], "minimum": -_LARGEST, "maximum": _LARGEST},
    "boolean": {"type": ["boolean", "null"]},
    "text": {"type": ["string", "null"], "pattern": "^[^\\u0000]*$"},
    "date": {"type": ["string", "null"], "format": "date", "pattern": f"^(?:{_DATE}){_END}"},
    "timestamp": {"type": ["string", "null"], "pattern": f"^{_MOMENT}{_END}"},
}
