"""Keep a checked snapshot for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import TRAINER, PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class SnapshotOperator(PonteOperator):
    """Write the snapshot as Parquet, named by its content; returns `{sha256, rows}`. Dead runs' tables go."""

    default_connection_id = TRAINER
    template_fields = ("snapshot_id",)

    def __init__(self, *, snapshot_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.publishing.janitor import sweep_snapshots
        from ponte.snapshots.parquet import write_snapshot

        written = write_snapshot(runtime.db, runtime.store, int(self.snapshot_id))
        sweep_snapshots(runtime.db, self.model)
        return {"sha256": written.sha256, "rows": written.row_count}
