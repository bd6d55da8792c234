"""JSON → rows: what is accepted, what is told of the rest, and that the schema says the same."""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
from decimal import Decimal
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponte.live.records import MOST_PROBLEMS, Reader, parse, schema_of, schema_of_key
from ponte.live.values import arrow_types
from ponte.offline.values import arrow_type, read_values
from ponte.storage.columns import SQL_TYPES, Column
from ponte.versions.signature import Signature

FAMILIES = ("integer", "number", "boolean", "text", "date", "timestamp")
KEY = (Column(name="id", family="integer"), Column(name="place", family="text"))
SIGNATURE = Signature(key=KEY, features=tuple(Column(name=f, family=f) for f in FAMILIES), label="integer")  # type: ignore[arg-type]
GOOD: dict[str, Any] = {
    "integer": 3, "number": 2.5, "boolean": True, "text": "mill", "date": "2024-02-29",
    "timestamp": "2024-02-29T23:59:59.5+02:00",
}  # fmt: skip

#: Family, value of JSON → the value that it is, or None when it is refused.
BAD = object()
VALUES: list[tuple[str, Any, Any]] = [
    ("integer", 3, 3), ("integer", 3.0, 3), ("integer", -0.0, 0), ("integer", 3.5, BAD), ("integer", "3", BAD),
    ("integer", True, BAD),
    ("integer", 2**63 - 1, 2**63 - 1), ("integer", 2**63, BAD), ("integer", -(2**63), -(2**63)), ("integer",
    -(2**63) - 1, BAD),
    ("integer", 1e300, BAD), ("integer", 9.3e18, BAD), ("integer", float("inf"), BAD), ("integer", float("nan"), BAD),
    ("integer", 2**53 + 1, 2**53 + 1), ("integer", None, None), ("integer", [], BAD), ("integer", {}, BAD),
    ("number", 3, 3.0), ("number", 2.5, 2.5), ("number", True, BAD), ("number", "2.5", BAD), ("number", "", BAD),
    ("number", None, None),
    ("number", 2**53 + 1, float(2**53)), ("number", 10**400, BAD), ("number", -(10**400), BAD), ("number",
    float("inf"), BAD),
    ("number", float("nan"), BAD), ("number", 5e-324, 5e-324), ("number", 1.7976931348623157e308,
    1.7976931348623157e308),
    ("number", int(1.7976931348623157e308) + 1, BAD),
    ("boolean", True, True), ("boolean", False, False), ("boolean", 1, BAD), ("boolean", 0.0, BAD), ("boolean", "true",
    BAD), ("boolean", None, None),
    ("text", "", ""), ("text", " a ", " a "), ("text", "é\u2028\U0001f600", "é\u2028\U0001f600"), ("text", "a\0b",
    BAD), ("text", "\ud800", BAD),
    ("text", 5, BAD), ("text", True, BAD), ("text", None, None), ("text", ["a"], BAD),
    ("date", "2024-02-29", dt.date(2024, 2, 29)), ("date", "2023-02-29", BAD), ("date", "1900-02-29", BAD), ("date",
    "2000-02-29", dt.date(2000, 2, 29)),
    ("date", "2024-13-01", BAD), ("date", "2024-04-31", BAD), ("date", "24-01-01", BAD), ("date", "0000-01-01", BAD),
    ("date", "2024-01-01\n", BAD),
    ("date", "2024-01-01T00:00", BAD), ("date", " 2024-01-01", BAD), ("date", "٢٠٢٤-01-01", BAD), ("date", 20240101,
    BAD), ("date", None, None),
    ("timestamp", "2024-03-01", dt.datetime(2024, 3, 1, tzinfo=dt.UTC)),
    ("timestamp", "2024-03-01T08:30", dt.datetime(2024, 3, 1, 8, 30, tzinfo=dt.UTC)),
    ("timestamp", "2024-03-01 08:30:15Z", dt.datetime(2024, 3, 1, 8, 30, 15, tzinfo=dt.UTC)),
    ("timestamp", "2024-03-01T08:30:15.123456+05:30", dt.datetime(2024, 3, 1, 3, 0, 15, 123456, tzinfo=dt.UTC)),
    ("timestamp", "2024-03-01T08:30:15.5-0800", dt.datetime(2024, 3, 1, 16, 30, 15, 500000, tzinfo=dt.UTC)),
    ("timestamp", "2024-03-01T08:30:15.123456000Z", dt.datetime(2024, 3, 1, 8, 30, 15, 123456, tzinfo=dt.UTC)),
    ("timestamp", "2024-03-01T08:30:15.1234567Z", BAD), ("timestamp", "2024-03-01T24:00Z", BAD), ("timestamp",
    "2024-03-01T08:30:60Z", BAD),
    ("timestamp", "0002-01-01T00:00+14:00", dt.datetime(1, 12, 31, 10, tzinfo=dt.UTC)), ("timestamp",
    "0001-01-01T00:00+14:00", BAD),
    ("timestamp", "9998-12-31T23:00-14:00", dt.datetime(9999, 1, 1, 13, tzinfo=dt.UTC)), ("timestamp",
    "9999-12-31T00:00Z", BAD),
    ("timestamp", "2024-03-01Z", BAD), ("timestamp", "yesterday", BAD), ("timestamp", "infinity", BAD), ("timestamp",
    1709251200, BAD),
    ("timestamp", None, None),
]  # fmt: skip


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def column_of(family: str) -> Signature:
    return Signature(key=(), features=(Column(name="x", family=family),), label="integer")  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "value", "expected"), VALUES)
