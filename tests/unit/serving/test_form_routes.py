"""The form over HTTP: who may ask, what is refused, and which headers every page has."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from httpx import ASGITransport, AsyncClient, Response
from tests.sample_form import ANSWER, APPLICANT, SampleService, sample_app

from ponte.forms.asking import Busy, Refused, is_own, new_visitor, token_of

FORM = "/form/loan_amount"
FEEDBACK = {"request_id": ANSWER.request_id, "verdict": "wrong", "correct_label": "12,500", "comment": " too low "}


class Visitor:
    """A browser that keeps cookies, and sends the token of the last page that it got."""

    def __init__(self, service: SampleService, **headers: str) -> None:
        self.app = sample_app(service)
        self.headers = {"Accept-Language": "en", "Sec-Fetch-Site": "same-origin", **headers}
        self.cookies: dict[str, str] = {}
        self.token = ""

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Response:
        transport = ASGITransport(self.app, client=("192.0.2.7", 4711))
        async with AsyncClient(transport=transport, base_url="http://form", cookies=self.cookies) as client:
            reply = await client.request(method, path, content=body, headers={**self.headers, **headers})
        for line in reply.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies = {**self.cookies, name: value.strip('"')} if "Max-Age=0" not in line else {}
        if found := re.search(r'name="token" value="([^"]+)"', reply.text):
            self.token = found[1]
        return reply

    async def get(self, path: str = FORM, **headers: str) -> Response:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str = FORM, typed: dict[str, str] | None = None, **headers: str) -> Response:
        values = {f"c.{name}": text for name, text in APPLICANT.items()} if typed is None else typed
        return await self.ask("POST", path, urlencode({"token": self.token, **values}).encode(), **headers)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


async def test_a_question_is_asked_and_answered_in_one_page() -> None:
    service = SampleService()
    visitor = Visitor(service)
    assert (await visitor.get()).status_code == 200
    reply = await visitor.post()
    assert reply.status_code == 200
    assert "We can lend about 14,000 dollars" in reply.text
    assert ANSWER.request_id in reply.text
    assert service.asked[0]["income"] == 84_000.0


#: What the service says → status, Retry-After, and what the page says; what was typed is there again.
TROUBLE: dict[str, tuple[Any, tuple[int, str | None, str]]] = {
    "busy": (Busy(2.2), (503, "3", "Many are asking just now. Please ask again in 3 s.")),
    "cannot": (Refused(), (422, None, "The model has no answer for these values.")),
    "columns": (Refused(("income",)), (422, None, "the model cannot use this value")),
    "broken": (ZeroDivisionError("84,000"), (500, None, "Something went wrong here")),
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_trouble_is_told_in_words_and_no_content_is_logged(
    trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = SampleService()
    service.answer, (status, retry, words) = TROUBLE[trouble]
    visitor = Visitor(service)
    await visitor.get()
    reply = await visitor.post()
    assert (reply.status_code, reply.headers.get("retry-after")) == (status, retry)
    assert words in reply.text
    assert status == 500 or 'value="84,000"' in reply.text
    assert "84" not in caplog.text
    assert "Traceback" not in reply.text + caplog.text


async def test_too_many_questions_of_an_address_wait() -> None:
    service = SampleService(seconds=7.5)
    visitor = Visitor(service)
    await visitor.get()
    for path, typed in ((FORM, None), (f"{FORM}/feedback", FEEDBACK)):
        reply = await visitor.post(path, typed)
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "8")
        assert "Please wait 8 s" in reply.text
    assert service.asked == service.told == []


#: How a page of somebody else would send it.
FOREIGN: dict[str, dict[str, str]] = {
    "of another site": {"Sec-Fetch-Site": "cross-site"},
    "of a neighbour": {"Sec-Fetch-Site": "same-site"},
    "without a word, from another origin": {"Sec-Fetch-Site": "", "Origin": "http://evil"},
    "of an origin that hides": {"Sec-Fetch-Site": "", "Origin": "null"},
}


@pytest.mark.parametrize("how", [*FOREIGN, "without the cookie", "with the token of another", "without a token"])
@pytest.mark.parametrize("path", [FORM, f"{FORM}/feedback", f"{FORM}/key", f"{FORM}/forget"])
async def test_what_does_not_come_from_our_page_does_nothing(how: str, path: str) -> None:
    service = SampleService(access="key")
    visitor = Visitor(service)
    await visitor.get()
    visitor.cookies["ponte_key"] = "ponte_right"
    await visitor.get()
    headers = dict(FOREIGN.get(how, {}))
    if headers.get("Sec-Fetch-Site") == "":
        del visitor.headers["Sec-Fetch-Site"]
        headers.pop("Sec-Fetch-Site")
    if how == "without the cookie":
        del visitor.cookies["ponte_form"]
    if how == "with the token of another":
        visitor.token = token_of(new_visitor())
    if how == "without a token":
        visitor.token = ""
    reply = await visitor.post(path, {**FEEDBACK, "key": "ponte_right", "c.income": "84,000"}, **headers)
    assert service.asked == service.told == []
    assert "ponte_key" not in reply.headers.get("set-cookie", "")
    assert reply.status_code == (303 if path.endswith("forget") else 403)
    if path == FORM:
        assert 'value="84,000"' in reply.text


def test_our_own_page_is_known_with_and_without_a_browsers_word() -> None:
    visitor = new_visitor()
    token = token_of(visitor)
    assert is_own({"sec-fetch-site": "none"}, visitor, token)
    assert is_own({"origin": "https://form:444", "host": "form:444"}, visitor, token)
    assert is_own({}, visitor, token)
    assert not is_own({"origin": "https://form", "host": "form:444"}, visitor, token)


async def test_a_key_is_typed_once_and_can_be_forgotten() -> None:
    service = SampleService(access="key")
    visitor = Visitor(service)
    reply = await visitor.get()
    assert reply.status_code == 200
    assert 'type="password"' in reply.text
    assert "c.income" not in reply.text
    assert (await visitor.post()).status_code == 401
    wrong = await visitor.post(f"{FORM}/key", {"key": "ponte_wrong"})
    assert wrong.status_code == 403
    assert "this key does not open the form" in wrong.text
    assert "ponte_wrong" not in wrong.text

    right = await visitor.post(f"{FORM}/key", {"key": " ponte_right "})
    assert (right.status_code, right.headers["location"]) == (303, "../loan_amount")
    (cookie,) = right.headers.get_list("set-cookie")
    assert cookie.startswith("ponte_key=ponte_right; ")
    assert {"HttpOnly", "SameSite=strict", "Max-Age=2592000"} <= set(cookie.split("; "))
    assert "Path" not in cookie  # that of the model, whatever stands before it

    assert "c.income" in (await visitor.get()).text
    assert (await visitor.post()).status_code == 200
    await visitor.post(f"{FORM}/feedback", FEEDBACK)
    assert service.told[0].key == "ponte_right"

    forgotten = await visitor.post(f"{FORM}/forget", {})
    assert forgotten.status_code == 303
    assert "ponte_key" not in visitor.cookies


async def test_a_public_form_takes_no_key() -> None:
    visitor = Visitor(SampleService())
    await visitor.get()
    assert (await visitor.post(f"{FORM}/key", {"key": "ponte_right"})).status_code == 404


async def test_what_is_said_of_an_answer_is_kept() -> None:
    service = SampleService()
    visitor = Visitor(service)
    await visitor.get()
    reply = await visitor.post(f"{FORM}/feedback", FEEDBACK)
    assert reply.status_code == 200
    assert "Thank you" in reply.text
    assert 'name="verdict"' not in reply.text
    (said,) = service.told
    assert (str(said.request_id), said.verdict, said.correct_label, said.comment, said.key) == (
        ANSWER.request_id, "wrong", "12500.0", "too low", None,
    )  # fmt: skip
    later = await visitor.get(f"{FORM}/feedback?request_id={ANSWER.request_id}")
    assert 'name="verdict"' in later.text


#: What is sent instead → status, and what the page says.
WRONG_FEEDBACK: dict[str, tuple[dict[str, str], int, str]] = {
    "no verdict": ({"verdict": ""}, 422, "say whether it was right"),
    "another verdict": ({"verdict": "withdrawn"}, 422, "say whether it was right"),
    "no number": ({"correct_label": "lots"}, 422, "a number, for example 1,234.5"),
    "a long comment": ({"comment": "x" * 4001}, 422, "at most 4000 characters"),
    "NUL": ({"comment": "\0"}, 422, "a character in this text cannot be kept"),
    "no request": ({"request_id": "1"}, 404, "There is no such form"),
}


@pytest.mark.parametrize("wrong", WRONG_FEEDBACK)
async def test_feedback_that_cannot_be_meant_is_told_at_its_field(wrong: str) -> None:
    service = SampleService()
    visitor = Visitor(service)
    await visitor.get()
    changed, status, words = WRONG_FEEDBACK[wrong]
    reply = await visitor.post(f"{FORM}/feedback", {**FEEDBACK, **changed})
    assert reply.status_code == status
    assert words in reply.text
    assert service.told == []


@pytest.mark.parametrize("became", ["said_before", "no_such_answer", "not_kept"])
async def test_feedback_that_is_not_kept_can_be_said_again(became: Any) -> None:
    visitor = Visitor(SampleService(tells=became))
    await visitor.get()
    reply = await visitor.post(f"{FORM}/feedback", FEEDBACK)
    assert reply.status_code == 409
    assert "too low" in reply.text


async def test_the_feedback_right_has_no_other_label() -> None:
    service = SampleService()
    visitor = Visitor(service)
    await visitor.get()
    await visitor.post(f"{FORM}/feedback", {**FEEDBACK, "verdict": "right"})
    assert service.told[0].correct_label is None


@pytest.mark.parametrize(
    "body", [b"a" * 1_000_001, b"\xff\xfe", b"&".join([b"a=1"] * 5_001)], ids=["1 MB", "no UTF-8", "many"]
)
@pytest.mark.parametrize("path", [FORM, f"{FORM}/feedback", f"{FORM}/key", f"{FORM}/forget"])
async def test_what_is_no_form_gets_a_page_that_says_so(path: str, body: bytes) -> None:
    reply = await Visitor(SampleService()).ask("POST", path, body)
    assert reply.status_code == 413
    assert "This cannot be read" in reply.text


async def test_every_page_forbids_what_it_does_not_need() -> None:
    service = SampleService()
    visitor = Visitor(service)
    pages = [
        await visitor.get(),
        await visitor.post(),
        await visitor.post(typed={}),
        await visitor.get("/form/nothing"),
    ]
    service.facts = None  # type: ignore[assignment]
    service.form = closed  # type: ignore[method-assign]
    pages.append(await visitor.get())
    assert [page.status_code for page in pages] == [200, 200, 422, 404, 503]
    for page in pages:
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["content-language"] == "en"
        assert "<style" not in page.text
        assert "<script" not in page.text
    (cookie,) = pages[0].headers.get_list("set-cookie")
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert "set-cookie" not in pages[1].headers


async def closed(_: str) -> Any:
    from ponte.forms.asking import OpenForm

    return OpenForm("public", None)


async def test_the_stylesheet_is_where_every_page_looks_for_it() -> None:
    visitor = Visitor(SampleService())
    for path in (FORM, f"{FORM}/feedback?request_id={ANSWER.request_id}"):
        page = await visitor.get(path)
        link = re.search(r'rel="stylesheet" href="([^"]+)"', page.text)
        assert link
        found = await visitor.get(str(page.url.join(link[1])))
        assert (found.status_code, found.headers["content-type"]) == (200, "text/css; charset=utf-8")
        assert "--accent" in found.text
        assert ".answer" in found.text


async def test_the_cookie_is_for_tls_only_where_there_is_tls() -> None:
    transport = ASGITransport(sample_app(SampleService()))
    async with AsyncClient(transport=transport, base_url="https://form") as client:
        assert "Secure" in (await client.get(FORM)).headers["set-cookie"]


async def test_the_page_speaks_the_language_of_the_browser() -> None:
    reply = await Visitor(SampleService()).get(**{"Accept-Language": "pt-BR,en;q=0.5"})
    assert reply.headers["content-language"] == "pt"
    assert '<html lang="pt">' in reply.text
    assert "Renda em um ano" in reply.text
