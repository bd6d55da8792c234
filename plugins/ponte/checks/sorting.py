"""The checks of a frozen table: what stops it, what sets rows of it aside, and what is only recorded.

Two checks come with every model: the key is never NULL and never twice, in the rows that are left. For these the
result keeps the SQL that finds the rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.checks import quarantine
from ponte.checks.quarantine import Condition, Owner
from ponte.checks.validation import CheckResult, Outcome, validate
from ponte.errors import PonteError, TrainingRefused
from ponte.model.folders import ModelFolder
from ponte.snapshots.lifecycle import TrainingSet, get_training_set, lock_training_set, recount, reject_training_set
from ponte.storage.database import DATA_SCHEMA, Database, insert_rows, or_of_a_twin, quote
from ponte.storage.receipts import Receipt, measured

log = logging.getLogger(__name__)

#: The results of all checks, and the conditions that set rows aside.
_Found = tuple[list[CheckResult], list[Condition]]


def check_batch(db: Database, folder: ModelFolder, batch_id: int) -> list[CheckResult]:
    """Check the frozen rows of a batch and let it go on without the rows set aside, or reject it.

    Evaluates nothing when it has gone on before. Raises BatchRejected naming every failed check that stops, and when
    more rows would be set aside than `[quarantine] budget` allows; Fenced; ModelFolderError for arguments that the
    expectations do not take.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "frozen")
    if batch.reached("checked"):
        return []
    table = batches.frozen_name(batch)[1]

    def gone_on() -> _Found | None:
        seen = batches.get_batch(db, batch_id)
        batches.require(seen, "frozen")  # fenced off, and its rows swept away?
        return ([], []) if seen.reached("checked") else None

    with measured(db, Receipt(model=folder.name, step="check", batch_id=batch_id, row_count=batch.row_count)):
        results, conditions = or_of_a_twin(lambda: validate(db, folder, table), gone_on)
        with db.begin() as connection:
            batch = batches.lock(connection, batch_id)
            batches.require(batch, "frozen")
            if batch.reached("checked"):
                return results
            frozen = _frozen(folder, table, folder.spec.key, batch.row_count, Owner(batch_id=batch_id))
            results, stopping = _sort_out(connection, frozen, results, conditions)
            _store(connection, results, batch_id=batch_id)
            if not stopping:
                batches.advance(connection, batch_id, "checked")
    if stopping:
        raise batches.reject(db, batch, stopping)
    return results


def check_training_set(db: Database, folder: ModelFolder, snapshot_id: int) -> list[CheckResult]:
    """Check frozen training rows with the same checks; the key is unique within each window.

    Rows that a batch would set aside are set aside here too, so that a version learns from what it will be asked about.
    Raises TrainingRefused naming every failed check that stops.
    """
    training_set = get_training_set(db, snapshot_id)
    if training_set.status in ("checked", "written"):
        return []
    _require_frozen(training_set)
    table = training_set.frozen_table
    assert table is not None

    def gone_on() -> _Found | None:
        seen = get_training_set(db, snapshot_id)
        if seen.status in ("checked", "written"):  # and the table dropped
            return [], []
        _require_frozen(seen)
        return None

    receipt = Receipt(model=folder.name, step="check", snapshot_id=snapshot_id, row_count=training_set.row_count)
    with measured(db, receipt):
        results, conditions = or_of_a_twin(lambda: validate(db, folder, table), gone_on)
        with db.begin() as connection:
            training_set = lock_training_set(connection, snapshot_id)
            if training_set.status in ("checked", "written"):
                return results  # a twin was faster
            _require_frozen(training_set)
            key = ("window_start", *folder.spec.key)
            frozen = _frozen(folder, table, key, training_set.row_count, Owner(snapshot_id=snapshot_id))
            results, stopping = _sort_out(connection, frozen, results, conditions)
            _store(connection, results, snapshot_id=snapshot_id)
            if not stopping:
                recount(connection, training_set)
                connection.execute(
                    sa.text("UPDATE ponte.snapshot SET status = 'checked' WHERE snapshot_id = :id"), {"id": snapshot_id}
                )
    if stopping:
        raise reject_training_set(db, training_set, stopping)
    return results


