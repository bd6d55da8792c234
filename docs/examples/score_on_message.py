"""Score a window when a message says that its rows are there, instead of by the clock.

Copy this file into `dags/`, and put the name of your model, connection and channel in the place of these. It needs a
triggerer, and what is in `requirements-messaging.txt` beside this file.

A message is the JSON {"window_start": "2013-11-04"}. Whoever publishes one while nobody listens is not heard (the
triggerer starts anew, or is busy with the message before), and of several at once only the first is seen before the
next one comes. So leave the model its schedule: a window that was missed is scored then.
"""

import json

from airflow.providers.common.messaging.triggers.msg_queue import MessageQueueTrigger
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, AssetWatcher, task

MODEL = "flight_delay"

trigger = MessageQueueTrigger(
    scheme="redis+pubsub", channels=["departures_loaded"], redis_conn_id="redis_default", poll_interval=1
)
ARRIVED = Asset("departures_message", watchers=[AssetWatcher(name="departures_message", trigger=trigger)])

with DAG(
    f"{MODEL}__score_on_message",
    description="Score a window as soon as a message says that its departures are there",
    tags=["ponte", MODEL],
    schedule=[ARRIVED],
    catchup=False,
):

    @task
    def which_windows(triggering_asset_events):
        """Return what to start `<model>__score` with: a window of each message, once."""
        texts = [event.extra["payload"]["data"] for event in triggering_asset_events[ARRIVED]]
        return [{"window_start": start} for start in sorted({json.loads(text)["window_start"] for text in texts})]

    TriggerDagRunOperator.partial(task_id="score", trigger_dag_id=f"{MODEL}__score").expand(conf=which_windows())
