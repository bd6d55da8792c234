"""Airflow's plugin "ponte": the pages of the reports in the web server, and the timetable of the models' DAGs.

Airflow executes this file in each of its processes, every task among them; so it imports nothing of what it offers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin


class ReportPages(Sequence[dict[str, Any]]):
    """A list of one web application, which is imported when somebody looks into the list: the API server does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: Any) -> Any:
        from ponte.web.app import app

        return [{"name": "ponte", "app": app(), "url_prefix": "/ponte"}][position]


class Guards(Sequence[dict[str, Any]]):
    """A list of one middleware, which is imported when somebody looks into the list: the API server does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: Any) -> Any:
        from ponte.web.guarding import Guard

        return [{"name": "ponte", "middleware": Guard}][position]


class Timetables(Sequence[type]):
    """A list of one class, which is imported when somebody looks into the list: whoever reads or writes DAGs does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: Any) -> Any:
        from ponte.operators.timetable import BoundedCronTimetable

        return [BoundedCronTimetable][position]


class PontePlugin(AirflowPlugin):
    """What Ponte adds to Airflow."""

    name = "ponte"
    fastapi_apps: Any = ReportPages()
    fastapi_root_middlewares: Any = Guards()
    timetables: Any = Timetables()
