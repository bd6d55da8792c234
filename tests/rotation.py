"""Some tests choose from more cases than one run has time for. They take turns: another part in every run.

Every run has a number. It is PONTE_CRASH_ROUND where that is set. Otherwise it is the number of commits, which moves on
with every change in a fresh clone, plus the number of runs of the whole suite that this working copy remembers in
pytest's cache. pytest prints it first; with PONTE_CRASH_ROUND=<number> a run takes the same cases again.

What is promised: in RUNS runs whose numbers follow each other every case has its turn at least once. RUNS is a prime,
so that this also holds for numbers in steps of two or three, as when there is a commit before every run. What is not
promised: a number that nobody runs is a part that nobody takes until its turn comes again. And in a shallow clone the
number of commits does not move: there PONTE_CRASH_ROUND has to be set, for example to the number of the job.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

#: Within so many runs every case has its turn.
RUNS = 31
VARIABLE = "PONTE_CRASH_ROUND"

_REMEMBERED = "ponte/runs"
T = TypeVar("T")


def number() -> int:
    """Return the number of this run."""
    return int(os.environ[VARIABLE])


def turn(cases: Sequence[T], number: int) -> list[T]:
    """Return the cases whose turn it is: always at least one, and every one of them in RUNS runs.

    >>> [turn("abc", number) for number in range(4)]
    [['a'], ['b'], ['c'], ['a']]
    >>> turn(range(100), 33)
    [2, 33, 64, 95]
    """
    if not cases:
        return []
    return [cases[place % len(cases)] for place in range(number % RUNS, max(len(cases), RUNS), RUNS)]


class Counter:
    """Gives the run its number, says it, and moves it on when the whole suite has run."""

    def __init__(self, config: pytest.Config) -> None:
        self.cache: pytest.Cache | None = getattr(config, "cache", None)  # none with -p no:cacheprovider
        self.runs = int(self.cache.get(_REMEMBERED, 0)) if self.cache is not None else 0
        self.given = bool(os.environ.get(VARIABLE))
        if not self.given:
            # The workers inherit it: they have to agree on the tests there are.
            os.environ[VARIABLE] = str(_commits(config.rootpath) + self.runs)

    def pytest_report_header(self) -> str:
        """Say how to take the same cases again."""
        return f"{VARIABLE}={number()} chooses the crash points; {RUNS} runs in a row take them all"

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Move on. A selection does not: who repeats one test wants the same one, and the others had no turn."""
        option = session.config.option
        selected = session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS
        selected |= bool(option.keyword or option.markexpr or option.collectonly or option.maxfail)
        finished = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
        if finished and self.cache is not None and not (selected or self.given or os.environ.get("PONTE_CRASH_POINTS")):
            self.cache.set(_REMEMBERED, self.runs + 1)


def _commits(root: Path) -> int:
    """Return the number of commits that lead to this one, 0 outside git."""
    try:
        command = ["git", "rev-list", "--count", "HEAD"]
        return int(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return 0
