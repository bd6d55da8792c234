"""The API of a world in the process of a test: it looks for champions when it is told to, and nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import httpx
from tests.sample_model import World

from ponte.access import keys
from ponte.schema import roles
from ponte.serving.app import make_app, make_service
from ponte.serving.service import Settings
from ponte.storage.database import Database

SERVED = "[serving]\napi = true\n"
ROW: dict[str, Any] = {
    "shop": "mill", "items": 3, "price": 12.5, "distance": 2.5, "member": True, "shop_rate": 0.4,
}  # fmt: skip


def served_world(world: World) -> World:
    """Return the world, whose model says that it is served."""
    return world.with_model(gate=f'champion_indistinguishable = "promote"\n{SERVED}')


class Served:
    """The API, as the role ponte_api, with a key for everything."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = served_world(world)
        db = Database(world.db.url.set(username=roles.API))
        self.service = make_service(db, world.store, self.world.folder.path.parent, Settings(**settings))
        self.app = make_app(self.service)
        self.key_id, self.token = self.key(per_minute=10**8)  # a fast machine asks much
        self.look()

    def key(self, *models: str, name: str = "test", **more: Any) -> tuple[Any, str]:
        """Make a key; return its number and the key."""
        return keys.create_key(self.world.db, name, models=models, created_by="test", **more)

    def look(self) -> None:
        """See what has changed, and wait until it is loaded."""
        with self.service.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            self.service.champions.look(connection)
        self.service.champions.wait()

    def ask(self, method: str, path: str, *, token: str | None = "", **more: Any) -> httpx.Response:
        """Return the reply to one request."""
        return self.at_once([self.request(method, path, token=token, **more)])[0]

    def predict(self, instances: Sequence[Any], **body: Any) -> httpx.Response:
        """Return the reply to a request for predictions."""
        return self.ask("POST", "/v1/models/visits:predict", json={"instances": list(instances), **body})

    async def request(self, method: str, path: str, *, token: str | None = "", **more: Any) -> httpx.Response:
        """Return the reply to one request, in the loop that runs."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.request(method, path, headers=headers, **more)

    def at_once(self, requests: Sequence[Coroutine[Any, Any, httpx.Response]]) -> list[httpx.Response]:
        """Return the replies to requests that are made at the same time."""

        async def gathered() -> list[httpx.Response]:
            return list(await asyncio.gather(*requests))

        return asyncio.run(gathered())

    def stop(self) -> None:
        """End what belongs to it, whether it was started or not."""
        self.service.champions.stop()
        self.service.journal.close()


def open_queue(served: Served) -> None:
    """Do what the first worker of the model does."""
    served.world.execute("INSERT INTO ponte.queue (model, open) VALUES ('visits', true) ON CONFLICT DO NOTHING")
