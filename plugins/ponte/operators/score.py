"""Score one shard of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator, Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class ScoreOperator(PonteOperator):
    """Score the rows of one page range, in one transaction; returns how many rows."""

    template_fields = ("batch_id", "shard")

    def __init__(self, *, batch_id: Any, shard: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.shard = shard

    def run(self, runtime: Runtime, context: Context) -> int:
        from datetime import UTC, datetime

        from ponte.scoring import Shard, score_shard

        return score_shard(
            runtime.db,
            runtime.store,
            runtime.folder,
            int(self.batch_id),
            Shard(**self.shard),
            now=datetime.now(UTC),
        )
