"""The pages, as a browser and as somebody who means harm see them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sample_form import ANSWER, APPLICANT, counted, loan_facts

from ponte.forms.answers import Answer
from ponte.forms.card import CardWords, ColumnWords
from ponte.forms.fields import FormFacts, fields_of
from ponte.forms.page import Feedback, Place, feedback_page, form_page, key_page, message_page
from ponte.forms.values import Filled, read_values
from ponte.forms.words import LANGUAGES, Language, fill, language_of, say
from ponte.storage.columns import Column

SENT_BACK = "t"
VOID = {"meta", "link", "input"}
TAGS = {
    "html", "head", "meta", "title", "link", "body", "main", "header", "section", "h1", "h2", "p", "form", "fieldset",
    "legend", "label", "div", "input", "select", "option", "textarea", "span", "button", "ul", "li", "a", "code",
    "details", "summary", "dl", "dt", "dd", "table", "caption", "tbody", "tr", "th", "td", "meter",
}  # fmt: skip


class Seen(HTMLParser):
    """What of a page matters: that it is well formed, and what its elements are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert len(dict(attrs)) == len(attrs)
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def every(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def must_be_usable(page: str) -> Seen:
    """Every input has a label of its own, every reference leads somewhere, no id is there twice."""
    seen = Seen(page)
    ids = [found["id"] for _, found in seen.elements if "id" in found]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    labelled = {found["for"] for found in seen.every("label")}
    inputs = [i for i in seen.every("input", "select", "textarea") if i.get("type") != "hidden"]
    assert {found["id"] for found in inputs} == labelled
    for _, found in seen.elements:
        for name in ("aria-describedby", "aria-labelledby"):
            assert set((found.get(name) or "").split()) <= set(ids)
    for link in seen.every("a"):
        if (link["href"] or "").startswith("#"):
            assert (link["href"] or "")[1:] in ids
    assert seen.every("html")[0]["lang"] in LANGUAGES
    return seen


def loan_pages(language: Language) -> dict[str, str]:
    facts, place = loan_facts(), Place(language=language, token=SENT_BACK, key=True)
    fields = fields_of(facts, language)
    good = read_values({f"c.{name}": text for name, text in APPLICANT.items()}, fields, "en")
    wrong = read_values({"c.income": "lots", "c.loan_purpose": "other", "o.loan_purpose": "boat"}, fields, language)
    classes = replace(facts, task="multiclass", classes=("a", "b", "c"), decision=None)
    several = Answer(prediction="b", scores=[0.1, 0.6, 0.3], version=1, request_id="r")
    return {
        "empty": form_page(facts, place),
        "wrong": form_page(facts, place, filled=wrong),
        "note": form_page(facts, place, filled=good, note=say("too_old", language)),
        "answer": form_page(facts, place, filled=good, answer=ANSWER),
        "classes": form_page(classes, place, filled=good, answer=several),
        "feedback": feedback_page(facts, place, Feedback("r")),
        "wrong feedback": feedback_page(
            classes, place, Feedback("r", {"comment": "c"}, {"verdict": "v", "comment": "c"})
        ),
        "thanks": feedback_page(facts, place, Feedback("r"), done=True),
        "key": key_page(facts, place),
        "wrong key": key_page(facts, place, wrong=True),
        "message": message_page(place, "too_many", "wait", seconds="5"),
    }


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", list(loan_pages("en")))
def test_every_page_can_be_used_with_a_keyboard_and_read_aloud(language: Language, name: str) -> None:
    must_be_usable(loan_pages(language)[name])


def test_what_is_wrong_stands_at_the_field_and_above_with_a_link_to_it() -> None:
    page = loan_pages("en")["wrong"]
    seen = must_be_usable(page)
    income = next(found for found in seen.every("input") if found.get("name") == "c.income")
    assert income["value"] == "lots"
    assert income["aria-invalid"] == "true"
    assert f'id="{income["id"]}-error">a number, for example 1,234.5</p>' in page
    assert f'<a href="#{income["id"]}">Income in a year</a>: a number, for example 1,234.5' in page
    assert 'value="boat"' in page
    assert "<title>Error: How much could you borrow?</title>" in page


def test_the_answer_comes_with_its_meaning_and_its_numbers() -> None:
    page = loan_pages("pt")["answer"]
    for text in ("Podemos emprestar cerca de 14.000 dólares", "Para 8 de cada 10 pessoas foi entre 6.000 e 25.000.",
                 "14.237,4", "versão 3", ANSWER.request_id, "84.000 dólares", "Reforma da casa",
                 "Isto estava certo?"):  # fmt: skip
        assert text in page


HOSTILE = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_characters="\x00\r"),
        st.sampled_from("<>&\"'{}%\u202e\u2066\u200f\u2028\ufeff")
    ),
    min_size=1, max_size=60,
)  # fmt: skip


