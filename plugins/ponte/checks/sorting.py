"""The results of the checks of a frozen table: what stops it, what sets rows of it aside, and what is only recorded.

Two checks come with every model: the key is never NULL and never twice, in the rows that are left. For these the
result keeps the SQL that finds the rows. Others come with the types of its columns, see `values`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa

from ponte.checks import quarantine, values
from ponte.checks.quarantine import Condition, FrozenFor
from ponte.checks.validation import CheckResult, Outcome
from ponte.errors import PonteError
from ponte.storage.database import DATA_SCHEMA, insert_rows, quote

log = logging.getLogger(__name__)

# Every key is a group of its own: sorting is several times faster than hashing, unless 4 MB send it to the disk.
_SORT_IN_MEMORY = sa.text("SET LOCAL work_mem = '128MB'; SET LOCAL enable_hashagg = off")
_FORGET = sa.text("DELETE FROM ponte.check_result WHERE batch_id = :batch_id OR snapshot_id = :snapshot_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenTable:
    """Rows that were frozen to be checked."""

    #: Name, in schema `ponte_data`.
    name: str
    #: The columns that have to be unique together.
    key: Sequence[str]
    row_count: int
    frozen_for: FrozenFor
    #: Share of the rows that may be set aside.
    budget: float

    @property
    def allowed(self) -> int:
        """How many of the rows may be set aside."""
        return quarantine.allowed_rows(self.budget, self.row_count)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """What keeps a frozen table from going on."""

    #: "check" also when the budget is exceeded beside it: the rows that a check stops at do not go away with a budget.
    by: Literal["check", "budget"]
    why: str


def sort_out(
    connection: sa.Connection,
    frozen: FrozenTable,
    results: list[CheckResult],
    conditions: Sequence[Condition],
) -> tuple[list[CheckResult], Stop | None]:
    """Set the failing rows aside, check the key of the rest, keep all results; return them, and what stops, if any.

    When anything stops, every row stays where it is: whoever looks for the reason finds the table as it was checked.
    In the caller's transaction, which has locked the batch or snapshot.
    """
    with connection.begin_nested() as moving:
        unreadable, more = values.examine(connection, frozen.name, frozen.key)
        results = [*unreadable, *results]
        too_many = _set_aside(connection, frozen, results, [*more, *conditions])
        results = [*_key_results(connection, frozen), *results]
        failed = _stopping(results)
        if failed or too_many:
            moving.rollback()
    _keep(connection, frozen.frozen_for, results)
    if not (failed or too_many):
        return results, None
    return results, Stop(by="check" if failed else "budget", why="; ".join(filter(None, [failed, too_many])))


def _set_aside(
    connection: sa.Connection,
    frozen: FrozenTable,
    results: Sequence[CheckResult],
    conditions: Sequence[Condition],
) -> str:
    if not conditions:
        return ""
    counted = {r.position: r.unexpected_count for r in results}
    for position, rows in quarantine.find_rows(connection, frozen.name, conditions).items():
        if rows != counted[position]:
            got, expected = f"{rows} rows", f"{counted[position]} rows, as Great Expectations counted"
            where = f"{frozen.name}, checks.{position}"
            raise PonteError(
                "the rows that fail a check are not those it counted", where=where, got=got, expected=expected
            )
    bad = quarantine.rows_found(connection)
    if bad > frozen.allowed:
        return f"{bad} of {frozen.row_count} rows would be set aside, [quarantine] budget allows {frozen.allowed}"
    quarantine.move_rows(connection, frozen.name, frozen.key, conditions, frozen.frozen_for)
    log.warning("%d of %d rows were set aside; see ponte.quarantine", bad, frozen.row_count)
    return ""


def _stopping(results: Sequence[CheckResult]) -> str:
    bad = [r for r in results if r.outcome != "passed"]
    for result in bad:
        log.log(logging.ERROR if result.on_failure == "stop" else logging.WARNING, "%s: %s", result.on_failure, result)
    log.info("%d checks, %d not passed; see ponte.check_result", len(results), len(bad))
    return "; ".join(str(r) for r in bad if r.stops)


def _key_results(connection: sa.Connection, frozen: FrozenTable) -> list[CheckResult]:
    name, columns = quote(DATA_SCHEMA, frozen.name), ", ".join(quote(c) for c in frozen.key)
    null = " OR ".join(f"{quote(c)} IS NULL" for c in frozen.key)
    connection.execute(_SORT_IN_MEMORY)
    key = columns if len(frozen.key) == 1 else f"({columns})"
    counts = f"count(*), count(*) FILTER (WHERE {null}), count(DISTINCT {key}) FILTER (WHERE NOT ({null}))"
    total, nulls, distinct = connection.exec_driver_sql(f"SELECT {counts} FROM {name}").one()
    groups = f"SELECT {columns} FROM {name} WHERE NOT ({null}) GROUP BY {columns} HAVING count(*) > 1"
    repeated = 0
    if distinct < total - nulls:
        rows = f"SELECT count(*) FROM {name} WHERE ({columns}) IN ({groups})"
        repeated = connection.exec_driver_sql(rows).scalar_one()
    found = [
        ("key_is_not_null", nulls, f"SELECT * FROM {name} WHERE {null}"),
        ("key_is_unique", repeated, f"SELECT * FROM {name} WHERE ({columns}) IN ({groups})"),
    ]
    return [
        CheckResult(
            position=position,
            expectation=check,
            arguments={"key": list(frozen.key)},
            on_failure="stop",
            outcome="failed" if bad else "passed",
            element_count=total,
            unexpected_count=bad,
            detail=query if bad else None,
        )
        for position, (check, bad, query) in enumerate(found, -len(found))
    ]


def _keep(connection: sa.Connection, frozen_for: FrozenFor, results: Sequence[CheckResult]) -> None:
    """Put the results in the place of those of an earlier try."""
    owner = asdict(frozen_for)
    rows = [
        {
            **owner,
            **{f: getattr(r, f) for f in CheckResult.__dataclass_fields__},
            "arguments": json.dumps(r.arguments, default=str),
        }
        for r in results
    ]
    connection.execute(_FORGET, owner)
    insert_rows(connection, "ponte.check_result", rows)


def describe(results: Sequence[CheckResult]) -> dict[str, int]:
    """Return how many checks had which outcome: small, and free of row values, fit for XCom."""
    outcomes: tuple[Outcome, ...] = ("passed", "failed", "error")
    return {outcome: sum(r.outcome == outcome for r in results) for outcome in outcomes}
