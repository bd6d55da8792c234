"""Who may see a page, where it stands, on whose behalf it reads, and the headers of every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.sdk import BaseHook
from fastapi import Depends, Request

from ponte.rights.permission import may_edit
from ponte.runtime import Runtime, of_connection

#: The Airflow connection of the web server; it has the name of its role in `schema.roles`.
VIEWER = "ponte_viewer"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def may_read(request: Request, model: str, user: Annotated[object, Depends(get_user)]) -> None:
    """Raise 401 without a login (by `get_user`), 403 when the user may not read the training DAG of the model."""
    requires_access_dag("GET", param_dag_id=f"{model}__train")(request, user)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands, for the links on it, and who looks at it."""

    #: Path of Ponte's pages, "/ponte", with the path that a proxy has Airflow below; no slash at the end.
    base: str
    #: Path of Airflow's own pages; "" or "/airflow", no slash at the end.
    airflow: str
    #: Name of the person.
    user: str


def get_place(request: Request, user: Annotated[Any, Depends(get_user)]) -> Place:
    """Return where the pages are, seen from the browser."""
    return place_of(request, user.get_name())


def place_of(request: Request, user: str = "") -> Place:
    """Return the same for a person who is perhaps nobody."""
    base = request.scope["root_path"].rstrip("/")
    return Place(base=base, airflow=base.removesuffix("/ponte"), user=user)


def may_decide(model: str, user: Annotated[Any, Depends(get_user)]) -> bool:
    """Return whether the user is shown what can be decided about the model."""
    return may_edit(user, model)


def get_runtime(model: str) -> Runtime:
    """Return the database, as a role that only reads it, and the artifact store of the web server's environment."""

    def open_root(url: str) -> Any:
        from airflow.sdk import ObjectStoragePath

        return ObjectStoragePath(url)

    return of_connection(model, lambda: BaseHook.get_connection(VIEWER), open_root)
