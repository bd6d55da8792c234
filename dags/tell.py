"""The DAG that tells people every hour: windows that are late, and all that no other DAG has sent.

Airflow reads this file again for every task, so it imports nothing heavy.
"""

from __future__ import annotations

from airflow.sdk import DAG, chain

from ponte.operators.dags import platform_settings
from ponte.operators.monitoring import FindLateOperator, TellOperator

settings = platform_settings(description="Tell people what they should know; every hour")
with DAG("ponte__tell", **{**settings, "schedule": "17 * * * *"}):
    chain(
        FindLateOperator(task_id="find_late", model=""),
        TellOperator(task_id="tell", model="").as_teardown(on_failure_fail_dagrun=True),
    )
