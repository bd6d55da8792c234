"""Airflow's plugin "ponte": its pages and where they are in the menu, who may, the notes of runs, and the timetable.

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


class Guards(Sequence[dict[str, Any]]):
    """A list of one middleware, which is imported when somebody looks into the list: the API server does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: Any) -> Any:
        from ponte.rights.guarding import Guard

        return [{"name": "ponte", "middleware": Guard}][position]


class Timetables(Sequence[type]):
    """A list of one class, which is imported when somebody looks into the list: whoever reads or writes DAGs does."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: Any) -> Any:
        from ponte.operators.timetable import BoundedCronTimetable

        return [BoundedCronTimetable][position]


#: An icon that the menu takes from the address itself: a bridge, in grey that is seen on light and dark.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%23808894' "
    "stroke-width='2' stroke-linecap='round'%3E%3Cpath d='M2 17h20M5 17V7m14 10V7M2 11q3-1 3-4q7 9 14 0q0 3 3 4'/%3E"
    "%3C/svg%3E"
)


#: Pages of the documentation in Airflow's menu "Docs", by what they are called there.
DOCUMENTS = {
    "all pages": "",
    "operate": "how-to/operate.md",
    "query predictions": "how-to/query-predictions.md",
    "a model folder": "reference/model-folder.md",
    "errors": "reference/errors.md",
}


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
    #: Without `url_route` an entry is a link to a whole page, and no frame; it has to be in one of Airflow's own menus:
    #: at the top level Airflow 3.3.2 makes a button of it that leads nowhere. Without a slash at its beginning an
    #: address stands below the path that Airflow has.
    external_views: Any = [  # noqa: RUF012 - Airflow's own attribute
        {"name": "Ponte", "href": "ponte/", "destination": "nav", "category": "browse", "icon": ICON},
        *(
            {
                "name": f"Ponte: {name}",
                "href": f"ponte/docs/{page}",
                "destination": "nav",
                "category": "docs",
                "icon": ICON,
            }
            for name, page in DOCUMENTS.items()
        ),
        # With `url_route` it is a tab: a frame, whose links lead to nothing but pages of Ponte. Airflow takes the first
        # entry whose route, or else whose name, is what the address says: "ponte" is that of the menu.
        {"name": "Ponte", "href": "ponte/tab/{DAG_ID}", "destination": "dag", "url_route": "ponte-dag", "icon": ICON},
    ]
    fastapi_apps: Any = ReportPages()
    fastapi_root_middlewares: Any = Guards()
    timetables: Any = Timetables()
    listeners: Any = (RunNotes(),)
