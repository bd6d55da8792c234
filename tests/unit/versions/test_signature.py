"""Column signatures, and the types an estimator gets."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, get_args

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.errors import SignatureMismatch
from ponte.model.queries import describe
from ponte.storage.columns import FAMILIES, KEY_FAMILIES, SQL_TYPES, Column, Family, select_list
from ponte.versions.signature import Signature, Types, differences, require_same, to_frame

columns = st.builds(Column, name=st.text(min_size=1, max_size=12), family=st.sampled_from(get_args(Family)))
column_lists = st.lists(columns, max_size=6, unique_by=lambda c: c.name)
signatures = st.builds(
    Signature,
    key=column_lists.map(tuple),
    features=column_lists.map(tuple),
    label=st.sampled_from(get_args(Family)),
    types=st.sampled_from(get_args(Types)),
)
PLAIN = [Column(name="age", family="integer"), Column(name="plan", family="text")]


@given(signatures)
def test_signature_survives_json(signature: Signature) -> None:
    assert Signature.from_json(json.loads(json.dumps(signature.as_json()))) == signature


@given(column_lists, column_lists, st.randoms(use_true_random=False))
def test_there_are_no_differences_exactly_when_names_and_families_are_the_same_set(
    expected: list[Column], got: list[Column], random: Any
) -> None:
    assert (differences(expected, got) == []) == (set(expected) == set(got))
    shuffled = random.sample(expected, len(expected))
    assert differences(expected, shuffled) == []


@pytest.mark.parametrize(
    ("got", "sentences"),
    [
        ([PLAIN[1]], ["column 'age' (integer) is gone"]),
        ([*PLAIN, Column(name="city", family="text")], ["column 'city' (text) is new"]),
        ([Column(name="age", family="number"), PLAIN[1]], ["column 'age' was integer and is number now"]),
        (
            [PLAIN[0], Column(name="plans", family="text")],
            ["column 'plan' (text) is gone; renamed to 'plans'?", "column 'plans' (text) is new"],
        ),
    ],
    ids=["gone", "new", "another family", "renamed"],
)
def test_each_difference_is_a_sentence_and_a_likely_new_name_is_asked_about(
    got: list[Column], sentences: list[str]
) -> None:
    assert differences(PLAIN, got) == sentences


def test_mismatch_names_model_version_difference_expectation_and_fix() -> None:
    with pytest.raises(SignatureMismatch) as caught:
        require_same(PLAIN, PLAIN[1:], model="churn", version=3)
    assert str(caught.value).splitlines()[1:] == [
        "  where: model churn, version 3, features.sql",
        "  got: column 'age' (integer) is gone",
        "  expected: age (integer), plan (text)",
        "  next: restore the columns, or train churn again on the new ones",
    ]


def test_same_columns_in_another_order_pass() -> None:
    require_same(PLAIN, PLAIN[::-1], model="churn", version=3)


def test_every_family_has_a_type_to_read_it_as_and_every_key_family_is_a_family() -> None:
    assert SQL_TYPES.keys() == set(FAMILIES.values()) == set(get_args(Family))
    assert set(SQL_TYPES) >= KEY_FAMILIES


def test_select_list_casts_each_column_to_the_one_type_of_its_family_and_quotes_it() -> None:
    assert select_list([Column(name='o"dd', family="number"), PLAIN[1]]) == (
        'CAST("o""dd" AS double precision) AS "o""dd", CAST("plan" AS text) AS "plan"'
    )


def test_description_gives_the_family_or_none_for_a_type_that_ponte_cannot_carry() -> None:
    class Rows:
        def execute(self, *_: object) -> Rows:
            return self

        def tuples(self) -> Rows:
            return self

        def all(self) -> list[tuple[int, str]]:
            return [(23, "int4"), (114, "json")]

    cursor = [("age", 23), ("blob", 114), ("odd", 99)]
    assert describe(cursor, Rows()) == [  # type: ignore[arg-type]
        ("age", "int4", "integer"),
        ("blob", "json", None),
        ("odd", "?", None),
    ]


UTC_TYPE = pa.timestamp("us", tz="UTC")
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
FRAME_CASES: list[tuple[Family, pa.DataType, list[Any], str]] = [
    ("integer", pa.int64(), [1, 2], "float64"),
    ("integer", pa.int64(), [1, None], "float64"),
    ("number", pa.float64(), [1.5, 2.5], "float64"),
    ("number", pa.float64(), [1.5, None], "float64"),
    ("boolean", pa.bool_(), [True, False], "float64"),
    ("boolean", pa.bool_(), [True, None], "float64"),
    ("text", pa.string(), ["a", "b"], "category"),
    ("text", pa.string(), ["a", None], "category"),
    ("text", pa.string(), [None, None], "category"),
    ("date", pa.date32(), [dt.date(2026, 11, 22)] * 2, "datetime64[s]"),
    ("date", pa.date32(), [dt.date(2026, 11, 22), None], "datetime64[s]"),
    ("timestamp", UTC_TYPE, [NOON] * 2, "datetime64[us, UTC]"),
    ("timestamp", UTC_TYPE, [NOON, None], "datetime64[us, UTC]"),
]
CASE_IDS = [
    f"{family}, {'all NULL' if not any(v is not None for v in values) else 'one NULL' if None in values else 'no NULL'}"
    for family, _, values, _ in FRAME_CASES
]


@pytest.mark.parametrize("shape", ["table", "chunks", "batch"])
@pytest.mark.parametrize(("family", "arrow", "values", "dtype"), FRAME_CASES, ids=CASE_IDS)
def test_family_decides_the_type_of_a_frame_column(
    family: Family, arrow: pa.DataType, values: list[Any], dtype: str, shape: str
) -> None:
    """One table, a table of several chunks and a record batch give the same frame."""
    if shape == "chunks":
        table = pa.table({"x": pa.chunked_array([pa.array([v], arrow) for v in values])})
    else:
        table = pa.table({"x": pa.array(values, arrow)})
    rows = table.to_batches()[0] if shape == "batch" else table
    series = to_frame(rows, [Column(name="x", family=family)])["x"]
    assert str(series.dtype) == dtype
    assert series.isna().tolist() == [v is None for v in values]
    kept = series.dropna().tolist()
    assert [k.date() if family == "date" else k for k in kept] == [v for v in values if v is not None]


@pytest.mark.parametrize("types", get_args(Types))
def test_boolean_with_null_becomes_one_nought_and_nan(types: Types) -> None:
    table = pa.table({"x": pa.array([True, False, None])})
    got = to_frame(table, [Column(name="x", family="boolean")], types=types)["x"]
    pd.testing.assert_series_equal(got, pd.Series([1.0, 0.0, float("nan")], name="x"))


def test_columns_come_in_the_order_of_the_signature_and_others_are_left_out() -> None:
    table = pa.table({"plan": ["a"], "other": [0], "age": [1]})
    assert list(to_frame(table, PLAIN).columns) == ["age", "plan"]


@pytest.mark.parametrize(("family", "arrow", "values", "dtype"), FRAME_CASES[::2], ids=CASE_IDS[::2])
def test_no_rows_give_an_empty_frame_with_the_columns(
    family: Family, arrow: pa.DataType, values: list[Any], dtype: str
) -> None:
    for rows in (pa.table({"x": pa.array([], arrow)}), pa.schema([("x", arrow)]).empty_table()):
        frame = to_frame(rows, [Column(name="x", family=family)])
        assert (frame.shape, str(frame["x"].dtype)) == ((0, 1), dtype)


def test_categories_of_several_chunks_are_merged() -> None:
    table = pa.table({"x": pa.chunked_array([["a"], ["b", "a"]])})
    series = to_frame(table, [Column(name="x", family="text")])["x"]
    assert series.tolist() == ["a", "b", "a"]
    assert sorted(series.cat.categories) == ["a", "b"]
