"""What a person has typed into a form → the conf of a run, or what is wrong with it, field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ponte.errors import WindowError
from ponte.model.windows import parse_day
from ponte.steering.actions import Action, Field
from ponte.versions.registry import LARGEST_VERSION

LONGEST_REASON, SHORTEST_REASON = 2_000, 3
MOST_DAYS = 1_000
SHOWN = 60


@dataclass(frozen=True, slots=True)
class Typed:
    """A form as it was sent."""

    #: What stands in each field, for the form to show again.
    values: dict[str, list[str]]
    #: What the DAG takes, without the model; complete if there is no problem.
    conf: dict[str, Any]
    #: Field → what is wrong with it.
    problems: dict[str, str]


def asked_for(action: Action, address: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return what the fields of an address (version, window, batch, alarm) fill in."""
    return {field.name: list(address.get(field.asked, ())) if field.asked else [] for field in action.fields}


def read_form(action: Action, sent: Mapping[str, Sequence[str]]) -> Typed:
    """Return what was sent, read; a field that was not sent is empty."""
    typed = Typed(values={}, conf={}, problems={})
    for field in action.fields:
        texts = [text.strip() for text in sent.get(field.name, ()) if text.strip()]
        typed.values[field.name] = texts
        try:
            value = _READERS[field.kind](field, texts)
        except _Wrong as wrong:
            typed.problems[field.name] = str(wrong)
            continue
        if value is not None:
            typed.conf[field.name] = value
    return typed


class _Wrong(Exception):
    """What is wrong with a field."""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _single(field: Field, texts: list[str]) -> str | None:
    """Return the one text, None for an empty field that may be; the same said twice is said once."""
    said = set(texts)
    if len(said) > 1:
        raise _Wrong(f"This takes one, and there are {len(said)}: {', '.join(map(_quoted, sorted(said)[:3]))}.")
    if not said and not field.empty:
        raise _Wrong("Choose one." if field.of or field.words else "This has to be filled in.")
    return next(iter(said), None)


def _number(field: Field, texts: list[str]) -> int | None:
    text = _single(field, texts)
    if text is None:
        return None
    # Numbers of batches and alarms never come near that of the largest version.
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_VERSION))
    if not (digits and 1 <= int(text) <= LARGEST_VERSION):
        raise _Wrong(f"{_quoted(text)} is no number of a {field.title.lower()}.")
    return int(text)


def _day(field: Field, texts: list[str]) -> str | None:
    text = _single(field, texts)
    return None if text is None else _checked_day(text)


def _checked_day(text: str) -> str:
    try:
        return str(parse_day(text))
    except WindowError as error:
        raise _Wrong(f"{_quoted(text)} is {error.what}: expected {error.parts['expected']}.") from error


def _days(_: Field, texts: list[str]) -> list[str]:
    found = [day for text in texts for day in text.replace(",", " ").replace(";", " ").split()]
    if len(found) > MOST_DAYS:
        raise _Wrong(f"{len(found)} windows at once: at most {MOST_DAYS}. Every window of a version is a choice below.")
    return sorted({_checked_day(day) for day in found})


def _word(field: Field, texts: list[str]) -> str | None:
    text = _single(field, texts)
    known = [value for value, _ in field.words]
    if text is not None and text not in known:
        raise _Wrong(f"{_quoted(text)} is none of: {', '.join(known)}.")
    return text


def _switch(_: Field, texts: list[str]) -> bool:
    return _single(Field(name="", title="", help="", kind="switch", empty="off"), texts) is not None


def _reason(_: Field, texts: list[str]) -> str:
    text = " ".join(texts)
    if len(text) < SHORTEST_REASON:
        raise _Wrong(f"Say why, in at least {SHORTEST_REASON} characters.")
    if len(text) > LONGEST_REASON:
        raise _Wrong(f"{len(text):,} characters: at most {LONGEST_REASON:,}.")
    if "\0" in text:
        raise _Wrong("It holds a character that cannot be kept, U+0000.")
    return text


_READERS = {
    "one": _number,
    "day": _day,
    "days": _days,
    "word": _word,
    "switch": _switch,
    "reason": _reason,
}