@pytest.mark.parametrize("count", [1, 20])
def test_a_value_is_read_or_refused_wherever_it_stands(family: str, value: Any, expected: Any, count: int) -> None:
    signature = column_of(family)
    rows = [{"x": GOOD[family]}] * (count - 1) + [{"x": value}]
    found = parse(signature, rows)
    assert found.rows.table().num_rows == count
    last = found.rows.table().column("x").to_pylist()[-1]
    if expected is BAD:
        assert found.bad == {count - 1}
        assert last is None
        [problem] = found.problems
        assert (problem.instance, problem.column) == (count - 1, "x")
        assert problem.what
        assert problem.got
        assert problem.expected
    else:
        assert found.problems == ()
        assert (last, type(last)) == (expected, type(expected))
    assert found.rows.table().column("x").to_pylist()[: count - 1] == parse(signature, rows[:1]).rows.table().column(
        "x"
    ).to_pylist() * (count - 1)


@pytest.mark.parametrize(("family", "value", "expected"), VALUES)
def test_the_schema_says_the_same(family: str, value: Any, expected: Any) -> None:
    if _is_nan(value) or value == "\ud800":  # neither is JSON
        return
    valid = jsonschema.Draft202012Validator(schema_of(column_of(family))).is_valid({"x": value})
    assert valid is (expected is not BAD)


@pytest.mark.parametrize(("family", "value", "expected"), [v for v in VALUES if v[2] is not BAD and v[0] != "text"])
def test_a_value_means_what_it_means_in_a_file(family: str, value: Any, expected: Any) -> None:
    written = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    column = Column(name="x", family=family)  # type: ignore[arg-type]
    found, bad = read_values(pa.chunked_array([pa.array([written], pa.string())]), column, where="")
    if value not in (-0.0, 2**53 + 1) or family == "number":
        assert (found.to_pylist(), bad.to_pylist()) == ([expected], [False])


def test_types_are_those_of_a_file_and_there_is_one_per_family() -> None:
    assert arrow_types() == {family: arrow_type(family) for family in SQL_TYPES}


#: Instances, keys → (instance, column, words in what, got, expected or fix) of each problem.
WRONG: list[tuple[list[Any], Any, list[tuple[int, str, list[str]]]]] = [
    ([{**GOOD, "integer": "3"}], None, [(0, "integer", ["is no integer", "the text '3'", "or null",
    "leave out the quotes"])]),
    ([{k: v for k, v in GOOD.items() if k != "text"}], None, [(0, "text", ["is missing", "text or null", "say null"])]),
    ([{**GOOD, "numbr": 1}], None, [(0, "numbr", ["is no column", "did you mean 'number'?",
    "one of integer, number"])]),
    ([{**{k: v for k, v in GOOD.items() if k != "number"}, "numbr": 1}], None,
     [(0, "number", ["is missing", "rename 'numbr'"]), (0, "numbr", ["did you mean 'number'?"])]),
    ([{**GOOD, "place": "x"}], None, [(0, "place", ["is of the key: give it in keys"])]),
    ([{**GOOD, "zzz": 1}], None, [(0, "zzz", ["leave it out"])]),
    ([GOOD, 5, None, [GOOD]], None, [(1, "", ["is no object", "5"]), (2, "", ["null"]), (3, "", ["a list of 1"])]),
    ([GOOD], [{"id": 1}], [(0, "key.place", ["is missing"])]),
    ([GOOD], [{"id": None, "place": "a"}], [(0, "key.id", ["is null", "integer"])]),
    ([GOOD], [{"id": "1", "place": 2}], [(0, "key.id", ["is no integer"]), (0, "key.place", ["is no text"])]),
    ([GOOD], [{"id": 1, "place": "a", "text": "b"}], [(0, "key.text", ["belongs into the instance"])]),
    ([GOOD], [7], [(0, "key", ["is no object", "or null"])]),
    ([{**GOOD, "x" * 500: 1}], None, [(0, "x" * 60 + "…", ["is no column"])]),
    ([{**GOOD, "text": 10**500}], None, [(0, "text", ["is no text", "an integer of more than 60 digits"])]),
    ([{**GOOD, "integer": "y" * 5000}], None, [(0, "integer", ["is no integer", "y" * 60 + "…"])]),
]  # fmt: skip