@settings(max_examples=20)
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_text_becomes_anything_but_text(name: str, value: str, said: str, typed: str) -> None:
    payload = f'"><script>alert(1)</script>{said}'
    words = CardWords(
        {name: ColumnWords(name, {"label": payload, "unit": payload, "help": payload, "group": payload})},
        {(name, value): ColumnWords(value, {"label": payload})},
        {(text, "en"): payload for text in ("title", "introduction", "ask", "answer", "interval", "yes", "no")},
    )
    facts = replace(
        loan_facts(), model=payload, description=payload, words=words, decision=0.0,
        features=tuple(
            Column(name=n, family=f) for n, f in ((name, "text"), (name + "n", "number"), (name + "t", "text"))
        ),
        counted=(counted(name, "value", values=(value, payload), rows=[9, 9, 9, 9]),),
    )  # fmt: skip
    place = Place(language="en", token=payload)
    filled = Filled(
        {name: typed, name + "t": typed}, {name: payload, name + "n": payload},
        {f"c.{name}": f"={value}", f"o.{name}": typed, f"c.{name}n": typed, f"c.{name}t": typed},
    )  # fmt: skip
    seen = must_be_usable(form_page(facts, place, filled=filled, note=payload))
    assert len([1 for found in seen.elements if found[1].get("aria-invalid")]) == 2
    page = form_page(facts, place, filled=replace(filled, errors={}), answer=replace(ANSWER, request_id=payload))
    seen = must_be_usable(page)
    assert "<script" not in page
    found = next(i for i in seen.every("input") if i.get("name") == f"c.{name}n")
    # A line end in an attribute is one; browsers leave it out of a field of one line.
    assert found["value"] == typed
    must_be_usable(feedback_page(facts, place, Feedback(payload, {"comment": typed, "correct_label": typed})))


@pytest.mark.parametrize(("columns", "length"), [(500, 10), (3, 1_000_000)])
def test_a_large_form_is_a_page_like_any_other(columns: int, length: int) -> None:
    features = tuple(Column(name=f"column_{n}", family="text") for n in range(columns))
    facts = FormFacts(model="m", version=1, description="d", task="regression", features=features)
    typed: dict[str, str] = {f"c.column_{n}": "<" * length for n in range(columns)}
    filled = read_values(typed, fields_of(facts, "en"), "en")
    page = form_page(
        facts, Place(language="en"), filled=filled, answer=Answer(prediction=1.0, version=1, request_id="r")
    )
    assert page.count("<textarea") + page.count('<input type="text"') == columns + 2
    assert "<<" not in page


@pytest.mark.parametrize(
    ("header", "language"),
    [("", "en"), ("pt", "pt"), ("pt-PT,en;q=0.9", "pt"), ("en-US,pt;q=0.9", "en"), ("de,fr;q=0.5", "en"),
     ("PT-br", "pt"),
     ("de;q=0.9,pt;q=0.1", "pt"), ("pt;q=0,en;q=0", "en"), ("pt;q=nan,en;q=0.2", "en"), (",;;q=," * 300 + "pt", "en")],
)  # fmt: skip
def test_the_language_is_the_one_that_the_browser_asks_for(header: str, language: str) -> None:
    assert language_of(header) == language


@given(st.text(max_size=200))
def test_any_header_has_a_language(header: str) -> None:
    assert language_of(header) in LANGUAGES


@given(
    st.text(st.sampled_from("{}ab "), max_size=30), st.dictionaries(st.sampled_from("ab"), st.text("{}a", max_size=5))
)
def test_a_template_is_filled_once_and_never_fails(template: str, parts: dict[str, Any]) -> None:
    filled = fill(template, **parts)
    if not parts:
        assert filled == template
    assert fill("{a}", a="{a}") == "{a}"


def test_both_languages_have_the_same_parts_in_braces() -> None:
    from ponte.forms import words

    for name, texts in words._TEXTS.items():
        assert len(texts) == len(LANGUAGES)
        assert len({tuple(sorted(re.findall(r"\{\w+\}", text))) for text in texts}) == 1, name
