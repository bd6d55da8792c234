"""DAGs by which a person decides: who is champion or challenger, what people see, what becomes of an alarm.

Each serves every model and has a form. Airflow reads this file again for every task, so it imports nothing heavy.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, XComArg, chain

from ponte.model.folders import ModelFolder, find_folders
from ponte.operators.base import DECISIONS
from ponte.operators.dags import form, platform_settings
from ponte.operators.decisions import (
    ChallengeOperator,
    MarkVersionOperator,
    MeasureAgainOperator,
    PlanRollbackOperator,
    PreparePublicationOperator,
    PublishBatchOperator,
    RollBackOperator,
    SetChampionOperator,
    StageWindowOperator,
)
from ponte.operators.monitoring import DecideAlarmOperator, TellOperator
from ponte.operators.scoring import CleanUpOperator
from ponte.operators.training import GateOperator, PromoteOperator
from ponte.runtime import models_root
from ponte.steering.actions import BY_NAME, Action

MODEL = "{{ params.model }}"


def model(models: list[str]) -> dict[str, Param]:
    """Return the field that says which model a decision is about."""
    return {"model": Param(models[0], type="string", enum=models, title="Model")}


def about(name: str) -> str:
    """Return the documentation of a DAG: what it does, each field, and where the same form is filled in."""
    action: Action = BY_NAME[name]
    fields = [f"- **{field.title}** (`{field.name}`): {field.words_of_help}" for field in action.fields]
    where = "On Ponte's own page the same form lists what there is to choose from, and shows what would follow first:"
    return "\n".join([action.help, "", *fields, "", f"{where} **Ponte** in the menu, a model, **{action.title}**."])


def tell() -> TellOperator:
    """Return the last task, which sends what is unsent; it runs after a failure too, and its own fails no run."""
    return TellOperator(task_id="tell", model=MODEL).as_teardown()


def promote_dag(models: list[str]) -> DAG:
    """Return the DAG that makes a version champion because a person says so, whatever the gate said."""
    with DAG(
        "ponte__promote",
        params={**model(models), **form("promote")},
        doc_md=about("promote"),
        **platform_settings(description="Make a version champion by hand; past windows stay as they are"),
    ) as dag:
        chain(SetChampionOperator(task_id="set_champion", model=MODEL, outlets=[DECISIONS]), tell())
    return dag


def challenge_dag(models: list[str]) -> DAG:
    """Return the DAG by which a person holds a version against the champion in the weeks to come, or ends that."""
    with DAG(
        "ponte__challenge",
        params={**model(models), **form("challenge")},
        doc_md=about("challenge"),
        **platform_settings(description="Make a version challenger: it predicts each week beside the champion, unseen"),
    ) as dag:
        chain(ChallengeOperator(task_id="challenge", model=MODEL), tell())
    return dag


def judge_dag(models: list[str]) -> DAG:
    """Return the DAG that judges a version by the model folder as it is now, and promotes it if its mode lets it."""
    with DAG(
        "ponte__judge",
        params={**model(models), **form("judge")},
        doc_md=about("judge"),
        **platform_settings(
            description="Judge a version again, after [gate] or [approval] changed; nothing is trained"
        ),
    ) as dag:
        measure = MeasureAgainOperator(task_id="measure_again", model=MODEL)
        known = "{{{{ ti.xcom_pull(task_ids='measure_again')['{}'] }}}}"
        gate = GateOperator(
            task_id="judge_again", model=MODEL, version=known.format("version"), snapshot_id=known.format("snapshot_id")
        )
        promote = PromoteOperator(
            task_id="promote",
            model=MODEL,
            verdict_id="{{ ti.xcom_pull(task_ids='judge_again', key='verdict_id') }}",
            reason="{{ ti.xcom_pull(task_ids='judge_again', key='reason') }}",
            outlets=[DECISIONS],
        )
        chain(measure, gate, promote, tell())
    return dag


def rollback_dag(models: list[str]) -> DAG:
    """Return the DAG that moves the champion and what people see of chosen windows, in one action."""
    only_said = "Only say what would follow: the log of the task plan does, and nothing is done."
    dry_run = Param(False, type="boolean", title="Dry run", description=only_said)
    asked = form("roll-back", windows="Write their first days, one per line.")
    with DAG(
        "ponte__rollback",
        params={**model(models), **asked, "dry_run": dry_run},
        doc_md=about("roll-back"),
        **platform_settings(description="Go back to a version: the champion and the predictions already served"),
    ) as dag:
        plan = PlanRollbackOperator(task_id="plan", model=MODEL)
        stage = StageWindowOperator.partial(
            task_id="score_window", model=MODEL, map_index_template="window {{ task.window_start }}"
        ).expand(window_start=plan.output)
        roll_back = RollBackOperator(
            task_id="roll_back",
            model=MODEL,
            plan=XComArg(plan, key="plan"),
            outlets=[DECISIONS],
            trigger_rule="none_failed",  # with every batch kept there is nothing to score, and that task is skipped
        )
        # A teardown runs after a failure too: others wait for windows that a rollback has scored and does not show.
        clean_up = CleanUpOperator(task_id="clean_up", model=MODEL, retention=False).as_teardown()
        chain(plan, stage, roll_back, clean_up, tell())
    return dag


def mark_dag(models: list[str]) -> DAG:
    """Return the DAG that says something about a version that counts from now on."""
    with DAG(
        "ponte__mark_version",
        params={**model(models), **form("mark")},
        doc_md=about("mark"),
        **platform_settings(description="Mark a version: bad, or usable with other libraries"),
    ) as dag:
        chain(MarkVersionOperator(task_id="mark_version", model=MODEL), tell())
    return dag


def publish_dag(models: list[str]) -> DAG:
    """Return the DAG that shows a batch although a guard has tripped."""
    with DAG(
        "ponte__publish_batch",
        params={**model(models), **form("publish")},
        doc_md=about("publish"),
        **platform_settings(description="Publish a batch that a guard rejected; see ponte.guard_result"),
    ) as dag:
        prepare = PreparePublicationOperator(task_id="prepare", model=MODEL)
        publish = PublishBatchOperator(task_id="publish_batch", model=MODEL, outlets=[DECISIONS])
        chain(prepare, publish, CleanUpOperator(task_id="clean_up", model=MODEL), tell())
    return dag


def alarm_dag(models: list[str]) -> DAG:
    """Return the DAG that appends to an alarm what a person says of it."""
    with DAG(
        "ponte__alarm",
        params={**model(models), **form("alarm")},
        doc_md=about("alarm"),
        **platform_settings(description="Acknowledge or close an alarm; see ponte.alarm"),
    ) as dag:
        chain(DecideAlarmOperator(task_id="decide_alarm", model=MODEL), tell())
    return dag


names = [folder.name for folder in find_folders(models_root()) if isinstance(folder, ModelFolder)]
if names:  # a form needs something to choose from
    made = [
        build(names)
        for build in (promote_dag, challenge_dag, judge_dag, rollback_dag, mark_dag, publish_dag, alarm_dag)
    ]
    globals().update({dag.dag_id: dag for dag in made})
