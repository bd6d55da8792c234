"""The application that Airflow mounts at /ponte, behind its login.

Only users who may read a model's training DAG see its reports.
"""

from __future__ import annotations

import logging
from functools import cache
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Request, status
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from sqlalchemy.exc import DBAPIError

from ponte.errors import PonteError
from ponte.pages.rendering import render
from ponte.storage.withholding import without_values
from ponte.web import acting, models, overview, versions, windows
from ponte.web.access import HEADERS, Place
from ponte.web.reports import ReportNotFound, show_report

log = logging.getLogger(__name__)


@cache
def app() -> FastAPI:
    """Return the application that Airflow mounts at /ponte."""
    # Without pages about itself: they would be open to everybody.
    pages = FastAPI(title="Ponte", openapi_url=None)
    pages.add_api_route("/report/{model}/{version:int}", show_report, methods=["GET"], response_class=HTMLResponse)
    # Windows come last: whatever follows the name of a model, and is nothing else, is the day of one.
    for part in (overview, models, versions, acting, windows):
        pages.include_router(part.router)
    pages.add_exception_handler(HTTPException, _refused)
    pages.add_exception_handler(ReportNotFound, _not_found)
    pages.add_exception_handler(PonteError, _broken)
    pages.add_exception_handler(DBAPIError, _broken)
    pages.add_exception_handler(OSError, _broken)
    return pages


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == status.HTTP_401_UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        return _logged_out(request)
    return PlainTextResponse(str(error.detail), error.status_code, headers=HEADERS)


def _logged_out(request: Request) -> Response:
    """Lead a person in a browser to the login and back here; a form is not sent on, it would be posted to the login."""
    base = request.scope["root_path"].rstrip("/")
    place = Place(base=base, airflow=base.removesuffix("/ponte"), user="")
    reads = request.method in ("GET", "HEAD")
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "") if reads else f"{base}/"
    login = f"{place.airflow}/api/v2/auth/login?{urlencode({'next': back})}"
    if reads:
        return RedirectResponse(login, headers=HEADERS)
    page = render("logged_out.html.j2", place=place, login=login)
    return HTMLResponse(page, status.HTTP_401_UNAUTHORIZED, headers=HEADERS)


def _not_found(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), status.HTTP_404_NOT_FOUND, headers=HEADERS)


def _broken(request: Request, error: Exception) -> Response:
    log.error("no page at %s", request.url.path, exc_info=without_values(error))
    text = "The page cannot be shown; the log of the API server says why."
    return PlainTextResponse(text, status.HTTP_500_INTERNAL_SERVER_ERROR, headers=HEADERS)
