"""Who may see a page, on whose behalf it reads, and the headers of every answer."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.sdk import BaseHook
from fastapi import Depends, Request

from ponte.runtime import Runtime, of_connection

#: The Airflow connection of the web server; it has the name of its role in `schema.roles`.
VIEWER = "ponte_viewer"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def may_read(request: Request, model: str, user: Annotated[object, Depends(get_user)]) -> None:
    """Raise 401 without a login (by `get_user`), 403 when the user may not read the training DAG of the model."""
    requires_access_dag("GET", param_dag_id=f"{model}__train")(request, user)  # type: ignore[arg-type]


def get_runtime(model: str) -> Runtime:
    """Return the database, as a role that only reads it, and the artifact store of the web server's environment."""

    def open_root(url: str) -> Any:
        from airflow.sdk import ObjectStoragePath

        return ObjectStoragePath(url)

    return of_connection(model, lambda: BaseHook.get_connection(VIEWER), open_root)
