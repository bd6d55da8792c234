"""Measure a version on the holdout windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import TRAINER, PonteOperator
from ponte.operators.report_link import ReportLink
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class EvaluateOperator(PonteOperator):
    """Measure the version, the champion and the baselines on the same rows; returns metrics by subject."""

    default_connection_id = TRAINER
    operator_extra_links = (ReportLink(),)
    template_fields = ("snapshot_id", "version")

    def __init__(self, *, snapshot_id: Any, version: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id
        self.version = version

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.quality.comparison import evaluate

        metrics = evaluate(runtime.db, runtime.store, runtime.folder, int(self.version), int(self.snapshot_id))
        return {subject: dict(figures) for subject, figures in metrics.items()}
