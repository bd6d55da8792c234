"""The web form over HTTP: `GET` and `POST /form/{model}`, its feedback and its key; without scripts.

What a page sends back proves that it came from here: a browser's own word (`Sec-Fetch-Site`, else `Origin`), and a
token that goes with a cookie that no other site's request carries (`SameSite=Strict`). Nothing is kept here for it, so any number of
processes may answer. No content of a form is logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import math
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from ponte.forms.asking import Answering, Busy, Refused, read_verdict, request_id_of
from ponte.forms.fields import FormFacts, fields_of
from ponte.forms.page import (
    Feedback,
    Place,
    digest_of,
    feedback_page,
    form_page,
    key_page,
    message_page,
    style,
)
from ponte.forms.values import LARGEST_FORM, Filled, NotAForm, parse_form, read_values
from ponte.forms.words import Language, language_of, say
from ponte.pages.report import stylesheet
from ponte.storage.withholding import said_of

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: of a form that a browser sends under it, `Origin` is null.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept-Language",
}
#: Names of the cookies: what the token goes with, and the key of a form that asks for one, for so many seconds.
VISITOR, KEY, KEY_SECONDS = "ponte_form", "ponte_key", 30 * 86_400
#: So many requests that feedback was given on are remembered, so that a second press of the button says nothing twice.
REMEMBERED = 10_000

log = logging.getLogger(__name__)


def router(service: Answering) -> APIRouter:
    """Return the routes below /form."""
    pages = _Pages(service)
    # Of no use to a program, so the API's own document does not speak of them.
    routes = APIRouter(prefix="/form", include_in_schema=False, route_class=_NeverBroken)
    routes.add_api_route("/style.css", pages.style, methods=["GET"])
    routes.add_api_route("/{model}", pages.show, methods=["GET"])
    routes.add_api_route("/{model}", pages.ask, methods=["POST"])
    routes.add_api_route("/{model}/feedback", pages.show_feedback, methods=["GET"])
    routes.add_api_route("/{model}/feedback", pages.tell, methods=["POST"])
    routes.add_api_route("/{model}/key", pages.take_key, methods=["POST"])
    routes.add_api_route("/{model}/forget", pages.forget_key, methods=["POST"])
    return routes


class _NeverBroken(APIRoute):
    """Answers with a page whatever happens; the log says of what class the error was."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except NotAForm:
                return _Call(request).message(413, "not_read", "not_read_why")
            except Exception as error:  # noqa: BLE001 - a person is told, whatever it was
                log.error("no form at %s: %s", self.path, said_of(error))  # noqa: TRY400
                return _Call(request).message(500, "failed", "failed_why")

        return answer


