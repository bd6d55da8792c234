"""Values that PostgreSQL holds and that cannot be carried beyond it: their rows are set aside.

A date may be infinite, or of the year 294276, which no Python datetime and no pandas Timestamp is; Arrow makes another
date of it. A numeric may be greater than any double precision, and the cast ends the statement for all rows. A key may
be longer than an index takes, which shows when everything is scored. A label that is no number can be learned by
nothing.

Which columns can hold such values is known by their types. Of these the rows are counted, in one pass for all; a table
without such columns is not read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.checks.quarantine import Condition
from ponte.checks.validation import CheckResult
from ponte.model.queries import describe
from ponte.storage.database import DATA_SCHEMA, quote
from ponte.storage.row_width import key_room, of_declaration

#: Position of the first of these checks; the next ones are -4, -5 and so on. The checks of the key have -2 and -1.
FIRST = -3

#: Types of dates → first and last that Python and pandas know, the last one exclusive.
_DATES = {
    "date": ("DATE '0001-01-01'", "DATE '10000-01-01'"),
    "timestamp": ("TIMESTAMP '0001-01-01'", "TIMESTAMP '10000-01-01'"),
    "timestamptz": ("TIMESTAMPTZ '0001-01-01 00:00+00'", "TIMESTAMPTZ '10000-01-01 00:00+00'"),
}
_NUMBERS = ("float4", "float8", "numeric")
_TEXTS = ("text", "varchar", "bpchar")
#: The greatest double precision, to the last digit, and a little more than half the smallest one, of which it makes 0.
_GREATEST, _SMALLEST = int(sys.float_info.max), "2.5e-324"
#: Powers of ten that a numeric may have before and after the point and be a double precision whatever its digits.
_WHOLE_DIGITS, _FRACTION_DIGITS = 308, 323
#: Columns of a snapshot that Ponte makes itself.
_OURS = frozenset({"window_start"})


@dataclass(frozen=True, slots=True)
class _Rule:
    check: str
    arguments: dict[str, Any]
    #: SQL, true for rows that fail.
    failing: str


def examine(connection: sa.Connection, table: str, key: Sequence[str]) -> tuple[list[CheckResult], list[Condition]]:
    """Return one result per check that the types of a frozen table's columns call for, and the conditions that fail.

    table : in schema `ponte_data`. In the caller's transaction, which sees the table as it will be when rows move.
    """
    name = quote(DATA_SCHEMA, table)
    description = connection.exec_driver_sql(f"SELECT * FROM {name} LIMIT 0").cursor
    assert description is not None
    kinds = {column: kind for column, kind, _ in describe(description.description or (), connection)}
    rules = list(_rules(kinds, [c for c in key if c not in _OURS]))
    if not rules:
        return [], []
    counted = ", ".join(f"count(*) FILTER (WHERE {rule.failing})" for rule in rules)
    total, *failing = connection.exec_driver_sql(f"SELECT count(*), {counted} FROM {name}").one()
    results, conditions = [], []
    for place, (rule, rows) in enumerate(zip(rules, failing, strict=True)):
        position = FIRST - place
        results.append(
            CheckResult(
                position=position,
                expectation=rule.check,
                arguments=rule.arguments,
                on_failure="quarantine",
                outcome="failed" if rows else "passed",
                element_count=total,
                unexpected_count=rows,
            )
        )
        if rows:
            reason = {"check": position, "expectation": rule.check, "arguments": rule.arguments}
            clause = sa.literal_column(f"({rule.failing})", sa.Boolean)
            conditions.append(Condition(position=position, reason=reason, clause=clause))
    return results, conditions


def _rules(kinds: dict[str, str], key: Sequence[str]) -> Iterator[_Rule]:
    for name, kind in kinds.items():
        if name in _OURS:
            continue
        column, (base, arguments) = quote(name), of_declaration(kind)
        if base in _DATES:
            first, end = _DATES[base]
            failing = f"{column} < {first} OR {column} >= {end}"
            yield _Rule("date_is_of_years_1_to_9999", {"column": name}, failing)
        if name == "label" and base in _NUMBERS:
            beyond = f" OR {_beyond_double(column)}" if base == "numeric" else ""
            finite = f"{column} > '-Infinity' AND {column} < 'Infinity'"
            yield _Rule("label_is_finite", {"column": name}, f"NOT ({finite}){beyond}")
        elif base == "numeric" and not _always_double(arguments):
            yield _Rule("number_is_within_double_precision", {"column": name}, _beyond_double(column))
    texts = [name for name in key if of_declaration(kinds[name])[0] in _TEXTS]
    room = key_room({name: "text" if name in texts else "other" for name in key})
    if _longest([kinds[name] for name in texts]) > room:
        size = " + ".join(f"octet_length(CAST({quote(name)} AS text))" for name in texts)
        yield _Rule("key_fits_into_an_index", {"key": texts, "max_bytes": room}, f"{size} > {room}")


def _beyond_double(column: str) -> str:
    return (
        f"abs({column}) > {_GREATEST} AND abs({column}) < 'Infinity' OR {column} <> 0 AND abs({column}) < {_SMALLEST}"
    )


def _always_double(arguments: tuple[int, ...]) -> bool:
    if not arguments:
        return False
    precision, scale = arguments
    return precision - scale <= _WHOLE_DIGITS and scale <= _FRACTION_DIGITS


def _longest(kinds: Sequence[str]) -> float:
    """Return how many bytes texts of these types may have together; a character is up to four."""
    lengths = [of_declaration(kind)[1] for kind in kinds]
    return sum(4 * length[0] if length else float("inf") for length in lengths)
