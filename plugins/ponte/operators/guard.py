"""Make a scored batch ready to publish, or refuse it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class GuardOperator(PonteOperator):
    """Count, key and constrain the predictions of a batch, and ask the guards; returns how many there are."""

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> int:
        from ponte.publishing.staging import guard_batch

        return guard_batch(runtime.db, runtime.folder, int(self.batch_id))
