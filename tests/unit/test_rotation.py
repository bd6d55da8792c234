"""Cases that take turns: none waits for longer than is promised, and no run goes without."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import rotation
from tests.postgres import crash_points
from tests.postgres.crash_points import POINTS, WAYS


@given(cases=st.integers(1, 200), first=st.integers(0, 10**6), step=st.integers(1, rotation.RUNS - 1))
def test_every_case_has_its_turn_within_the_promised_runs(cases: int, first: int, step: int) -> None:
    """Whether the number moves by one, or by two because there was a commit before each run."""
    runs = [rotation.turn(range(cases), first + step * run) for run in range(rotation.RUNS)]
    seen = Counter(case for run in runs for case in run)
    assert seen.keys() == set(range(cases))
    assert all(runs)
    if cases >= rotation.RUNS:
        assert set(seen.values()) == {1}


def test_every_crash_point_is_killed_in_every_way_within_the_promised_runs() -> None:
    runs = [crash_points.chosen(POINTS, number) for number in range(rotation.RUNS)]
    assert {kill for run in runs for kill in run} == {(point, way) for point in POINTS for way in WAYS}
    for run in runs:
        killed = {point for point, _ in run}
        assert all(killed & set(transaction) for transaction in crash_points.transactions(POINTS)), "each one is killed"
    assert crash_points.chosen(POINTS, 5 + 77 * rotation.RUNS) == runs[5], "whichever number is the first"


def test_a_zombie_stands_still_in_every_step_of_each_run_and_everywhere_within_the_promised_runs() -> None:
    runs = [crash_points.some_of_each_step(POINTS, number) for number in range(rotation.RUNS)]
    assert {point for run in runs for point in run} == set(POINTS)
    steps = {point.split(maxsplit=1)[0] for point in POINTS}
    assert all({point.split(maxsplit=1)[0] for point in run} == steps for run in runs)


def test_crash_points_are_cut_after_each_commit_and_between_steps_and_threads() -> None:
    transactions = crash_points.transactions(POINTS)
    assert [point for transaction in transactions for point in transaction] == POINTS
    for transaction in transactions:
        assert len({crash_points.place_of(point) for point in transaction}) == 1
        assert [point for point in transaction[:-1] if " after COMMIT" in point] == []
    commits = sum(" after COMMIT" in point for point in POINTS)
    ends = sum(" after COMMIT" in transaction[-1] for transaction in transactions)
    assert ends == commits > 40


class Remembered(dict[str, int]):
    """pytest's cache."""

    set = dict.__setitem__


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of the whole suite outside git."""
    monkeypatch.delenv("PONTE_CRASH_POINTS", raising=False)
    option = SimpleNamespace(keyword="", markexpr="", collectonly=False, maxfail=0)
    source = pytest.Config.ArgsSource.TESTPATHS
    return SimpleNamespace(option=option, args_source=source, cache=Remembered(), rootpath=tmp_path)


def run(config: Any, monkeypatch: pytest.MonkeyPatch, *, given: str = "", status: int = pytest.ExitCode.OK) -> int:
    """Begin and end a run; return its number."""
    monkeypatch.setenv(rotation.VARIABLE, given)
    counter = rotation.Counter(config)
    number = rotation.number()
    assert f"{rotation.VARIABLE}={number} " in counter.pytest_report_header()
    counter.pytest_sessionfinish(SimpleNamespace(config=config), status)  # type: ignore[arg-type]
    return number


def test_the_number_moves_on_with_every_run_of_the_whole_suite(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = pytest.ExitCode.TESTS_FAILED
    assert [run(config, monkeypatch, status=status) for status in (0, failed, 0)] == [0, 1, 2]
    config.cache = None
    assert run(config, monkeypatch) == 0


def test_the_number_counts_commits_too(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_commits", lambda _: 500)
    assert [run(config, monkeypatch) for _ in range(2)] == [500, 501]


def test_a_number_that_was_given_is_taken_and_not_counted(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(config, monkeypatch, given="77") == 77
    assert run(config, monkeypatch) == 0


@pytest.mark.parametrize(
    ("name", "value"), [("keyword", "publishing"), ("markexpr", "fast"), ("collectonly", True), ("maxfail", 1)]
)
def test_a_selection_does_not_move_the_number_on(
    config: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    """The cases that it left out would lose their turn."""
    setattr(config.option, name, value)
    run(config, monkeypatch)
    assert run(config, monkeypatch) == 0


def test_neither_a_folder_nor_an_interrupted_run_nor_chosen_points_move_the_number_on(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config, monkeypatch, status=pytest.ExitCode.INTERRUPTED)
    assert run(config, monkeypatch) == 0
    config.args_source = pytest.Config.ArgsSource.ARGS
    assert run(config, monkeypatch) == 1
    monkeypatch.setenv("PONTE_CRASH_POINTS", "guard")
    config.args_source = pytest.Config.ArgsSource.TESTPATHS
    assert [run(config, monkeypatch) for _ in range(2)] == [1, 1]
