"""The web form over HTTP: `GET` and `POST /form/{model}`, its feedback and its key; without scripts.

No content of a form is logged.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from ponte.counting import reference
from ponte.forms import asking
from ponte.forms.answers import Answer
from ponte.forms.asking import Answering, Busy, OpenForm, Told, Verdict, read_verdict, request_id_of
from ponte.forms.fields import FormFacts, facts_of, fields_of
from ponte.forms.page import HEADERS, Feedback, Place, feedback_page, form_page, key_page, message_page, style
from ponte.forms.values import LARGEST_FORM, NotAForm, parse_form, read_values
from ponte.forms.words import language_of, say
from ponte.model.folders import CARD
from ponte.pages.rendering import stylesheet
from ponte.serving import routes
from ponte.serving.batching import Overloaded
from ponte.serving.service import Refused, Service
from ponte.storage.withholding import said_of
from ponte.versions.loading import read_file
from ponte.versions.registry import Version

#: Names of the cookies: what the token goes with, and the key of a form that asks for one, for so many seconds.
VISITOR, KEY, KEY_SECONDS = "ponte_form", "ponte_key", 30 * 86_400
#: A form that takes longer to arrive is none.
BODY_SECONDS = 30.0
_REFUSED: Mapping[str, Told] = {"P0002": "no_such_answer", "22023": "not_kept", "54000": "said_before"}

log = logging.getLogger(__name__)


def router(service: Answering) -> APIRouter:
    """Return the routes below /form."""
    pages = _Pages(service)
    # Of no use to a program, so the API's own document does not speak of them.
    found = APIRouter(prefix="/form", include_in_schema=False, route_class=_NeverBroken)
    found.add_api_route("/style.css", pages.style, methods=["GET"])
    found.add_api_route("/{model}", pages.show, methods=["GET"])
    found.add_api_route("/{model}", pages.ask, methods=["POST"])
    found.add_api_route("/{model}/feedback", pages.show_feedback, methods=["GET"])
    found.add_api_route("/{model}/feedback", pages.tell, methods=["POST"])
    found.add_api_route("/{model}/key", pages.take_key, methods=["POST"])
    found.add_api_route("/{model}/forget", pages.forget_key, methods=["POST"])
    return found


class _Instead(Exception):
    """Another page than the one that was asked for: its argument."""


class _NeverBroken(APIRoute):
    """Answers with a page whatever happens; the log says of what class the error was."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except _Instead as instead:
                return instead.args[0]  # type: ignore[no-any-return]
            except (NotAForm, TimeoutError, ClientDisconnect):
                return _Call(request).message(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "not_read", "not_read_why")
            except Refused as error:  # while the database is away
                seconds = error.headers.get("Retry-After", "5")
                return _Call(request).message(error.status, "failed", "wait", seconds=seconds)
            except Exception as error:  # noqa: BLE001 - a person is told, whatever it was
                log.error("no form at %s: %s", self.path, said_of(error))
                return _Call(request).message(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "failed_why")

        return answer


