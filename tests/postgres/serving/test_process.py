"""`./ponte serve` as it is run: a process, by a port, as the role ponte_api; started, attacked, ended."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.bench.hostile import MARK, attack, leaks
from tests.postgres.serving.served import ROW, served_world
from tests.sample_model import World

from ponte.access.keys import create_key
from ponte.schema import roles

#: Bodies; PONTE_HOSTILE is for a longer look by hand.
HOSTILE = int(os.environ.get("PONTE_HOSTILE", "300"))
PLUGINS = Path(__file__).parents[3] / "plugins"


@dataclass
class Api:
    process: subprocess.Popen[bytes]
    port: int
    key: str
    log: Path
    world: World

    def predict(self, **row: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        body = {"instances": [{**ROW, **row}]}
        return httpx.post(
            f"http://127.0.0.1:{self.port}/v1/models/visits:predict", json=body, headers=headers, timeout=30
        )


@pytest.fixture
def api(trained: World, tmp_path: Path) -> Iterator[Api]:
    """A process that is ready."""
    world = served_world(trained)
    _, key = create_key(world.db, "test", per_minute=10**8, created_by="test")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = world.db.url.set(username=roles.API, drivername="postgresql").render_as_string(hide_password=False)
    environment = {
        **os.environ, "PYTHONPATH": str(PLUGINS), "AIRFLOW_CONN_PONTE_API": url, "PONTE_HOME": str(tmp_path / "home"),
        "PONTE_ARTIFACTS": Path(world.store.root.path).as_uri(), "PONTE_MODELS": str(world.folder.path.parent),
    }  # fmt: skip
    log = tmp_path / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ponte.cli", "serve", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        until = time.monotonic() + 120
        while not _ready(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield Api(process, port, key, log, world)
    finally:
        process.kill()
        process.wait()


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_what_nobody_should_send_is_refused_and_nothing_of_it_is_logged(api: Api) -> None:
    statuses = attack(api.port, api.key, "visits", ROW, HOSTILE)
    print(statuses)
    assert set(statuses) <= {0, 200, 202, 401, 404, 409, 413, 422}
    assert statuses[422] > HOSTILE / 2
    assert statuses[0] + statuses[413] < HOSTILE / 8
    assert api.predict(shop=MARK).status_code == 200
    assert not leaks(api.log)
    assert re.search(r"version 1 answers for visits: one row takes [0-9.]+ ms", api.log.read_text())


def test_it_ends_when_it_is_told_to_and_what_was_answered_is_kept(api: Api) -> None:
    for _ in range(5):
        assert api.predict().status_code == 200
    api.process.send_signal(signal.SIGTERM)
    assert api.process.wait(30) == 0, api.log.read_text()
    assert api.world.ask("SELECT count(*) FROM predictions.visits_live") == 5
