"""One monitoring DAG per model: read labels → measure → measure duels → decide duel, and judge drift; then alarms.

Airflow reads this file again for every task, so it imports nothing heavy and reads only the model folders.
"""

from airflow.sdk import DAG, chain

from ponte.model.folders import ModelFolder, find_folders
from ponte.operators.base import MONITOR, champion_asset
from ponte.operators.dags import build_dags, dag_settings
from ponte.operators.monitoring import (
    AllDoneOperator,
    DecideDuelOperator,
    JudgeDriftOperator,
    MeasureDuelsOperator,
    MeasureOperator,
    ReadLabelsOperator,
    RetrainOperator,
    TellOperator,
    WatchOperator,
)
from ponte.runtime import models_root


def monitor_dag(folder: ModelFolder) -> DAG:
    """Return the monitoring DAG of a model."""
    model = folder.name
    with DAG(f"{model}__monitor", **dag_settings(folder, cron=folder.spec.schedule.monitor, ends=False)) as dag:
        read = ReadLabelsOperator(task_id="read_labels", model=model)
        # What was read is measured, also when the labels of another batch could not be read.
        measure = MeasureOperator(task_id="measure", model=model, trigger_rule="all_done")
        duels = MeasureDuelsOperator(task_id="measure_duels", model=model, trigger_rule="all_done")
        decide = DecideDuelOperator(task_id="decide_duel", model=model, outlets=[champion_asset(model)])
        # Batches whose own run has not judged them; it reads no labels, so it waits for nothing.
        judge = JudgeDriftOperator(task_id="judge_drift", model=model, connection_id=MONITOR)
        # Alarms rest on what was measured and judged, now or before.
        watch = WatchOperator(task_id="alarms", model=model, trigger_rule="all_done")
        chain(read, measure, duels, decide, watch)
        chain(judge, watch)
        if "retrain" in (folder.spec.monitoring.on_quality, folder.spec.monitoring.on_drift):
            chain(watch, RetrainOperator(task_id="retrain", model=model))
        # Red when any task was: a task that goes on after a failure would leave the run green.
        before = list(dag.tasks)
        chain(before, AllDoneOperator(task_id="all_done", model=model, trigger_rule="none_failed"))
        chain(before, TellOperator(task_id="tell", model=model).as_teardown())
    return dag


globals().update(build_dags(find_folders(models_root()), monitor_dag, pipeline="monitor"))
