"""A notebook beside the shop: the environment names its database, as the roles that a notebook works as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cluster
    from tests.sample_model import World


@pytest.fixture
def notebook(trained: World, server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world in which version 1 of `visits` is champion; `ponte.notebook` finds it by the environment."""
    connect(trained, server, tmp_path, monkeypatch)
    return trained


def connect(world: World, server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ponte.schema import roles

    database = str(world.db.url.database)
    with world.db.begin() as connection:
        roles.open_source(connection, "shop")
    for role in (roles.TRAINER, roles.PROMOTER):
        monkeypatch.setenv(f"AIRFLOW_CONN_{role.upper()}", server.url(database, role))
    monkeypatch.setenv("PONTE_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PONTE_HOME", str(tmp_path / "home"))
