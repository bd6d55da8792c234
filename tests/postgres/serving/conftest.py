"""The API of a world in which version 1 of `visits` is champion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cluster, Template
    from tests.postgres.serving.served import Served
    from tests.sample_model import World


@pytest.fixture(scope="module")
def served(server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for tests that change nothing but counts."""
    from tests.postgres.serving.served import Served

    with trained_template.copy(server, tmp_path_factory.mktemp("served")) as world:
        found = Served(world)
        yield found
        found.stop()


@pytest.fixture
def own(trained: World) -> Iterator[Served]:
    """One for a test that changes versions, keys or the database."""
    from tests.postgres.serving.served import Served

    found = Served(trained)
    yield found
    found.stop()
