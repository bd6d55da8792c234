"""The pages for programs: predictions, requests for the queue, feedback, what is served, health and metrics.

What is asked for a thousand times a second is read and written here without models of pydantic; `documents.py` says to
programs what is read and written, and tests hold the two together.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ponte.errors import PonteError, did_you_mean
from ponte.live.records import schema_of
from ponte.scoring.answering import Unanswered
from ponte.serving.batching import Answered, Overloaded, Serving
from ponte.serving.keys import Key
from ponte.serving.service import Refused, Service, refused
from ponte.storage.withholding import said_of, without_values

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_ENQUEUE = sa.text(
    "SELECT ponte.enqueue(:model, CAST(:key AS jsonb), CAST(:features AS jsonb), CAST(:priority AS integer))"
)
_STATE = sa.text("SELECT state, model, asked_at, ahead, answer FROM ponte.request_state(CAST(:request_id AS uuid))")
_FEEDBACK = sa.text("""SELECT ponte.give_live_feedback(
    CAST(:request_id AS uuid), :verdict, :correct_label, :comment, :given_by)""")

#: SQLSTATE of what functions of the database refuse in words that are meant for who asked → the status that it gets.
_OF_STATE = {
    "22023": HTTPStatus.UNPROCESSABLE_ENTITY,  # invalid_parameter_value
    "P0002": HTTPStatus.NOT_FOUND,  # no_data_found
    "54000": HTTPStatus.TOO_MANY_REQUESTS,  # program_limit_exceeded
    "55000": HTTPStatus.CONFLICT,  # object_not_in_prerequisite_state
}
_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
_LONGEST_LABEL, _LONGEST_COMMENT = 1_000, 4_000

log = logging.getLogger(__name__)


class Predict(msgspec.Struct, forbid_unknown_fields=True):
    """The body of :predict."""

    instances: list[Any]
    keys: list[Any] | None = None


class Enqueue(Predict, forbid_unknown_fields=True):
    """The body of :enqueue."""

    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a feedback."""

    request_id: uuid.UUID
    verdict: str
    correct_label: bool | int | float | Annotated[str, msgspec.Meta(max_length=_LONGEST_LABEL)] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=_LONGEST_COMMENT)] | None = None


class Reply(msgspec.Struct):
    """What goes out: JSON, or bytes of another type."""

    content: Any
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}


_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in (Predict, Enqueue, Feedback)}
_ENCODE = msgspec.json.Encoder(enc_hook=str).encode


class Page:
    """One page: an ASGI application that answers what it can, and tells the rest as an error of HTTP."""

    def __init__(
        self, service: Service, name: str, answer: Callable[[Service, Scope, Receive], Awaitable[Reply]]
    ) -> None:
        self._service, self._name, self._answer = service, name, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        began = time.perf_counter()
        try:
            reply = await self._answer(self._service, scope, receive)
        except Exception as error:  # noqa: BLE001 - every error becomes a status
            reply = reply_of(error, self._name)
        metrics, model = self._service.metrics, scope["path_params"].get("model", "")
        if model and model not in self._service.champions.folders:
            model = ""  # else anybody could make labels
        metrics.requests.labels(model, self._name, int(reply.status)).inc()
        if self._name == "predict" and reply.status == HTTPStatus.OK:
            metrics.seconds.labels(model).observe(time.perf_counter() - began)
        await send_reply(send, reply)


