"""What every Ponte operator shares: where its runtime comes from, and what names a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote, urlsplit

from airflow.sdk import Asset, AssetAlias, BaseHook, BaseOperator, BaseOperatorLink
from airflow.sdk.configuration import conf

from ponte.errors import LINE, PonteError, Withheld, in_lines
from ponte.pages.formats import rows as in_rows
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


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a task is about, as far as it knows; its links lead there."""

    #: First day, in ISO format.
    window: str = ""
    version: int | None = None
    rows: int | None = None

    def __str__(self) -> str:
        version = f"version {self.version}" if self.version else ""
        counted = "" if self.rows is None else f"{in_rows(self.rows)} rows"
        return joined(self.window, version, counted)


def joined(*words: object) -> str:
    """Return one line of what there is to say; what is empty is left out."""
    return " · ".join(text for text in map(str, words) if text)


def counted(facts: dict[str, Any]) -> str:
    """Return what a task has counted in words, numbers and texts by name: "new labels 1,200, answers not judged"."""
    said = {name: in_rows(value) if isinstance(value, int) else value for name, value in facts.items()}
    told = {name: value for name, value in said.items() if isinstance(value, str)}
    return ", ".join(v if name == "why" else f"{name} {v}".replace("_", " ") for name, v in told.items())


def said(error: PonteError, log: Any) -> PonteError:
    """Log an error that is meant, in short lines, the next step first; return what to raise: no traceback follows."""
    for line in in_lines(error):
        log.error("%s", line)
    return silent(error)


def silent(error: PonteError) -> PonteError:
    """Return the error as one of which Airflow logs no traceback, which is one more SystemExit, to its task runner.

    To everybody else it is what it was: class and base classes (a retry policy looks at them), words, parts and cause.
    """
    kind = type(error)
    told = BaseException.__new__(_silent_kind(kind))
    told.args = error.args
    vars(told).update(vars(error))
    told.__cause__ = error.__cause__
    # What Airflow logs in the place of the traceback, as "exit_code".
    told.code = kind.__name__  # type: ignore[attr-defined]
    return told


def _silent_kind(kind: type[PonteError]) -> type[PonteError]:
    return type(kind.__name__, (kind, SystemExit), {"__module__": kind.__module__, "__doc__": kind.__doc__})


#: The task whose return value is the number of the run's version.
TRAIN = "train"


def page_url(*parts: str) -> str:
    """Return the path of a page of Ponte below the UI's host; a UI below a path (`[api] base_url`) keeps it."""
    prefix = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return "/".join([f"{prefix}/ponte", *(quote(part, safe="") for part in parts)])


def report_url(model: str, version: Any) -> str:
    """Return the path of the report of a version below the UI's host.

    version : a number, or a template that becomes one.
    """
    return f"{page_url('report', model)}/{version}"


class _PageLink(BaseOperatorLink):
    """A page of Ponte; "" while there is none, and Airflow shows no button.

    The worker asks at the end of each task, also of a failed one, and Airflow keeps the answer as an XCom.
    """

    @property
    def name(self) -> str:
        """Text of the button."""
        return type(self).__name__.removesuffix("Link")


class WindowLink(_PageLink):
    """Link to the page of the window that the task works on."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        window = _about(operator).window
        return page_url("model", _model(operator), window) if window else ""


class ModelLink(_PageLink):
    """Link to the page of the model."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return page_url("model", _model(operator)) if _model(operator) else ""


