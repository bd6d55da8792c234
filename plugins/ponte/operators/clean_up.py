"""Drop what a finished run needs no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PonteOperator, Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class CleanUpOperator(PonteOperator):
    """Drop the frozen table of a batch that was published or is over; returns whether it did.

    A batch that can still be continued (its tasks cleared and run again) keeps its frozen rows, as does a rejected one,
    whose failed checks name the SQL that finds the rows.
    """

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> bool:
        from ponte.freezing import drop_frozen

        return bool(self.batch_id) and drop_frozen(runtime.db, int(self.batch_id))
