"""Score a window with a version that a person has named, without showing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator, run_key
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class StageWindowOperator(PonteOperator):
    """Freeze, check and score a window; returns `{batch_id, window_start, rows}`. People do not see it yet."""

    template_fields = ("model", "window_start")

    def __init__(self, *, window_start: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window_start = window_start

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from datetime import UTC, datetime

        from ponte.model.windows import parse_day
        from ponte.scoring.window import stage_window

        form = context["params"]
        batch = stage_window(
            runtime.db,
            runtime.store,
            runtime.folder,
            form["version"],
            parse_day(self.window_start),
            run_id=run_key(context),
            now=datetime.now(UTC),
            allow_hindsight=form["allow_hindsight"],
        )
        return {"batch_id": batch.batch_id, "window_start": str(batch.window_start), "rows": batch.row_count}
