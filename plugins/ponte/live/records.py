"""JSON → rows: what a request says, read as the types that a version was trained on, or told apart precisely.

A value means the same as in a file or in PostgreSQL, and what JSON can say it has to say: 3.0 is the integer 3, "3" is
no number, true is no number, and NULL is null and not left out. `parse` and `schema_of` accept the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ponte.errors import MANY
from ponte.live.values import NONE, READERS, SCHEMAS, Unfit, arrow_types, quickly
from ponte.short_way.plain import PlainRows
from ponte.storage.columns import Column
from ponte.versions.signature import Signature

#: Problems that are told at most; which rows have one is always known.
MOST_PROBLEMS = 100
#: Longer values are cut where they are quoted, and longer names.
_QUOTED = 60
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

    #: Key and features, one row per instance; None where there is a problem.
    rows: PlainRows
    #: At most MOST_PROBLEMS.
    problems: tuple[Problem, ...]
    #: Every instance that has a problem, told or not.
    bad: frozenset[int]


class Reader:
    """Reads rows of one signature. Made once per version, used by many at once."""

    def __init__(self, signature: Signature) -> None:
        import pyarrow as pa

        self.signature = signature
        self._features = {c.name: c for c in signature.features}
        self._key = {c.name: c for c in signature.key}
        types = arrow_types()
        self._schema: Any = pa.schema([(c.name, types[c.family]) for c in (*signature.key, *signature.features)])
        self._names: list[str] = self._schema.names

    def parse(self, instances: Sequence[Any], keys: Sequence[Any] | None = None) -> Parsed:
        """Return the rows. instances, keys : what stands in the JSON, of any kind; a key may be null, or all of them.

        Raises nothing about what is given. As many keys as instances are for the caller to see to.
        """
        found = _Found()
        whole = self._objects(instances, self._features, found, "")
        if keys is None:
            columns: list[list[Any]] = [[None] * len(whole) for _ in self.signature.key]
        else:
            named = self._objects(keys, self._key, found, "key.")
            columns = [_column(c, _values(named, c.name), found, "key.") for c in self.signature.key]
        columns += [_column(c, _values(whole, c.name), found, "") for c in self.signature.features]
        rows = PlainRows(self._schema, dict(zip(self._names, columns, strict=True)), len(whole))
        return Parsed(rows, tuple(found.problems), frozenset(found.bad))

    def _objects(self, given: Sequence[Any], columns: Mapping[str, Column], found: _Found, prefix: str) -> list[Any]:
        """Return the objects, None for what is none; finds names that no column has, and those that lack."""
        names = columns.keys()
        objects: list[Any] = []
        for place, row in enumerate(given):
            if type(row) is dict:
                if row.keys() != names:
                    found.extend(place, _wrong_names(place, row, columns, prefix, {*self._key, *self._features}))
                objects.append(row)
            else:
                if row is not None or not prefix:
                    expected = f"an object of {_some(names)}" + " or null" * bool(prefix)
                    found.add(place, prefix.rstrip("."), "is no object", row, expected)
                objects.append(None)
        return objects


def _column(column: Column, values: list[Any], found: _Found, prefix: str) -> list[Any]:
    """Return the values as those of the column's family, None for NULL and for what is none; finds problems."""
    kinds = set(map(type, values))
    if not prefix or NONE not in kinds:
        quick = quickly(column.family, kinds, values)
        if quick is not None:
            return quick
    read = READERS[column.family]
    result = []
    for place, value in enumerate(values):
        fit = None
        if value is None and prefix:
            found.add(
                place, prefix + column.name, "is null", None, column.family, "give a value, or null for the whole key"
            )
        elif value is not _MISSING and value is not None:
            try:
                fit = read(value)
            except Unfit as unfit:
                expected = unfit.expected + " or null" * (not prefix)
                found.add(place, prefix + column.name, unfit.what, value, expected, unfit.fix)
        result.append(fit)
    return result


def parse(signature: Signature, instances: Sequence[Any], keys: Sequence[Any] | None = None) -> Parsed:
    """Return the rows that a request says; see `Reader`, which is to be kept where more than one is read."""
    return Reader(signature).parse(instances, keys)


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
        properties[column.name] = {**SCHEMAS[column.family], **({"examples": shown} if shown else {})}
    names = [c.name for c in columns]
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


class _Found:
    """Problems on their way; how many are told is bounded."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.bad: set[int] = set()

    def add(  # noqa: PLR0917 - as the parts of a Problem stand
        self, place: int, column: str, what: str, value: object, expected: str, fix: str = ""
    ) -> None:
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
        expected = f"one of {_some(columns)}"
        yield Problem(instance=place, column=prefix + cut, what="is no column of the model", expected=expected, fix=fix)


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:MANY]) + ", …" * (len(known) > MANY)


def _values(objects: list[Any], name: str) -> list[Any]:
    return [_MISSING if row is None else row.get(name, _MISSING) for row in objects]
