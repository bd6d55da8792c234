"""Freeze the labelled rows of the training windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import TRAINER, PonteOperator, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class FreezeWindowsOperator(PonteOperator):
    """Freeze the latest matured windows as of the run's moment; returns `{snapshot_id, rows}`."""

    default_connection_id = TRAINER
    template_fields = ("as_of",)

    def __init__(self, *, as_of: str = "{{ params.as_of or '' }}", **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.as_of = as_of

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.model.windows import matured_windows, resolve_as_of
        from ponte.snapshots.freezing import freeze_snapshot

        spec, dag_run = runtime.folder.spec, context["dag_run"]
        as_of = resolve_as_of(
            as_of=self.as_of or None, interval_end=dag_run.data_interval_end, run_after=dag_run.run_after
        )
        windows = matured_windows(
            spec.window, as_of=as_of, count=spec.training.windows, label_delay_days=spec.training.label_delay_days
        )
        snapshot = freeze_snapshot(runtime.db, runtime.folder, windows, as_of=as_of, run_id=run_key(context))
        return {"snapshot_id": snapshot.snapshot_id, "rows": snapshot.row_count}
