"""One training DAG per model folder: freeze windows → check → snapshot → train → evaluate → gate → [approve] → promote.

Airflow reads this file again for every task, so it imports nothing heavy and reads only the model folders.
"""

from airflow.sdk import DAG, chain

from ponte.model.folders import ModelFolder, find_folders
from ponte.operators.approval import ApproveOperator, why
from ponte.operators.base import champion_asset, report_url
from ponte.operators.dags import TRAIN_TIMEOUT, build_dags, dag_settings, form
from ponte.operators.monitoring import TellOperator
from ponte.operators.training import (
    CheckSnapshotOperator,
    EvaluateOperator,
    FreezeWindowsOperator,
    GateOperator,
    PromoteOperator,
    SnapshotOperator,
    TrainOperator,
)
from ponte.runtime import models_root


def train_dag(folder: ModelFolder) -> DAG:
    """Return the training DAG of a model."""
    model = folder.name
    asked = form("train", as_of="A run that has a data interval takes its end for today.")
    with DAG(f"{model}__train", params=asked, **dag_settings(folder, cron=folder.spec.schedule.train)) as dag:
        freeze = FreezeWindowsOperator(task_id="freeze_windows", model=model)
        # Templates and not `freeze.output`, so that the graph is the chain it is.
        snapshot_id = "{{ ti.xcom_pull(task_ids='freeze_windows', key='snapshot_id') }}"
        version = "{{ ti.xcom_pull(task_ids='train') }}"
        verdict = {
            key: f"{{{{ ti.xcom_pull(task_ids='gate', key='{key}') }}}}"
            for key in ("verdict_id", "reason", "outcome", "table")
        }
        check = CheckSnapshotOperator(task_id="check", model=model, snapshot_id=snapshot_id)
        snapshot = SnapshotOperator(task_id="snapshot", model=model, snapshot_id=snapshot_id)
        train = TrainOperator(task_id="train", model=model, snapshot_id=snapshot_id, execution_timeout=TRAIN_TIMEOUT)
        evaluate = EvaluateOperator(task_id="evaluate", model=model, snapshot_id=snapshot_id, version=version)
        gate = GateOperator(task_id="gate", model=model, snapshot_id=snapshot_id, version=version)
        approve = []
        approval_id = ""
        if folder.spec.promotion == "approval":
            asked = ApproveOperator(
                task_id="approve",
                model=model,
                params=why(),
                subject=f"Make version {version} of {model} the champion?",
                body=f"{verdict['reason']}\n\n{verdict['table']}\n\n"
                f"[Report of version {version}]({report_url(model, version)})",
                verdict_id=verdict["verdict_id"],
                outcome=verdict["outcome"],
                timeout_hours=folder.spec.approval.timeout_hours,
                approvers=folder.spec.approval.approvers,
            )
            approve = [asked]
            approval_id = "{{ ti.xcom_pull(task_ids='approve')['approval_id'] }}"
        promote = PromoteOperator(
            task_id="promote",
            model=model,
            verdict_id=verdict["verdict_id"],
            reason=verdict["reason"],
            approval_id=approval_id,
            outlets=[champion_asset(model)],
        )
        chain(freeze, check, snapshot, train, evaluate, gate, *approve, promote)
        # The verdict is what there is to tell of, and nobody can answer a question that is told after the answer.
        chain(gate, TellOperator(task_id="tell", model=model).as_teardown())
    return dag


globals().update(build_dags(find_folders(models_root()), train_dag, pipeline="train"))
