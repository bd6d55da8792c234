"""The door beside the shop: the environment names its database, as the roles that the commands work as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cluster
    from tests.sample_model import World


@pytest.fixture
def door(trained: World, server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world in which version 1 of `visits` is champion; `./ponte` finds it by the environment."""
    from ponte.schema import roles

    roles.grant(trained.db)
    with trained.db.begin() as connection:
        roles.open_source(connection, "shop")
    for role in (roles.TRAINER, roles.SCORER, roles.PROMOTER, roles.VIEWER):
        monkeypatch.setenv(f"AIRFLOW_CONN_{role.upper()}", server.url(str(trained.db.url.database), role))
    monkeypatch.setenv("PONTE_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PONTE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return trained
