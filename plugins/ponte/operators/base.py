"""What every Ponte operator shares: where its runtime comes from, and what names a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from airflow.sdk import Asset, AssetAlias, BaseHook, BaseOperator, BaseOperatorLink
from airflow.sdk.configuration import conf

from ponte.runtime import Runtime, of_connection
from ponte.storage.runs import Run, started_run

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey


#: Airflow connections, one per database role that tasks work as; each has the name of its role in `schema.roles`,
#: which is not imported here because a DAG file would then load SQLAlchemy.
TRAINER = "ponte_trainer"
SCORER = "ponte_scorer"
PROMOTER = "ponte_promoter"
MONITOR = "ponte_monitor"

#: Outlet of tasks that serve every model: which model's asset they have something to say of is known when they run.
DECISIONS = AssetAlias("ponte_decisions")


def champion_asset(model: str) -> Asset:
    """Return the asset whose events say that another version of the model has become champion."""
    return Asset(name=f"{model}_champion", uri=f"ponte://champion/{model}")


def predictions_asset(model: str) -> Asset:
    """Return the asset whose events say which windows of the model people see anew."""
    return Asset(name=f"{model}_predictions", uri=f"ponte://predictions/{model}")


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

    model : name of the model folder.
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

    def announce(self, context: Context, asset: Asset, facts: dict[str, Any]) -> None:
        """Give the event of an outlet its `extra`, or add the asset's event to an alias among the outlets.

        Airflow writes it when the task succeeds, so after everything that the task has committed. A retry after that
        says it again: at least once, and the ids in `facts` tell that it is the same.
        """
        for outlet in self.outlets:
            if isinstance(outlet, AssetAlias):
                context["outlet_events"][outlet].add(asset, extra=facts)
            elif outlet.name == asset.name:
                context["outlet_events"][outlet].extra = facts

    def run(self, runtime: Runtime, context: Context) -> Any:
        """Do the stage's work."""
        raise NotImplementedError


#: The task whose return value is the number of the run's version.
TRAIN = "train"


def report_url(model: str, version: Any) -> str:
    """Return the path of the report of a version below the UI's host.

    version : a number, or a template that becomes one. A UI that is served below a path (`[api] base_url`) keeps it.
    """
    prefix = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{prefix}/ponte/report/{quote(model, safe='')}/{version}"


class ReportLink(BaseOperatorLink):
    """Link to the report of the version that the task `train` of the same run has registered; "" before there is one.

    The worker asks at the end of each task, also of a failed one, and Airflow keeps the answer as an XCom.
    """

    @property
    def name(self) -> str:
        """Text of the button."""
        return "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        version = XCom.get_one(
            key=XCom.XCOM_RETURN_KEY, dag_id=ti_key.dag_id, task_id=TRAIN, run_id=ti_key.run_id, map_index=-1
        )
        model = getattr(operator, "model", "")
        return report_url(model, version) if model and isinstance(version, int) else ""
