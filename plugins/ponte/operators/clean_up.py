"""Drop what a finished run needs no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class CleanUpOperator(PonteOperator):
    """Drop what dead and finished runs of the model left, this one among them, and what its retention gives up.

    A batch that can still be continued (its tasks cleared and run again) keeps its frozen rows, as does a rejected one,
    whose failed checks name the SQL that finds the rows, until a newer run takes its window. Returns
    `{dropped_tables, retired_batches}`.

    retention : False leaves predictions alone: right after a rollback the way back shall be there.
    """

    template_fields = ("model",)

    def __init__(self, *, retention: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.retention = retention

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.publishing.janitor import tidy

        return tidy(runtime.db, runtime.folder, retention=self.retention)
