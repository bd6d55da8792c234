"""What a check needs, and whether it can set rows aside, is known before any data is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ponte.errors import ModelFolderError
from ponte.model.expectations import UNIQUE_COLUMNS, build_expectations, named_columns
from ponte.model.folders import load_folder
from ponte.model.spec import Check

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


QUARANTINE = '[[checks]]\nexpectation = "{}"\n{}\non_failure = "quarantine"\n'
#: One of each kind that is about single rows.
OF_ROWS = {
    "expect_column_values_to_not_be_null": 'column = "visits"',
    "expect_column_values_to_be_unique": 'column = "visits"',
    "expect_column_pair_values_to_be_equal": 'column_A = "visits"\ncolumn_B = "customer_id"',
    "expect_multicolumn_sum_to_equal": 'column_list = ["visits", "customer_id"]\nsum_total = 1',
    "expect_compound_columns_to_be_unique": 'column_list = ["visits", "customer_id"]',
}
#: And of those that are not.
OF_THE_TABLE = {
    "expect_column_max_to_be_between": 'column = "visits"\nmax_value = 3',
    "expect_column_to_exist": 'column = "visits"',
    "expect_table_row_count_to_be_between": "min_value = 1",
    "expect_table_columns_to_match_set": 'column_set = ["visits"]',
    "expect_column_unique_value_count_to_be_between": 'column = "visits"\nmin_value = 1',
    "expect_column_values_to_be_of_type": 'column = "visits"\ntype_ = "INTEGER"',
    "expect_column_values_to_be_increasing": 'column = "visits"',
    "expect_column_value_z_scores_to_be_less_than": 'column = "visits"\nthreshold = 3\ndouble_sided = true',
}


def test_an_expectation_about_single_rows_can_set_them_aside(make_folder: Callable[..., Path], model_toml: str) -> None:
    checks = "".join(QUARANTINE.format(*item) for item in OF_ROWS.items())
    built = build_expectations(load_folder(make_folder(changes={"model.toml": model_toml + checks})))
    assert [e.meta for e in built] == [{"position": n} for n in range(len(OF_ROWS))]
    assert UNIQUE_COLUMNS.keys() < OF_ROWS.keys()


def test_every_expectation_about_no_single_row_is_refused_for_quarantine_in_one_message(
    make_folder: Callable[..., Path], model_toml: str
) -> None:
    checks = "".join(QUARANTINE.format(*item) for item in OF_THE_TABLE.items())
    with pytest.raises(ModelFolderError) as caught:
        build_expectations(load_folder(make_folder(changes={"model.toml": model_toml + checks})))
    assert [str(p) for p in caught.value.problems] == [
        f"model.toml: checks.{n}.on_failure: {name} is about no single row, so it can set none aside "
        '→ use on_failure = "stop" or "warn"'
        for n, name in enumerate(OF_THE_TABLE)
    ]


def test_the_same_expectations_may_stop_or_warn(make_folder: Callable[..., Path], model_toml: str) -> None:
    checks = "".join(QUARANTINE.format(*item) for item in OF_THE_TABLE.items()).replace('"quarantine"', '"warn"')
    built = build_expectations(load_folder(make_folder(changes={"model.toml": model_toml + checks})))
    assert len(built) == len(OF_THE_TABLE)
