"""Great Expectations on a frozen table, evaluated inside PostgreSQL; results kept in `ponte.check_result`.

Two checks come with every model: the key is never NULL and never twice. What a result keeps are counts, an aggregate
if it is a number, and for the checks of the key the SQL that finds the rows: never a value out of a row.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ponte import batches
from ponte.catalog import ModelFolder
from ponte.database import DATA_SCHEMA, SESSION, Database, quote
from ponte.errors import DatabaseUnavailable
from ponte.expectations import build_expectations
from ponte.receipts import Receipt, measured
from ponte.spec import Check
from ponte.training_sets import TrainingSet, get_training_set, lock_training_set, reject_training_set

log = logging.getLogger(__name__)

Outcome = Literal["passed", "failed", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """What one expectation found."""

    #: Place in model.toml, from 0; negative for the checks that every model gets.
    position: int
    expectation: str
    arguments: dict[str, Any]
    on_failure: Literal["stop", "warn"]
    outcome: Outcome
    #: Rows looked at and rows that did not meet it; None when the expectation is about no rows.
    element_count: int | None = None
    unexpected_count: int | None = None
    #: Observed aggregate, when it is a number.
    observed: float | None = None
    detail: str | None = None

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        text = f"{self.expectation}({arguments}): {self.outcome}"
        if self.unexpected_count is not None and self.outcome == "failed":
            text += f", {self.unexpected_count} of {self.element_count} rows"
        elif self.observed is not None and self.outcome == "failed":
            text += f", observed {self.observed:g}"
        return text + (f" ({self.detail})" if self.detail and self.outcome != "passed" else "")


def check_batch(db: Database, folder: ModelFolder, batch_id: int) -> list[CheckResult]:
    """Check the frozen rows of a batch and let it go on, or reject it. Evaluates nothing when it has gone on before.

    Raises BatchRejected naming every failed check that stops, Fenced, ModelFolderError for arguments that the
    expectations do not take.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "frozen")
    if batch.reached("checked"):
        return []
    with measured(db, Receipt(model=folder.name, step="check", batch_id=batch_id, row_count=batch.row_count)):
        try:
            results = _evaluate(db, folder, batches.frozen_name(batch)[1], key=list(folder.spec.key))
        except Exception:
            # Airflow may run a task twice at once; when the twin went on, its results are the results.
            if batches.get_batch(db, batch_id).reached("checked"):
                return []
            raise
    stopping = _stopping(results)
    with db.begin() as connection:
        batch = batches.lock(connection, batch_id)
        batches.require(batch, "frozen")
        if batch.reached("checked"):
            return results
        _store(connection, results, batch_id=batch_id)
        if not stopping:
            batches.advance(connection, batch_id, "checked")
    if stopping:
        raise batches.reject(db, batch, stopping)
    return results


def check_training_set(db: Database, folder: ModelFolder, snapshot_id: int) -> list[CheckResult]:
    """Check frozen training rows with the same checks; the key is unique within each window.

    Raises TrainingRefused naming every failed check that stops.
    """
    training_set = get_training_set(db, snapshot_id)
    if training_set.status in ("checked", "written"):
        return []
    _require_frozen(training_set)
    assert training_set.frozen_table is not None
    receipt = Receipt(model=folder.name, step="check", snapshot_id=snapshot_id, row_count=training_set.row_count)
    with measured(db, receipt):
        try:
            results = _evaluate(db, folder, training_set.frozen_table, key=["window_start", *folder.spec.key])
        except Exception:
            # As in check_batch; the twin may even have written the rows and dropped the table.
            if get_training_set(db, snapshot_id).status in ("checked", "written"):
                return []
            raise
    stopping = _stopping(results)
    with db.begin() as connection:
        training_set = lock_training_set(connection, snapshot_id)
        if training_set.status in ("checked", "written"):
            return results  # a twin was faster
        _require_frozen(training_set)
        _store(connection, results, snapshot_id=snapshot_id)
        if not stopping:
            connection.execute(
                sa.text("UPDATE ponte.snapshot SET status = 'checked' WHERE snapshot_id = :id"), {"id": snapshot_id}
            )
    if stopping:
        raise reject_training_set(db, training_set, stopping)
    return results


def _require_frozen(training_set: TrainingSet) -> None:
    from ponte.errors import PonteError, TrainingRefused

    if training_set.status == "rejected":
        raise TrainingRefused("the training set was rejected", where=training_set.place, got=training_set.why or "")
    if training_set.status != "frozen":
        raise PonteError("a step came too early", where=training_set.place, got=training_set.status, expected="frozen")


def _stopping(results: Sequence[CheckResult]) -> str:
    bad = [r for r in results if r.outcome != "passed"]
    for result in bad:
        log.log(logging.ERROR if result.on_failure == "stop" else logging.WARNING, "%s: %s", result.on_failure, result)
    log.info("%d checks, %d not passed; see ponte.check_result", len(results), len(bad))
    return "; ".join(str(r) for r in bad if r.on_failure == "stop")


