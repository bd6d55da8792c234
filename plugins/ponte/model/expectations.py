"""`[[checks]]` of a model as Great Expectations' own objects, without any data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ponte.errors import ModelFolderError, Problem, did_you_mean
from ponte.model.folders import ModelFolder
from ponte.model.spec import Check

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

#: Arguments that name columns, one or a list of them.
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")

#: Expectations that look at more than one row to say that one fails → the argument that names their columns.
UNIQUE_COLUMNS = {"expect_column_values_to_be_unique": "column", "expect_compound_columns_to_be_unique": "column_list"}

#: Expectations that count rows, but about the order or the spread of all of them, or about a type.
_NOT_OF_ONE_ROW = frozenset(
    {
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_of_type",
    }
)


def named_columns(check: Check) -> list[tuple[str, str]]:
    """Return (argument, column) for every column that the check needs to be there."""
    if check.expectation == "expect_column_to_exist":  # its failure is its finding
        return []
    found = []
    for argument in _COLUMN_ARGUMENTS:
        value = check.arguments.get(argument, [])
        columns = value if isinstance(value, list) else [value]
        found += [(argument, column) for column in columns if isinstance(column, str)]
    return found


def _unknown_arguments(check: Check) -> str:
    """Return "did you mean" for every argument that the expectation does not have."""
    from great_expectations.expectations.registry import get_expectation_impl

    known = sorted(get_expectation_impl(check.expectation).__fields__.keys())
    return "; ".join(did_you_mean(name, known) for name in check.arguments if name not in known)


def build_expectations(folder: ModelFolder) -> list[Expectation]:
    """Return the declared expectations as Great Expectations' own objects.

    Raises ModelFolderError with every argument that an expectation does not take.
    """
    if not folder.spec.checks:
        return []  # the import alone takes over ten seconds
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    built, problems = [], []
    for position, check in enumerate(folder.spec.checks):
        configuration = ExpectationConfiguration(
            type=check.expectation, kwargs=check.arguments, meta={"position": position}
        )
        try:
            expectation = configuration.to_domain_obj()
            single_row = hasattr(expectation, "map_metric") and check.expectation not in _NOT_OF_ONE_ROW
            if check.on_failure == "quarantine" and not single_row:
                what = "is about no single row, so it can set none aside"
                fix = 'use on_failure = "stop" or "warn"'
                field = f"checks.{position}.on_failure"
                problems.append(Problem(file="model.toml", field=field, what=f"{check.expectation} {what}", fix=fix))
            built.append(expectation)
        except Exception as error:  # noqa: BLE001 - pydantic.v1's, which no public name exports
            field = f"checks.{position}.{check.expectation}"
            said = "; ".join(line.strip() for line in str(error).splitlines()[1:]) or str(error)
            problems.append(Problem(file="model.toml", field=field, what=said, fix=_unknown_arguments(check)))
    if problems:
        raise ModelFolderError(folder.name, problems)
    return built
