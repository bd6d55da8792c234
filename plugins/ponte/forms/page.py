"""The pages of a form as HTML: no scripts, no styles of their own, every text escaped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponte.forms.answers import Answer, class_name, in_words, plain
from ponte.forms.asking import LONGEST_COMMENT
from ponte.forms.card import readable
from ponte.forms.fields import FormFacts, fields_of, grouped
from ponte.forms.values import CHOICE, IS_OTHER, NO, OTHER, VALUE, YES, Filled, show_value
from ponte.forms.words import Language, say

if TYPE_CHECKING:
    import jinja2


#: What goes with every page.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a page is, and whose it is."""

    language: Language
    #: From the page's own address to the one that the forms' addresses begin at: "" or "../" and so on.
    up: str = ""
    #: What a form sends back, so that nobody else's page can send it.
    token: str = ""
    #: Address of the stylesheet, from where the forms' addresses begin.
    style: str = "style.css"
    #: Whether a key opened the page, and can be forgotten.
    key: bool = False


@dataclass(frozen=True, slots=True)
class Feedback:
    """A form of feedback: of which request, and what was typed into it."""

    request_id: str
    typed: Mapping[str, str] = field(default_factory=dict)
    #: Input → what is wrong with it.
    errors: Mapping[str, str] = field(default_factory=dict)


def form_page(
    facts: FormFacts, place: Place, *, filled: Filled | None = None, answer: Answer | None = None, note: str = ""
) -> str:
    """Return the form: empty, or filled in, with the answer, with what is wrong, or with a note."""
    fields = fields_of(facts, place.language)
    shown = filled or Filled({}, {}, {})
    based_on = [(f.label, show_value(f, shown.instance.get(f.name), place.language)) for f in fields] if answer else []
    return _render(
        "form.html.j2",
        facts,
        place,
        groups=grouped(fields),
        typed=shown.typed,
        errors=[(f, shown.errors[f.name]) for f in fields if f.name in shown.errors],
        wrong=shown.errors,
        note=note,
        answer=answer,
        said=in_words(answer, facts, place.language) if answer else None,
        based_on=based_on,
        feedback=Feedback(request_id=answer.request_id) if answer else None,
    )


def feedback_page(facts: FormFacts, place: Place, feedback: Feedback, *, note: str = "", done: bool = False) -> str:
    """Return the question whether an answer was right, or the thanks for saying so."""
    return _render("feedback.html.j2", facts, place, feedback=feedback, note=note, done=done)


def key_page(facts: FormFacts, place: Place, *, wrong: bool = False) -> str:
    """Return the question for a key."""
    return _render("key.html.j2", facts, place, wrong=wrong)


def message_page(place: Place, title: str, text: str = "", **parts: str) -> str:
    """Return a page that says one thing. title, text : texts of `words`."""
    more = say(text, place.language, **parts) if text else ""
    return _render("message.html.j2", None, place, heading=say(title, place.language), text=more)


def style(shared: str) -> tuple[str, str]:
    """Return the stylesheet, and an address that changes with it, from where the forms' addresses begin.

    shared : the stylesheet of all pages of Ponte; that of forms follows it.
    """
    text = shared + (_FOLDER / "form.css").read_text(encoding="utf-8")
    return text, f"style.css?{hashlib.sha256(text.encode()).hexdigest()[:12]}"


_FOLDER = Path(__file__).parent / "templates"


def _render(template: str, facts: FormFacts | None, place: Place, **more: Any) -> str:
    language = place.language
    title = introduction = ""
    if facts is not None:
        title = facts.words.text("title", language) or readable(facts.model)
        introduction = facts.words.text("introduction", language) or facts.description
    return (
        _templates()
        .get_template(template)
        .render(
            facts=facts,
            place=place,
            title=title,
            introduction=introduction,
            ask=(facts.words.text("ask", language) if facts else "") or say("ask", language),
            classes=[(plain(c), class_name(c, facts, language)) for c in facts.classes] if facts else [],
            say=lambda text, **parts: say(text, language, **parts),
            longest=LONGEST_COMMENT,
            **more,
        )
    )


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"VALUE": VALUE, "OTHER": OTHER, "CHOICE": CHOICE, "IS_OTHER": IS_OTHER, "YES": YES, "NO": NO}
    return found
