"""How requests are read and replies are written, and what a caller is told of an error."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
import sqlalchemy as sa

from ponte.access.keys import Key
from ponte.errors import PonteError, did_you_mean
from ponte.serving.batching import Overloaded
from ponte.serving.service import Refused, Service, refused
from ponte.storage.withholding import said_of, without_values

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

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
_MOST_COUNTERS = 1_000

log = logging.getLogger(__name__)


class Reply(msgspec.Struct):
    """What goes out: JSON, or bytes of another type."""

    content: Any
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_ENCODE = msgspec.json.Encoder(enc_hook=str).encode


class Page:
    """One page: an ASGI application that answers what it can, and tells the rest as an error of HTTP."""

    def __init__(
        self, service: Service, name: str, answer: Callable[[Service, Scope, Receive], Awaitable[Reply]]
    ) -> None:
        self._service, self._name, self._answer = service, name, answer
        # By model and status: looking a label up costs as much as reading a request.
        self._counters: dict[tuple[str, int], Any] = {}
        self._seconds: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        began = time.perf_counter()
        try:
            reply = await self._answer(self._service, scope, receive)
        except Exception as error:  # noqa: BLE001 - every error becomes a status
            reply = reply_of(error, self._name)
        self._count(scope["path_params"].get("model", ""), int(reply.status), time.perf_counter() - began)
        await send_reply(send, reply)

    def _count(self, model: str, status: int, seconds: float) -> None:
        counter = self._counters.get((model, status))
        if counter is None:
            if model and model not in self._service.champions.folders:
                model = ""  # else anybody could make labels
            counter = self._service.metrics.requests.labels(model, self._name, status)
            if len(self._counters) < _MOST_COUNTERS:
                self._counters[model, status] = counter
        counter.inc()
        if self._name == "predict" and status == HTTPStatus.OK:
            if model not in self._seconds:
                self._seconds[model] = self._service.metrics.seconds.labels(model)
            self._seconds[model].observe(seconds)


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
    if "too large" in (said.message_primary or ""):
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
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


def decoded(body: bytes, kind: Any) -> Any:
    """Return what a body of JSON says; raises Refused (422) for anything that is not of the kind."""
    try:
        return _decoder(kind).decode(body)
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
