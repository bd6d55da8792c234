"""Order: the end-to-end tests tell one story."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of this folder last and in the order of the file, which pytest-randomly has shuffled."""
    story = [item for item in items if item.path.is_relative_to(HERE)]
    story.sort(key=lambda item: (item.path, item.reportinfo()[1] or 0))
    items[:] = [item for item in items if not item.path.is_relative_to(HERE)] + story
