"""Fixtures of the tests that disturb a scoring run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cluster
    from tests.postgres.stages import Stages


@pytest.fixture(scope="session")
def stages(server: Cluster, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """A scoring run before each of its steps; it takes some seconds, once."""
    from tests.postgres.stages import prepare

    with prepare(server, migrated, tmp_path_factory.mktemp("stages")) as found:
        yield found
