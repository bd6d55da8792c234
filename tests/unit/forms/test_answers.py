"""Answers in a person's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sample_form import ANSWER, loan_facts, with_card

from ponte.forms.answers import Answer, in_words
from ponte.forms.fields import FormFacts
from ponte.forms.numbers import read_number
from ponte.forms.words import Language

LOAN = replace(loan_facts(), decision=10_000)
PLAIN = replace(with_card(LOAN, ""), decision=None)


def of_classes(task: Any, *classes: Any, card: str = "") -> FormFacts:
    return with_card(FormFacts(model="m", version=1, description="", task=task, features=(), classes=classes), card)


def answer(prediction: Any, **more: Any) -> Answer:
    return Answer(prediction=prediction, version=1, request_id="r", **more)


#: What is known, answer, language → headline, what stands below, yes or no.
SAID: list[tuple[FormFacts, Answer, Language, tuple[str, str, str]]] = [
    (LOAN, answer(9_412.3, low=6_140, high=12_687), "en",
     ("We can lend about 9,400 dollars", "For 8 of 10 applicants it was between 6,100 and 12,700.", "Not from here")),
    (LOAN, ANSWER, "pt",
     ("Podemos emprestar cerca de 14.000 dólares", "Para 8 de cada 10 pessoas foi entre 6.000 e 25.000.", "Sim")),
    (LOAN, answer(9_980, low=-8_000, high=28_000), "en",
     ("We can lend about 9,980 dollars", "For 8 of 10 applicants it was between 1,000 and 28,000.",
      "Not from here")),
    (LOAN, answer(12_345.6), "en", ("We can lend about 12,300 dollars", "", "Yes")),
    (LOAN, answer(39_000, low=30_000, high=48_000), "en",
     ("We can lend about 39,000 dollars", "For 8 of 10 applicants it was between 30,000 and 40,000.", "Yes")),
    (LOAN, answer(-9_000, low=-18_000, high=0), "en",
     ("We can lend about \u22129,000 dollars", "For 8 of 10 applicants it was between \u221218,000 and 0.",
      "Not from here")),
    (PLAIN, answer(12_345.6), "en", ("About 12,300.", "", "")),
    (PLAIN, answer(0.000123456), "pt", ("Cerca de 0,000123.", "", "")),
    (PLAIN, answer(0.0), "en", ("About 0.", "", "")),
    (PLAIN, answer(5.0, low=5.0, high=5.0), "en",
     ("About 5.", "For 8 of 10 cases like these it lies between 5 and 5.", "")),
    (of_classes("binary", False, True), answer(True, score=0.87), "en", ("yes", "likely (87\u00a0%)", "")),
    (of_classes("binary", False, True), answer(False, score=0.02), "pt", ("não", "muito provável (98\u00a0%)", "")),
    (of_classes("binary", 0, 1), answer(1, score=0.3), "en", ("1", "possible (30\u00a0%)", "")),
    (of_classes("binary", 0, 1, card="## Values\n| column | value | label |\n|-|-|-|\n| label | 1 | late |\n"),
     answer(1, score=0.5), "en", ("late", "about as likely as not (50\u00a0%)", "")),
    # The positive class is the last one, whichever is greater.
    (of_classes("binary", "yes_please", "no"), answer("yes_please", score=0.004), "en",
     ("Yes please", "very likely (more than 99 %)", "")),
    (of_classes("binary", "a", "b"), answer("a"), "en", ("A", "", "")),
    (of_classes("multiclass", "a", "b", "c"), answer("b", scores=[0.1, 0.6, 0.3]), "en",
     ("B", "more likely than not (60\u00a0%)", "")),
]  # fmt: skip


@pytest.mark.parametrize("case", SAID, ids=range(len(SAID)))
def test_an_answer_is_said_in_words(case: tuple[FormFacts, Answer, Language, tuple[str, str, str]]) -> None:
    facts, given_answer, language, expected = case
    said = in_words(given_answer, facts, language)
    assert (said.headline, said.more, said.decision) == expected


def test_of_several_classes_each_is_told_the_most_probable_first() -> None:
    facts = of_classes("multiclass", *"abcdefghijkl")
    scores = [0.01 * place for place in range(11)] + [0.45]
    said = in_words(answer("l", scores=scores), facts, "en")
    assert [name for name, _, _ in said.classes] == ["L", *"KJIHGFEDC"]
    assert said.classes[0][1:] == (0.45, "45\u00a0%")


NUMBERS = st.floats(-1e12, 1e12, allow_nan=False)


@given(NUMBERS, st.floats(0.001, 1e6), st.floats(0.001, 1e6), NUMBERS)
def test_words_keep_the_promise_and_the_decision(value: float, below: float, above: float, decision: float) -> None:
    """The interval that is said holds the one that was computed; the value that is said is decided about alike."""
    facts = replace(PLAIN, decision=decision, interval=0.8)
    given_answer = answer(value, low=value - below, high=value + above)
    said = in_words(given_answer, facts, "en")
    low, high = (part.strip(" .") for part in said.more.partition(" between ")[2].split(" and "))
    assert read_number(low, "en") <= value - below
    assert read_number(high, "en") >= value + above
    assert said.decided == (value >= decision)
    about = read_number(said.headline.removeprefix("About ").removesuffix("."), "en")
    assert (about >= decision) == said.decided