class _Call:
    """A request, and how it is answered."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.language: Language = language_of(request.headers.get("accept-language", ""))
        known = request.cookies.get(VISITOR, "")
        self.is_new = len(known) != len(_new_visitor())
        self.visitor = _new_visitor() if self.is_new else known
        self.key = request.cookies.get(KEY)
        self.typed: dict[str, str] = {}

    @property
    def model(self) -> str:
        return str(self.request.path_params.get("model", ""))

    @property
    def address(self) -> str:
        return self.request.client.host if self.request.client else ""

    def place(self, *, key: bool = False) -> Place:
        deep = self.request.url.path.rstrip("/").count("/") - len(self.request.scope.get("root_path", "").split("/")) > 1
        token = _token_of(self.visitor)
        return Place(language=self.language, up="../" if deep else "", token=token, style=_style()[1], key=key)

    async def read(self) -> None:
        """Read what was submitted; raises NotAForm."""
        body = bytearray()
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > LARGEST_FORM:
                raise NotAForm("too large")
        self.typed = parse_form(bytes(body))

    @property
    def is_own(self) -> bool:
        """Whether what was submitted comes from a page that this browser has got from here."""
        headers = self.request.headers
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            here = site in ("same-origin", "none")
        else:  # an old browser, or no TLS
            here = origin is None or urlsplit(origin).netloc == headers.get("host")
        token = self.typed.get("token", "")
        return here and not self.is_new and hmac.compare_digest(token.encode(), _token_of(self.visitor).encode())

    def html(self, page: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        all_headers = {**HEADERS, "Content-Language": self.language, **(headers or {})}
        return self.with_visitor(HTMLResponse(page, status, headers=all_headers))

    def message(self, status: int, title: str, text: str = "") -> Response:
        return self.html(message_page(self.place(), title, text), status)

    def with_visitor(self, response: Response) -> Response:
        if self.is_new:
            self.set_cookie(response, VISITOR, self.visitor)
        return response

    def set_cookie(self, response: Response, name: str, value: str, seconds: int | None = None) -> None:
        # Without a path it is that of the forms' own folder, whatever a proxy puts before it.
        secure = self.request.url.scheme == "https"
        response.set_cookie(
            name, value, max_age=seconds, path=None, secure=secure, httponly=True, samesite="strict"
        )


@dataclass(slots=True)
class _Pages:
    service: Answering
    told: OrderedDict[uuid.UUID, None] = field(default_factory=OrderedDict)

    async def style(self) -> Response:
        """Answer with the stylesheet, which may be kept: its address changes with it."""
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return PlainTextResponse(_style()[0], media_type="text/css", headers=headers)

    async def show(self, request: Request) -> Response:
        """Answer with the form, or the question for a key."""
        call = _Call(request)
        opened = self._open(call)
        return opened if isinstance(opened, Response) else call.html(form_page(opened, self._place(call)))

    async def ask(self, request: Request) -> Response:
        """Answer with the form and the model's answer, or what is wrong."""
        call = _Call(request)
        await call.read()
        opened = self._open(call)
        if isinstance(opened, Response):
            return opened
        filled = read_values(call.typed, fields_of(opened, call.language), call.language)

        def again(status: int, note: str = "", *, wrong: Mapping[str, str] = {}, wait: float = 0.0) -> Response:  # noqa: B006
            seconds = str(math.ceil(wait))
            text = say(note, call.language, seconds=seconds) if note else ""
            shown = Filled(filled.instance, {**filled.errors, **wrong}, filled.typed)
            headers = {"Retry-After": seconds} if wait else None
            return call.html(form_page(opened, self._place(call), filled=shown, note=text), status, headers)

        if not call.is_own:
            return again(403, "too_old")
        if filled.errors:
            return again(422)
        if (wait := self._wait(call)) > 0:
            return again(429, "wait", wait=wait)
        answer = await self.service.ask(call.model, filled.instance)
        if isinstance(answer, Busy):
            return again(503, "busy", wait=max(1.0, answer.seconds))
        if isinstance(answer, Refused):
            wrong = {column: say("not_taken", call.language) for column in answer.columns}
            return again(422, "" if wrong else "no_answer", wrong=wrong)
        return call.html(form_page(opened, self._place(call), filled=filled, answer=answer))

    async def show_feedback(self, request: Request) -> Response:
        """Answer with the question whether an answer was right."""
        call = _Call(request)
        opened = self._open(call)
        if isinstance(opened, Response):
            return opened
        request_id = request_id_of(request.query_params.get("request_id", ""))
        if request_id is None:
            return call.message(404, "not_found")
        return call.html(feedback_page(opened, self._place(call), Feedback(str(request_id))))

    async def tell(self, request: Request) -> Response:
        """Keep what is said of an answer, once, and say thanks."""
        call = _Call(request)
        await call.read()
        opened = self._open(call)
        if isinstance(opened, Response):
            return opened
        request_id = request_id_of(call.typed.get("request_id", ""))
        if request_id is None:
            return call.message(404, "not_found")
        said, errors = read_verdict(call.typed, opened, request_id, call.language, key=self._key_of(call))

        def again(status: int, note: str = "", *, wait: float = 0.0) -> Response:
            text = say(note, call.language, seconds=str(math.ceil(wait))) if note else ""
            page = feedback_page(opened, self._place(call), Feedback(str(request_id), call.typed, errors), note=text)
            return call.html(page, status, {"Retry-After": str(math.ceil(wait))} if wait else None)

        if not call.is_own:
            return again(403, "too_old")
        if said is None:
            return again(422)
        if (wait := self._wait(call)) > 0:
            return again(429, "wait", wait=wait)
        if request_id in self.told or not await self.service.tell(call.model, said):
            return call.message(409, "said_before")
        self.told[request_id] = None
        if len(self.told) > REMEMBERED:
            self.told.popitem(last=False)
        return call.html(feedback_page(opened, self._place(call), Feedback(str(request_id)), done=True))

    async def take_key(self, request: Request) -> Response:
        """Keep a key in the browser, and go to the form."""
        call = _Call(request)
        await call.read()
        form = self.service.form(call.model)
        if form is None or form.facts is None or form.access != "key":
            return call.message(404, "not_found")
        key = call.typed.get("key", "").strip()
        if not call.is_own:
            return call.html(key_page(form.facts, call.place()), 403)
        if (wait := self.service.wait(call.address, call.model, None)) > 0:
            return call.html(
                message_page(call.place(), "too_many", "wait", seconds=str(math.ceil(wait))),
                429,
                {"Retry-After": str(math.ceil(wait))},
            )
        if not self.service.key_opens(key, call.model):
            return call.html(key_page(form.facts, call.place(), wrong=True), 403)
        response = RedirectResponse(f"../{call.model}", 303, headers=HEADERS)
        call.set_cookie(response, KEY, key, KEY_SECONDS)
        return response

    async def forget_key(self, request: Request) -> Response:
        """Let the browser forget its key, and ask for one."""
        call = _Call(request)
        await call.read()
        form = self.service.form(call.model)
        if form is None or form.access != "key":
            return call.message(404, "not_found")
        response = RedirectResponse(f"../{call.model}", 303, headers=HEADERS)
        if call.is_own:
            call.set_cookie(response, KEY, "", 0)
        return response

    def _open(self, call: _Call) -> FormFacts | Response:
        """Return what the form is made of, or what stands in its way."""
        form = self.service.form(call.model)
        if form is None:
            return call.message(404, "not_found")
        if form.facts is None:
            return call.message(503, "not_ready", "not_ready_why")
        if form.access == "key" and self._key_of(call) is None:
            return call.html(key_page(form.facts, call.place()), 401 if call.request.method == "POST" else 200)
        return form.facts

    def _key_of(self, call: _Call) -> str | None:
        """Return the key of the browser, if it opens this form."""
        form = self.service.form(call.model)
        if form is None or form.access != "key" or call.key is None:
            return None
        return call.key if self.service.key_opens(call.key, call.model) else None

    def _place(self, call: _Call) -> Place:
        return call.place(key=self._key_of(call) is not None)

    def _wait(self, call: _Call) -> float:
        return self.service.wait(call.address, call.model, self._key_of(call))


def _style() -> tuple[str, str]:
    """Return the stylesheet and its address, from where the forms' addresses begin."""
    text = style(stylesheet())
    return text, f"style.css?{digest_of(text)}"


def _new_visitor() -> str:
    return secrets.token_urlsafe(32)


def _token_of(visitor: str) -> str:
    digest = hashlib.sha256(b"ponte form\0" + visitor.encode(errors="surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
