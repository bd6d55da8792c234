"""One scoring DAG per model: freeze batch → check → plan → score (mapped) → guard → publish → judge, duel, clean up.

Airflow reads this file again for every task, so it imports nothing heavy and reads only the model folders.
"""

import os

from airflow.sdk import DAG, chain

from ponte.model.folders import ModelFolder, find_folders
from ponte.operators.base import predictions_asset
from ponte.operators.dags import build_dags, dag_settings, form
from ponte.operators.monitoring import JudgeDriftOperator, TellOperator
from ponte.operators.scoring import (
    CheckBatchOperator,
    CleanUpOperator,
    DuelOperator,
    FreezeBatchOperator,
    GuardOperator,
    PlanOperator,
    PublishOperator,
    ScoreOperator,
)
from ponte.runtime import models_root


def score_dag(folder: ModelFolder) -> DAG:
    """Return the scoring DAG of a model."""
    model, window = folder.name, folder.spec.window
    asked = form(
        "score",
        window_start=f"Windows last {window.days} day(s), counted from a {window.starts_on.capitalize()}, in UTC. "
        f"Due is the {window.covers} one as seen from this run's data interval.",
    )
    with DAG(f"{model}__score", params=asked, **dag_settings(folder, cron=folder.spec.schedule.score)) as dag:
        freeze = FreezeBatchOperator(task_id="freeze_batch", model=model)
        # Templates and not `freeze.output`, so that the graph is the chain it is; empty when the freeze failed.
        batch_id = "{{ ti.xcom_pull(task_ids='freeze_batch', key='batch_id') or '' }}"
        check = CheckBatchOperator(task_id="check", model=model, batch_id=batch_id)
        plan = PlanOperator(task_id="plan", model=model, batch_id=batch_id)
        score = ScoreOperator.partial(
            task_id="score",
            model=model,
            batch_id=batch_id,
            pool=os.environ.get("PONTE_SCORE_POOL", "default_pool"),  # its slots bound how many shards run at once
            map_index_template="shard {{ task.shard.shard + 1 }} of {{ task.shard.shards }}",
        ).expand(shard=plan.output)
        guard = GuardOperator(task_id="guard", model=model, batch_id=batch_id)
        publish = PublishOperator(task_id="publish", model=model, batch_id=batch_id, outlets=[predictions_asset(model)])
        judge = JudgeDriftOperator(task_id="judge_drift", model=model, batch_id=batch_id)
        # The run is what its last task is that is no teardown. So a challenger that fails is red, and the run is green;
        # and the rows that it reads are cleaned up after it.
        duel = DuelOperator(task_id="duel", model=model, batch_id=batch_id).as_teardown()
        # A teardown runs after a failure too. It has no setup: clearing a task would clear that as well, and so freeze
        # the rows anew.
        clean_up = CleanUpOperator(task_id="clean_up", model=model).as_teardown()
        tell = TellOperator(task_id="tell", model=model).as_teardown()
        chain(freeze, check, plan, score, guard, publish, judge, duel, clean_up, tell)
    return dag


globals().update(build_dags(find_folders(models_root()), score_dag, pipeline="score"))
