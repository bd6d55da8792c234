"""What is typed into a form of a decision, read: the conf of a run, or what is wrong, field by field."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from ponte.steering.actions import ACTIONS, BY_NAME, MARKS
from ponte.steering.reading import LONGEST_REASON, MOST_DAYS, asked_for, read_form
from ponte.versions.marks import Mark
from ponte.versions.registry import LARGEST_VERSION

MANY = " ".join(["2024-02-12"] * MOST_DAYS)


def test_the_marks_of_the_form_are_those_that_the_table_takes() -> None:
    assert get_args(Mark) == MARKS


def test_each_field_is_read_by_its_kind_and_asked_of_a_list_that_there_is() -> None:
    for action in ACTIONS:
        assert BY_NAME[action.name] is action
        for field in action.fields:
            assert bool(field.of) == bool(field.asked), "what is chosen from a list is filled in by an address"
            assert (field.kind == "word") == bool(field.words)


@pytest.mark.parametrize(
    ("action", "field", "sent", "value"),
    [
        ("promote", "version", ["3"], 3),
        ("promote", "version", [" 3 ", "3", ""], 3),
        ("promote", "version", [str(LARGEST_VERSION)], LARGEST_VERSION),
        ("judge", "version", [], None),
        ("judge", "version", [" "], None),
        ("score", "window_start", [], None),
        ("score", "window_start", ["", "2024-02-12"], "2024-02-12"),
        ("train", "as_of", ["2024-02-12"], "2024-02-12"),
        ("score", "allow_hindsight", [], False),
        ("score", "allow_hindsight", ["on"], True),
        ("roll-back", "windows", [], []),
        ("roll-back", "windows", ["2024-02-19", "2024-02-12, 2024-02-19;2024-02-26"],
         ["2024-02-12", "2024-02-19", "2024-02-26"]),
        ("roll-back", "windows", [MANY], ["2024-02-12"]),
        ("mark", "mark", ["not bad"], "not bad"),
        ("alarm", "action", ["close"], "close"),
        ("promote", "reason", [" why "], "why"),
        ("promote", "reason", ["x" * LONGEST_REASON], "x" * LONGEST_REASON),
        ("promote", "reason", ["<b>\u202e&"], "<b>\u202e&"),
    ],
)  # fmt: skip
def test_what_is_typed_becomes_what_the_dag_takes(action: str, field: str, sent: list[str], value: Any) -> None:
    typed = read_form(BY_NAME[action], {field: sent})
    assert field not in typed.problems
    assert typed.conf.get(field) == value
    assert (field in typed.conf) is (value is not None), "what is left empty is not said"
    assert typed.values[field] == [text.strip() for text in sent if text.strip()]


@pytest.mark.parametrize(
    ("action", "field", "sent", "said"),
    [
        ("promote", "version", [], "Choose one."),
        ("promote", "version", ["0"], "'0' is no number of a version."),
        ("promote", "version", ["-1"], "is no number"),
        ("promote", "version", ["1.0"], "is no number"),
        ("promote", "version", ["²"], "is no number"),
        ("promote", "version", ["٣"], "is no number"),
        ("promote", "version", [str(LARGEST_VERSION + 1)], "is no number"),
        ("promote", "version", ["9" * 5_000], f"'{'9' * 60}…' is no number"),
        ("promote", "version", ["1", "2"], "This takes one, and there are 2: '1', '2'."),
        ("promote", "version", ["1", "2", "3", "4"], "there are 4: '1', '2', '3'."),
        ("score", "window_start", ["2024-02-30"], "'2024-02-30' is not a day: expected YYYY-MM-DD"),
        ("score", "window_start", ["2024-W07-1"], "is not a day"),
        ("score", "window_start", ["2024-02-12", "2024-02-19"], "This takes one"),
        ("roll-back", "windows", ["2024-02-12 soon"], "'soon' is not a day"),
        ("roll-back", "windows", [MANY, "2024-02-12"], f"{MOST_DAYS + 1} windows at once: at most {MOST_DAYS}."),
        ("mark", "mark", [], "Choose one."),
        ("mark", "mark", ["worse"], "'worse' is none of: bad, not bad"),
        ("promote", "reason", [], "Say why, in at least 3 characters."),
        ("promote", "reason", [" no "], "Say why"),
        ("promote", "reason", ["x" * (LONGEST_REASON + 1)], "2,001 characters: at most 2,000."),
        ("promote", "reason", ["be\0cause"], "U+0000"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_at_its_field_and_stays(action: str, field: str, sent: list[str], said: str) -> None:
    typed = read_form(BY_NAME[action], {field: sent})
    assert said in typed.problems[field]
    assert len(typed.problems[field]) < 250
    assert field not in typed.conf
    assert typed.values[field] == [text.strip() for text in sent]


def test_what_no_field_asks_for_is_not_taken() -> None:
    typed = read_form(BY_NAME["judge"], {"version": ["1"], "reason": ["because"], "model": ["theirs"]})
    assert typed.conf == {"version": 1}


def test_an_address_fills_in_the_fields_that_ask_for_it() -> None:
    address = {"version": ["2"], "window": ["2024-02-12", "2024-02-19"], "reason": ["theirs"], "allow_bad": ["on"]}
    found = {name: texts for name, texts in asked_for(BY_NAME["roll-back"], address).items() if texts}
    assert found == {"version": ["2"], "windows": ["2024-02-12", "2024-02-19"]}


def test_the_button_says_what_the_switches_make_of_the_decision() -> None:
    challenge = BY_NAME["challenge"]
    assert challenge.pressed({"version": ["3"]}) == challenge.button
    assert challenge.pressed({"version": ["3"], "withdraw": []}) == challenge.button
    assert challenge.pressed({"version": ["3"], "withdraw": ["on"]}) == "Withdraw it"
