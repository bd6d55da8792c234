"""Freeze the rows of one window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class FreezeBatchOperator(PonteOperator):
    """Claim the run's window and freeze its rows; returns `{batch_id, window_start, rows, version, hindsight}`."""

    template_fields = ("window_start",)

    def __init__(self, *, window_start: str = "{{ params.window_start or '' }}", **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.window_start = window_start

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from datetime import UTC, datetime

        from ponte.batches.freezing import freeze_batch
        from ponte.model.windows import resolve

        dag_run = context["dag_run"]
        window = resolve(
            runtime.folder.spec.window,
            window_start=self.window_start or None,
            interval_end=dag_run.data_interval_end,
            run_after=dag_run.run_after,
        )
        batch = freeze_batch(
            runtime.db,
            runtime.folder,
            window,
            run_id=run_key(context),
            now=datetime.now(UTC),
            allow_hindsight=bool(context["params"].get("allow_hindsight")),
        )
        return {
            "batch_id": batch.batch_id,
            "window_start": str(batch.window_start),
            "rows": batch.row_count,
            "version": batch.version,
            "hindsight": batch.hindsight,
        }