def _require_frozen(training_set: TrainingSet) -> None:
    if training_set.status in ("rejected", "failed"):
        what = f"the training set was {training_set.status}"
        raise TrainingRefused(what, where=training_set.place, got=training_set.why or "")
    if training_set.status != "frozen":
        raise PonteError("a step came too early", where=training_set.place, got=training_set.status, expected="frozen")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frozen:
    """A frozen table: its name, the columns that are unique in it, how many rows were frozen, and for what."""

    table: str
    key: Sequence[str]
    row_count: int
    owner: Owner
    #: How many of the rows may be set aside.
    allowed: int


def _frozen(folder: ModelFolder, table: str, key: Sequence[str], rows: int | None, owner: Owner) -> _Frozen:
    assert rows is not None
    allowed = quarantine.allowed_rows(folder.spec.quarantine.budget, rows)
    return _Frozen(table=table, key=key, row_count=rows, owner=owner, allowed=allowed)


def _sort_out(
    connection: sa.Connection,
    frozen: _Frozen,
    results: list[CheckResult],
    conditions: Sequence[Condition],
) -> tuple[list[CheckResult], str]:
    """Set the failing rows aside and check the key of the rest; return all results, and what stops ("" for nothing).

    When anything stops, every row stays where it is: whoever looks for the reason finds the table as it was checked.
    """
    with connection.begin_nested() as moving:
        too_many = _set_aside(connection, frozen, results, conditions)
        results = [*_key_results(connection, frozen), *results]
        stopping = "; ".join(filter(None, [_stopping(results), too_many]))
        if stopping:
            moving.rollback()
    return results, stopping


def _set_aside(
    connection: sa.Connection,
    frozen: _Frozen,
    results: Sequence[CheckResult],
    conditions: Sequence[Condition],
) -> str:
    if not conditions:
        return ""
    counted = {r.position: r.unexpected_count for r in results}
    for position, rows in quarantine.find_rows(connection, frozen.table, conditions).items():
        if rows != counted[position]:
            got, expected = f"{rows} rows", f"{counted[position]} rows, as Great Expectations counted"
            where = f"{frozen.table}, checks.{position}"
            raise PonteError(
                "the rows that fail a check are not those it counted", where=where, got=got, expected=expected
            )
    bad = quarantine.rows_found(connection)
    if bad > frozen.allowed:
        return f"{bad} of {frozen.row_count} rows would be set aside, [quarantine] budget allows {frozen.allowed}"
    quarantine.move_rows(connection, frozen.table, frozen.key, conditions, frozen.owner)
    log.warning("%d of %d rows were set aside; see ponte.quarantine", bad, frozen.row_count)
    return ""


def _stopping(results: Sequence[CheckResult]) -> str:
    bad = [r for r in results if r.outcome != "passed"]
    for result in bad:
        log.log(logging.ERROR if result.on_failure == "stop" else logging.WARNING, "%s: %s", result.on_failure, result)
    log.info("%d checks, %d not passed; see ponte.check_result", len(results), len(bad))
    return "; ".join(str(r) for r in bad if r.stops)


def _key_results(connection: sa.Connection, frozen: _Frozen) -> list[CheckResult]:
    name, columns = quote(DATA_SCHEMA, frozen.table), ", ".join(quote(c) for c in frozen.key)
    null = " OR ".join(f"{quote(c)} IS NULL" for c in frozen.key)
    # Every key is a group of its own: sorting is several times faster than hashing, unless 4 MB send it to the disk.
    connection.exec_driver_sql("SET LOCAL work_mem = '128MB'; SET LOCAL enable_hashagg = off")
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


def _store(
    connection: sa.Connection,
    results: Sequence[CheckResult],
    *,
    batch_id: int | None = None,
    snapshot_id: int | None = None,
) -> None:
    """Replace the results of the owner, whose row the caller's transaction has locked."""
    owner = {"batch_id": batch_id, "snapshot_id": snapshot_id}
    rows = [
        {
            **owner,
            **{f: getattr(r, f) for f in CheckResult.__dataclass_fields__},
            "arguments": json.dumps(r.arguments, default=str),
        }
        for r in results
    ]
    connection.execute(
        sa.text("DELETE FROM ponte.check_result WHERE batch_id = :batch_id OR snapshot_id = :snapshot_id"), owner
    )
    insert_rows(connection, "ponte.check_result", rows)


def describe(results: Sequence[CheckResult]) -> dict[str, int]:
    """Return how many checks had which outcome: small, and free of row values, fit for XCom."""
    outcomes: tuple[Outcome, ...] = ("passed", "failed", "error")
    return {outcome: sum(r.outcome == outcome for r in results) for outcome in outcomes}
