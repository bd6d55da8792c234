"""What Great Expectations says when it could not evaluate: a finding, or a database that was away."""

from __future__ import annotations

from typing import Any

import pytest

from ponte.checks.validation import CheckResult, _exceptions
from ponte.errors import DatabaseUnavailable

SILENT = {"raised_exception": False, "exception_message": None, "exception_traceback": None}
TEXT = {
    "raised_exception": True,
    "exception_message": "function avg(text) does not exist",
    "exception_traceback": "sqlalchemy.exc.ProgrammingError: function avg(text) does not exist",
}
LOST = {
    "raised_exception": True,
    "exception_message": "server closed the connection unexpectedly",
    "exception_traceback": "sqlalchemy.exc.OperationalError: server closed the connection unexpectedly",
}
#: Words of errors of PostgreSQL → what may be said of them.
MET = {
    "function avg(text) does not exist": "UndefinedFunction (SQLSTATE 42883)",
    "server closed the connection unexpectedly": "OperationalError: server closed the connection unexpectedly",
}
CLOSED = {**LOST, "exception_traceback": "psycopg2.InterfaceError: connection already closed"}


@pytest.mark.parametrize(
    ("info", "messages"),
    [
        (None, []),
        ({}, []),
        (SILENT, []),
        (TEXT, ["UndefinedFunction (SQLSTATE 42883)"]),
        ({"mean": TEXT, "count": SILENT, "max": TEXT}, ["UndefinedFunction (SQLSTATE 42883)"]),
    ],
    ids=["nothing", "empty", "no exception", "flat", "by metric, each message once"],
)
def test_exception_of_a_check_is_told_as_its_finding(info: Any, messages: list[str]) -> None:
    assert _exceptions(info, MET) == messages


@pytest.mark.parametrize("info", [LOST, CLOSED, {"mean": TEXT, "max": LOST}], ids=["lost", "closed", "by metric"])
def test_database_that_was_away_during_a_check_is_no_finding_but_worth_a_retry(info: Any) -> None:
    """A batch must not be rejected because the server was restarted."""
    with pytest.raises(DatabaseUnavailable, match="the database failed during the checks") as caught:
        _exceptions(info, MET)
    assert "server closed the connection unexpectedly" in str(caught.value)


@pytest.mark.parametrize(
    ("on_failure", "outcome", "unexpected", "stops"),
    [
        ("stop", "passed", 0, False),
        ("stop", "failed", 3, True),
        ("stop", "failed", None, True),
        ("stop", "error", None, True),
        ("warn", "failed", 3, False),
        ("warn", "error", None, False),
        ("quarantine", "passed", 0, False),
        ("quarantine", "failed", 3, False),
        ("quarantine", "failed", None, True),
        ("quarantine", "error", None, True),
        ("quarantine", "error", 3, True),
    ],
)
def test_what_stops_is_what_must_not_fail_and_what_should_set_rows_aside_and_names_none(
    on_failure: Any, outcome: Any, unexpected: int | None, stops: bool
) -> None:
    result = CheckResult(
        position=0,
        expectation="expect_column_values_to_be_of_type",
        arguments={},
        on_failure=on_failure,
        outcome=outcome,
        unexpected_count=unexpected,
    )
    assert result.stops is stops