def encoded(content: Any) -> bytes:
    """Return what is sent of a content: JSON, of dates and the like their text."""
    return bytes(_ENCODE(content))


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a reply."""
    headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    if isinstance(reply.content, bytes):
        body = reply.content
    else:
        body = _ENCODE(reply.content)
        headers.append(_JSON)
    headers += [(b"content-length", str(len(body)).encode()), _NO_STORE, _NO_SNIFF]
    await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def reply_of(error: Exception, name: str) -> Reply:
    """Return what a caller is told of an error. What is no fault of his is logged, without a value of a row."""
    if isinstance(error, Overloaded):
        headers = {"Retry-After": str(int(error.seconds) + 1)}
        return Reply(error_body(error), HTTPStatus.SERVICE_UNAVAILABLE, headers)
    if isinstance(error, Refused):
        return Reply(error_body(error), error.status, error.headers)
    if isinstance(error, sa.exc.DBAPIError) and (reply := _of_database(error)) is not None:
        return reply
    log.error("%s: %s", name, said_of(error), exc_info=without_values(error))
    if isinstance(error, PonteError):  # the version is not what it should be
        what = PonteError("the version that answers cannot answer", fix="the log of the API says why")
        return Reply(error_body(what), HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "30"})
    return Reply({"error": {"what": "a fault of the API; its log says more"}}, HTTPStatus.INTERNAL_SERVER_ERROR)


def error_body(error: PonteError) -> dict[str, Any]:
    """Return the body that tells an error: what, where, got, expected, fix, and problems of instances."""
    body: dict[str, Any] = {"error": {"what": error.what, **error.parts}}
    if isinstance(error, Refused) and error.problems:
        body["problems"] = [
            {name: value for name in problem.__slots__ if (value := getattr(problem, name)) != ""}
            for problem in error.problems
        ]
    return body


def _of_database(error: sa.exc.DBAPIError) -> Reply | None:
    """Return what a function of the database has refused in words for who asked; None for anything else."""
    status, said = _OF_STATE.get(getattr(error.orig, "pgcode", None) or ""), getattr(error.orig, "diag", None)
    if status is None or said is None or "PL/pgSQL" not in (said.context or ""):
        return None
    found = {"what": said.message_primary or "refused", **({"fix": said.message_hint} if said.message_hint else {})}
    headers = {} if status in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND) else {"Retry-After": "5"}
    return Reply({"error": found}, status, headers)


# ---------------------------------------------------------------- reading


def token_of(scope: Scope, *, password: bool = False) -> str | None:
    """Return the key of the request, None without one. password : also as a password, which a browser asks for."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, given = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer":
                return str(given.strip())
            if password and kind.lower() == "basic":
                try:
                    return base64.b64decode(given.strip(), validate=True).decode("latin-1").partition(":")[2]
                except binascii.Error:
                    return None
    return None


def authorized(service: Service, scope: Scope) -> Key:
    """Return the key of a request; raises Refused (401)."""
    return service.key_of(token_of(scope))


