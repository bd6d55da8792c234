"""One monitoring DAG per model folder: read labels → measure → measure duels → decide duel.

Airflow reads this file again for every task, so it imports nothing heavy and reads only the model folders.
"""

from airflow.sdk import DAG, chain

from ponte.model.folders import ModelFolder, find_folders
from ponte.operators.base import champion_asset
from ponte.operators.dags import build_dags, dag_settings
from ponte.operators.monitoring import (
    AllDoneOperator,
    DecideDuelOperator,
    MeasureDuelsOperator,
    MeasureOperator,
    ReadLabelsOperator,
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
        chain(read, measure, duels, decide)
        # Red when any task was: a task that goes on after a failure would leave the run green.
        before = list(dag.tasks)
        chain(before, AllDoneOperator(task_id="all_done", model=model))
    return dag


globals().update(build_dags(find_folders(models_root()), monitor_dag, pipeline="monitor"))
