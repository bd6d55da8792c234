"""Make a batch that a guard rejected ready to be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ponte.operators.base import PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class PreparePublicationOperator(PonteOperator):
    """Make the batch of the form a partition that nobody sees yet: its table is the scorer's, the decision is not."""

    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> None:
        from ponte.publishing.pointer import prepare_publication

        prepare_publication(runtime.db, context["params"]["batch_id"], model=self.model)
