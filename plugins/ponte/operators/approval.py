"""Ask a person whether a version may become champion that passed the gate, or that the gate left undecided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from ponte.errors import PonteError
from ponte.operators.base import PAGES, PROMOTER, run_of, runtime_of, said

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ponte.decisions.approvals import Decision


def why() -> dict[str, Param]:
    """Return the field of the answer; Airflow shows the params that a DAG file gives to the task itself."""
    # No rule in the schema: an answer that breaks one would be lost. `execute_complete` wants a reason for consent.
    text = "Kept for ever, with your name. Consent needs one."
    return {"reason": Param(None, type=["null", "string"], title="Reason", description=text)}


class ApproveOperator(ApprovalOperator):
    """Show the verdict to people and wait for an answer.

    Silence is no consent: after `timeout_hours` the task fails, and nothing was promoted. Every answer, and the lack
    of one, is kept in `ponte.approval`; only consent without a reason is not taken for an answer, and the task
    fails. It takes what Airflow's `ApprovalOperator` takes; give it `params=why()`, the field for the reason.

    model : name of the model folder.
    subject : the question, one line.
    body : what the answer rests on, in Markdown.
    verdict_id : what `GateOperator` has returned.
    outcome : what `GateOperator` has returned; skipped unless it is `passed` or `undecided`, as there is nothing to
        ask.
    timeout_hours : how long to wait for an answer.
    approvers : names of the users who may answer; empty: everybody who may do so in Airflow.
    connection_id : Airflow connection to the database `ponte`; by default that of the role that promotes.
    Returns `{approval_id, decision, actor}`.
    Raises AirflowSkipException when the gate refused; HITLTimeoutError when nobody answered; DownstreamTasksSkipped
        after a rejection, which is how Airflow skips what follows; PonteError for consent without a reason.
    """

    template_fields = ("subject", "body", "verdict_id", "outcome")
    operator_extra_links = PAGES

    def __init__(
        self,
        *,
        model: str,
        subject: str,
        body: str,
        verdict_id: Any,
        outcome: str,
        timeout_hours: int,
        approvers: tuple[str, ...] = (),
        connection_id: str = PROMOTER,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            subject=subject,
            body=body,
            **{**kwargs, "execution_timeout": None},
        )
        self.model = model
        self.connection_id = connection_id
        self.verdict_id = verdict_id
        self.outcome = outcome
        self.timeout_hours = timeout_hours
        self.approvers = approvers

    def execute(self, context: Context) -> Any:
        if self.outcome not in ("passed", "undecided"):
            raise AirflowSkipException(f"the gate refused: see verdict {self.verdict_id} in ponte.gate_rule")
        self.response_timeout = timedelta(hours=self.timeout_hours)
        self.assigned_users = [{"id": name, "name": name} for name in self.approvers] or None
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        try:
            super().execute_complete(context, event)
        except HITLTimeoutError:
            why = f"nobody answered in {self.timeout_hours} hours"
            self._record(context, "timed out", context["dag_run"].run_id, why, datetime.now(UTC))
            raise
        except DownstreamTasksSkipped:  # how the base class hands a rejection on
            self._answered(context, event)
            raise
        return self._answered(context, event)

    def _answered(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        decision: Decision = "approved" if event["chosen_options"][0] == self.APPROVE else "rejected"
        user = event["responded_by_user"] or {}
        actor = str(user.get("name") or user.get("id") or "unknown")
        reason = str((event["params_input"] or {}).get("reason") or "").strip()
        if decision == "approved" and not reason:
            fix = "clear this task: it asks again"
            what = "consent without a reason is none; nothing was promoted"
            raise said(PonteError(what, where=f"answer of {actor}", fix=fix), self.log)
        return self._record(context, decision, actor, reason or "none given", event["responded_at"])

    def _record(
        self, context: Context, decision: Decision, actor: str, reason: str, answered_at: datetime
    ) -> dict[str, Any]:
        from ponte.decisions.approvals import record_approval
        from ponte.storage.database import transient_faults_marked

        with transient_faults_marked():
            approval_id = record_approval(
                runtime_of(self.connection_id, self.model).db,
                int(self.verdict_id),
                decision,
                run=run_of(context),
                actor=actor,
                reason=reason,
                answered_at=answered_at,
            )
        return {"approval_id": approval_id, "decision": decision, "actor": actor}
