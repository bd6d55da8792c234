"""What a card says for the form: three tables of README.md, each below a heading of its name.

- `Columns`: | column | group | label | unit | help |, a row per feature, in the order in which they are asked;
- `Values`: | column | value | label |, for values that are chosen, and with the column `label` for classes;
- `Form`: | text | en |, with the rows of FORM_TEXTS.

A heading `label (pt)` is the label in Portuguese, and so on; without it, or where its cell is empty, the plain one
holds in every language. All that is not said falls back on names, made readable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ponte.errors import Problem, did_you_mean
from ponte.forms.words import LANGUAGES, Language

FILE = "README.md"
#: The name that Values has for the classes of the model: no feature can have it.
CLASSES = "label"

#: Table → its headings; those before the bar are needed, the others come in each language.
_HEADINGS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "columns": (("column",), ("group", "label", "unit", "help")),
    "values": (("column", "value"), ("label",)),
    "form": (("text",), LANGUAGES),
}
#: Text of the form → what it may have in braces.
FORM_TEXTS: Mapping[str, tuple[str, ...]] = {
    "title": (),
    "introduction": (),
    "ask": (),
    "answer": ("value", "class"),
    "interval": ("share", "low", "high"),
    "yes": ("value",),
    "no": ("value",),
    "least": (),
    "most": (),
}
#: Texts of the form that are numbers, as English and Python write them.
FORM_NUMBERS = ("least", "most")

_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$")
_RULE = re.compile(r"^:?-+:?$")
_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class ColumnWords:
    """What the card says of a column: heading, as `label` or `label (pt)` → text."""

    name: str
    said: Mapping[str, str]

    def get(self, what: str, language: Language) -> str:
        """Return group, label, unit or help in a language; "" when nothing is said."""
        return self.said.get(f"{what} ({language})") or self.said.get(what, "")


@dataclass(frozen=True, slots=True)
class CardWords:
    """What a card says for the form."""

    #: In the order of the card.
    columns: Mapping[str, ColumnWords] = field(default_factory=dict)
    #: (column, value) → what is said of the value.
    values: Mapping[tuple[str, str], ColumnWords] = field(default_factory=dict)
    #: (text, language) → the text.
    texts: Mapping[tuple[str, Language], str] = field(default_factory=dict)

    def label_of(self, column: str, value: str, language: Language) -> str:
        """Return how a value is called; "" when the card does not say."""
        found = self.values.get((column, value))
        return found.get("label", language) if found else ""

    def text(self, name: str, language: Language) -> str:
        """Return a text of FORM_TEXTS in a language, or in the first one; "" when the card does not say."""
        return self.texts.get((name, language)) or self.texts.get((name, LANGUAGES[0]), "")

    def number(self, name: str) -> float | None:
        """Return one of FORM_NUMBERS; None when the card does not say."""
        return _number(self.text(name, LANGUAGES[0]))


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: Mapping[str, str]


def read_card(card: str) -> CardWords:
    """Return what the card says; what of it cannot be meant is left out."""
    found = {name: [row for row, _ in _rows(card, name) if row.cells] for name in _HEADINGS}
    columns = {row.cells["column"]: ColumnWords(row.cells["column"], row.cells) for row in reversed(found["columns"])}
    values = {
        (row.cells["column"], row.cells["value"]): ColumnWords(row.cells["value"], row.cells) for row in found["values"]
    }
    texts = {
        (row.cells["text"], language): row.cells[language]
        for row in found["form"]
        for language in LANGUAGES
        if row.cells["text"] in FORM_TEXTS and row.cells.get(language)
    }
    return CardWords(dict(reversed(columns.items())), values, texts)


def card_problems(card: str, features: Sequence[str]) -> list[Problem]:
    """Return what of the card's tables cannot be meant.

    features : names of the features of the model.
    """
    problems: list[Problem] = []
    for table, (needed, more) in _HEADINGS.items():
        known = [*needed, *(h for name in more for h in (name, *_in_languages(table, name)))]
        seen: set[str] = set()
        for row, wrong in _rows(card, table, known):
            place = f"{table.capitalize()}"
            for what, fix in [*wrong, *_faults(table, row.cells, features, seen)]:
                problems.append(Problem(file=FILE, field=place, what=what, fix=fix, line=row.line))
    return problems


def _in_languages(table: str, name: str) -> list[str]:
    return [] if table == "form" else [f"{name} ({language})" for language in LANGUAGES]


def _faults(table: str, cells: Mapping[str, str], features: Sequence[str], seen: set[str]) -> Iterator[tuple[str, str]]:
    if not cells:
        return
    name = cells["text"] if table == "form" else cells["column"]
    known = {"columns": features, "values": [*features, CLASSES], "form": list(FORM_TEXTS)}[table]
    if name not in known:
        yield f"unknown {'text' if table == 'form' else 'column'} {name!r}", did_you_mean(name, known)
    twice = f"{name} {cells['value']}" if table == "values" else name
    if twice in seen:
        yield f"{twice!r} stands there twice", "leave one of them out"
    seen.add(twice)
    if table == "form" and name in FORM_NUMBERS and _number(cells.get("en", "")) is None:
        yield f"{name!r} is no number: {cells.get('en', '')!r}", "write it like 1000 or 0.5, in the column en"
    if table == "form" and name in FORM_TEXTS:
        for part in _BRACES.findall(" ".join(cells.values())):
            if part not in FORM_TEXTS[name]:
                expected = " and ".join(f"{{{p}}}" for p in FORM_TEXTS[name]) or "no braces"
                yield f"{name!r} cannot say {{{part}}}", f"it can say {expected}"


def _rows(card: str, table: str, known: Sequence[str] = ()) -> Iterator[tuple[_Row, list[tuple[str, str]]]]:
    """Yield the rows of a table, each with what is wrong with its shape; those of a wrong shape have no cells.

    known : its headings; with () nothing is wrong with a heading.
    """
    headings: list[str] | None = None
    needed = _HEADINGS[table][0]
    for line, cells in _table(card, table):
        if headings is None:
            headings = [cell.lower() for cell in cells]
            wrong = [(f"unknown heading {h!r}", did_you_mean(h, known)) for h in headings if known and h not in known]
            wrong += [
                (f"the heading {h!r} is missing", "add the column to the table") for h in needed if h not in headings
            ]
            if wrong:
                yield _Row(line, {}), wrong
            if any(h not in headings for h in needed):
                return
        elif all(_RULE.fullmatch(cell) for cell in cells):
            continue
        elif len(cells) != len(headings):
            fix = "write a bar within a text as \\|"
            yield _Row(line, {}), [(f"a row has {len(cells)} cells, and there are {len(headings)} headings", fix)]
        elif any(cells):
            yield _Row(line, dict(zip(headings, cells, strict=True))), []


def _table(card: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of each row, headings and rule too, of the first table below the heading `name`."""
    below = started = fenced = False
    for number, line in enumerate(card.splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading:
            if started:
                return
            below = heading[1].strip().lower() == name
        elif below and not fenced and line.strip().startswith("|"):
            started = True
            yield number, _cells(line.strip())
        elif started:
            return


def _cells(line: str) -> list[str]:
    inner = line[1:].removesuffix("|") if not line.endswith("\\|") else line[1:]
    return [_plain(cell.replace("\\|", "|").strip()) for cell in re.split(r"(?<!\\)\|", inner)]


def _plain(cell: str) -> str:
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == "`" else cell


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def readable(name: str) -> str:
    """Return a name as people write it.

    >>> readable("num_mort_accounts"), readable("DEBT-to-income"), readable("_")
    ('Num mort accounts', 'DEBT-to-income', '_')
    """
    words = " ".join(name.replace("_", " ").split())
    return words[:1].upper() + words[1:] if words else name
