"""Decisions: `GET /ponte/act/{action}/{model}`, a form; `POST /ponte/act` shows what would follow, or does it.

A form is sent twice: first for the preview, then, with a button that is there only beside a preview of which something
follows, to start the run.
What is started is what was seen: if the preview differs by then, it is shown anew.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qs

from airflow.api_fastapi.core_api.security import get_user
from fastapi import APIRouter, Depends, HTTPException, Request, status
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ponte.errors import PonteError
from ponte.pages.rendering import address, render
from ponte.rights.permission import may_act, refusal
from ponte.rights.starting import csrf_token, start_run
from ponte.steering.actions import BY_NAME, Action
from ponte.steering.choices import read_choices
from ponte.steering.previews import Preview, foresee
from ponte.steering.reading import Typed, asked_for, read_form
from ponte.web.access import HEADERS, Place, get_place, get_runtime, may_read

router = APIRouter()

#: Bytes of a form; one with a thousand windows and the longest reason is far smaller.
LARGEST_FORM = 256 * 1024
#: Fields that are none of an action.
_OWN = ("decision", "model", "csrf", "step", "seen")


@router.get("/act/{action}/{model}", response_class=HTMLResponse, dependencies=[Depends(may_read)])
def show_form(
    action: str,
    model: str,
    request: Request,
    user: Annotated[Any, Depends(get_user)],
    place: Annotated[Place, Depends(get_place)],
) -> Response:
    """Answer with the form, filled in by the address: version, batch, window, alarm."""
    found = _action(action)
    _require_right(user, found, model)
    values = asked_for(found, {name: request.query_params.getlist(name) for name in request.query_params})
    return _form(place, found, model, Typed(values, {}, {}), token=csrf_token(request, user))


@router.get("/act/{action}/{model}/started/{run_id}", response_class=HTMLResponse, dependencies=[Depends(may_read)])
def show_started(action: str, model: str, run_id: str, place: Annotated[Place, Depends(get_place)]) -> HTMLResponse:
    """Answer with where to look at the run that a form has started."""
    page = render("act_started.html.j2", place=place, action=_action(action), model=model, run_id=run_id)
    return HTMLResponse(page, headers=HEADERS)


@router.post("/act", response_class=HTMLResponse)
async def act(
    request: Request, user: Annotated[Any, Depends(get_user)], place: Annotated[Place, Depends(get_place)]
) -> Response:
    """Answer with the form and its preview, or start the run and lead to where it is."""
    sent = await _sent(request)
    return await run_in_threadpool(_acted, request, user, place, sent)


def _acted(request: Request, user: Any, place: Place, sent: Mapping[str, Sequence[str]]) -> Response:
    action, model = _action(_one(sent, "decision")), _one(sent, "model")
    may_read(request, model, user)
    _require_right(user, action, model)
    token = _one(sent, "csrf")
    typed = read_form(action, {name: texts for name, texts in sent.items() if name not in _OWN})
    preview = _preview(action, model, typed) if not typed.problems else Preview(problems=typed.problems)
    seen = _digest(typed, preview)
    does, changed = _one(sent, "step") == "do" and not preview.problems, _one(sent, "seen") != seen
    if does and not changed and preview.startable:
        conf = {**typed.conf, "model": model} if action.dag.startswith("ponte__") else dict(typed.conf)
        try:
            run_id = start_run(request, user, action.dag_id(model), conf, token=token, note=typed.conf.get("reason"))
        except HTTPException as error:
            # What was typed is kept, and the form gets a new token: it can be sent again.
            problem = Preview(problems={"": str(error.detail)})
            fresh = csrf_token(request, user)
            return _form(place, action, model, typed, token=fresh, preview=problem, code=error.status_code)
        where = address(place.base, "act", action.name, model, "started", run_id)
        return RedirectResponse(where, status.HTTP_303_SEE_OTHER, headers=HEADERS)
    return _form(place, action, model, typed, token=token, preview=preview, seen=seen, changed=does and changed)


def _preview(action: Action, model: str, typed: Typed) -> Preview:
    runtime = get_runtime(model)
    try:
        return foresee(action, runtime.db, runtime.folder, typed.conf, now=dt.datetime.now(dt.UTC))
    except PonteError as error:  # of the folder
        return Preview(problems={"": error.what})


def _form(
    place: Place,
    action: Action,
    model: str,
    typed: Typed,
    *,
    token: str,
    preview: Preview | None = None,
    seen: str = "",
    changed: bool = False,
    code: int = status.HTTP_200_OK,
) -> HTMLResponse:
    lists = read_choices(get_runtime(model).db, model, {field.of for field in action.fields if field.of})
    page = render(
        "act.html.j2",
        place=place,
        action=action,
        model=model,
        values=typed.values,
        lists=lists,
        preview=preview,
        token=token,
        seen=seen,
        changed=changed,
    )
    if preview is not None and preview.problems and code == status.HTTP_200_OK:
        code = status.HTTP_422_UNPROCESSABLE_CONTENT
    return HTMLResponse(page, code, headers=HEADERS)


def _digest(typed: Typed, preview: Preview) -> str:
    """Return what tells one preview from another; the reason is no part of what will be done."""
    conf = {name: value for name, value in typed.conf.items() if name != "reason"}
    text = json.dumps([conf, preview.effects, preview.warnings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


async def _sent(request: Request) -> dict[str, list[str]]:
    """Return the fields of the body; raises 413 and 415."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "This takes what a form of Ponte sends.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"At most {LARGEST_FORM:,} bytes.")
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)


def _one(sent: Mapping[str, Sequence[str]], name: str) -> str:
    return next(iter(sent.get(name, ())), "")


def _action(name: str) -> Action:
    found = BY_NAME.get(name)
    if found is None:
        known = ", ".join(BY_NAME)
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no decision {name[:60]!r}; there are: {known}.")
    return found


def _require_right(user: Any, action: Action, model: str) -> None:
    """Raise 403 when the person may not decide about the model, before anything was typed in vain."""
    dag_id = action.dag_id(model)
    if not may_act(user, model, dag_id):
        raise HTTPException(status.HTTP_403_FORBIDDEN, refusal(model, dag_id))