@pytest.mark.parametrize(("instances", "keys", "expected"), WRONG)
def test_all_problems_are_told_precisely(instances: list[Any], keys: Any, expected: list[Any]) -> None:
    found = parse(SIGNATURE, instances, keys)
    assert [(p.instance, p.column) for p in found.problems] == [(place, column) for place, column, _ in expected]
    for problem, (_, _, words) in zip(found.problems, expected, strict=True):
        said = f"{problem.what} | {problem.got} | {problem.expected} | {problem.fix}"
        assert not [word for word in words if word not in said], said
        assert len(said) < 600
    assert found.bad == {place for place, _, _ in expected}
    assert found.rows.table().num_rows == len(instances)


def test_problems_are_bounded_and_no_bad_row_is_overlooked() -> None:
    rows = [{**GOOD, "integer": "x", "number": "y"} for _ in range(1000)] + [GOOD]
    found = parse(SIGNATURE, rows)
    assert len(found.problems) == MOST_PROBLEMS
    assert found.bad == set(range(1000))


def test_keys_are_read_where_they_are_given() -> None:
    found = parse(SIGNATURE, [GOOD] * 3, [{"id": 1, "place": "a"}, None, {"id": 2.0, "place": ""}])
    assert found.problems == ()
    assert found.rows.table().select(["id", "place"]).to_pylist() == [
        {"id": 1, "place": "a"},
        {"id": None, "place": None},
        {"id": 2, "place": ""},
    ]
    assert parse(SIGNATURE, [GOOD]).rows.table().select(["id"]).to_pylist() == [{"id": None}]
    assert parse(SIGNATURE, []).rows.table().schema == found.rows.table().schema


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**64), 2**64), st.floats(allow_nan=False),
    st.text(max_size=8),
    st.dates().map(str), st.datetimes().map(str), st.datetimes(timezones=st.timezones()).map(lambda d: d.isoformat()),
    st.just([]), st.just({}),
    *[st.sampled_from([value for _, value, _ in VALUES if value != "\ud800" and not _is_nan(value)])],
)  # fmt: skip
NAMES = st.sampled_from([*FAMILIES, "other", "id", ""])
ANYTHING = st.one_of(
    st.builds(lambda some: {**GOOD, **some}, st.dictionaries(NAMES, SCALARS, max_size=3)),
    st.dictionaries(NAMES, SCALARS),
    SCALARS,
)
READER = Reader(SIGNATURE)
VALIDATOR = jsonschema.Draft202012Validator(schema_of(SIGNATURE))
KEY_VALIDATOR = jsonschema.Draft202012Validator(schema_of_key(SIGNATURE))


@given(st.lists(ANYTHING, max_size=12))
@settings(deadline=None, max_examples=300)
def test_what_validates_is_accepted_and_the_reverse(instances: list[Any]) -> None:
    found = READER.parse(instances)
    assert found.bad == {place for place, row in enumerate(instances) if not VALIDATOR.is_valid(row)}
    assert {p.instance for p in found.problems} == found.bad
    alone = [parse(SIGNATURE, [row]).rows.table() for row in instances]
    assert not alone or pa.concat_tables(alone).equals(found.rows.table().combine_chunks())


@given(st.one_of(st.none(), st.fixed_dictionaries({"id": SCALARS, "place": SCALARS}), ANYTHING))
@settings(deadline=None, max_examples=100)
def test_of_keys_too(key: Any) -> None:
    assert bool(READER.parse([GOOD], [key]).bad) is not KEY_VALIDATOR.is_valid(key)


def test_the_schema_is_one_and_shows_examples_where_there_are_any() -> None:
    found = schema_of(SIGNATURE, {"text": ["mill", "quay"], "nothing": [1]})
    jsonschema.Draft202012Validator.check_schema(found)
    jsonschema.Draft202012Validator.check_schema(schema_of_key(SIGNATURE))
    assert found["properties"]["text"]["examples"] == ["mill", "quay"]
    assert "examples" not in found["properties"]["date"]
    json.dumps(found)


def test_the_bounds_of_numbers_are_written_to_the_last_digit() -> None:
    """To a validator that reads decimals, 1.7976931348623157e308 is less than some integers that are accepted."""
    text = json.dumps(schema_of(SIGNATURE)["properties"]["number"])
    bounds = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    for value, fits in ((int(sys.float_info.max), True), (int(sys.float_info.max) + 1, False)):
        for number in (value, -value):
            assert bool(READER.parse([{**GOOD, "number": number}]).bad) is not fits
            assert (bounds["minimum"] <= number <= bounds["maximum"]) is fits
