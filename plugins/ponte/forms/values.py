"""What was typed into a form → one instance, as the API takes it; each thing that is wrong stands at its field."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ponte.forms.fields import Field
from ponte.forms.numbers import example, read_number, write_number
from ponte.forms.words import Language, say

#: Names of a form's inputs: the value of a column, and its other text beside a list.
VALUE, OTHER = "c.", "o."
#: A choice submits its value behind this, so that it is none of the others, and keeps its blanks.
CHOICE = "="
#: What a list submits when another text is meant.
IS_OTHER = "other"
YES, NO = "yes", "no"
#: Bytes of a form, and of inputs in it, at most.
LARGEST_FORM, MOST_INPUTS = 1_000_000, 5_000

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class NotAForm(ValueError):
    """The bytes are no submitted form."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A form as it was submitted."""

    #: Column → its value, JSON-ready; None where it was left empty. Without those that are wrong.
    instance: Mapping[str, Any]
    #: Column → what is wrong, in the language of the form.
    errors: Mapping[str, str]
    #: Input → what was typed: what cannot be read as it was, the others as they were understood.
    typed: Mapping[str, str]


def parse_form(body: bytes) -> dict[str, str]:
    """Return input → text of an `application/x-www-form-urlencoded` body, the last one of each name.

    Line ends become LF. Raises NotAForm when it is too large, or no UTF-8.
    """
    if len(body) > LARGEST_FORM:
        raise NotAForm("too large")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MOST_INPUTS, encoding="utf-8", errors="strict"
        )
    except ValueError as error:
        raise NotAForm("no form") from error
    return {name: text.replace("\r\n", "\n") for name, text in pairs}


def read_values(typed: Mapping[str, str], fields: Sequence[Field], language: Language) -> Filled:
    """Return the instance that was typed in, or what is wrong with it, for all fields at once.

    typed : input → text, as `parse_form` returns them; an input that is not there counts as left empty.
    """
    instance: dict[str, Any] = {}
    errors: dict[str, str] = {}
    shown: dict[str, str] = {}
    for field in fields:
        chosen, other = typed.get(VALUE + field.name, ""), typed.get(OTHER + field.name, "")
        shown |= {VALUE + field.name: chosen, OTHER + field.name: other}
        try:
            value = _read(field, chosen, other, language)
        except ValueError as error:
            errors[field.name] = say(str(error), language, example=example(language))
            continue
        instance[field.name] = value
        if value is not None:
            shown |= _as_understood(field, value, language)
    return Filled(instance, errors, shown)


def show_value(field: Field, value: Any, language: Language) -> str:
    """Return a value of an instance as people read it, with its unit."""
    if value is None:
        return say("left_empty", language)
    if isinstance(value, bool):
        return say("yes" if value else "no", language)
    if isinstance(value, (int, float)):
        text = write_number(value, language)
    else:
        text = next((c.label for c in field.choices if c.value == value), str(value))
    return f"{text} {field.unit}".strip()


def _as_understood(field: Field, value: Any, language: Language) -> dict[str, str]:
    if field.shape == "number":
        return {VALUE + field.name: write_number(value, language)}
    if field.choices:
        listed = any(value == choice.value for choice in field.choices)
        chosen, other = (CHOICE + value, "") if listed else (IS_OTHER, value)
        return {VALUE + field.name: chosen, OTHER + field.name: other}
    return {}


def _read(field: Field, chosen: str, other: str, language: Language) -> Any:
    """Return the value, None when it was left empty; raises ValueError with the text of `words` for what is wrong.

    Of a list with another text: what is written there counts unless something of the list is chosen.
    """
    if field.choices and chosen.startswith(CHOICE):
        return _text(_choice(field, chosen.removeprefix(CHOICE)))
    text = chosen
    if field.choices:
        if not field.other and chosen:
            raise ValueError("no_choice")
        text = other
    if field.shape != "long_text":
        text = text.strip()
    if not text.strip():
        if field.needed:
            raise ValueError("needed")
        return None
    if field.shape == "number":
        return read_number(text, language, whole=field.family == "integer")
    return _READ[field.family](text)


def _choice(field: Field, value: str) -> str:
    if not field.other and all(value != choice.value for choice in field.choices):
        raise ValueError("no_choice")
    return value


def _text(text: str) -> str:
    if "\x00" in text:
        raise ValueError("no_text")
    return text


def _yes_no(text: str) -> bool:
    if text not in (YES, NO):
        raise ValueError("no_choice")
    return text == YES


def _date(text: str) -> str:
    try:
        if _DAY.fullmatch(text):
            return dt.date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise ValueError("no_date")


def _moment(text: str) -> str:
    """Return a moment with its offset; a time without one is UTC, as the form says."""
    try:
        found = dt.datetime.fromisoformat(text)
        if _DAY.match(text) and len(text) > len("2026-03-31"):
            found = found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
            return found.isoformat()
    except (ValueError, OverflowError):
        pass
    raise ValueError("no_moment")


_READ: Mapping[str, Callable[[str], Any]] = {"text": _text, "boolean": _yes_no, "date": _date, "timestamp": _moment}
