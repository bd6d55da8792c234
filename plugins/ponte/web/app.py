"""The application that Airflow mounts at /ponte, behind its login.

Only users who may read a model's training DAG see its reports.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from ponte.errors import PonteError
from ponte.pages.rendering import kept_in, render
from ponte.storage.withholding import without_values
from ponte.web import acting, models, overview, versions, windows
from ponte.web.access import HEADERS, place_of
from ponte.web.reports import ReportNotFound, show_report

log = logging.getLogger(__name__)

TITLES = {
    status.HTTP_403_FORBIDDEN: "You have no right to this",
    status.HTTP_404_NOT_FOUND: "There is nothing here",
    status.HTTP_422_UNPROCESSABLE_CONTENT: "This address says too little, or too much",
    status.HTTP_500_INTERNAL_SERVER_ERROR: "This page is broken",
}
FORBIDDEN = (
    "This takes the right to read the training DAG of the model, <model>__train, which Airflow does not give you. "
    "Whoever gives rights there can."
)


@cache
def app() -> FastAPI:
    """Return the application that Airflow mounts at /ponte."""
    # Without pages about itself: they would be open to everybody.
    pages = FastAPI(title="Ponte", openapi_url=None)
    pages.add_api_route("/report/{model}/{version:int}", show_report, methods=["GET"], response_class=HTMLResponse)
    # Windows come last: whatever follows the name of a model, and is nothing else, is the day of one.
    for part in (overview, models, versions, acting, windows):
        pages.include_router(part.router)
    pages.middleware("http")(_framed)
    pages.add_exception_handler(HTTPException, _refused)
    pages.add_exception_handler(RequestValidationError, _not_understood)
    pages.add_exception_handler(ReportNotFound, _not_found)
    pages.add_exception_handler(PonteError, _broken)
    pages.add_exception_handler(DBAPIError, _broken)
    pages.add_exception_handler(OSError, _broken)
    return pages


async def _framed(request: Request, answer: Callable[[Request], Awaitable[Any]]) -> Response:
    """Return what is answered; without links out of Ponte's pages in the tab of a DAG.

    That is a frame whose sandbox opens no other window: Airflow would open inside Airflow. Browsers say so of each page
    that they load there, over TLS and on the own machine; to who says nothing the page is a whole one.
    """
    found: Response = await answer(request)
    if request.headers.get("sec-fetch-dest") != "iframe" or not _is_html(found):
        return found
    body = b"".join([part async for part in found.body_iterator])  # type: ignore[attr-defined]
    page = kept_in(body.decode(), place_of(request).base)
    return HTMLResponse(page, found.status_code, headers=HEADERS)


def _is_html(response: Response) -> bool:
    return response.headers.get("content-type", "").startswith("text/html")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == status.HTTP_401_UNAUTHORIZED and _is_browser(request):
        return _logged_out(request)
    plain = {status.HTTP_403_FORBIDDEN: FORBIDDEN, status.HTTP_404_NOT_FOUND: "There is no such page."}
    known = HTTPStatus(error.status_code).phrase  # what Airflow and Starlette say without a sentence of their own
    text = plain.get(error.status_code, known) if error.detail == known else str(error.detail)
    return _told(request, text, error.status_code)


def _logged_out(request: Request) -> Response:
    """Lead a person in a browser to the login and back here; a form is not sent on, it would be posted to the login."""
    place = place_of(request)
    reads = request.method in ("GET", "HEAD")
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "") if reads else f"{place.base}/"
    login = f"{place.airflow}/api/v2/auth/login?{urlencode({'next': back})}"
    if reads:
        return RedirectResponse(login, headers=HEADERS)
    page = render("logged_out.html.j2", place=place, login=login)
    return HTMLResponse(page, status.HTTP_401_UNAUTHORIZED, headers=HEADERS)


def _not_found(request: Request, error: Exception) -> Response:
    return _told(request, str(error), status.HTTP_404_NOT_FOUND)


def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{part['loc'][-1]}: {part['msg']}" for part in error.errors())
    return _told(request, f"The address cannot be understood: {wrong}.", status.HTTP_422_UNPROCESSABLE_CONTENT)


def _broken(request: Request, error: Exception) -> Response:
    log.error("no page at %s", request.url.path, exc_info=without_values(error))
    text = "The page cannot be shown; the log of the API server says why."
    return _told(request, text, status.HTTP_500_INTERNAL_SERVER_ERROR)


def _told(request: Request, text: str, code: int) -> Response:
    """Return a sentence: as a page with ways out for a browser, as it is for a program."""
    if not _is_browser(request):
        return PlainTextResponse(text, code, headers=HEADERS)
    title = TITLES.get(code, "This did not work")
    page = render("error.html.j2", place=place_of(request), title=title, text=text)
    return HTMLResponse(page, code, headers=HEADERS)


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
