"""In which order the tests run, and what the workers of pytest-xdist share out among them.

A worker has an embedded PostgreSQL of its own, and its own home of Airflow. It takes a file as a whole, because the
fixtures of a file are made once, and of some folders all files. What takes longest comes first, so that at the end no
worker waits for another: the story of tests/e2e takes minutes and mostly waits.

pytest-randomly has shuffled the files, and the tests within each; that stays as it is within a folder, but stories are
told in the order of their file. With the same --randomly-seed each file runs in the same order again, also with -n 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
#: Folders whose files are one worker's: a story, dag.test() in one process, data that take long to load.
TOGETHER = {"e2e", "dags", "models"}
STORIES = {"e2e"}
#: The folders that take longest, the longest first. The order of the others does not matter.
FIRST = ("e2e", "dags", "postgres", "models")


def folder_of(file: str) -> str:
    """Return the name of the folder below tests/ that a file is in.

    >>> folder_of("tests/e2e/test_stack.py")
    'e2e'
    """
    return file.split("/")[1]


def together(nodeid: str) -> str:
    """Return the name of the pile that a test belongs to; one worker takes a pile as a whole."""
    file = nodeid.partition("::")[0]
    return folder_of(file) if folder_of(file) in TOGETHER else file


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the folders, and the tests of a story; leave all else as pytest-randomly has shuffled it."""
    many = hasattr(config, "workerinput")

    def place(item: pytest.Item) -> tuple[int, str, int]:
        folder = folder_of(item.nodeid)
        story = (str(item.path), item.reportinfo()[1] or 0) if folder in STORIES else ("", 0)
        if many:
            return FIRST.index(folder) if folder in FIRST else len(FIRST), *story
        return folder in STORIES, *story  # whoever runs all in one process hears first of what is fast

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Hand out piles in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Piles(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    config.option.loadscopereorder = False  # it would begin with the file of the most tests
    return Piles(config, log)
