"""Requests for the model `visits`, and a worker for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.sample_model import World

from ponte.model.spec import ModelSpec, Serving
from ponte.schema import roles
from ponte.storage.database import Database
from ponte.stream.worker import Worker
from ponte.versions.loading import load_registered

ROW = {"shop": "mill", "items": 1, "price": 55.46, "distance": 10.5, "member": False, "shop_rate": 0.3}


def as_role(world: World, role: str) -> World:
    """Return the world as a role sees it."""
    return replace(world, db=Database(world.db.url.set(username=role)))


def served(world: World, **serving: Any) -> ModelSpec:
    """Return the settings of the model, with `[serving]`."""
    return world.folder.spec.model_copy(update={"serving": Serving(**{"api": True} | serving)})


def worker_of(world: World, models: Mapping[str, ModelSpec | None] | None = None, **named: Any) -> Worker:
    """Return a worker, as its role, for `visits`, or what `models` says."""
    db = as_role(world, roles.STREAM).db
    models = {"visits": served(world)} if models is None else models
    return Worker(db, lambda version: load_registered(db, world.store, version), lambda: models, **named)


def open_queue(world: World) -> None:
    """Open the queue, as a worker that starts does."""
    world.execute("INSERT INTO ponte.queue (model, open) VALUES ('visits', true) ON CONFLICT DO NOTHING")


def enqueue(world: World, *, model: Any = "visits", key: Any = None, priority: Any = 0, **changes: Any) -> str:
    """Put one request into the queue, ROW but for the changes; return its id."""
    features = json.dumps(ROW | changes)
    return str(
        world.ask(
            "SELECT ponte.enqueue(:model, CAST(:key AS jsonb), CAST(:features AS jsonb), :priority)",
            model=model, key=None if key is None else json.dumps(key), features=features, priority=priority,
        )
    )  # fmt: skip


def enqueue_many(world: World, count: int) -> None:
    """Put requests with the keys 1 to `count` into the queue, in one statement."""
    world.execute(
        "INSERT INTO ponte.queue_in (model, key, features) SELECT 'visits', jsonb_build_object('visit_id', n), "
        "jsonb_set(CAST(:row AS jsonb), '{items}', to_jsonb(n % 9)) FROM generate_series(1, :count) AS n",
        row=json.dumps(ROW), count=count,
    )  # fmt: skip


def answers(world: World, columns: str = "request_id::text") -> list[Any]:
    """Return what was answered, the first column alone when there is one."""
    rows = world.rows(f"SELECT {columns} FROM predictions.visits_live ORDER BY request_id")
    return [row[0] if len(row) == 1 else row for row in rows]


def set_aside(world: World, columns: str = "request_id::text, kind, why") -> list[Any]:
    """Return what was set aside."""
    return world.rows(f"SELECT {columns} FROM ponte.live_unscored ORDER BY request_id")


def waiting(world: World) -> int:
    """Return how many requests wait."""
    return int(world.ask("SELECT count(*) FROM ponte.request"))


def notes(world: World) -> int:
    """Return how many takes are noted."""
    return int(world.ask("SELECT count(*) FROM ponte.stream_take"))


def assert_each_once(world: World, count: int) -> None:
    """Each of the keys 1 to `count` was answered once, and nothing is left."""
    assert world.rows(
        "SELECT count(*), count(DISTINCT visit_id), min(visit_id), max(visit_id) FROM predictions.visits_live"
    ) == [(count, count, 1, count)]
    assert waiting(world) == 0
    assert set_aside(world) == []


def list_of(column: Any) -> list[Any]:
    """Return the values of a column of rows, which are a table or plain."""
    return column if isinstance(column, list) else column.to_pylist()
