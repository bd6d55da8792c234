"""Airflow's plugin "ponte": pages in the web server, the timetable of the models' DAGs, and the notes of their runs.

Airflow executes this file in each of its processes, every task among them; so it imports nothing of what it offers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pluggy
from airflow.sdk.plugins_manager import AirflowPlugin

hookimpl = pluggy.HookimplMarker("airflow")


class ReportPages(Sequence[dict[str, Any]]):
    """A list of one web application, which is imported when somebody looks into the list: the API server does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: Any) -> Any:
        from ponte.web.app import app

        return [{"name": "ponte", "app": app(), "url_prefix": "/ponte"}][position]


class Timetables(Sequence[type]):
    """A list of one class, which is imported when somebody looks into the list: whoever reads or writes DAGs does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: Any) -> Any:
        from ponte.operators.timetable import BoundedCronTimetable

        return [BoundedCronTimetable][position]


class RunNotes:
    """Has a note written of every run that has ended, by who ends it: the scheduler, as no task can."""

    @hookimpl
    def on_dag_run_success(self, dag_run: Any) -> None:
        """Note what the run has come to."""
        from ponte.operators.dags import note

        note(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any) -> None:
        """Note why it has failed."""
        from ponte.operators.dags import note

        note(dag_run)


class PontePlugin(AirflowPlugin):
    """What Ponte adds to Airflow."""

    name = "ponte"
    fastapi_apps: Any = ReportPages()
    timetables: Any = Timetables()
    listeners: Any = (RunNotes(),)
