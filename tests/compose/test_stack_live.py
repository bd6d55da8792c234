"""The profile `live` on a real engine: API and queue answer, and can do and reach no more than they need.

Sorted behind `test_stack.py`, of whose services it asks that nothing else runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.bench.scoring_cases import COLUMNS
from tests.compose.conftest import Compose
from tests.compose.test_stack import SERVICES, require_closed, require_confined

WORKERS = 2


@pytest.fixture(scope="session")
def live(big: Compose) -> Compose:
    """The stack with its API and two workers of the queue; a champion is there."""
    big("--profile", "celery", "stop", "worker", "redis")
    big("--profile", "celery", "rm", "-f", "worker", "redis")
    with (big.folder / ".env").open("a") as file:
        file.write(f"COMPOSE_PROFILES=live\nPONTE_STREAM_WORKERS={WORKERS}\n")
    big("up", "-d", "--wait", "--wait-timeout", "300")
    return big


@pytest.fixture(scope="session")
def client(live: Compose) -> httpx.Client:
    """Asks the API with a key, made by the documented command."""
    key = json.loads(live("run", "--rm", "-T", "ops", "ponte", "keys", "create", "test", "--json"))["key"]
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{live.api_port}", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )
    until(lambda: client.get("/v1/models/big").status_code == 200)
    return client


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.5)


def instance(live: Compose) -> dict[str, Any]:
    columns = ", ".join(COLUMNS[1:])
    [[text]] = live.sql(f"SELECT to_json(e) FROM (SELECT {columns} FROM bench.event ORDER BY event_id LIMIT 1) e")
    found: dict[str, Any] = json.loads(text)
    return found


def test_what_answers_is_healthy_confined_and_scaled(live: Compose) -> None:
    found = live.containers("stream")
    assert len(found) == WORKERS
    require_confined(live, SERVICES | {"api", "stream"})
    assert not [c for c in found if c["NetworkSettings"]["Ports"]]


def test_only_ui_database_and_api_are_published(live: Compose) -> None:
    require_closed(
        live,
        published={
            ("8080/tcp", "127.0.0.1", live.ui_port),
            ("5432/tcp", "127.0.0.1", live.db_port),
            ("8088/tcp", "127.0.0.1", live.api_port),
        },
    )


def test_it_has_no_secret_but_its_own(live: Compose) -> None:
    for service, own in (("api", "PONTE_API_PASSWORD"), ("stream", "PONTE_STREAM_PASSWORD")):
        for container in live.containers(service):
            text = json.dumps(container["Config"]["Env"])
            assert {name for name, value in live.secrets.items() if value in text} == {own}


def test_it_answers_at_once_and_by_the_queue_and_a_person_reads_both(live: Compose, client: httpx.Client) -> None:
    one = instance(live)
    answer = client.post("/v1/models/big:predict", json={"instances": [one], "keys": [{"event_id": 7}]})
    assert answer.status_code == 200, answer.text
    asked = client.post("/v1/models/big:enqueue", json={"instances": [one]})
    assert asked.status_code in (200, 202), asked.text
    rows = "SELECT source, count(*), min(score) = max(score) FROM predictions.big_live GROUP BY 1 ORDER BY 1"
    until(lambda: [row[0] for row in live.sql(rows)] == ["api", "queue"])
    [[apart]] = live.sql("SELECT max(score) - min(score) < 1e-12 FROM predictions.big_live")
    assert apart == "t"
    assert client.get("/v1/models/big", headers={"Authorization": ""}).status_code == 401


def test_a_kill_brings_it_back_and_what_was_answered_stays(live: Compose, client: httpx.Client) -> None:
    before = int(live.sql("SELECT count(*) FROM predictions.big_live")[0][0])
    for service in ("api", "stream"):
        live.kill(service)
    until(lambda: client.post("/v1/models/big:predict", json={"instances": [instance(live)]}).status_code == 200)
    until(lambda: int(live.sql("SELECT count(*) FROM predictions.big_live")[0][0]) == before + 1)
    until(lambda: all(c["State"]["Health"]["Status"] == "healthy" for c in live.containers()), 300)


def test_the_database_may_be_away_for_a_while(live: Compose, client: httpx.Client) -> None:
    live("stop", "postgres")
    answer = client.post("/v1/models/big:predict", json={"instances": [instance_of_before(client)]})
    assert answer.status_code == 200, answer.text
    live("up", "-d", "--wait", "--wait-timeout", "300")


def instance_of_before(client: httpx.Client) -> dict[str, Any]:
    """Return an instance that needs no database to be found: every column NULL, as far as it may be."""
    properties = client.get("/v1/models/big/schema").json()["properties"]
    return dict.fromkeys(properties)