async def read_body(receive: Receive, service: Service) -> bytes:
    """Return the body; raises Refused as soon as it has too many bytes (413), and when it takes too long (408)."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if len(body) <= service.settings.body_bytes and not message.get("more_body"):
        return body
    try:
        async with asyncio.timeout(service.settings.body_seconds):
            return await _read_on(body, receive, service.settings.body_bytes)
    except TimeoutError:
        expected = f"all of it within {service.settings.body_seconds:g} s"
        raise refused(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive", expected=expected) from None


async def _read_on(body: bytes, receive: Receive, most: int) -> bytes:
    parts, length, more = [body], len(body), True
    while more and length <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise refused(HTTPStatus.BAD_REQUEST, "the body ended too early")
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        more = message.get("more_body", False)
    if length > most:
        raise refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large", expected=f"at most {most} bytes",
                      fix="send fewer instances at once", headers={"Connection": "close"})  # fmt: skip
    return b"".join(parts)


def decoded(body: bytes, kind: type[Any]) -> Any:
    """Return what a body of JSON says; raises Refused (422) for anything that is not of the kind."""
    try:
        return _DECODERS[kind].decode(body)
    except msgspec.ValidationError as error:  # says types and names, no values
        what, _, place = str(error).partition(" - at `$")
        unknown = what.partition("unknown field `")[2].rstrip("`")
        fix = did_you_mean(unknown, kind.__struct_fields__) if unknown else ""
        where = f"body{place.rstrip('`')}"
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "the body is not what is expected", where=where,
                      got=what, fix=fix) from None  # fmt: skip
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        got = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "the body is no JSON", got=got,
                      expected="JSON in UTF-8") from None  # fmt: skip


async def _asked(service: Service, scope: Scope, receive: Receive, kind: type[Predict]) -> tuple[str, Key, Any]:
    """Return the model, the key and the body of a request for predictions, all of them allowed; raises Refused."""
    model = scope["path_params"]["model"]
    key = authorized(service, scope)
    service.require_model(model, key)
    asked = decoded(await read_body(receive, service), kind)
    count, most = len(asked.instances), service.settings.instances
    if count > most:
        raise refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too many instances", got=str(count),
                      expected=f"at most {most}", fix="send them in several requests")  # fmt: skip
    if not count:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "there is no instance", where="body.instances",
                      expected=f"1 to {most}")  # fmt: skip
    if asked.keys is not None and len(asked.keys) != count:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "there are not as many keys as instances", where="body.keys",
                      got=str(len(asked.keys)), expected=str(count), fix="give a key of each, null for none; or none "
                      "at all")  # fmt: skip
    service.take(key, count)
    return model, key, asked


# ---------------------------------------------------------------- predictions


async def predict(service: Service, scope: Scope, receive: Receive) -> Reply:
    """Answer instances."""
    model, _, asked = await _asked(service, scope, receive, Predict)
    answered = await service.answer(model, asked.instances, asked.keys, source="api")
    version = answered.serving.version.version
    body = {"predictions": predictions(answered), "model_version": version}
    return Reply(body, headers={"X-Ponte-Version": str(version)})


def predictions(answered: Answered) -> list[dict[str, Any]]:
    """Return what became of each instance: prediction with what belongs to it, or its error; and its request_id."""
    names = (*answered.columns, "request_id")
    found = [dict(zip(names, row, strict=True)) for row in zip(*answered.columns.values(), answered.request_ids,
                                                                strict=True)]  # fmt: skip
    for place, why in answered.unanswered.items():
        found[place] = {"error": _error_of(why), "request_id": answered.request_ids[place]}
    return found


def _error_of(why: Unanswered) -> dict[str, str]:
    return {"what": "the model cannot score this row", "kind": why.kind}


async def enqueue(service: Service, scope: Scope, receive: Receive) -> Reply:
    """Put instances into the queue, all or none."""
    model, _, asked = await _asked(service, scope, receive, Enqueue)
    problems = service.serving(model).reader.parse(asked.instances, asked.keys).problems
    if problems:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "the request cannot be understood; nothing was put into the "
                      "queue", where=f"model {model}", problems=problems)  # fmt: skip
    keys = asked.keys or [None] * len(asked.instances)
    rows = [
        {"model": model, "key": None if key is None else _text(key), "features": _text(instance),
         "priority": asked.priority}
        for instance, key in zip(asked.instances, keys, strict=True)
    ]  # fmt: skip

    def put() -> list[str]:
        with service.db.begin() as connection:
            return [str(connection.execute(_ENQUEUE, row).scalar_one()) for row in rows]

    return Reply({"request_ids": await service.ask_database(put)}, HTTPStatus.ACCEPTED)


def _text(value: Any) -> str:
    return str(msgspec.json.encode(value).decode())


async def request_state(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell what became of a request."""
    key = authorized(service, scope)
    service.take(key, 1)
    given = scope["path_params"]["request_id"]
    try:
        request_id = uuid.UUID(given)
    except ValueError:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "no request_id", got=given[:60], expected="a UUID") from None

    def look() -> Any:
        with service.db.begin() as connection:
            return connection.execute(_STATE, {"request_id": str(request_id)}).mappings().one_or_none()

    found = await service.ask_database(look)
    if found is None or not key.may_ask(found["model"]):
        fix = "an answer is written within seconds after it was given, and dropped by retention"
        raise refused(HTTPStatus.NOT_FOUND, "no such request", got=str(request_id), fix=fix)
    return Reply({"request_id": str(request_id), **{name: value for name, value in found.items() if value is not None}})


