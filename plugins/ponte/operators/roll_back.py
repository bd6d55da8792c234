"""Carry out a planned rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PROMOTER, PonteOperator, actor_of, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class RollBackOperator(PonteOperator):
    """Move the alias and the windows in one transaction; returns `{rollback_id, from_version, to_version, windows}`."""

    default_connection_id = PROMOTER
    template_fields = ("model", "plan")

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from dataclasses import asdict

        from ponte.decisions.rollback import Plan, roll_back

        form = context["params"]
        done = roll_back(
            runtime.db,
            Plan(**self.plan),
            run_id=run_key(context),
            actor=actor_of(context),
            reason=form["reason"],
            mark_bad=form["mark_bad"],
            allow_bad=form["allow_bad"],
        )
        return asdict(done)
