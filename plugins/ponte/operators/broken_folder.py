"""Tell what is wrong with a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ponte.operators.base import PonteOperator
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class BrokenFolderOperator(PonteOperator):
    """The one task of a broken folder's DAG: reads the folder again and fails with every problem in it."""

    def run(self, runtime: Runtime, context: Context) -> str:
        from ponte.model.inspection import inspect_folder

        inspect_folder(runtime.db, runtime.folder)
        return "the folder is whole again; its pipeline appears when the DAG files are next read"
