"""Columns that a check needs are read off its arguments, before any data is."""

from __future__ import annotations

from typing import Any

import pytest

from ponte.expectations import named_columns
from ponte.spec import Check

BETWEEN = "expect_column_values_to_be_between"
PAIR = "expect_column_pair_values_to_be_equal"
SUM = "expect_multicolumn_sum_to_equal"
SET = "expect_table_columns_to_match_set"


@pytest.mark.parametrize(
    ("expectation", "arguments", "columns"),
    [
        (BETWEEN, {"column": "visits", "min_value": 0}, [("column", "visits")]),
        (PAIR, {"column_A": "came", "column_B": "went"}, [("column_A", "came"), ("column_B", "went")]),
        (SUM, {"column_list": ["a", "b"], "sum_total": 1}, [("column_list", "a"), ("column_list", "b")]),
        (SET, {"column_set": ["a", "b"]}, [("column_set", "a"), ("column_set", "b")]),
        ("expect_table_row_count_to_be_between", {"min_value": 1}, []),
        ("expect_column_to_exist", {"column": "visits"}, []),
        (BETWEEN, {"column": 7}, []),
        (SUM, {"column_list": ["a", 7]}, [("column_list", "a")]),
        (BETWEEN, {"value_set": ["visits"]}, []),
    ],
    ids=[
        "one", "a pair", "a list", "a set", "none", "its absence is a finding", "no text", "no text in a list",
        "values are no columns",
    ],
)  # fmt: skip
def test_check_names_the_columns_that_it_needs(
    expectation: str, arguments: dict[str, Any], columns: list[tuple[str, str]]
) -> None:
    assert named_columns(Check(expectation=expectation, **arguments)) == columns
