"""Check a frozen snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import TRAINER, PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class CheckSnapshotOperator(PonteOperator):
    """Evaluate the model's expectations on the frozen rows; returns how many passed, failed and erred."""

    default_connection_id = TRAINER
    template_fields = ("snapshot_id",)

    def __init__(self, *, snapshot_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.checks.sorting import describe
        from ponte.snapshots.checking import check_snapshot

        return describe(check_snapshot(runtime.db, runtime.folder, int(self.snapshot_id)))
