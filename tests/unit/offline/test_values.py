"""Values of a file are read as PostgreSQL would read them, whatever stands beside them."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pyarrow as pa
import pytest

from ponte.errors import SignatureMismatch
from ponte.offline.values import arrow_type, read_values
from ponte.storage.columns import SQL_TYPES, Column, Family

BAD = "cannot be read"
MOMENT = dt.datetime(2024, 3, 1, 10, 30, tzinfo=dt.UTC)
DAY = dt.date(2024, 3, 1)

#: Family → text → what it means.
MEANINGS: dict[Family, dict[str, Any]] = {
    "integer": {"7": 7, " -7 ": -7, "+7": 7, "3.0": 3, "-3.": -3, "007": 7, "0x1A": 26, "": None, "3.5": BAD,
                "9223372036854775807": 2**63 - 1, "9223372036854775808": BAD, "1_000": BAD, "1e3": BAD, "NA": BAD,
                "-": BAD},
    "number": {"1.5": 1.5, "+1.5": 1.5, ".5": 0.5, "5.": 5.0, "1e3": 1000.0, "-Infinity": -math.inf, "inf": math.inf,
               "": None, "1e999": BAD, "1e-999": BAD, "0e-999": 0.0, "0.000": 0.0, "1,5": BAD, "NA": BAD, ".": BAD,
               "12 34": BAD, "1_0": BAD},
    "boolean": {"t": True, "FALSE": False, " yes": True, "off": False, "1": True, "0": False, "": None, "2": BAD,
                "maybe": BAD},
    "text": {"a": "a", " a ": " a ", "": "", "ü": "ü"},
    "date": {"2024-03-01": DAY, "2024-03-01 00:00:00": DAY, "2024-03-01T00:00:00.000000Z": DAY, "": None,
             "2024-03-01 10:00": BAD, "2024-02-30": BAD, "1.3.2024": BAD, "10000-01-01": BAD, "infinity": BAD},
    "timestamp": {"2024-03-01 10:30": MOMENT, "2024-03-01T10:30:00Z": MOMENT, "2024-03-01 12:30:00+02": MOMENT,
                  "2024-03-01 12:30:00.000000000+02:00": MOMENT, "2024-03-01": dt.datetime(2024, 3, 1, tzinfo=dt.UTC),
                  "2024-03-01T10:30:00.5": MOMENT.replace(microsecond=500_000), "": None, "2024-03-01 25:00": BAD,
                  "2024-03-01 10:30:00.123456789": BAD, "yesterday": BAD},
}  # fmt: skip
CASES = [(family, text, meaning) for family, found in MEANINGS.items() for text, meaning in found.items()]


def read(values: pa.Array, family: Family) -> list[Any]:
    found, bad = read_values(pa.chunked_array([values]), Column(name="x", family=family), where="here")
    assert found.type == arrow_type(family)
    return [BAD if wrong else value for value, wrong in zip(found.to_pylist(), bad.to_pylist(), strict=True)]


@pytest.mark.parametrize(("family", "text", "meaning"), CASES)
def test_text_means_what_it_means_to_postgresql_alone_and_beside_any_other(
    family: Family, text: str, meaning: Any
) -> None:
    assert read(pa.array([text.encode()]), family) == [meaning]
    company = [t for t in MEANINGS[family] if t]
    beside = read(pa.array([t.encode() for t in (*company, text)]), family)
    assert beside[-1:] == [meaning]
    assert read(pa.array([None, text.encode()]), family) == [None, meaning]


def test_every_family_has_its_cases() -> None:
    assert MEANINGS.keys() == SQL_TYPES.keys()


def test_nan_is_a_number_and_bytes_that_are_no_text_cannot_be_read() -> None:
    assert math.isnan(read(pa.array([b"nan", b"x"]), "number")[0])
    assert read(pa.array([b"a", b"\xff", None, b"b"]), "text") == ["a", BAD, None, "b"]
    assert read(pa.array([b"1", b"\xff"]), "integer") == [1, BAD]


@pytest.mark.parametrize(
    ("values", "family", "expected"),
    [
        (pa.array([1, None], pa.int16()), "integer", [1, None]),
        (pa.array([1, 2**63], pa.uint64()), "integer", [1, BAD]),
        (pa.array([3.0, 3.5, None]), "integer", [3, BAD, None]),
        (pa.array([1.25], pa.float32()), "number", [1.25]),
        (pa.array(["1.50"]).cast(pa.decimal128(5, 2)), "number", [1.5]),
        (pa.array([0, 1, 2]), "boolean", [False, True, BAD]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "text", ["a", "b", "a"]),
        (pa.array([5]), "text", ["5"]),
        (pa.array([DAY]).cast(pa.timestamp("us")), "date", [DAY]),
        (pa.array([MOMENT.replace(tzinfo=None)]), "timestamp", [MOMENT]),
        (pa.array([1], pa.timestamp("ns")), "timestamp", [BAD]),
        (pa.array([DAY]), "timestamp", [dt.datetime(2024, 3, 1, tzinfo=dt.UTC)]),
        (pa.nulls(2), "text", [None, None]),
    ],
)
def test_types_of_parquet_are_read_value_for_value(values: pa.Array, family: Family, expected: list[Any]) -> None:
    assert read(values, family) == expected


@pytest.mark.parametrize(("values", "family"), [(pa.array([5.0]), "text"), (pa.array([[1]]), "number")])
def test_a_type_that_cannot_be_meant_ends_it_with_the_name_of_the_column(values: pa.Array, family: Family) -> None:
    with pytest.raises(SignatureMismatch, match="column 'x' holds"):
        read(values, family)
