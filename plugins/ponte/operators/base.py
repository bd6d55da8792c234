"""What every Ponte operator shares: where its runtime comes from, and what names a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseHook, BaseOperator

from ponte.runtime import Runtime, of_connection
from ponte.storage.runs import Run, started_run

if TYPE_CHECKING:
    from airflow.sdk import Context


#: Airflow connections, one per database role that tasks work as; each has the name of its role in `schema.roles`,
#: which is not imported here because a DAG file would then load SQLAlchemy.
TRAINER = "ponte_trainer"
SCORER = "ponte_scorer"
PROMOTER = "ponte_promoter"


def runtime_of(connection_id: str, model: str) -> Runtime:
    """Return the runtime of a task: the database of an Airflow connection, artifacts on Airflow's object storage."""

    def open_root(url: str) -> Any:
        from airflow.sdk import ObjectStoragePath  # not at the top: it loads fsspec, and DAG files load this module

        return ObjectStoragePath(url)

    return of_connection(model, lambda: BaseHook.get_connection(connection_id), open_root)


def run_of(context: Context) -> Run:
    """Return the run that Ponte's tables remember; raises PonteError when Airflow gives it no start date.

    All tasks of a run, the mapped and the resumed ones too, and their retries see one start date and one clear number:
    a retry finds the work of its run again. Clearing tasks raises the number, and a run that is made again under the id
    of a deleted one (ids of backfills follow from the date) starts at another moment: both get their rows frozen anew.
    """
    run = context["dag_run"]
    return started_run(run.run_id, start_date=run.start_date, clear_number=run.clear_number)


def actor_of(context: Context) -> str:
    """Return who started the run: the user whom Airflow names, else the run itself."""
    return str(getattr(context["dag_run"], "triggering_user_name", None) or context["dag_run"].run_id)


class PonteOperator(BaseOperator):
    """One stage of one model.

    Subclasses define `run(runtime, context)`, which calls one library function and returns small JSON.

    connection_id : Airflow connection to the database `ponte`; by default that of the role the stage is made for.
    """

    default_connection_id: ClassVar[str] = SCORER
    ui_color = "#e8f0ea"

    def __init__(self, *, model: str, connection_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.connection_id = connection_id or self.default_connection_id

    def execute(self, context: Context) -> Any:
        from ponte.storage.database import transient_faults_marked
        from ponte.storage.withholding import warnings_without_values, without_values

        try:
            with warnings_without_values(), transient_faults_marked():
                return self.run(runtime_of(self.connection_id, self.model), context)
        except BaseException as error:  # noqa: BLE001 - raised below
            told = without_values(error)
        # Not in the `except`: Airflow logs what an error was raised upon.
        raise told

    def run(self, runtime: Runtime, context: Context) -> Any:
        """Do the stage's work."""
        raise NotImplementedError
