"""Decide whether a version may become champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PROMOTER, PonteOperator, run_key
from ponte.operators.report_link import ReportLink
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class GateOperator(PonteOperator):
    """Give and keep the verdict; returns `{verdict_id, passed, reason, table}`. A refusal is no failure."""

    default_connection_id = PROMOTER
    template_fields = ("snapshot_id", "version")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, snapshot_id: Any, version: Any, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.snapshot_id = snapshot_id
        self.version = version

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.decisions.verdicts import judge

        verdict_id, verdict = judge(
            runtime.db, runtime.folder, int(self.version), int(self.snapshot_id), run_id=run_key(context)
        )
        return {
            "verdict_id": verdict_id,
            "passed": verdict.passed,
            "reason": verdict.reason,
            "table": verdict.table("github"),
        }
