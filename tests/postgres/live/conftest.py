"""A model that answers one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.postgres.schema.test_roles import as_role, opened

from ponte.live.tables import LiveTable, prepare
from ponte.schema import roles
from ponte.storage.columns import Column
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    from tests.sample_model import World

    from ponte.versions.registry import Version


@pytest.fixture
def live(trained: World) -> World:
    """A champion, its live table, and the rights of a platform; the world is its owner's."""
    world = opened(trained)
    prepare(as_role(world, roles.API).db, "visits")
    return world


@pytest.fixture
def table(live: World) -> LiveTable:
    """The table of its rows."""
    return LiveTable.of(live.champion())


def add_model(
    world: World,
    model: str,
    *,
    key: tuple[Column, ...] = (),
    task: str = "binary",
    label: str = "integer",
    version: int = 1,
) -> Version:
    """Register a version of another model and make it champion; nothing can load it."""
    old = world.champion()
    signature = Signature(key=key or old.signature.key, features=old.signature.features, label=label)  # type: ignore[arg-type]
    classes: dict[str, Any] = {"binary": [0, 1], "multiclass": ["a", "b", "c"], "regression": None}
    world.execute(
        "INSERT INTO ponte.version SELECT (jsonb_populate_record(v, jsonb_build_object('model', CAST(:model AS text), "
        "'version', CAST(:version AS integer), 'train_key', CAST(:model AS text) || :version, "
        "'task', CAST(:task AS text), "
        "'threshold', NULL, 'signature', CAST(:signature AS jsonb), 'classes', CAST(:classes AS jsonb)))).* "
        "FROM ponte.version v WHERE model = 'visits' AND version = 1",
        model=model, version=version, task=task, signature=json.dumps(signature.as_json()),
        classes=json.dumps(classes[task]),
    )  # fmt: skip
    world.execute(
        "INSERT INTO ponte.alias_event (model, alias, version, previous_version, previous_event_id, actor, reason) "
        "SELECT :model, 'champion', :version, e.version, e.event_id, 'tests', 'tests' FROM (SELECT 1) AS one LEFT JOIN "
        "LATERAL (SELECT * FROM ponte.alias_event WHERE model = :model ORDER BY event_id DESC LIMIT 1) AS e ON true",
        model=model, version=version,
    )  # fmt: skip
    return replace(old, model=model, version=version, task=task, signature=signature)  # type: ignore[arg-type]
