"""Split a batch into shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanOperator(PonteOperator):
    """Make the batch's prediction table and return its shards, the page ranges that the mapped tasks score."""

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> list[dict[str, int]]:
        from dataclasses import asdict

        from ponte.scoring.plan import plan_shards

        return [asdict(shard) for shard in plan_shards(runtime.db, runtime.folder, int(self.batch_id))]
