"""Two DAGs of one's own: score a window when its source was loaded, and hear what people see anew.

Copy this file into `dags/`, and put the name of your model and of your asset in the place of these.
"""

from airflow.sdk import DAG, Asset, chain, task

from ponte.operators.base import predictions_asset
from ponte.operators.dags import RETRY, STAGE_TIMEOUT
from ponte.operators.scoring import (
    CheckBatchOperator,
    CleanUpOperator,
    FreezeBatchOperator,
    GuardOperator,
    PlanOperator,
    PublishOperator,
    ScoreOperator,
)

MODEL = "flight_delay"
PREDICTIONS = predictions_asset(MODEL)
#: Who loads the source has this among the outlets, and gives the event `extra = {"window_start": "2013-11-04"}`.
LOADED = Asset(name="departures_loaded", uri="warehouse://flights/departure")

with DAG(
    f"{MODEL}__score_when_loaded",
    description="Score a window as soon as its departures are there",
    tags=["ponte", MODEL],
    schedule=[LOADED],
    catchup=False,
    max_active_runs=1,
    default_args={"execution_timeout": STAGE_TIMEOUT, **RETRY},
):

    @task
    def which_window(triggering_asset_events):
        """Return the first day of the newest window that the loads since the last run were about."""
        return max(event.extra["window_start"] for event in triggering_asset_events[LOADED])

    @task
    def enough_rows(predicted, frozen):
        """A rule of one's own between guard and publish: when it fails, people go on seeing what they saw."""
        if predicted < 0.9 * frozen:
            raise ValueError(f"{predicted} of {frozen} rows were predicted, 9 in 10 are wanted")

    freeze = FreezeBatchOperator(task_id="freeze_batch", model=MODEL, window_start=which_window())
    batch_id = freeze.output["batch_id"]
    check = CheckBatchOperator(task_id="check", model=MODEL, batch_id=batch_id)
    plan = PlanOperator(task_id="plan", model=MODEL, batch_id=batch_id)
    score = ScoreOperator.partial(task_id="score", model=MODEL, batch_id=batch_id).expand(shard=plan.output)
    guard = GuardOperator(task_id="guard", model=MODEL, batch_id=batch_id)
    rule = enough_rows(predicted=guard.output, frozen=freeze.output["rows"])
    publish = PublishOperator(task_id="publish", model=MODEL, batch_id=batch_id, outlets=[PREDICTIONS])
    clean_up = CleanUpOperator(task_id="clean_up", model=MODEL).as_teardown()
    chain(freeze, check, plan, score, guard, rule, publish, clean_up)

with DAG(
    f"{MODEL}__tell",
    description="Hear which windows people see anew: scored, rolled back, or published although a guard tripped",
    tags=["ponte", MODEL],
    schedule=[PREDICTIONS],
    catchup=False,
):

    @task
    def what_is_new(triggering_asset_events):
        """Return the batch that people see of each window that changed: what to refresh, send or compute again."""
        events = sorted(triggering_asset_events[PREDICTIONS], key=lambda event: event.timestamp)
        return {w["window_start"]: w["batch_id"] for event in events for w in event.extra["windows"]}

    what_is_new()
