"""The fields of a form: from the signature of the version, its reference, its card, and the author's checks.

Only values that at least LEAST_ROWS training rows had are in a reference at all, and only those, or what the author
wrote into a check, are offered. The list of categories that a version keeps holds rarer ones, and is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ponte.counting.choosing import LEAST_ROWS
from ponte.counting.reference import Counted
from ponte.forms.card import CardWords, read_card, readable
from ponte.forms.numbers import hint
from ponte.forms.words import Language, say
from ponte.model.spec import Check, Task
from ponte.storage.columns import Column, Family
from ponte.versions.registry import Version

#: How a value is typed in.
Shape = Literal["number", "text", "long_text", "yes_no", "radios", "list", "date", "moment"]
#: So many choices are seen at once; more are a list that unfolds.
FEW_CHOICES = 3
#: A column whose texts are longer than this, in one of ten rows, gets a field of several lines.
LONG_TEXT = 60
#: Deciles are told of so many rows at least: then LEAST_ROWS stand behind each.
ENOUGH_ROWS = LEAST_ROWS * 10
#: How far the share of rows below a decile may be from its tenths.
NEAR = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class FormFacts:
    """What a form needs to know of the version that answers."""

    model: str
    version: int
    #: One line, of model.toml.
    description: str
    task: Task
    features: tuple[Column, ...]
    #: The labels, the positive one last in a binary task; () in a regression.
    classes: tuple[Any, ...] = ()
    #: Its features, counted in all its training windows; () of a version from before there were counts.
    counted: tuple[Counted, ...] = ()
    #: The tables of its card.
    words: CardWords = field(default_factory=CardWords)
    checks: tuple[Check, ...] = ()
    #: Of a regression: from this prediction on the answer is yes.
    decision: float | None = None
    #: Of a regression: share of outcomes that the interval holds.
    interval: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that is offered."""

    value: str
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A column as it is asked for."""

    name: str
    #: Place in the form, from 0: of its HTML ids.
    place: int
    family: Family
    shape: Shape
    label: str
    group: str = ""
    unit: str = ""
    #: The author's help, and what else is to be known: the usual range, whether it may be left empty.
    notes: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    #: Whether another text than the choices is taken.
    other: bool = False
    #: Whether it must be filled in: the version has never seen it empty.
    needed: bool = False


def facts_of(version: Version, counted: tuple[Counted, ...], card: str) -> FormFacts:
    """Return what the form of a version knows by itself; description, checks and decision are the folder's of today.

    card : that which is kept with the version, "" without one.
    """
    return FormFacts(
        model=version.model,
        version=version.version,
        description="",
        task=version.task,
        features=version.signature.features,
        classes=version.output.classes,
        counted=counted,
        words=read_card(card),
        interval=version.interval,
    )


def fields_of(facts: FormFacts, language: Language) -> tuple[Field, ...]:
    """Return the fields: those that the card names, in its order, then the others, in the order of the signature."""
    by_name = {column.name: column for column in facts.features}
    named = [name for name in facts.words.columns if name in by_name]
    order = [*named, *(name for name in by_name if name not in facts.words.columns)]
    counted = {column.bins.name: column for column in facts.counted}
    return tuple(_field(facts, by_name[name], place, counted.get(name), language) for place, name in enumerate(order))


def grouped(fields: Sequence[Field]) -> list[tuple[str, list[Field]]]:
    """Return the fields in groups, in their order: neighbours of the same group are together."""
    groups: list[tuple[str, list[Field]]] = []
    for one in fields:
        if not groups or groups[-1][0] != one.group:
            groups.append((one.group, []))
        groups[-1][1].append(one)
    return groups


def _field(facts: FormFacts, column: Column, place: int, counted: Counted | None, language: Language) -> Field:
    said = facts.words.columns.get(column.name)

    def of_card(what: str) -> str:
        return said.get(what, language) if said else ""

    values, closed = _choices(facts, column, counted)
    needed = _needed(facts.checks, column.name, counted)
    notes = [
        of_card("help"),
        _usual(column.family, counted, language),
        say("in_utc", language) if column.family == "timestamp" else "",
        "" if needed else say("may_be_empty", language),
    ]
    return Field(
        name=column.name,
        place=place,
        family=column.family,
        shape=_shape(column.family, values, closed, counted),
        label=of_card("label") or readable(column.name),
        group=of_card("group"),
        unit=of_card("unit"),
        notes=tuple(note for note in notes if note),
        choices=tuple(Choice(v, facts.words.label_of(column.name, v, language) or readable(v) or "“”") for v in values),
        other=bool(values) and not closed,
        needed=needed,
    )


def _shape(family: Family, values: Sequence[str], closed: bool, counted: Counted | None) -> Shape:
    if family == "text":
        if values:
            return "radios" if len(values) <= FEW_CHOICES and closed else "list"
        high = _deciles(counted)[1] if counted and counted.bins.kind == "length" else None
        return "long_text" if high is not None and high > LONG_TEXT else "text"
    shapes: Mapping[Family, Shape] = {"boolean": "yes_no", "date": "date", "timestamp": "moment"}
    return shapes.get(family, "number")


def _stops(checks: Sequence[Check], expectation: str, column: str) -> Check | None:
    """Return the author's check of every row of a column, whose failure costs the row; None without one."""
    for check in checks:
        arguments = check.arguments
        every_row = "mostly" not in arguments and "row_condition" not in arguments
        if check.expectation == expectation and arguments.get("column") == column and every_row:
            return check if check.on_failure != "warn" else None
    return None


