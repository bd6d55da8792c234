"""Score one shard of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.errors import PonteError
from ponte.operators.base import PonteOperator
from ponte.runtime import Runtime

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
        import os
        from datetime import UTC, datetime

        from ponte.scoring.plan import Shard, threads_for
        from ponte.scoring.shards import score_shard

        shard = Shard(**self.shard)
        # As many shards run at once as the pool has slots; without a pool of its own, one is taken for granted.
        threads = threads_for(shard, slots=_slots(os.environ.get("PONTE_SCORE_SLOTS", "1")))
        return score_shard(
            runtime.db,
            runtime.store,
            runtime.folder,
            int(self.batch_id),
            shard,
            now=datetime.now(UTC),
            threads=threads,
        )


def _slots(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise PonteError("no number of slots", where="environment of the task, PONTE_SCORE_SLOTS", got=repr(text))
    return int(text)
