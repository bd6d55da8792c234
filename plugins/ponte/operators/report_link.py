"""The button "Report" of a task: where the report of the run's version is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: The task whose return value is the number of the run's version.
TRAIN = "train"


def report_url(model: str, version: Any) -> str:
    """Return the path of the report of a version below the UI's host.

    version : a number, or a template that becomes one. A UI that is served below a path (`[api] base_url`) keeps it.
    """
    prefix = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{prefix}/ponte/report/{quote(model, safe='')}/{version}"


class ReportLink(BaseOperatorLink):
    """Link to the report of the version that the task `train` of the same run has registered; "" before there is one.

    The worker asks at the end of each task, also of a failed one, and Airflow keeps the answer as an XCom.
    """

    @property
    def name(self) -> str:
        """Text of the button."""
        return "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        version = XCom.get_one(
            key=XCom.XCOM_RETURN_KEY, dag_id=ti_key.dag_id, task_id=TRAIN, run_id=ti_key.run_id, map_index=-1
        )
        model = getattr(operator, "model", "")
        return report_url(model, version) if model and isinstance(version, int) else ""