class ReportLink(_PageLink):
    """Link to the report of the version of the task, else of that which `train` of the same run has registered."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        version: Any = _about(operator).version
        if version is None and TRAIN in operator.get_flat_relative_ids(upstream=True):
            version = XCom.get_one(
                key=XCom.XCOM_RETURN_KEY, dag_id=ti_key.dag_id, task_id=TRAIN, run_id=ti_key.run_id, map_index=-1
            )
        return report_url(_model(operator), version) if _model(operator) and isinstance(version, int) else ""


#: The buttons of every task.
PAGES = (WindowLink(), ModelLink(), ReportLink())


def _model(operator: BaseOperator) -> str:
    return getattr(operator, "model", "")


def _about(operator: BaseOperator) -> About:
    return getattr(operator, "about", About())


#: Where the context has what `say` has said.
_SAID = "ponte_said"


class PonteOperator(BaseOperator):
    """One stage of one model.

    Subclasses define `run(runtime, context)`, which calls one library function and returns small JSON.

    model : name of the model folder.
    connection_id : Airflow connection to the database `ponte`; by default that of the role the stage is made for.
    """

    default_connection_id: ClassVar[str] = SCORER
    operator_extra_links = PAGES
    about: About = About()
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
                done = self.run(runtime_of(self.connection_id, self.model), context)
        except BaseException as error:  # noqa: BLE001 - raised below
            told = without_values(error)
        else:
            if isinstance(done, dict) and _SAID not in context:
                self.say(context, counted(done))
            return done
        # Not in the `except`: Airflow logs what an error was raised upon.
        raise self.failed(context, told)

    def failed(self, context: Context, error: BaseException) -> BaseException:
        """Return what to raise in the place of an error that is said in the log, if it is one that is meant."""
        from airflow.sdk.exceptions import AirflowSkipException

        if isinstance(error, AirflowSkipException):
            self.say(context, str(error).partition("\n")[0], log=False)
        if not isinstance(error, PonteError):
            return error
        self.say(context, f"{type(error).__name__}: {error.what.partition(chr(10))[0]}", log=False)
        if isinstance(error, Withheld):
            return error  # nobody meant it: the way to it is the best that is known
        return said(error, self.log)

    def begin(self, *, window: object = "", version: Any = None, rows: int | None = None) -> None:
        """Say in the first line of the log what the task is about, or what is known by now; what it has said stays."""
        first = self.about == About()
        given: dict[str, Any] = {"window": str(window), "version": version and int(version), "rows": rows}
        self.about = replace(self.about, **{name: value for name, value in given.items() if value not in ("", None)})
        if first:
            self.log.info("%s", joined(self.model, self.about))

    def begin_batch(self, runtime: Runtime, batch_id: Any) -> int:
        """Say before the work which batch the task is about; return its id."""
        from ponte.batches.lifecycle import get_batch

        batch = get_batch(runtime.db, int(batch_id))
        self.begin(window=batch.window_start, version=batch.version, rows=batch.row_count)
        return batch.batch_id

    def say(self, context: Context, *words: object, log: bool = True) -> None:
        """Say what the task has come to, in one line: in its log, and beside its name in lists of tasks."""
        line = joined(self.about, *words)
        if not line:
            return
        line = line if len(line) <= LINE else f"{line[: LINE - 1]}…"
        if log:
            self.log.info("%s", line)
        # Airflow renders it at the end of each task, also of one that is not mapped.
        cast("dict[str, Any]", context).update({"map_index_template": f"{{{{ {_SAID} }}}}", _SAID: line})

    def announce(self, context: Context, asset: Asset, found: dict[str, Any]) -> None:
        """Give the event of an outlet its `extra`, or add the asset's event to an alias among the outlets.

        Airflow writes it when the task succeeds, so after everything that the task has committed. A retry after that
        says it again: at least once, and the ids in `found` tell that it is the same.
        """
        facts = {**found, "in_words": _in_words(found)}
        for outlet in self.outlets:
            if isinstance(outlet, AssetAlias):
                context["outlet_events"][outlet].add(asset, extra=facts)
            elif outlet.name == asset.name:
                context["outlet_events"][outlet].extra = facts

    def run(self, runtime: Runtime, context: Context) -> Any:
        """Do the stage's work."""
        raise NotImplementedError


def _in_words(facts: dict[str, Any]) -> str:
    windows = facts.get("windows")
    if windows is None:
        return joined(f"version {facts['version']} is champion", "by a rollback" if "rollback_id" in facts else "")
    some = [w["window_start"] for w in windows[:2]] if len(windows) < 3 else [f"{len(windows)} windows"]  # noqa: PLR2004 - more are counted
    counted = f"{in_rows(sum(w['rows'] for w in windows))} rows"
    how = "published" if facts["rollback_id"] is None else "rolled back"
    return joined(", ".join(some), f"version {facts['version']}", counted, how)
