"""The pool of the score tasks: made when it is missing, changed when its size is another, else left alone."""

import json
from typing import Any

import httpx
import pytest

from ponte.errors import PonteError, StackError
from ponte.local import airflow_api, stack
from ponte.local.airflow_api import AirflowApi
from ponte.local.environment import SCORE_POOL
from ponte.local.secrets import generate
from ponte.local.settings import Settings


class Pools:
    """Airflow's answers about pools, as those of 3.3.2; remembers what was written."""

    def __init__(self, **pools: int) -> None:
        self.slots = dict(pools)
        self.written: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.removeprefix("/api/v2/pools").strip("/")
        body: dict[str, Any] = json.loads(request.content) if request.content else {}
        if request.method == "POST":
            name = body["name"]
        elif name not in self.slots:
            return httpx.Response(404, json={"detail": f"The Pool with name: `{name}` was not found"})
        if request.method != "GET":
            self.written.append(request.method)
            self.slots[name] = body["slots"]
        if request.method == "PATCH" and (body.keys(), request.url.params.get("update_mask")) != (
            {"pool", "slots", "include_deferred"},
            "slots",
        ):
            return httpx.Response(422, json={"detail": "fields are missing"})
        return httpx.Response(200, json={"name": name, "slots": self.slots[name], "include_deferred": False})

    def client(self) -> AirflowApi:
        return AirflowApi(httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(self)))


@pytest.mark.parametrize(
    ("before", "written"), [({}, ["POST"]), ({SCORE_POOL: 3}, ["PATCH"]), ({SCORE_POOL: 2}, [])], ids=str
)
def test_the_pool_gets_its_size_with_no_more_than_it_takes(before: dict[str, int], written: list[str]) -> None:
    pools = Pools(**before, other=7)
    for _ in range(2):
        pools.client().pool(SCORE_POOL, slots=2, description="score tasks")
        assert pools.written == written, "the second time finds it done"
    assert pools.slots == {SCORE_POOL: 2, "other": 7}


def test_a_pool_that_cannot_be_made_stops_up(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PonteError("Airflow refused the login")

    monkeypatch.setattr(airflow_api, "connect", refuse)
    with pytest.raises(StackError, match=f"(?s)no pool {SCORE_POOL}.*refused the login"):
        stack._score_pool(Settings(root=tmp_path, home=tmp_path), generate())
