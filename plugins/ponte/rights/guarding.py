"""Who may start, clear or change runs of the DAGs that serve every model: whoever may decide about the run's model.

Airflow knows permissions per DAG, and `ponte__promote` is one DAG for all models. So a middleware of the API server
asks once more, before Airflow does: for each model that a request concerns, whether the user may edit
`<model>__train`. A request that concerns such a DAG and says no model concerns every model. All else is passed on as it
is: what reads, other DAGs, tasks (their API is another one), and what the scheduler does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.models import DagModel, DagRun
from airflow.models.asset import DagScheduleAssetReference, TaskOutletAssetReference
from airflow.models.backfill import Backfill
from airflow.utils.session import create_session
from fastapi import HTTPException, Request, status
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ponte.rights.permission import may_edit, models_of, refusal

log = logging.getLogger(__name__)

PLATFORM = "ponte__"
API = "/api/v2"
#: Bytes of a body that are held for a look; a list of ten thousand runs has a third of them.
LARGEST_BODY = 4 * 1024 * 1024
READS = frozenset({"GET", "HEAD", "OPTIONS"})

#: Routes that create runs, with the key of the conf in the body.
CREATES = {
    ("POST", f"{API}/dags/{{dag_id}}/dagRuns"): "conf",
    ("POST", f"{API}/assets/{{asset_id}}/materialize"): "conf",
    ("POST", f"{API}/backfills"): "dag_run_conf",
}
#: Routes that take a list of runs, which may be of other DAGs than the one in the path.
LISTS = {
    ("PATCH", f"{API}/dags/{{dag_id}}/dagRuns"),
    ("PATCH", f"{API}/dags/{{dag_id}}/dagRuns/{{dag_run_id}}/taskInstances"),
    ("POST", f"{API}/dags/{{dag_id}}/clearDagRuns"),
}
#: Routes that take one run, with its key in the body.
NAMED_IN_BODY = {
    ("POST", f"{API}/dags/{{dag_id}}/clearTaskInstances"): "dag_run_id",
    ("POST", f"{API}/dags/{{dag_id}}/clearPartitions"): "run_id",
}
ASSET_EVENT = ("POST", f"{API}/assets/events")
PAUSES_MANY = ("PATCH", f"{API}/dags")
#: Routes with nothing but the user's own list of favourites.
HARMLESS = {("POST", f"{API}/dags/{{dag_id}}/{word}") for word in ("favorite", "unfavorite")}

EVERY_MODEL = (
    "This concerns every model, or does not say which one (conf.model): that takes the right to edit the training DAG "
    "of every model."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is not only read."""

    #: Method, and path with names in place of values.
    route: tuple[str, str]
    #: The values of these names.
    path: dict[str, Any]
    #: What the body holds; empty when it is no JSON object: Airflow refuses that where it wants one.
    body: dict[str, Any]

    @property
    def dag_id(self) -> str:
        return str(self.path.get("dag_id", ""))


@dataclass(frozen=True, slots=True)
class Reached:
    """What a request concerns of a DAG: a model, or the model of a run; with neither, every model."""

    dag_id: str
    run_id: str | None = None
    model: str | None = None


