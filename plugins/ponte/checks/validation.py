"""Great Expectations on one table, evaluated inside PostgreSQL: each expectation once, and no row leaves the database.

What a result keeps are counts, and an aggregate if it is a number: never a value out of a row.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ponte.checks.quarantine import Condition
from ponte.errors import DatabaseUnavailable
from ponte.model.expectations import UNIQUE_COLUMNS, build_expectations
from ponte.model.folders import ModelFolder
from ponte.model.spec import Check
from ponte.storage.database import DATA_SCHEMA, SESSION, Database
from ponte.storage.withholding import said_of

if TYPE_CHECKING:
    import sqlalchemy as sa
    from great_expectations.expectations.expectation import Expectation

Outcome = Literal["passed", "failed", "error"]
OnFailure = Literal["stop", "quarantine", "warn"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """What one expectation found."""

    #: Place in model.toml, from 0; negative for the checks that every model gets.
    position: int
    expectation: str
    arguments: dict[str, Any]
    on_failure: OnFailure
    outcome: Outcome
    #: Rows looked at and rows that did not meet it; None when the expectation is about no rows.
    element_count: int | None = None
    unexpected_count: int | None = None
    #: Observed aggregate, when it is a number.
    observed: float | None = None
    detail: str | None = None

    @property
    def stops(self) -> bool:
        """Whether it keeps the table from going on. A check that names no rows can set none aside, and so stops."""
        names_no_rows = self.outcome == "error" or self.unexpected_count is None
        return self.outcome != "passed" and (
            self.on_failure == "stop" or (self.on_failure == "quarantine" and names_no_rows)
        )

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        text = f"{self.expectation}({arguments}): {self.outcome}"
        if self.unexpected_count is not None and self.outcome == "failed":
            text += f", {self.unexpected_count} of {self.element_count} rows"
        elif self.observed is not None and self.outcome == "failed":
            text += f", observed {self.observed:g}"
        return text + (f" ({self.detail})" if self.detail and self.outcome != "passed" else "")


def validate(db: Database, folder: ModelFolder, table: str) -> tuple[list[CheckResult], list[Condition]]:
    """Return what each check of the model found in a frozen table, and the conditions that set its rows aside.

    Raises ModelFolderError for arguments that the expectations do not take, DatabaseUnavailable.
    """
    if not folder.spec.checks:
        return [], []
    # Before the import, which logs too. Its errors hold the words of PostgreSQL, values of rows among them.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL + 1)
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
        source = context.data_sources.add_sql("ponte", connection_string=url, kwargs=db.engine_arguments)  # type: ignore[call-arg]
    met = _errors_met(db.joined(source.get_execution_engine().engine))
    asset = source.add_table_asset("frozen", table_name=table, schema_name=DATA_SCHEMA)
    suite = gx.ExpectationSuite("checks", expectations=expectations)
    batch = asset.add_batch_definition_whole_table("all").get_batch()
    # SUMMARY carries counts; 0 keeps the values of rows out of the result.
    validation = batch.validate(suite, result_format={"result_format": "SUMMARY", "partial_unexpected_count": 0})
    configurations: list[Any] = [result.expectation_config for result in validation.results]
    by_position = {c.meta["position"]: r for c, r in zip(configurations, validation.results, strict=True)}
    results = [_result(place, check, by_position[place], met) for place, check in enumerate(folder.spec.checks)]
    failed = [r for r in results if r.on_failure == "quarantine" and r.outcome == "failed" and not r.stops]
    if not failed:
        return results, []
    validator = context.get_validator(batch_list=[batch])  # type: ignore[list-item]
    by_meta = {e.meta["position"]: e for e in expectations if e.meta is not None}
    return results, [_condition(r, by_meta[r.position], validator, table) for r in failed]


def _condition(result: CheckResult, expectation: Expectation, validator: Any, table: str) -> Condition:
    """Return the condition under which a row fails, as Great Expectations itself evaluates it."""
    reason = {"check": result.position, "expectation": result.expectation, "arguments": result.arguments}
    unique = UNIQUE_COLUMNS.get(result.expectation)
    if unique is not None:
        columns = result.arguments[unique]
        clause = _repeated(table, columns if isinstance(columns, list) else [columns])
    else:
        clause = _failing(expectation, validator)
    return Condition(position=result.position, reason=reason, clause=clause)


def _repeated(table: str, columns: Sequence[str]) -> sa.ColumnElement[bool]:
    import sqlalchemy as sa

    # Great Expectations counts in a window over the table, and its condition names that window's column.
    named: list[sa.ColumnClause[Any]] = [sa.column(name) for name in columns]
    twice = sa.select(*named).select_from(sa.table(table, schema=DATA_SCHEMA)).group_by(*named)
    return sa.tuple_(*named).in_(twice.having(sa.func.count() > 1))


def _failing(expectation: Any, validator: Any) -> sa.ColumnElement[bool]:
    import sqlalchemy as sa
    from great_expectations.validator.metric_configuration import MetricConfiguration

    # Its result format has an SQL text of the query too, but that text quotes values as Python does.
    metric = expectation.map_metric
    dependencies = expectation.get_validation_dependencies(
        execution_engine=validator.execution_engine,
        runtime_configuration={"result_format": {"result_format": "BASIC", "partial_unexpected_count": 0}},
    )
    counted = dependencies.metric_configurations[f"{metric}.unexpected_count"]
    wanted = MetricConfiguration(f"{metric}.condition", counted.metric_domain_kwargs, counted.metric_value_kwargs)
    return sa.and_(validator.get_metric(wanted)[0], _looked_at(counted.metric_domain_kwargs))


def _looked_at(domain: Any) -> sa.ColumnElement[bool]:
    """Return the condition of the rows that an expectation looks at, which Great Expectations keeps apart."""
    import sqlalchemy as sa

    names = domain.get("column_list") or [domain[name] for name in ("column_A", "column_B") if name in domain]
    missing = [sa.column(name).is_(None) for name in names]
    ignored = domain.get("ignore_row_if")
    if ignored in ("both_values_are_missing", "all_values_are_missing"):
        return sa.not_(sa.and_(*missing))
    if ignored in ("either_value_is_missing", "any_value_is_missing"):
        return sa.not_(sa.or_(*missing))
    return sa.true()


def _result(position: int, check: Check, result: Any, met: Mapping[str, str]) -> CheckResult:
    found: dict[str, Any] = result.result or {}
    observed = found.get("observed_value")
    errors = _exceptions(result.exception_info, met)
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


def _errors_met(engine: sa.Engine) -> dict[str, str]:
    """Return what fills as the engine meets errors of PostgreSQL: own words → what may be said of it."""
    import sqlalchemy as sa

    met: dict[str, str] = {}

    def meet(context: sa.ExceptionContext) -> None:
        met[str(context.original_exception).strip()] = said_of(context.original_exception)

    sa.event.listen(engine, "handle_error", meet)
    return met


def _exceptions(info: Any, met: Mapping[str, str]) -> list[str]:
    """Return what may be said of the errors in GX's exception_info, which is flat or keyed by metric.

    met : words of errors of PostgreSQL → what may be said of them. GX keeps no exception, only its words, and these may
    hold values of rows.

    Raises DatabaseUnavailable when they tell of the database, not of the data: GX turns every exception into a result.
    """
    if not info:
        return []
    parts = [info] if "raised_exception" in info else list(info.values())
    raised = [p for p in parts if isinstance(p, dict) and p.get("raised_exception")]
    texts = [f"{p.get('exception_message')}\n{p.get('exception_traceback')}" for p in raised]
    said = {told for text in texts for words, told in met.items() if words in text}
    messages = sorted(said) or (["the expectation could not be evaluated"] if raised else [])
    if any(
        fault in str(p.get("exception_traceback")) for p in raised for fault in ("OperationalError", "InterfaceError")
    ):
        raise DatabaseUnavailable("the database failed during the checks", got="; ".join(messages))
    return messages
