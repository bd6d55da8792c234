"""Say what a rollback will do, before anything moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ponte.operators.base import PROMOTER, PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanRollbackOperator(PonteOperator):
    """Hold the form against registry and publications; returns the windows to score, and `plan` as a second XCom."""

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> list[str]:
        from dataclasses import asdict
        from datetime import UTC, datetime

        from ponte.decisions.rollback import plan_rollback
        from ponte.model.windows import parse_day

        form = context["params"]
        plan = plan_rollback(
            runtime.db,
            runtime.store,
            runtime.folder,
            form["version"],
            windows=[parse_day(day) for day in form["windows"] or ()],
            every_window=form["every_window"],
            allow_bad=form["allow_bad"],
            allow_hindsight=form["allow_hindsight"],
            now=datetime.now(UTC),
        )
        context["ti"].xcom_push(key="plan", value=asdict(plan))
        return list(plan.rescore)  # a task can be mapped over the returned value only
