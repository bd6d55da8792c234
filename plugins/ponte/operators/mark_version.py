"""Say something about a version that counts from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PROMOTER, PonteOperator, actor_of, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class MarkVersionOperator(PonteOperator):
    """Append the form's mark; returns `{mark_id, mark}`."""

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.versions.marks import mark_version

        form = context["params"]
        return mark_version(
            runtime.db,
            self.model,
            form["version"],
            form["mark"],
            run_id=run_key(context),
            actor=actor_of(context),
            reason=form["reason"],
        )
