"""The reports in Airflow's web server: `GET /ponte/report/{model}/{version}`, behind Airflow's login.

Only users who may read the model's training DAG see its reports. The page is the verified file of the version, with
what was decided about the version since. It holds no scripts, and the headers forbid them.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Annotated
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, status
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from sqlalchemy.exc import DBAPIError

from ponte.decisions.log import decisions, newest_rules
from ponte.errors import PonteError
from ponte.operators.base import VIEWER, runtime_of
from ponte.pages.report import with_decisions
from ponte.runtime import Runtime
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.versions.loading import REPORT, read_files
from ponte.versions.registry import get_version

log = logging.getLogger(__name__)

LARGEST_VERSION = 2**31 - 1
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class ReportNotFound(Exception):
    """There is no such version, or it has no report."""


@cache
def app() -> FastAPI:
    """Return the application that Airflow mounts at /ponte."""
    # Without pages about itself: they would be open to everybody.
    pages = FastAPI(title="Ponte", openapi_url=None)
    pages.add_api_route("/report/{model}/{version:int}", show_report, methods=["GET"], response_class=HTMLResponse)
    pages.add_exception_handler(HTTPException, _refused)
    pages.add_exception_handler(ReportNotFound, _not_found)
    pages.add_exception_handler(PonteError, _broken)
    pages.add_exception_handler(DBAPIError, _broken)
    pages.add_exception_handler(OSError, _broken)
    return pages


def may_read(request: Request, model: str, user: Annotated[object, Depends(get_user)]) -> None:
    """Raise 401 without a login (by `get_user`), 403 when the user may not read the training DAG of the model."""
    requires_access_dag("GET", param_dag_id=f"{model}__train")(request, user)  # type: ignore[arg-type]


def get_runtime(model: str) -> Runtime:
    """Return the database, as a role that only reads it, and the artifact store of the web server's environment."""
    return runtime_of(VIEWER, model)


def show_report(
    model: str,
    version: int,
    _: Annotated[None, Depends(may_read)],
    runtime: Annotated[Runtime, Depends(get_runtime)],
) -> HTMLResponse:
    """Answer with the report. A plain function, so that it runs in a thread: it waits for database and storage."""
    return HTMLResponse(report_page(runtime.db, runtime.store, model, version), headers=HEADERS)


def report_page(db: Database, store: ArtifactStore, model: str, version: int) -> bytes:
    """Return the report of a version with its decisions; raises ReportNotFound."""
    if version > LARGEST_VERSION:
        raise ReportNotFound(f"model {model} has no version {version}")
    try:
        found = get_version(db, model, version)
    except PonteError as error:
        raise ReportNotFound(str(error)) from error
    page = read_files(store, found).get(REPORT)
    if page is None:
        raise ReportNotFound(f"version {version} of model {model} has no report: it was trained before there were any")
    return with_decisions(page, newest_rules(db, model, version), decisions(db, model, version))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == status.HTTP_401_UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        # A person in a browser, who comes back here after logging in.
        here = request.url.path
        login = f"{here[: here.rindex('/ponte/report/')]}/api/v2/auth/login"
        return RedirectResponse(f"{login}?{urlencode({'next': here})}", headers=HEADERS)
    return PlainTextResponse(str(error.detail), error.status_code, headers=HEADERS)


def _not_found(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), status.HTTP_404_NOT_FOUND, headers=HEADERS)


def _broken(request: Request, error: Exception) -> Response:
    log.error("no report at %s", request.url.path, exc_info=error)
    text = "The report cannot be shown; the log of the API server says why."
    return PlainTextResponse(text, status.HTTP_500_INTERNAL_SERVER_ERROR, headers=HEADERS)
