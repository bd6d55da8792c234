"""The fields of a form, by what is known of a column."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.sample_form import counted, loan_facts, with_card

from ponte.counting.bins import counts_of_numbers
from ponte.counting.choosing import choose_bins
from ponte.counting.reference import Counted
from ponte.forms.card import read_card
from ponte.forms.fields import Field, FormFacts, fields_of, grouped
from ponte.forms.values import show_value
from ponte.model.spec import Check
from ponte.storage.columns import Column


def one(
    family: Any, found: Any = None, *, card: str = "", checks: tuple[Check, ...] = (), language: Any = "en"
) -> Field:
    """Return the field of the one column `x`."""
    facts = FormFacts(
        model="m", version=1, description="", task="binary", features=(Column(name="x", family=family),),
        counted=(found,) if found else (), words=read_card(card), checks=checks,
    )  # fmt: skip
    return fields_of(facts, language)[0]


def check(expectation: str, **arguments: Any) -> Check:
    return Check.model_validate({"expectation": f"expect_column_values_to_{expectation}", "column": "x", **arguments})


TEXTS = counted("x", "value", values=("b", "a"), rows=[900, 100, 5, 0])
#: What is known → shape, values offered, whether another text is taken, whether it is needed.
SHAPES: dict[str, tuple[Field, tuple[str, list[str], bool, bool]]] = {
    "nothing known": (one("text"), ("text", [], False, False)),
    "values, and rare ones": (one("text", TEXTS), ("list", ["b", "a"], True, True)),
    "few values and no others": (
        one("text", counted("x", "value", values=("b", "a"), rows=[9, 1, 0, 3])), ("radios", ["b", "a"], False, False)),
    "many values and no others": (
        one("text", counted("x", "value", values=tuple("abcd"), rows=[9, 9, 9, 9, 0, 0])),
        ("list", list("abcd"), False, True)),
    "no value of enough rows": (one("text", counted("x", "value", rows=[30, 0])), ("text", [], False, True)),
    "a check with all values": (
        one("text", TEXTS, checks=(check("be_in_set", value_set=["a", "b", "c", "d"], on_failure="quarantine"),)),
        ("list", list("abcd"), False, True)),
    "a check that only warns": (
        one("text", TEXTS, checks=(check("be_in_set", value_set=["a"], on_failure="warn"),)),
        ("list", ["b", "a"], True, True)),
    "a check of most rows": (
        one("text", TEXTS, checks=(check("be_in_set", value_set=["a"], mostly=0.9),)),
        ("list", ["b", "a"], True, True)),
    "a value that the card names": (
        one("text", TEXTS, card="## Values\n| column | value |\n|--|--|\n| x | rare |\n| y | no |\n"),
        ("list", ["b", "a", "rare"], True, True)),
    "long texts": (
        one("text", counted("x", "length", edges=(1, 50, 300), rows=[0, 400, 500, 100, 0])),
        ("long_text", [], False, True)),
    "short texts": (
        one("text", counted("x", "length", edges=(1, 9, 30), rows=[0, 400, 500, 100, 0])), ("text", [], False, True)),
    "a number that must not be empty": (one("number", checks=(check("not_be_null"),)), ("number", [], False, True)),
    "a boolean": (one("boolean", counted("x", "boolean", edges=(1,), rows=[5, 5, 1])), ("yes_no", [], False, False)),
    "a date": (one("date"), ("date", [], False, False)),
    "a moment": (one("timestamp"), ("moment", [], False, False)),
    "an integer": (one("integer"), ("number", [], False, False)),
}  # fmt: skip


@pytest.mark.parametrize("known", SHAPES)
def test_how_a_column_is_asked_for_follows_from_what_is_known_of_it(known: str) -> None:
    field, expected = SHAPES[known]
    assert (field.shape, [c.value for c in field.choices], field.other, field.needed) == expected


#: Counts → the note about what is usual.
USUAL = {
    (10, 50, 90): "usually 10 to 90",
    (0, 5e-324): "usually 0",
    (1234, 5000, 87_654): "usually 1,200 to 88,000",
}


@pytest.mark.parametrize("edges", USUAL)
def test_what_is_usual_is_said_in_two_digits(edges: tuple[float, ...]) -> None:
    rows = [30, *[400] * (len(edges) - 1), 20, 0]
    assert one("number", counted("x", "number", edges=edges, rows=rows)).notes == (USUAL[edges],)


def test_what_is_usual_is_not_said_of_few_rows_nor_of_what_is_no_number() -> None:
    few = counted("x", "number", edges=(10, 50, 90), rows=[10, 89, 90, 10, 0])
    assert one("number", few).notes == ()
    assert one("number", replace(few, counts=few.counts + 1)).notes != ()
    age = counted("x", "age", edges=(10, 50, 90), rows=[30, 400, 400, 20, 0])
    assert one("date", age).notes == ()
    # The first bin holds more than a tenth: the decile is below every edge.
    assert one("number", counted("x", "number", edges=(10, 90), rows=[300, 400, 20, 0])).notes == ()


@pytest.mark.parametrize("rows", [211, 5_003])
def test_what_is_usual_holds_eight_of_ten_of_the_rows_that_the_bins_were_found_in(rows: int) -> None:
    values = np.random.default_rng(rows).lognormal(11, 1, rows).round(2)
    bins = choose_bins("x", "number", pa.array(values))
    found = Counted(bins, counts_of_numbers(values, bins.edges)[None, :], np.array([False]))
    low, high = (float(part.replace(",", "")) for part in re.findall(r"[\d,]+", one("number", found).notes[0]))
    assert 0.75 < ((low <= values) & (values <= high)).mean() < 0.85


def test_the_order_is_that_of_the_card_then_of_the_signature() -> None:
    facts = with_card(loan_facts(), "## Columns\n| column |\n|---|\n| homeownership |\n| gone |\n| income |\n")
    names = [field.name for field in fields_of(facts, "en")]
    rest = [c.name for c in facts.features if c.name not in ("homeownership", "income")]
    assert names == ["homeownership", "income", *rest]
    assert [field.place for field in fields_of(facts, "en")] == list(range(len(names)))


def test_without_a_card_a_column_is_called_by_its_name() -> None:
    facts = with_card(loan_facts(), "")
    labels = {field.name: field.label for field in fields_of(facts, "pt")}
    assert labels["num_mort_accounts"] == "Num mort accounts"


def test_groups_are_neighbours_with_the_same_word() -> None:
    assert [name for name, _ in grouped(fields_of(loan_facts(), "pt"))] == [
        "Sobre o empréstimo", "Sobre você", "O seu histórico de crédito",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("income", 84_000.5, "84.000,5 dólares"), ("homeownership", "OWN", "Própria"), ("loan_purpose", "boat", "boat"),
     ("debt_to_income", None, "em branco")],
)  # fmt: skip
def test_a_value_is_shown_in_the_words_of_the_card(name: str, value: Any, said: str) -> None:
    fields = {field.name: field for field in fields_of(loan_facts(), "pt")}
    assert show_value(fields[name], value, "pt") == said
