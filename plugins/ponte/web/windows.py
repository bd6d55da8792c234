"""A window: `GET /ponte/model/{model}/{window}`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status
from fastapi.responses import HTMLResponse

from ponte.pages.rendering import render
from ponte.runtime import Runtime
from ponte.viewing.windows import NoWindow, read_window
from ponte.web.access import HEADERS, Place, get_place, get_runtime, may_decide, may_read

router = APIRouter()


@router.get("/model/{model}/{window}", response_class=HTMLResponse, dependencies=[Depends(may_read)])
def show_window(
    model: str,
    window: str,
    *,
    runtime: Annotated[Runtime, Depends(get_runtime)],
    place: Annotated[Place, Depends(get_place)],
    may_decide: Annotated[bool, Depends(may_decide)],
    batch: str | None = None,
) -> HTMLResponse:
    """Answer with the page of a window, or that there is none, with links to the nearest.

    batch : the batch of the window that the page is about, when it is not the one that people see.
    """
    found = read_window(runtime.db, model, window, batch)
    if isinstance(found, NoWindow):
        page = render("window_missing.html.j2", place=place, found=found)
        return HTMLResponse(page, status.HTTP_404_NOT_FOUND, headers=HEADERS)
    page = render("window.html.j2", place=place, found=found, batch=found.batch, may_decide=may_decide)
    return HTMLResponse(page, headers=HEADERS)
