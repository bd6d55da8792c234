"""An answer in a person's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ponte.forms.card import CLASSES, readable
from ponte.forms.fields import FormFacts
from ponte.forms.numbers import DOWN, FEW_DIGITS, UP, rounded, write_number, write_percent, write_rounded, write_share
from ponte.forms.words import Language, fill, say

#: From this probability on it is called so.
_LIKELY = (
    (0.95, "very_likely"),
    (0.7, "likely"),
    (0.55, "rather_likely"),
    (0.45, "even"),
    (0.2, "possible"),
    (0.0, "unlikely"),
)
#: Of more classes only the most probable ones are told one by one.
MOST_CLASSES = 10
#: Digits of the small print.
MORE_DIGITS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the model said of one instance."""

    prediction: Any
    #: Binary: the probability of the positive class. None without probabilities, and in a regression.
    score: float | None = None
    #: Multiclass: a probability per class, in the order of the classes.
    scores: Sequence[float] | None = None
    #: Of a regression with an interval.
    low: float | None = None
    high: float | None = None
    version: int
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """The words of an answer."""

    headline: str
    #: What stands below it: the interval, or how likely it is.
    more: str = ""
    #: Yes or no, and the author's word for it; None when the model decides nothing.
    decided: bool | None = None
    decision: str = ""
    #: The prediction in MORE_DIGITS; "" when the headline has all of it.
    exactly: str = ""
    #: Class → how likely, as a figure for the eye and in words: the most probable first; () when one figure says all.
    classes: tuple[tuple[str, float, str], ...] = ()


def in_words(answer: Answer, facts: FormFacts, language: Language) -> Said:
    """Return the words of an answer."""
    if facts.task == "regression":
        return _of_number(answer, facts, language)
    return _of_class(answer, facts, language)


def class_name(value: Any, facts: FormFacts, language: Language) -> str:
    """Return how a class is called: by the card, as yes and no, or by its own text."""
    if said := facts.words.label_of(CLASSES, plain(value), language):
        return said
    if isinstance(value, bool):
        return say("yes" if value else "no", language)
    return readable(value) if isinstance(value, str) else plain(value)


def plain(value: Any) -> str:
    """Return a class as PostgreSQL writes it, and as a card names it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_number(answer: Answer, facts: FormFacts, language: Language) -> Said:
    value = float(answer.prediction)
    exponent = _exponent(value, answer.low, answer.high)
    decided, decision = None, ""
    if facts.decision is not None:
        decided = value >= facts.decision
        # What is said must not lie on the other side of the line than what was decided.
        while (float(rounded(value, exponent)) >= facts.decision) != decided:
            exponent -= 1
    about = write_rounded(value, exponent, language)
    if decided is not None:
        name = "yes" if decided else "no"
        decision = _text(facts, name, language, value=about)
    more = ""
    if answer.low is not None and answer.high is not None and facts.interval is not None:
        low, high = _possible(answer.low, answer.high, facts)
        more = _text(
            facts,
            "interval",
            language,
            share=write_share(facts.interval, language),
            low=write_rounded(low, exponent, language, DOWN),
            high=write_rounded(high, exponent, language, UP),
        )
    exactly = write_number(value, language, digits=MORE_DIGITS)
    return Said(
        headline=_text(facts, "answer", language, value=about),
        more=more,
        decided=decided,
        decision=decision,
        exactly=exactly if exactly != about else "",
    )


def _possible(low: float, high: float, facts: FormFacts) -> tuple[float, float]:
    """Return the part of an interval where outcomes can be, as the card says; all of it when there is none."""
    least, most = facts.words.number("least"), facts.words.number("most")
    cut = low if least is None else max(low, least), high if most is None else min(high, most)
    return cut if cut[0] < cut[1] else (low, high)


def _exponent(value: float, low: float | None, high: float | None) -> int:
    """Return the power of ten that a prediction is rounded to: two digits of its interval's width, else three."""
    if low is not None and high is not None and high > low:
        return math.floor(math.log10(high - low)) - 1
    return math.floor(math.log10(abs(value))) - FEW_DIGITS + 1 if value else 0


def _of_class(answer: Answer, facts: FormFacts, language: Language) -> Said:
    name = class_name(answer.prediction, facts, language)
    shares = _shares(answer, facts)
    of_predicted = dict(shares).get(answer.prediction)
    more = ""
    if of_predicted is not None:
        word = next(word for least, word in _LIKELY if of_predicted >= least)
        more = f"{say(word, language)} ({write_percent(of_predicted, language)})"
    classes: tuple[tuple[str, float, str], ...] = ()
    if len(shares) > 2:  # noqa: PLR2004 - of two, one figure says both
        best = sorted(shares, key=lambda pair: -pair[1])[:MOST_CLASSES]
        classes = tuple((class_name(c, facts, language), p, write_percent(p, language)) for c, p in best)
    return Said(headline=_text(facts, "answer", language, **{"class": name}), more=more, classes=classes)


def _shares(answer: Answer, facts: FormFacts) -> list[tuple[Any, float]]:
    if answer.scores is not None:
        return list(zip(facts.classes, answer.scores, strict=False))
    if answer.score is None or len(facts.classes) != 2:  # noqa: PLR2004
        return []
    other, positive = facts.classes
    return [(other, 1 - answer.score), (positive, answer.score)]


#: Text of a card → what is said without it.
_DEFAULTS = {"interval": "interval", "yes": "yes", "no": "no"}


def _text(facts: FormFacts, name: str, language: Language, **parts: str) -> str:
    if of_card := facts.words.text(name, language):
        return fill(of_card, **parts)
    default = _DEFAULTS.get(name) or ("value" if facts.task == "regression" else "class")
    text = say(default, language, **parts)
    return text if name not in ("yes", "no") else text[:1].upper() + text[1:]