def _evaluate(db: Database, folder: ModelFolder, table: str, *, key: list[str]) -> list[CheckResult]:
    return [*_key_results(db, table, key), *_expectation_results(db, folder, table)]


def _key_results(db: Database, table: str, key: list[str]) -> list[CheckResult]:
    name, columns = quote(DATA_SCHEMA, table), ", ".join(quote(c) for c in key)
    null = " OR ".join(f"{quote(c)} IS NULL" for c in key)
    queries = {
        "key_is_not_null": f"SELECT * FROM {name} WHERE {null}",
        "key_is_unique": f"SELECT * FROM {name} WHERE ({columns}) IN "
        f"(SELECT {columns} FROM {name} GROUP BY {columns} HAVING count(*) > 1)",
    }
    results = []
    with db.read_only() as connection:
        total = connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
        for position, (check, query) in enumerate(queries.items(), -len(queries)):
            bad = connection.exec_driver_sql(f"SELECT count(*) FROM ({query}) AS bad").scalar_one()
            results.append(
                CheckResult(
                    position=position,
                    expectation=check,
                    arguments={"key": key},
                    on_failure="stop",
                    outcome="failed" if bad else "passed",
                    element_count=total,
                    unexpected_count=bad,
                    detail=query if bad else None,
                )
            )
    return results


def _expectation_results(db: Database, folder: ModelFolder, table: str) -> list[CheckResult]:
    if not folder.spec.checks:
        return []
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # before the import, which logs too
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    expectations = build_expectations(folder)
    # A configuration of our own, because the default one leaves a temporary folder behind for HTML reports.
    configuration = DataContextConfig(store_backend_defaults=InMemoryStoreBackendDefaults())
    context = gx.get_context(mode="ephemeral", project_config=configuration)
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    # GX substitutes $NAME in configuration, so a dollar sign in a password must be escaped.
    url = db.url.update_query_dict(SESSION).render_as_string(hide_password=False).replace("$", r"\$")
    with warnings.catch_warnings():
        # It would rather have a PostgresDatasource, which refuses the URL of a unix socket.
        warnings.simplefilter("ignore", category=UserWarning)
        source = context.data_sources.add_sql("ponte", connection_string=url)
    asset = source.add_table_asset("frozen", table_name=table, schema_name=DATA_SCHEMA)
    suite = gx.ExpectationSuite("checks", expectations=expectations)
    batch = asset.add_batch_definition_whole_table("all").get_batch()
    # SUMMARY carries counts; 0 keeps the values of rows out of the result.
    validation = batch.validate(suite, result_format={"result_format": "SUMMARY", "partial_unexpected_count": 0})
    configurations: list[Any] = [result.expectation_config for result in validation.results]
    by_position = {c.meta["position"]: r for c, r in zip(configurations, validation.results, strict=True)}
    return [_result(position, check, by_position[position]) for position, check in enumerate(folder.spec.checks)]


def _result(position: int, check: Check, result: Any) -> CheckResult:
    found: dict[str, Any] = result.result or {}
    observed = found.get("observed_value")
    errors = _exceptions(result.exception_info)
    return CheckResult(
        position=position,
        expectation=check.expectation,
        arguments=check.arguments,
        on_failure=check.on_failure,
        # An expectation that could not be evaluated has proved nothing: it is no data failure, and no pass either.
        outcome="error" if errors else "passed" if result.success else "failed",
        element_count=found.get("element_count"),
        unexpected_count=found.get("unexpected_count"),
        observed=float(observed) if isinstance(observed, int | float) and not isinstance(observed, bool) else None,
        detail="; ".join(errors) or None,
    )


def _exceptions(info: Any) -> list[str]:
    """Return the messages in GX's exception_info, which is flat or keyed by metric.

    Raises DatabaseUnavailable when they tell of the database, not of the data: GX turns every exception into a result.
    """
    if not info:
        return []
    parts = [info] if "raised_exception" in info else list(info.values())
    raised = [p for p in parts if isinstance(p, dict) and p.get("raised_exception")]
    messages = sorted({str(p.get("exception_message")) for p in raised})
    if any(
        fault in str(p.get("exception_traceback")) for p in raised for fault in ("OperationalError", "InterfaceError")
    ):
        raise DatabaseUnavailable("the database failed during the checks", got="; ".join(messages))
    return messages


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
    names = list(rows[0])
    places = ", ".join(f":{name}" for name in names)
    connection.execute(
        sa.text("DELETE FROM ponte.check_result WHERE batch_id = :batch_id OR snapshot_id = :snapshot_id"), owner
    )
    connection.execute(sa.text(f"INSERT INTO ponte.check_result ({', '.join(names)}) VALUES ({places})"), rows)


def describe(results: Sequence[CheckResult]) -> dict[str, int]:
    """Return how many checks had which outcome: small, and free of row values, fit for XCom."""
    outcomes: tuple[Outcome, ...] = ("passed", "failed", "error")
    return {outcome: sum(r.outcome == outcome for r in results) for outcome in outcomes}
