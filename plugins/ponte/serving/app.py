"""The application of the API: every page in its place, and what starts and ends with it."""

from __future__ import annotations

import gc
import importlib
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import Route

from ponte.access.limits import KeyRing
from ponte.live.counting import Counter
from ponte.live.journal import Journal
from ponte.serving import documents, replies, routes
from ponte.serving.champions import Champions
from ponte.serving.form_routes import OfService, router
from ponte.serving.replies import Page
from ponte.serving.service import Service, Settings, refused
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.withholding import without_values

#: Path, method, page, and the name by which it is counted.
_PAGES = (
    ("/v1/models/{model:name}:predict", "POST", routes.predict, "predict"),
    ("/v1/models/{model:name}:enqueue", "POST", routes.enqueue, "enqueue"),
    ("/v1/models", "GET", routes.models, "models"),
    ("/v1/models/{model:name}/schema", "GET", routes.schema, "schema"),
    ("/v1/models/{model:name}", "GET", routes.model, "model"),
    ("/v1/requests/{request_id}", "GET", routes.request_state, "request"),
    ("/v1/feedback", "POST", routes.feedback, "feedback"),
    ("/health/live", "GET", routes.live, "live"),
    ("/health/ready", "GET", routes.ready, "ready"),
    ("/metrics", "GET", routes.metrics, "metrics"),
    ("/openapi.json", "GET", documents.openapi, "openapi"),
    ("/docs", "GET", documents.page, "docs"),
    ("/docs/{file}", "GET", documents.file, "docs"),
)

#: The name of a model in a path.
_NAME = "[^/:]+"
_PREDICT = re.compile(f"/v1/models/(?P<model>{_NAME}):predict")

_SWITCH_SECONDS = 0.0002
#: New objects that the collector of cycles waits for.
_OBJECTS = 5_000

log = logging.getLogger(__name__)


class _Name(StringConvertor):
    """Part of a path, without the colon that divides a model from what it shall do."""

    regex = _NAME


register_url_convertor("name", _Name())


class _Application(FastAPI):
    """Every page, and predictions by a way of their own: a third of what a row costs would be layers they never need.

    They are routed as the others are, too, for what is no POST; nothing of theirs is left to the layers: a `Page` turns
    every error into a reply.
    """

    predictions: Page

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer what ASGI asks."""
        found = _PREDICT.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await super().__call__(scope, receive, send)
        else:
            scope["path_params"] = found.groupdict()
            await self.predictions(scope, receive, send)


def make_service(db: Database, store: ArtifactStore, models_root: Path, settings: Settings | None = None) -> Service:
    """Return the API of one process; nothing of it runs yet."""
    keys = KeyRing()
    champions = Champions(db, store, models_root, keys)
    journal = Journal(db, beside=Counter())
    return Service(db=db, champions=champions, keys=keys, settings=settings or Settings(), journal=journal)


def make_app(service: Service) -> FastAPI:
    """Return the application; champions are looked for from its start to its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.champions.start()
        service.journal.start()
        try:
            yield
        finally:
            service.champions.stop()
            service.journal.close()

    # Its own pages about itself load scripts from elsewhere; ours are those of `documents`.
    app = _Application(title="Ponte", openapi_url=None, lifespan=lifespan)
    app.predictions = Page(service, "predict", routes.predict)
    for path, method, answer, name in _PAGES:
        app.router.routes.append(Route(path, Page(service, name, answer), methods=[method], name=name))
    app.include_router(router(OfService(service)))
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    return app


def run(service: Service, *, host: str, port: int) -> None:
    """Serve until the process is told to end, by SIGINT or SIGTERM; what was asked by then is answered."""
    import uvicorn

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_without_values)
    # A version that is being loaded, or rows that are being kept, are Python in other threads: the loop gets the
    # interpreter's lock back after this long instead of 5 ms.
    sys.setswitchinterval(_SWITCH_SECONDS)
    # uvicorn raises the signal again when it has done what it was asked: that is a good end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    set_libraries_apart()
    # No access log: a path and its query are content of requests.
    uvicorn.run(
        make_app(service), host=host, port=port, loop="uvloop", http="httptools", ws="none", log_config=None,
        access_log=False, server_header=False, timeout_graceful_shutdown=10,
    )  # fmt: skip


def set_libraries_apart() -> None:
    """Load what every version needs, and let the collector of cycles pass it by.

    It goes through 190,000 objects of theirs in a tenth of a second, in which nothing is answered, and frees none.
    Versions are loaded later, and are collected. What is on its way between a request and the journal is no garbage:
    of Python's own 700 objects it is looked through a hundred times a second, a twentieth of all CPU time.
    """
    for name in ("pandas", "pyarrow", "sklearn.compose", "sklearn.ensemble", "sklearn.linear_model"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS)


def _without_values(record: logging.LogRecord) -> bool:
    """Take from a record of a library the words of an error: they may hold values of a request."""
    if record.exc_info and record.exc_info[1] is not None:
        error = without_values(record.exc_info[1])
        record.exc_info = (type(error), error, error.__traceback__)
    return True


async def _refused(_: Request, error: Exception) -> Response:
    """Tell in our words what the framework refuses: a path or a method that is not there."""
    assert isinstance(error, HTTPException)
    told = refused(HTTPStatus(error.status_code), str(error.detail).lower(), fix="GET /docs lists what there is")
    body = replies.encoded(replies.error_body(told))
    return Response(body, error.status_code, headers=error.headers, media_type="application/json")


async def _broken(request: Request, error: Exception) -> Response:
    reply = replies.reply_of(error, request.url.path)
    return Response(replies.encoded(reply.content), int(reply.status), media_type="application/json")