async def feedback(service: Service, scope: Scope, receive: Receive) -> Reply:
    """Keep what somebody says of an answer."""
    key = authorized(service, scope)
    service.take(key, 1)
    said: Feedback = decoded(await read_body(receive, service), Feedback)
    return Reply({"feedback_id": await give_feedback(service, said, key.name)}, HTTPStatus.CREATED)


async def give_feedback(service: Service, said: Feedback, given_by: str) -> int:
    """Keep what somebody says of an answer; return its number. Raises Refused, and what the database refuses."""
    label = said.correct_label
    if label is not None:
        label = label if isinstance(label, str) else _text(label)
    for name, text in (("correct_label", label), ("comment", said.comment)):
        if text is not None and "\0" in text:
            raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "a text has the character NUL", where=f"body.{name}")
    values = {"request_id": str(said.request_id), "verdict": said.verdict.replace("\0", "?"), "correct_label": label,
              "comment": said.comment, "given_by": given_by}  # fmt: skip

    def give() -> int:
        with service.db.begin() as connection:
            return int(connection.execute(_FEEDBACK, values).scalar_one())

    return await service.ask_database(give)


# ---------------------------------------------------------------- what is served


async def models(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell the models that the key may ask."""
    key = authorized(service, scope)
    service.take(key, 1)
    found = [_summary(service, model) for model in sorted(service.champions.folders) if key.may_ask(model)]
    return Reply({"models": found})


async def model(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell what is known of a model."""
    name = _known(service, scope)
    serving, folder = service.serving(name), service.champions.folders[name]
    signature = serving.loaded.signature
    way = getattr(serving.loaded, "way", None)
    known = {
        **_summary(service, name),
        "owner": folder.spec.owner,
        "key": [{"name": c.name, "type": c.family} for c in signature.key],
        "features": [{"name": c.name, "type": c.family} for c in signature.features],
        "classes": list(serving.version.classes),
        "threshold": serving.version.threshold,
        "trained_on": serving.version.train_cutoff,
        "computed": {
            "way": way.kind if way else "whole",
            "why": way.why if way else "",
            "in": "the process of the API" if serving.worker.inline else "a process of its own",
            "milliseconds_per_row": round(1e3 * serving.pace.seconds(1), 3),
        },
        "behind": service.champions.why_not(name),
        "card": folder.card,
    }
    return Reply(known)


async def schema(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell the JSON Schema of one instance."""
    serving: Serving = service.serving(_known(service, scope))
    return Reply(schema_of(serving.loaded.signature))


def _known(service: Service, scope: Scope) -> str:
    """Return the name of the model that is asked about; raises Refused."""
    key, name = authorized(service, scope), str(scope["path_params"]["model"])
    service.take(key, 1)
    service.require_model(name, key)
    return name


def _summary(service: Service, model: str) -> dict[str, Any]:
    folder, serving = service.champions.folders[model], service.champions.get(model)
    summary: dict[str, Any] = {"name": model, "description": folder.spec.description, "task": folder.spec.task}
    if serving is None:
        return {**summary, "version": None, "since": None, "why_not": service.champions.why_not(model)}
    return {**summary, "version": serving.version.version, "since": serving.since}


# ---------------------------------------------------------------- health and metrics


async def live(_: Service, __: Scope, ___: Receive) -> Reply:
    """Tell that the process answers."""
    return Reply({"status": "alive"})


async def ready(service: Service, _: Scope, __: Receive) -> Reply:
    """Tell whether a version has been loaded. It stays ready while the database is away."""
    if any(service.champions.get(model) for model in service.champions.folders):
        return Reply({"status": "ready"})
    why = "no version is loaded yet" if service.champions.seen_at else "the database has not answered yet"
    return Reply({"status": "not ready", "why": why}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})


async def metrics(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell Prometheus what was counted."""
    service.key_of(token_of(scope, password=True))
    service.refresh_metrics()
    return Reply(generate_latest(service.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
