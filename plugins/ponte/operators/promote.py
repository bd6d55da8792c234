"""Move the champion alias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator, Runtime, run_key

if TYPE_CHECKING:
    from airflow.sdk import Context


class PromoteOperator(PonteOperator):
    """Make the version champion if the gate passed it; skipped, with the reason in the log, when it did not."""

    template_fields = ("verdict_id", "reason")

    def __init__(self, *, verdict_id: Any, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.verdict_id = verdict_id
        self.reason = reason

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from airflow.sdk.exceptions import AirflowSkipException

        from ponte.gate import promote

        alias = promote(runtime.db, int(self.verdict_id), actor=run_key(context))
        if alias is None:
            self.log.warning("not promoted: %s", self.reason)
            raise AirflowSkipException(f"the gate refused: see verdict {self.verdict_id} in ponte.gate_verdict")
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"version": alias.version, "alias_event_id": alias.event_id}
        return {"version": alias.version, "alias_event_id": alias.event_id}
