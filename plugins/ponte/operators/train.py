"""Fit the estimator and register a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import TRAINER, PonteOperator, run_key
from ponte.operators.report_link import ReportLink
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainOperator(PonteOperator):
    """Fit on the snapshot's training windows and register the result; returns the version number."""

    default_connection_id = TRAINER
    operator_extra_links = (ReportLink(),)
    template_fields = ("snapshot_id",)

    def __init__(self, *, snapshot_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id

    def run(self, runtime: Runtime, context: Context) -> int:
        from ponte.training.versioning import train

        version = train(
            runtime.db,
            runtime.store,
            runtime.folder,
            int(self.snapshot_id),
            run_id=run_key(context),
            code_revision=runtime.code_revision,
        )
        return version.version
