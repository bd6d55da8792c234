"""Check a frozen batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class CheckBatchOperator(PonteOperator):
    """Evaluate the model's expectations on the frozen rows; returns how many passed, failed and erred."""

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.batches.checking import check_batch
        from ponte.checks.sorting import describe

        return describe(check_batch(runtime.db, runtime.folder, int(self.batch_id)))
