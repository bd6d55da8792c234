"""Which tests are fast: those that need neither Airflow nor a database. `make test-fast` runs them, and no others.

Nobody keeps a list. Whatever starts a PostgreSQL asks for the fixture `postgres_programs`, and whatever imports or
starts Airflow for `airflow`, itself or through another fixture; all other tests are fast, and get the marker of that
name. A fast test that does such a thing all the same fails, and is told what to ask for. So does a module that does it
while the tests are collected, because then every run would wait for it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: The fixtures that make a test slow.
NEEDS = {"airflow", "postgres_programs"}

_SERVER = re.compile(r"(^|/)(pg_ctl|postgres|initdb)$")
_AIRFLOW = re.compile(r"(^|\s)(import|from|-m)\s+airflow\b|(^|/)airflow(\s|$)")

#: What is fast and goes on now.
_watched: str | None = None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast tests, before -m chooses."""
    for item in items:
        if not NEEDS & set(getattr(item, "fixturenames", ())):
            item.add_marker("fast")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Watch the modules of all tests while they are imported."""
    with watch("the collection of the tests"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Watch a fast test while its fixtures are made; they may end what other tests have started."""
    with watch(_fast(item)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Watch a fast test."""
    with watch(_fast(item)):
        return (yield)


def _fast(item: pytest.Item) -> str | None:
    return item.nodeid if item.get_closest_marker("fast") else None


@contextmanager
def watch(what: str | None) -> Iterator[None]:
    """Fail whatever imports or starts Airflow, or starts a server, until the context ends; None watches nothing."""
    global _watched  # noqa: PLW0603 - a hook of the interpreter cannot be handed anything
    before, _watched = _watched, what
    try:
        yield
    finally:
        _watched = before


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Look at what the interpreter is about to do; modules that are loaded already are not imported again."""
    if _watched is None or event not in {"import", "subprocess.Popen"}:
        return
    found = None
    if event == "import":
        found = "airflow" if arguments[0].partition(".")[0] == "airflow" else None
    else:
        program, words = os.fsdecode(arguments[0]), [os.fsdecode(word) for word in arguments[1]]
        if _SERVER.search(program) or any(map(_SERVER.search, words)):
            found = "postgres_programs"
        elif _AIRFLOW.search(program) or _AIRFLOW.search(" ".join(words)):
            found = "airflow"
    if found:
        what = {"airflow": "Airflow", "postgres_programs": "a PostgreSQL server"}[found]
        pytest.fail(f"{_watched} uses {what} without asking for the fixture `{found}`, see tests/fast.py")


sys.addaudithook(_audit)
