"""The error tree and the layout of its messages."""

from __future__ import annotations

import inspect
import re

import pytest

from ponte import errors
from ponte.errors import LINE, ModelFolderError, PonteError, Problem, did_you_mean, in_lines

TREE = dict.fromkeys(re.findall(r"── (\w+)", errors.__doc__ or ""))
CLASSES = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, PonteError)}


def test_tree_in_the_docstring_names_exactly_the_error_classes() -> None:
    assert TREE.keys() | {"PonteError"} == CLASSES.keys()


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - {"PonteError"}))
def test_every_error_is_a_direct_child_of_the_one_base_and_says_when_it_is_raised(name: str) -> None:
    assert CLASSES[name].__bases__ == (PonteError,)
    assert CLASSES[name].__doc__


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - {"ModelFolderError"}))
def test_message_has_what_then_one_line_per_part_in_a_fixed_order(name: str) -> None:
    error = CLASSES[name]("it broke", fix="mend it", expected="2", got="1", where="model m")
    assert str(error) == "it broke\n  where: model m\n  got: 1\n  expected: 2\n  next: mend it"
    assert error.what == "it broke"


def test_parts_that_were_not_given_leave_no_line() -> None:
    assert str(PonteError("it broke", got="1")) == "it broke\n  got: 1"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            Problem(file="model.toml", field="key", what="is missing", fix="add it"),
            "model.toml: key: is missing → add it",
        ),
        (Problem(file="README.md", what="is empty"), "README.md: is empty"),
    ],
    ids=["field and fix", "whole file"],
)
def test_problem_reads_as_place_what_and_fix(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_problems_of_a_folder_are_counted_numbered_sorted_and_told_once() -> None:
    late = Problem(file="model.toml", field="owner", what="is missing")
    early = Problem(file="labels.sql", what="is empty")
    error = ModelFolderError("churn", [late, early, late])
    assert error.problems == (early, late)
    assert str(error).splitlines() == [
        "model folder 'churn' has 2 problems:",
        "  1. labels.sql: is empty",
        "  2. model.toml: owner: is missing",
    ]


def test_one_problem_is_not_called_problems() -> None:
    assert "has 1 problem:" in str(ModelFolderError("churn", [Problem(file="labels.sql", what="is empty")]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metirc", "did you mean 'metric'? Known: maximum, metric, minimum"),
        ("zzz", "Known: maximum, metric, minimum"),
    ],
    ids=["close", "far"],
)
def test_hint_names_the_nearest_name_if_one_is_near_and_all_of_a_few(name: str, text: str) -> None:
    assert did_you_mean(name, ["minimum", "metric", "maximum"]) == text


@pytest.mark.parametrize(
    ("count", "start", "named"),
    [(20, "did you mean 'column_07'? Known: column_00, column_01, ", 20),
     (21, "did you mean 'column_07'? Closest of 21: column_07, ", 5)],
    ids=["twenty", "one more"],
)  # fmt: skip
def test_hint_lists_at_most_twenty_names_and_of_more_the_closest_five(count: int, start: str, named: int) -> None:
    """A table may have 1500 columns: listing them all hides the one that is meant."""
    hint = did_you_mean("colum_07", [f"column_{n:02}" for n in range(count)])
    assert hint.startswith(start)
    assert hint.count("column_") == named + 1


def test_there_is_no_hint_without_a_name() -> None:
    assert did_you_mean("colum", []) == ""
    assert PonteError("no such column", fix=did_you_mean("colum", [])).parts == {}


def test_hint_lists_the_closest_of_many_even_when_none_is_near() -> None:
    hint = did_you_mean("zzz", [f"column_{n}" for n in range(30)])
    assert hint.startswith("Closest of 30: column_")
    assert hint.count("column_") == 5


def test_lines_for_a_log_are_short_have_the_next_step_first_and_leave_nothing_out() -> None:
    error = PonteError("it broke", where="model m", got="x" * 300, expected="a\n  b c", fix="mend it " * 40)
    error.__cause__ = PonteError("deeper", fix="dig")
    lines = in_lines(error)
    assert max(map(len, lines)) <= LINE
    assert lines[0].startswith("next: mend it mend it")
    assert [line for line in lines if not line.startswith("    ")] == [
        lines[0],
        "PonteError: it broke",
        "  where: model m",
        f"  got: {'x' * 113}",
        "  expected: a",
        "  b c",
        "because of PonteError: deeper",
        "  next: dig",
    ]
    kept = re.sub(r"\s", "", "".join(lines))
    for part in (*error.parts.values(), error.what, "deeper", "dig"):
        assert re.sub(r"\s", "", part) in kept