class Guard:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 403 when the user may not, else pass the request on as it came."""
        found = _route(scope)
        if found is None or not _needs_a_look(*found):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            user = await get_user(request, None, await bearer_scheme(request))
        except HTTPException as error:
            await _answer(error.status_code, str(error.detail))(scope, receive, send)
            return
        body, messages = await _read(receive)
        if body is None:
            text = f"A request about runs may have {LARGEST_BODY} bytes, and this one has more. Send it in parts."
            await _answer(status.HTTP_413_CONTENT_TOO_LARGE, text)(scope, receive, send)
            return
        refused = await run_in_threadpool(_refusal, user, Asked(*found, body=_parsed(body)))
        if refused:
            log.warning("refused: %s by user %r: %r", " ".join(found[0]), user.get_name(), refused)
            await _answer(status.HTTP_403_FORBIDDEN, refused)(scope, receive, send)
            return
        await self.app(scope, _again(messages, receive), send)


def _route(scope: Scope) -> tuple[tuple[str, str], dict[str, Any]] | None:
    """Return the route of Airflow's API that will answer, and the values in its path; None for what only reads.

    It is found as the router finds it, so that no way of writing a path gets past.
    """
    if scope["type"] != "http" or scope["method"] in READS or f"{API}/" not in f"{scope['path']}/":
        return None
    for route in scope["app"].routes:
        match, child = route.matches(scope)
        if match is Match.FULL:
            found = ((scope["method"], route.path), child["path_params"])
            return found if isinstance(route, APIRoute) else None
    return None


def _needs_a_look(route: tuple[str, str], path: dict[str, Any]) -> bool:
    if route in HARMLESS:
        return False
    if str(path.get("dag_id", "")).startswith(PLATFORM):
        return True
    others = LISTS | {ASSET_EVENT, PAUSES_MANY, ("POST", f"{API}/assets/{{asset_id}}/materialize")}
    return route in others or route[1].startswith(f"{API}/backfills")


async def _read(receive: Receive) -> tuple[bytes | None, list[Message]]:
    """Return the body, None if it is too large, and the messages that it came in."""
    messages: list[Message] = []
    size, more = 0, True
    while more:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > LARGEST_BODY:
            return None, messages
        more = message.get("more_body", False)
    return b"".join(message.get("body", b"") for message in messages), messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """Return a `receive` that gives these messages once more, then what comes after them."""
    left = iter(messages)

    async def receive_again() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return receive_again


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _answer(code: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text}, code)


# ---------------------------------------------------------------- what a request concerns


def _reached(session: Session, asked: Asked) -> Iterator[Reached]:
    """Yield what the request concerns; of DAGs of any kind."""
    if asked.route in CREATES:
        model = _model(asked.body.get(CREATES[asked.route]))
        yield from (Reached(dag_id, model=model) for dag_id in _dags_to_run(session, asked))
    elif asked.route in LISTS:
        yield from _listed(asked)
    elif asked.route == ASSET_EVENT:
        of_asset = DagScheduleAssetReference.asset_id == _number(asked.body.get("asset_id"))
        waiting = session.scalars(select(DagScheduleAssetReference.dag_id).where(of_asset))
        yield from (Reached(dag_id) for dag_id in waiting)
    elif "backfill_id" in asked.path:
        of_id = Backfill.id == _number(asked.path["backfill_id"])
        for found in session.execute(select(Backfill.dag_id, Backfill.dag_run_conf).where(of_id)):
            yield Reached(found.dag_id, model=_model(found.dag_run_conf))
    elif _beyond(asked.body):
        yield Reached(asked.dag_id)
    else:
        in_body = asked.body.get(NAMED_IN_BODY.get(asked.route, ""))
        run_id = asked.path.get("dag_run_id", in_body)
        yield Reached(asked.dag_id, run_id=run_id if isinstance(run_id, str) else None)


def _dags_to_run(session: Session, asked: Asked) -> list[str]:
    """Return the DAGs that the request may create runs of."""
    if "asset_id" in asked.path:
        of_asset = TaskOutletAssetReference.asset_id == _number(asked.path["asset_id"])
        return list(session.scalars(select(TaskOutletAssetReference.dag_id).where(of_asset)))
    return [asked.dag_id or str(asked.body.get("dag_id", ""))]


def _listed(asked: Asked) -> Iterator[Reached]:
    """Yield the runs in the lists of a bulk request; without any, the DAG of the path."""
    actions = [action for action in _list(asked.body.get("actions")) if isinstance(action, dict)]
    entries = [entry for action in actions for entry in _list(action.get("entities"))]
    entries += _list(asked.body.get("dag_runs"))
    path_run = asked.path.get("dag_run_id")
    for entry in entries:
        if isinstance(entry, dict):
            run_id = None if _beyond(entry) else entry.get("dag_run_id") or path_run
            yield Reached(str(entry.get("dag_id") or asked.dag_id), run_id=run_id if isinstance(run_id, str) else None)
        else:  # the run, or the task of the run in the path
            yield Reached(asked.dag_id, run_id=path_run or str(entry))
    if not entries:
        yield Reached(asked.dag_id)


def _beyond(body: dict[str, Any]) -> bool:
    """Return whether earlier or later runs are meant, too."""
    return any(body.get(name) not in (None, False) for name in ("include_past", "include_future"))


def _model(conf: Any) -> str | None:
    model = conf.get("model") if isinstance(conf, dict) else None
    return model if isinstance(model, str) and model else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int | None:
    """Return an id as Airflow's routes read it, "1.0" as 1; None for what they refuse."""
    try:
        return TypeAdapter(int).validate_python(value)
    except ValidationError:
        return None


# ---------------------------------------------------------------- may the user


def _refusal(user: Any, asked: Asked) -> str | None:
    """Return why the user may not do that, None if Ponte has nothing against it."""
    with create_session() as session:
        if asked.route == PAUSES_MANY:
            return _refused_pause(session, user)
        reached = [found for found in _reached(session, asked) if found.dag_id.startswith(PLATFORM)]
        models = _models(session, reached)
        if None in models and not _may_all(session, user):
            return EVERY_MODEL
    for model in sorted(str(model) for model in models - {None}):
        if not may_edit(user, model):
            return refusal(model)
    return None


def _models(session: Session, reached: list[Reached]) -> set[str | None]:
    """Return the models that are concerned; None among them for every model."""
    models = {found.model for found in reached if found.run_id is None}
    for dag_id in {found.dag_id for found in reached}:
        wanted = {found.run_id for found in reached if found.dag_id == dag_id} - {None}
        of_runs = (DagRun.dag_id == dag_id, DagRun.run_id.in_(wanted))
        runs = session.execute(select(DagRun.run_id, DagRun.conf).where(*of_runs))
        confs = {run.run_id: run.conf for run in runs}
        models |= {_model(confs.get(run_id)) for run_id in wanted if run_id}
    return models


def _may_all(session: Session, user: Any) -> bool:
    found = session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.endswith("__train"), ~DagModel.is_stale))
    every = {dag_id.removesuffix("__train") for dag_id in found}
    return bool(every) and every <= models_of(user, "PUT")


def _refused_pause(session: Session, user: Any) -> str | None:
    """Return why the user may not pause all that matches a pattern, among them DAGs that serve every model."""
    editable = get_auth_manager().get_authorized_dag_ids(user=user, method="PUT")
    if any(dag_id.startswith(PLATFORM) for dag_id in editable) and not _may_all(session, user):
        return "DAGs that serve every model may match, and you may not pause these. Pause your DAGs one by one."
    return None
