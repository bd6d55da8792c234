"""Move the champion alias to a version that passed the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PROMOTER, PonteOperator, run_key
from ponte.operators.report_link import ReportLink
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class PromoteOperator(PonteOperator):
    """Make the version champion if the gate passed it, and a person where one is asked; else skipped, with the reason.

    approval_id : number of the person's answer; empty when nobody is asked.
    """

    default_connection_id = PROMOTER
    template_fields = ("verdict_id", "reason", "approval_id")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, verdict_id: Any, reason: str, approval_id: Any = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.verdict_id = verdict_id
        self.reason = reason
        self.approval_id = approval_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from airflow.sdk.exceptions import AirflowSkipException

        from ponte.decisions.promotion import promote

        alias = promote(
            runtime.db,
            int(self.verdict_id),
            actor=run_key(context),
            approval_id=int(self.approval_id) if self.approval_id else None,
            approval_required=runtime.folder.spec.promotion == "approval",
        )
        if alias is None:
            self.log.warning("not promoted; the gate said: %s", self.reason)
            raise AirflowSkipException(
                f"not promoted: the gate refused or nobody consented, see verdict {self.verdict_id} in ponte.gate_rule "
                "and ponte.approval"
            )
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"version": alias.version, "alias_event_id": alias.event_id}
        return {"version": alias.version, "alias_event_id": alias.event_id}
