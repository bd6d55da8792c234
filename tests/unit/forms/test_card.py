"""What a card says for the form, and what of it cannot be meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sample_form import loan_facts, loan_folder

from ponte.forms.card import card_problems, read_card, readable
from ponte.forms.words import LANGUAGES

CARD = """\
# A model

## Columns
Some words before the table.

| Column | Label | Label (pt) | Unit | Help |
|:---|:--:|---|---|--:|
| `income` | Income \\| pay | Renda | dollars | |
| home | | Casa | | where you live |

| another | table |
|---|---|
| income | no |

## Values ##
| column | value | label |
|---|---|---|
| home | OWN | Owned |
| label | true | late |

### form
| text | en | pt |
|---|---|---|
| title | How much? | Quanto? |
| answer | About {value} | |
"""


def test_the_tables_below_the_headings_are_read_in_the_order_of_the_card() -> None:
    words = read_card(CARD)
    assert list(words.columns) == ["income", "home"]
    income, home = words.columns.values()
    assert [income.get(what, "en") for what in ("label", "unit", "help", "group")] == [
        "Income | pay",
        "dollars",
        "",
        "",
    ]
    assert [income.get("label", "pt"), home.get("label", "en"), home.get("label", "pt")] == ["Renda", "", "Casa"]
    assert home.get("help", "pt") == "where you live"
    assert words.label_of("home", "OWN", "pt") == words.label_of("home", "OWN", "en") == "Owned"
    assert words.label_of("label", "true", "en") == "late"
    assert (words.text("title", "pt"), words.text("answer", "pt")) == ("Quanto?", "About {value}")
    assert card_problems(CARD, ["income", "home"]) == []


def test_the_loan_form_says_all_of_its_columns_and_values_in_both_languages() -> None:
    facts, card = loan_facts(), loan_folder().card
    names = [column.name for column in facts.features]
    assert card_problems(card, names) == []
    assert set(facts.words.columns) == set(names)
    for language in LANGUAGES:
        labels = [said.get("label", language) for said in facts.words.columns.values()]
        assert all(labels)
        assert len(set(labels)) == len(labels)
    for said in [*facts.words.columns.values(), *facts.words.values.values()]:
        assert said.get("label", "pt") == said.said["label (pt)"] != ""


#: Card → what is said of it.
WRONG = {
    "## Columns\n| column | label |\n|---|---|\n| incom | x |":
        "unknown column 'incom' (line 4) → did you mean 'income'?",
    "## Columns\n| column | label |\n|---|---|\n| home | x |\n| home | y |":
        "'home' stands there twice (line 5)",
    "## Columns\n| column | lable |\n|---|---|\n| home | x |":
        "unknown heading 'lable' (line 2) → did you mean 'label'?",
    "## Columns\n| label |\n|---|\n| x |":
        "the heading 'column' is missing (line 2)",
    "## Columns\n| column | label |\n|---|---|\n| home | a | b |":
        "a row has 3 cells, and there are 2 headings (line 4)",
    "## Values\n| column | value | label |\n|---|---|---|\n| hom | OWN | x |":
        "unknown column 'hom' (line 4)",
    "## Values\n| column | value |\n|---|---|\n| home | A |\n| home | A |":
        "'home A' stands there twice (line 5)",
    "## Form\n| text | en |\n|---|---|\n| tittle | x |":
        "unknown text 'tittle' (line 4) → did you mean 'title'?",
    "## Form\n| text | fr |\n|---|---|\n| title | x |":
        "unknown heading 'fr' (line 2)",
    "## Form\n| text | en |\n|---|---|\n| least | 1.000,0 |":
        "'least' is no number: '1.000,0' (line 4)",
    "## Form\n| text | en |\n|---|---|\n| answer | {amount} |":
        "'answer' cannot say {amount} (line 4) → it can say {value}",
}  # fmt: skip


@pytest.mark.parametrize("card", WRONG)
def test_what_cannot_be_meant_is_told_with_its_line_and_a_guess(card: str) -> None:
    (problem,) = card_problems(card, ["income", "home"])
    assert WRONG[card] in str(problem)
    read_card(card)


@given(st.text(alphabet=st.sampled_from("#|-` \\\n:ColumnsValueForm{}\x00é"), max_size=200), st.text(max_size=50))
def test_any_card_is_read(middle: str, end: str) -> None:
    card = f"## Columns\n| column | label |\n{middle}\n## Form\n{end}"
    read_card(card)
    card_problems(card, ["income"])


def test_a_name_without_words_is_made_readable() -> None:
    assert [readable(name) for name in ("total_credit_limit", "own", "_", "")] == ["Total credit limit", "Own", "_", ""]
