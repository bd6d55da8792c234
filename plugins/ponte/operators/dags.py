"""What the DAGs of every model have in common, and the DAG that stands in for a broken folder."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, ExceptionRetryPolicy, Param, RetryAction, RetryRule

from ponte.errors import LINE, ModelFolderError, Problem
from ponte.model.folders import BrokenFolder
from ponte.model.spec import ON_DEMAND
from ponte.operators.base import PonteOperator, joined
from ponte.operators.timetable import BoundedCronTimetable
from ponte.runtime import Runtime
from ponte.steering.actions import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow.models.dagrun import DagRun
    from airflow.sdk import Context

    from ponte.model.folders import ModelFolder

#: A stage that hangs must not hold its run for ever; generous, because sizes differ by orders of magnitude.
STAGE_TIMEOUT = timedelta(hours=2)
TRAIN_TIMEOUT = timedelta(hours=6)

#: Only passing database faults are tried again: bad data, bad SQL and a refused artifact stay what they are.
#: It belongs into default_args: a mapped operator never runs `__init__` with them.
#: (A task that was killed is retried as well; no exception reaches a policy then.)
RETRY: dict[str, Any] = {
    "retries": 4,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
    "retry_policy": ExceptionRetryPolicy(
        rules=[RetryRule(exception="ponte.errors.DatabaseUnavailable", action=RetryAction.RETRY)],
        default=RetryAction.FAIL,
    ),
}


log = logging.getLogger(__name__)

#: The tasks that say what a run has come to, the best known first.
VERDICTS = (
    "PublishOperator",
    "PromoteOperator",
    "GateOperator",
    "RollBackOperator",
    "SetChampionOperator",
    "PublishBatchOperator",
    "MarkVersionOperator",
    "ChallengeOperator",
)
#: Kind of a field → what Airflow's form takes for it.
SCHEMAS: dict[str, dict[str, Any]] = {
    "one": {"type": "integer", "minimum": 1},
    "day": {"type": "string", "format": "date"},
    "days": {"default": [], "type": "array", "items": {"type": "string", "format": "date"}},
    "word": {"type": "string"},
    "switch": {"default": False, "type": "boolean"},
    "reason": {"type": "string", "minLength": 3},
}
#: How a note begins that Ponte has written; any other is a person's, and stays.
SIGNED = "Ponte: "


def dag_settings(folder: ModelFolder, *, cron: str, ends: bool = True) -> dict[str, Any]:
    """Return the keyword arguments of `DAG` that follow from a model folder.

    ends : False lets the schedule go on after `[schedule] end`: labels come later than the last window.

    A cron expression becomes a timetable with true data intervals: the plain string would give intervals of no length.
    The timetable bounds the schedule, and no date of the DAG does: a run by hand outside would do nothing, in green.
    One run at a time per DAG, so a late retry never meets the next week's run.
    """
    schedule = folder.spec.schedule
    timetable = (
        None
        if cron == ON_DEMAND
        else BoundedCronTimetable(cron, start=schedule.start, end=schedule.end if ends else None)
    )
    return {
        "description": folder.spec.description,
        "doc_md": folder.card.rstrip() + "\n",  # Airflow takes a text that ends in ".md" for the name of a file
        "tags": {"ponte", folder.name, *folder.spec.tags},
        "schedule": timetable,
        "catchup": False,
        "auto_register": False,  # the DAG file says which DAGs there are, see build_dags
        "max_active_runs": 1,
        "default_args": {"owner": folder.spec.owner, "execution_timeout": STAGE_TIMEOUT, **RETRY},
    }


def platform_settings(*, description: str) -> dict[str, Any]:
    """Return the keyword arguments of a DAG that serves every model and runs when a person fills in its form."""
    return {
        "description": description,
        "tags": {"ponte"},
        "schedule": None,
        "catchup": False,
        "is_paused_upon_creation": False,  # without a schedule it runs only when somebody means it
        "max_active_runs": 1,
        "default_args": {"owner": "ponte", "execution_timeout": STAGE_TIMEOUT, **RETRY},
    }


def form(action: str, **more: str) -> dict[str, Param]:
    """Return the fields of a decision's form in Airflow, in the words of Ponte's own.

    more : by field, what is so in Airflow's form only; it follows the help.
    """
    found = {}
    for field in BY_NAME[action].fields:
        schema = SCHEMAS[field.kind]
        if field.empty:
            schema = {"default": None, **schema, "type": ["null", schema["type"]]}
        if field.words:
            schema = {**schema, "enum": [value for value, _ in field.words]}
        told = " ".join(filter(None, (field.words_of_help, more.get(field.name))))
        found[field.name] = Param(**schema, title=field.title, description=told)
    return found


def build_dags(
    folders: Iterable[ModelFolder | BrokenFolder], build: Callable[[ModelFolder], DAG], *, pipeline: str
) -> dict[str, DAG]:
    """Return the DAG of every folder by id; one that cannot be built is replaced, and takes no name of a good one."""
    good: dict[str, DAG] = {}
    broken: dict[str, DAG] = {}
    for folder in folders:
        if isinstance(folder, BrokenFolder):
            dag = broken_dag(folder, pipeline=pipeline)
            broken[dag.dag_id] = dag
            continue
        try:
            dag = build(folder)
        except Exception as error:  # noqa: BLE001 - Airflow refused something; the DAGs of other folders go on
            problem = Problem(file="model.toml", what=f"Airflow refuses the DAG: {type(error).__name__}: {error}")
            found = BrokenFolder(name=folder.name, path=folder.path, error=ModelFolderError(folder.name, [problem]))
            dag = broken_dag(found, pipeline=pipeline)
        good[dag.dag_id] = dag
    return {**broken, **good}


def broken_dag(folder: BrokenFolder, *, pipeline: str) -> DAG:
    """Return a DAG without a schedule whose documentation, and whose only task, tell what is wrong.

    An error raised while the DAG file is read would take the DAGs of all other models down with it: Airflow marks
    every DAG of a file with an import error as stale.
    """
    name = "".join(c if (c.isascii() and c.isalnum()) or c in "_-." else "_" for c in folder.name)[:200]
    with DAG(
        f"{name}__{pipeline}",
        description=f"BROKEN: {folder.error.what.splitlines()[0]}",
        doc_md=f"## The model folder is broken\n\n```text\n{folder.error}\n```\n",
        tags={"ponte", name[:100], "broken"},
        schedule=None,
        auto_register=False,  # else Airflow finds it beside a good one of the same id, and either may win
        default_args={"owner": "ponte"},
    ) as dag:
        BrokenFolderOperator(task_id="read_model_folder", model=folder.name)
    return dag


class BrokenFolderOperator(PonteOperator):
    """The one task of a broken folder's DAG: reads the folder again and fails with every problem in it.

    Returns a sentence, when the folder is whole again.
    Raises ModelFolderError with every problem, by file and field.
    """

    def run(self, runtime: Runtime, context: Context) -> str:
        from ponte.model.inspection import inspect_folder

        inspect_folder(runtime.db, runtime.folder)
        return "the folder is whole again; its pipeline appears when the DAG files are next read"


def note(dag_run: DagRun) -> None:
    """Write into the note of a run that has ended what its task of VERDICTS, or the first that failed, has said.

    For who ends the run, in the session of that: in a savepoint of its own, because nothing that goes wrong here may
    hold up the scheduler. Does nothing when no task of Ponte has said anything, or a person has written a note.
    """
    from sqlalchemy.orm import object_session

    try:
        if (session := object_session(dag_run)) is not None:
            # Not the session's own savepoint: the scheduler forbids that.
            with session.connection().begin_nested():
                _note(session.connection(), dag_run.id, dag_run.dag_id, dag_run.run_id)
    except Exception:
        log.exception("no note for run %s of %s", dag_run.run_id, dag_run.dag_id)


def _note(connection: Any, number: int, dag_id: str, run_id: str) -> None:
    import sqlalchemy as sa
    from airflow.models.dagrun import DagRunNote
    from airflow.models.taskinstance import TaskInstance

    told: list[Any] = [getattr(TaskInstance, n) for n in ("task_id", "operator", "state", "rendered_map_index")]
    ended = (
        sa.select(*told)
        .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        .order_by(TaskInstance.end_date)
    )
    said = [task for task in connection.execute(ended) if task.rendered_map_index]
    failed = [joined(task.task_id, task.rendered_map_index) for task in said if task.state == "failed"]
    good = {task.operator: task.rendered_map_index for task in said if task.state == "success"}
    verdicts = [good[operator] for operator in VERDICTS if operator in good]
    if not (known := failed + verdicts):
        return
    text = f"{SIGNED}{known[0]}"[: LINE + len(SIGNED)]
    notes = DagRunNote.__table__
    before = connection.execute(sa.select(notes.c.content).where(notes.c.dag_run_id == number)).scalar()
    if before is None:
        connection.execute(notes.insert().values(dag_run_id=number, content=text))
    elif before.startswith(SIGNED):
        connection.execute(notes.update().where(notes.c.dag_run_id == number).values(content=text))
