"""Show a batch that a guard rejected, because a person says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PROMOTER, PonteOperator, actor_of, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class PublishBatchOperator(PonteOperator):
    """Publish the batch of the form although a guard has tripped; returns `{batch_id, previous_batch_id, rows}`."""

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.publishing.pointer import publish_anyway

        form = context["params"]
        done = publish_anyway(
            runtime.db,
            form["batch_id"],
            model=self.model,
            run_id=run_key(context),
            actor=actor_of(context),
            reason=form["reason"],
        )
        return {"batch_id": done.batch_id, "previous_batch_id": done.previous_batch_id, "rows": done.row_count}
