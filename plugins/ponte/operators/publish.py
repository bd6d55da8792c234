"""Show a batch to readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class PublishOperator(PonteOperator):
    """Flip the pointer of the batch's window behind the fence; returns `{batch_id, previous_batch_id, rows}`."""

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.batches.lifecycle import get_batch
        from ponte.publishing.pointer import publish

        run_id = run_key(context)
        done = publish(runtime.db, int(self.batch_id), actor=run_id, reason="scored by its run")
        batch = get_batch(runtime.db, done.batch_id)
        result: dict[str, Any] = {
            "batch_id": done.batch_id,
            "previous_batch_id": done.previous_batch_id,
            "rows": done.row_count,
        }
        for outlet in self.outlets:
            facts = {**result, "version": batch.version, "window_start": str(batch.window_start)}
            context["outlet_events"][outlet].extra = facts
        return result
