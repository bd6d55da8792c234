"""What goes between a form and who answers: the question, what is said of the answer, and whether it was our page.

What a page sends back proves that it came from here: a browser's own word (`Sec-Fetch-Site`, else `Origin`), and a
token that goes with a cookie which no other site's request carries (`SameSite=Strict`). Nothing is kept for it, so any
number of processes may answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from ponte.forms.answers import Answer, plain
from ponte.forms.fields import FormFacts
from ponte.forms.numbers import example, read_number
from ponte.forms.words import Language, say

#: Characters of a comment, as the database takes them.
LONGEST_COMMENT = 4_000
UUID_LENGTH = 36
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class OpenForm:
    """A model that has a form."""

    access: Literal["key", "public"]
    #: None as long as no version answers.
    facts: FormFacts | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Columns whose values the model cannot use; () when it has no answer for the row as a whole."""

    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Busy:
    """More are asking than can be answered in time."""

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What somebody says of an answer."""

    request_id: uuid.UUID
    verdict: Literal["right", "wrong"]
    correct_label: str | None
    comment: str | None
    #: The key that the form was opened with; None without one.
    key: str | None


#: What became of a verdict: kept, or a text of `words` that says why not.
Told = Literal["kept", "said_before", "no_such_answer", "not_kept", "busy"]


class Answering(Protocol):
    """What the form needs of the service."""

    async def form(self, model: str) -> OpenForm | None:
        """Return the form of a model; None when there is none, or the model has none."""

    def key_opens(self, key: str, model: str) -> bool:
        """Tell whether this is a valid key for the model."""

    def wait(self, address: str, key: str | None) -> float:
        """Return 0 when the caller may ask once more, which is then counted, else the seconds until it may."""

    async def ask(self, model: str, instance: Mapping[str, Any]) -> Answer | Refused | Busy:
        """Return the answer of the champion to one instance, which is kept as a live row of source `form`."""

    async def tell(self, said: Verdict) -> Told:
        """Keep what is said of an answer."""


def read_verdict(
    typed: Mapping[str, str], facts: FormFacts, request_id: uuid.UUID, language: Language, *, key: str | None
) -> tuple[Verdict | None, dict[str, str]]:
    """Return what was said of an answer, or, by input, what is wrong with it."""
    errors: dict[str, str] = {}
    verdict, comment = typed.get("verdict", ""), typed.get("comment", "").strip()
    label = ""
    try:
        label = _label(typed.get("correct_label", "").strip(), facts, language)
    except ValueError as error:
        errors["correct_label"] = say(str(error), language, example=example(language))
    if verdict not in ("right", "wrong"):
        errors["verdict"] = say("say_verdict", language)
    if len(comment) > LONGEST_COMMENT:
        errors["comment"] = say("too_long", language, most=str(LONGEST_COMMENT))
    if "\x00" in comment:
        errors["comment"] = say("no_text", language)
    if errors:
        return None, errors
    said = Verdict(
        request_id=request_id,
        verdict="right" if verdict == "right" else "wrong",
        # What would have been right is asked of what was wrong.
        correct_label=label or None if verdict == "wrong" else None,
        comment=comment or None,
        key=key,
    )
    return said, errors


def _label(text: str, facts: FormFacts, language: Language) -> str:
    if not text:
        return ""
    if facts.task == "regression":
        return repr(read_number(text, language))
    if text not in [plain(value) for value in facts.classes]:
        raise ValueError("no_choice")
    return text


def request_id_of(text: str) -> uuid.UUID | None:
    """Return the request that a text names; None when it names none."""
    try:
        return uuid.UUID(text) if len(text) == UUID_LENGTH else None
    except ValueError:
        return None


def new_visitor() -> str:
    """Return what the cookie of a browser that comes for the first time holds."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def is_visitor(cookie: str) -> bool:
    """Tell whether a cookie may be one of `new_visitor`."""
    return len(cookie) == len(base64.urlsafe_b64encode(bytes(_RANDOM_BYTES)).rstrip(b"="))


def token_of(visitor: str) -> str:
    """Return what the pages of a visitor send back."""
    digest = hashlib.sha256(b"ponte form\0" + visitor.encode(errors="surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_own(headers: Mapping[str, str], visitor: str, token: str) -> bool:
    """Tell whether a form was sent by a page that this browser has got from here.

    headers : of the request, by lower-case name. visitor, token : of its cookie, and of the form.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        here = site in ("same-origin", "none")
    else:  # an old browser, or no TLS
        here = origin is None or urlsplit(origin).netloc == headers.get("host")
    return here and hmac.compare_digest(token.encode(errors="surrogatepass"), token_of(visitor).encode())