class _Call:
    """A request, and how it is answered."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.model = str(request.path_params.get("model", ""))
        self.address = request.client.host if request.client else ""
        self.language = language_of(request.headers.get("accept-language", ""))
        known = request.cookies.get(VISITOR, "")
        self.is_new = not asking.is_visitor(known)
        self.visitor = asking.new_visitor() if self.is_new else known
        #: The key that opened the form; None without one.
        self.key: str | None = None
        self.typed: dict[str, str] = {}

    async def read(self) -> None:
        """Read what was submitted; raises NotAForm."""
        body = bytearray()
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in self.request.stream():
                body += chunk
                if len(body) > LARGEST_FORM:
                    raise NotAForm("too large")
        self.typed = parse_form(bytes(body))

    @property
    def is_own(self) -> bool:
        """Whether what was submitted comes from a page that this browser has got from here."""
        return not self.is_new and asking.is_own(self.request.headers, self.visitor, self.typed.get("token", ""))

    @property
    def place(self) -> Place:
        """Where the page is."""
        below = self.request.url.path.rstrip("/").rpartition("/form/")[2].count("/")
        token, address = asking.token_of(self.visitor), _style()[1]
        return Place(language=self.language, up="../" * below, token=token, style=address, key=self.key is not None)

    def html(self, page: str, status: int = HTTPStatus.OK, *, wait: float = 0.0) -> Response:
        headers = {**HEADERS, "Content-Language": self.language}
        if wait:
            headers["Retry-After"] = str(math.ceil(wait))
        response = HTMLResponse(page, status, headers=headers)
        if self.is_new:
            self.set_cookie(response, VISITOR, self.visitor)
        return response

    def message(self, status: int, title: str, text: str = "", **parts: str) -> Response:
        return self.html(message_page(self.place, title, text, **parts), status)

    def set_cookie(self, response: Response, name: str, value: str, seconds: int | None = None) -> None:
        # Without a path it goes with the folder of the address, whatever a proxy puts before it: a key with its model.
        secure = self.request.url.scheme == "https"
        response.set_cookie(name, value, max_age=seconds, path=None, secure=secure, httponly=True, samesite="strict")


@dataclass(slots=True)
class _Pages:
    service: Answering

    async def style(self) -> Response:
        """Answer with the stylesheet, which may be kept: its address changes with it."""
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return PlainTextResponse(_style()[0], media_type="text/css", headers=headers)

    async def show(self, request: Request) -> Response:
        """Answer with the form, or the question for a key."""
        call = _Call(request)
        return call.html(form_page(await self._open(call), call.place))

    async def ask(self, request: Request) -> Response:
        """Answer with the form and the model's answer, or what is wrong."""
        call = _Call(request)
        await call.read()
        opened = await self._open(call)
        filled = read_values(call.typed, fields_of(opened, call.language), call.language)

        def again(status: int, note: str = "", *, columns: tuple[str, ...] = (), wait: float = 0.0) -> Response:
            wrong = {column: say("not_taken", call.language) for column in columns}
            shown = replace(filled, errors={**filled.errors, **wrong})
            text = _note(note, call, wait)
            return call.html(form_page(opened, call.place, filled=shown, note=text), status, wait=wait)

        if not call.is_own:
            return again(HTTPStatus.FORBIDDEN, "too_old")
        if (wait := self.service.wait(call.address, call.key)) > 0:
            return again(HTTPStatus.TOO_MANY_REQUESTS, "wait", wait=wait)
        if filled.errors:
            return again(HTTPStatus.UNPROCESSABLE_ENTITY)
        answer = await self.service.ask(call.model, filled.instance)
        if isinstance(answer, Busy):
            return again(HTTPStatus.SERVICE_UNAVAILABLE, "busy", wait=max(1.0, answer.seconds))
        if isinstance(answer, asking.Refused):
            note = "" if answer.columns else "no_answer"
            return again(HTTPStatus.UNPROCESSABLE_ENTITY, note, columns=answer.columns)
        return call.html(form_page(opened, call.place, filled=filled, answer=answer))

    async def show_feedback(self, request: Request) -> Response:
        """Answer with the question whether an answer was right."""
        call = _Call(request)
        opened = await self._open(call)
        request_id = _request_id(call, request.query_params.get("request_id", ""))
        return call.html(feedback_page(opened, call.place, Feedback(str(request_id))))

    async def tell(self, request: Request) -> Response:
        """Keep what is said of an answer, and say thanks instead of asking again."""
        call = _Call(request)
        await call.read()
        opened = await self._open(call)
        request_id = _request_id(call, call.typed.get("request_id", ""))
        said, errors = read_verdict(call.typed, opened, request_id, call.language, key=call.key)
        status, note, wait = HTTPStatus.UNPROCESSABLE_ENTITY, "", 0.0
        if not call.is_own:
            status, note = HTTPStatus.FORBIDDEN, "too_old"
        elif (wait := self.service.wait(call.address, call.key)) > 0:
            status, note = HTTPStatus.TOO_MANY_REQUESTS, "wait"
        elif said is not None:
            became = await self.service.tell(said)
            if became == "kept":
                return call.html(feedback_page(opened, call.place, Feedback(str(request_id)), done=True))
            status, note = HTTPStatus.CONFLICT, became
        shown = Feedback(str(request_id), call.typed, errors)
        return call.html(feedback_page(opened, call.place, shown, note=_note(note, call, wait)), status, wait=wait)

    async def take_key(self, request: Request) -> Response:
        """Keep a key in the browser, and go to the form."""
        call = _Call(request)
        await call.read()
        form = await self.service.form(call.model)
        if form is None or form.facts is None or form.access != "key":
            return call.message(HTTPStatus.NOT_FOUND, "not_found")
        if not call.is_own:
            return call.html(key_page(form.facts, call.place), HTTPStatus.FORBIDDEN)
        if (wait := self.service.wait(call.address, None)) > 0:
            return call.html(message_page(call.place, "too_many"), HTTPStatus.TOO_MANY_REQUESTS, wait=wait)
        key = call.typed.get("key", "").strip()
        if not self.service.key_opens(key, call.model):
            return call.html(key_page(form.facts, call.place, wrong=True), HTTPStatus.FORBIDDEN)
        return _to_the_form(call, key, KEY_SECONDS)

    async def forget_key(self, request: Request) -> Response:
        """Let the browser forget its key, and ask for one."""
        call = _Call(request)
        await call.read()
        return _to_the_form(call, "", 0)

    async def _open(self, call: _Call) -> FormFacts:
        """Return what the form is made of; raises _Instead with what stands in its way."""
        form = await self.service.form(call.model)
        if form is None:
            raise _Instead(call.message(HTTPStatus.NOT_FOUND, "not_found"))
        if form.facts is None:
            raise _Instead(call.message(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", "not_ready_why"))
        if form.access == "key":
            key = call.request.cookies.get(KEY, "")
            if not self.service.key_opens(key, call.model):
                status = HTTPStatus.OK if call.request.method == "GET" else HTTPStatus.UNAUTHORIZED
                raise _Instead(call.html(key_page(form.facts, call.place), status))
            call.key = key
        return form.facts


def _to_the_form(call: _Call, key: str, seconds: int) -> Response:
    response = RedirectResponse(f"../{call.model}", HTTPStatus.SEE_OTHER, headers=HEADERS)
    if call.is_own:
        call.set_cookie(response, KEY, key, seconds)
    return response


def _request_id(call: _Call, text: str) -> uuid.UUID:
    found = request_id_of(text)
    if found is None:
        raise _Instead(call.message(HTTPStatus.NOT_FOUND, "not_found"))
    return found


def _note(note: str, call: _Call, wait: float) -> str:
    return say(note, call.language, seconds=str(math.ceil(wait))) if note else ""


@cache
def _style() -> tuple[str, str]:
    return style(stylesheet())


@dataclass(slots=True)
class OfService:
    """The forms of the models that the API serves."""

    service: Service
    #: What a form says of the newest version of each model that was asked for.
    _known: dict[str, FormFacts] = field(default_factory=dict)

    async def form(self, model: str) -> OpenForm | None:
        folder, serving = self.service.champions.folders.get(model), self.service.champions.get(model)
        if folder is None or (access := folder.spec.serving.form) == "off":
            return None
        if serving is None:
            return OpenForm(access, None)
        known = self._known.get(model)
        if known is None or known.version != serving.version.version:
            version = serving.version
            known = self._known[model] = await self.service.ask_database(lambda: self._facts(version))
        spec = folder.spec
        facts = replace(known, description=spec.description, checks=spec.checks, decision=spec.serving.decision)
        return OpenForm(access, facts)

    def _facts(self, version: Version) -> FormFacts:
        with self.service.db.begin() as connection:
            counted = reference.read_sums(connection, version.model, version.version)
        card = read_file(self.service.champions.store, version, CARD)
        return facts_of(version, counted, card.decode() if card else "")

    def key_opens(self, key: str, model: str) -> bool:
        found = self.service.keys.find(key, dt.datetime.now(dt.UTC))
        return found is not None and found.may_ask(model)

    def wait(self, address: str, key: str | None) -> float:
        try:
            if key is None:
                self.service.take_of_address(address)
            else:
                self.service.take(self.service.key_of(key), 1)
        except Refused as error:
            return float(error.headers.get("Retry-After", "1"))
        return 0.0

    async def ask(self, model: str, instance: Mapping[str, Any]) -> Answer | asking.Refused | Busy:
        try:
            answered = await self.service.answer(model, [dict(instance)], None, source="form")
        except Overloaded as error:
            return Busy(error.seconds)
        except Refused as error:
            if not error.problems:
                return Busy(float(error.headers.get("Retry-After", "1")))
            return asking.Refused(tuple({problem.column: None for problem in error.problems if problem.column}))
        if answered.unanswered:
            return asking.Refused()
        said = {name: values[0] for name, values in answered.columns.items()}
        return Answer(**said, version=answered.serving.version.version, request_id=str(answered.request_ids[0]))

    async def tell(self, said: Verdict) -> Told:
        key = self.service.keys.find(said.key or "", dt.datetime.now(dt.UTC))
        words = routes.Feedback(said.request_id, said.verdict, said.correct_label, said.comment)
        try:
            await routes.give_feedback(self.service, words, key.name if key else "form")
        except Refused:
            return "busy"
        except sa.exc.DBAPIError as error:
            if (became := _REFUSED.get(getattr(error.orig, "pgcode", None) or "")) is None:
                raise
            return became
        return "kept"