def _listed(checks: Sequence[Check], column: str) -> tuple[str, ...] | None:
    """Return all values that the author's check lets a column have; None when no check says."""
    check = _stops(checks, "expect_column_values_to_be_in_set", column)
    values = check.arguments.get("value_set") if check else None
    return tuple(str(value) for value in values) if isinstance(values, (list, tuple)) and values else None


def _choices(facts: FormFacts, column: Column, counted: Counted | None) -> tuple[tuple[str, ...], bool]:
    """Return the values that are offered, and whether there are no others: the check says so, or training had none."""
    if column.family != "text":
        return (), False
    if listed := _listed(facts.checks, column.name):
        return listed, True
    if counted is None or counted.bins.kind != "value" or not counted.bins.values:
        return (), False
    of_card = [value for name, value in facts.words.values if name == column.name]
    values = tuple(dict.fromkeys([*counted.bins.values, *of_card]))
    other = counted.bins.other
    return values, not counted.counts[:, other].any()


def _needed(checks: Sequence[Check], column: str, counted: Counted | None) -> bool:
    if _stops(checks, "expect_column_values_to_not_be_null", column):
        return True
    return counted is not None and bool(counted.counts.sum() > 0) and not counted.counts[:, -1].any()


def _usual(family: Family, counted: Counted | None, language: Language) -> str:
    """Return the sentence about the first and the last decile of a number; "" where too few rows stand behind."""
    if family not in ("integer", "number") or counted is None or counted.bins.kind != "number":
        return ""
    low, high = _deciles(counted)
    if low is None or high is None:
        return ""
    first, last = hint(low, language), hint(high, language)
    return say("usual_one", language, low=first) if first == last else say("usual", language, low=first, high=last)


def _deciles(counted: Counted | None) -> tuple[float | None, float | None]:
    """Return the first and the last decile, or the edges next to them, outwards; None of fewer than ENOUGH_ROWS values.

    The share of rows below a decile is not exactly a tenth: it lies between two rows, or is that of a sample.
    """
    if counted is None or not counted.bins.edges:
        return None, None
    counts = counted.counts.sum(axis=0)[:-1]
    rows = int(counts.sum())
    if rows < ENOUGH_ROWS:
        return None, None
    below = counts.cumsum()[:-1]  # per edge: the rows below it
    edges = counted.bins.edges
    low = [edge for edge, n in zip(edges, below, strict=True) if n <= (0.1 + NEAR) * rows]
    high = [edge for edge, n in zip(edges, below, strict=True) if n >= (0.9 - NEAR) * rows]
    return (low[-1] if low else None), (high[0] if high else None)
