"""From what was typed to one instance."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sample_form import APPLICANT, counted, loan_facts

from ponte.forms.fields import FormFacts, fields_of
from ponte.forms.values import NotAForm, parse_form, read_values
from ponte.live.records import Reader
from ponte.storage.columns import Column, Family
from ponte.versions.signature import Signature

LOAN = fields_of(loan_facts(), "en")
FAMILIES: tuple[Family, ...] = ("integer", "number", "boolean", "text", "date", "timestamp")
#: One column of each family, all of which may be empty; `list` and `closed` are texts with values.
ALL = fields_of(
    FormFacts(
        model="m", version=1, description="", task="binary",
        features=(
            *(Column(name=family, family=family) for family in FAMILIES),
            Column(name="list", family="text"), Column(name="closed", family="text"),
        ),
        counted=(
            counted("list", "value", values=("a", " b "), rows=[9, 9, 9, 9]),
            counted("closed", "value", values=("a", "b", "c", "d"), rows=[9, 9, 9, 9, 0, 9]),
        ),
    ),
    "en",
)  # fmt: skip

#: (column, what is typed, the other text) → its value, or the beginning of what is wrong.
READ: dict[tuple[str, str, str], Any] = {
    ("integer", "1,234", ""): 1234,
    ("integer", "1.5", ""): ValueError("a whole number"),
    ("number", " 1.234,5 ", ""): 1234.5,
    ("number", "lots", ""): ValueError("a number, for example 1,234.5"),
    ("number", "", ""): None,
    ("boolean", "yes", ""): True,
    ("boolean", "no", ""): False,
    ("boolean", "", ""): None,
    ("boolean", "maybe", ""): ValueError("please choose"),
    ("text", "  mill  ", ""): "mill",
    ("text", "   ", ""): None,
    ("text", "a\x00b", ""): ValueError("a character"),
    ("date", "2024-02-29", ""): "2024-02-29",
    ("date", "2023-02-29", ""): ValueError("a day"),
    ("date", "29/02/2024", ""): ValueError("a day"),
    ("date", "20240229", ""): ValueError("a day"),
    ("timestamp", "2024-02-29T13:05", ""): "2024-02-29T13:05:00+00:00",
    ("timestamp", "2024-02-29T13:05:00.5+02:00", ""): "2024-02-29T11:05:00.500000+00:00",
    ("timestamp", "2024-02-29", ""): ValueError("a day and a time"),
    ("timestamp", "0001-01-01T00:00+14:00", ""): ValueError("a day and a time"),
    ("list", "=a", ""): "a",
    ("list", "= b ", ""): " b ",
    ("list", "=a", "ignored"): "a",
    ("list", "other", " new "): "new",
    ("list", "", "new"): "new",
    ("list", "other", ""): None,
    ("list", "=of an older page", ""): "of an older page",
    ("closed", "=d", ""): "d",
    ("closed", "=e", ""): ValueError("please choose"),
    ("closed", "other", "e"): ValueError("please choose"),
    ("closed", "", ""): None,
}


@pytest.mark.parametrize("case", READ, ids=repr)
def test_what_was_typed_is_read_by_the_family_of_its_column(case: tuple[str, str, str]) -> None:
    name, typed, other = case
    filled = read_values({f"c.{name}": typed, f"o.{name}": other}, ALL, "en")
    expected = READ[case]
    if isinstance(expected, ValueError):
        assert filled.errors[name].startswith(str(expected))
        assert name not in filled.instance
        assert filled.typed[f"c.{name}"] == typed
    else:
        assert filled.errors == {}
        assert filled.instance[name] == expected
        assert type(filled.instance[name]) is type(expected)


def test_every_field_that_is_needed_and_empty_is_told_at_once() -> None:
    filled = read_values({}, LOAN, "pt")
    needed = {field.name for field in LOAN if field.needed}
    assert set(filled.errors) == needed
    assert len(needed) == 19
    assert set(filled.errors.values()) == {"preencha este campo"}


def test_what_was_understood_comes_back_in_the_language_of_the_page() -> None:
    typed = {f"c.{name}": text for name, text in APPLICANT.items()} | {"c.income": "84.000,50"}
    for language, said in {"en": "84,000.5", "pt": "84.000,5"}.items():
        filled = read_values(typed, LOAN, language)  # type: ignore[arg-type]
        assert filled.errors == {}
        assert filled.typed["c.income"] == said
        again = read_values(filled.typed, LOAN, language)  # type: ignore[arg-type]
        assert again.instance == filled.instance


@given(
    st.dictionaries(st.sampled_from([f"{kind}.{field.name}" for field in ALL for kind in "co"]), st.text(max_size=40))
)
def test_whatever_is_typed_the_api_can_read_what_comes_of_it(typed: dict[str, str]) -> None:
    filled = read_values(typed, ALL, "en")
    assert filled.instance.keys() | filled.errors.keys() == {field.name for field in ALL}
    assert not filled.instance.keys() & filled.errors.keys()
    signature = Signature(key=(), features=tuple(Column(name=f.name, family=f.family) for f in ALL), label="integer")
    instance = {field.name: filled.instance.get(field.name) for field in ALL}
    problems = Reader(signature).parse([instance]).problems
    # Years before 2 and after 9998 do not fit with every zone.
    assert [p for p in problems if p.column not in ("date", "timestamp")] == []


def test_a_form_is_read_whole_or_not_at_all() -> None:
    body = urlencode({"c.text": "é\r\nü", "empty": ""}).encode()
    assert parse_form(body + b"&c.text=last") == {"c.text": "last", "empty": ""}
    assert parse_form(body)["c.text"] == "é\nü"
    for bad in (b"a=%ff", b"\xff", b"a" * 1_000_001, b"&".join([b"a=1"] * 5_001)):
        with pytest.raises(NotAForm):
            parse_form(bad)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_none(body: bytes) -> None:
    with suppress(NotAForm):
        parse_form(body)
