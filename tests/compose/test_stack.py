"""The compose stack on a real engine: who can reach what, the demo, a kill -9 in the middle of five million rows."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
import psycopg2
import pytest
from tests.compose.conftest import ROOT, ROWS, SHARD_ROWS, Compose
from tests.sample_model import WEEK

from ponte.errors import PonteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SERVICES = {"postgres", "api-server", "scheduler", "dag-processor"}
MINUTES_15 = 900.0
CHECKSUM = "count(*), count(DISTINCT event_id), bit_xor(hashint8extended(event_id, 0)), sum(event_id)"


def test_every_service_is_healthy_and_none_is_root(compose: Compose) -> None:
    require_confined(compose, SERVICES)
    [init] = json.loads(_docker("inspect", *compose("ps", "-aq", "airflow-init").split()))
    assert (init["State"]["Status"], init["State"]["ExitCode"]) == ("exited", 0)
    assert compose("run", "--rm", "-T", "ops", "id", "-u").strip() == "50000"


def require_confined(compose: Compose, services: set[str]) -> None:
    """Require that these services run, healthy, and that none of their containers can do more than its work."""
    found = compose.containers()
    names = [c["Config"]["Labels"]["com.docker.compose.service"] for c in found]
    assert set(names) == services
    for name, container in zip(names, found, strict=True):
        assert container["State"]["Health"]["Status"] == "healthy", name
        assert _docker("exec", container["Id"], "id", "-u").strip() != "0", name
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["Memory"] > 0, name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name


def test_only_the_ui_is_published_and_no_other_network_reaches_a_service(compose: Compose) -> None:
    require_closed(compose, published={("8080/tcp", "127.0.0.1", compose.ui_port)})
    assert httpx.get(f"http://127.0.0.1:{compose.ui_port}/api/v2/monitor/health", trust_env=False).status_code == 200


def require_closed(compose: Compose, *, published: set[tuple[str, str, int]]) -> None:
    """Require that only these (port, address of the host, its port) are published, and nothing else can be reached.

    Every port of every container and of the engine's host is tried, from a container of another network.
    """
    found = {
        (port, binding["HostIp"], int(binding["HostPort"]))
        for container in compose.containers()
        for port, bindings in (container["NetworkSettings"]["Ports"] or {}).items()
        for binding in bindings or ()
    }
    assert found == published
    addresses = [
        network["IPAddress"]
        for container in compose.containers()
        for network in container["NetworkSettings"]["Networks"].values()
    ]
    host = json.loads(_docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0].get("Gateway", "172.17.0.1")
    reached = reachable(compose, "bridge", [*addresses, host], range(1, 65536))
    assert reached - {(host, port) for port in compose.busy_before} == set()
    inside = reachable(compose, "ponte-test_inside", addresses, [5432])
    assert {port for _, port in inside} == {5432}, "from the inside the same probe finds what is there"


def reachable(compose: Compose, network: str, addresses: Sequence[str], ports: Sequence[int]) -> set[tuple[str, int]]:
    """Return which (address, port) accept a TCP connection from a new container of that network."""
    program = f"""
import asyncio, json
async def probe(address, port, gate):
    async with gate:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 1)
        except (OSError, TimeoutError):
            return None
        writer.close()
        return address, port
async def main():
    gate = asyncio.Semaphore(4000)
    found = []
    for address in {addresses!r}:
        found += await asyncio.gather(*(probe(address, port, gate) for port in {ports!r}))
    print(json.dumps([reached for reached in found if reached]))
asyncio.run(main())
"""
    run = ("run", "--rm", "--ulimit", "nofile=8192", "--network", network, "ponte-test:test", "python", "-c", program)
    return {(address, port) for address, port in json.loads(_docker(*run))}


def test_the_demo_runs_and_an_analyst_reads_it_from_outside(compose: Compose) -> None:
    out = compose("run", "--rm", "-T", "ops", "ponte", "demo")
    assert "How good were the predictions?" in out
    compose.open_database()
    with (
        psycopg2.connect(
            host="127.0.0.1",
            port=compose.db_port,
            dbname="ponte",
            user="ponte_analyst",
            password=compose.secrets["PONTE_ANALYST_PASSWORD"],
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT window_start, count(*) FROM predictions.flight_delay GROUP BY 1 ORDER BY 1")
        assert [rows for _, rows in cursor.fetchall()] == [6498, 6508, 6504, 6360]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("SELECT * FROM flights.departure")
    assert compose.sql("SELECT DISTINCT code_revision FROM ponte.version") == [["tested"]]


def test_a_backup_is_made_and_put_back_with_the_documented_commands(compose: Compose) -> None:
    predictions = "SELECT count(*), sum(score) FROM predictions.flight_delay"
    before = compose.sql(predictions)
    ponte = ("run", "--rm", "-T", "ops", "ponte")
    compose(*ponte, "backup", "/backups/one")
    compose.sql("DELETE FROM ponte.published")
    assert compose.sql(predictions) != before
    compose(*ponte, "backup", "/backups/one", "--verify")
    compose(*ponte, "restore", "/backups/one", "--replace")
    assert compose.sql(predictions) == before
    assert compose.sql("SELECT count(*) FROM pg_database WHERE datname ~ '^ponte_before_'") == [["1"]]


# ---------------------------------------------------------------- five million rows, and kills


def _ignore(task: dict[str, Any]) -> None:
    del task


def start_scoring(compose: Compose, run_id: str) -> None:
    with compose.api() as api:
        api.run("big__score", run_id, {"window_start": str(WEEK)})


def wait_until_scoring(compose: Compose, run_id: str, *, shards: int) -> None:
    """Wait until so many shards of the run are committed and others are under way."""
    query = f"SELECT count(*) FROM ponte.shard JOIN ponte.batch USING (batch_id) WHERE run_id = '{run_id}'"
    deadline = time.monotonic() + MINUTES_15
    while (committed := int(compose.sql(query)[0][0])) < shards:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert committed < ROWS // SHARD_ROWS


def outcome(compose: Compose, run_id: str) -> str:
    """Return the final state of the run, whoever is down in between."""
    deadline = time.monotonic() + MINUTES_15
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError, PonteError), compose.api() as api:
            return api.wait_for_run("big__score", run_id, seconds=MINUTES_15, on_task=_ignore)
        time.sleep(1)
    raise AssertionError(f"the run {run_id} has no end")


def require_complete(compose: Compose) -> None:
    """Every event of the week has exactly one prediction, and nothing is left over but what is published."""
    source = compose.sql(f"SELECT {CHECKSUM} FROM bench.event WHERE day >= '{WEEK}'")
    assert compose.sql(f"SELECT {CHECKSUM} FROM predictions.big WHERE window_start = '{WEEK}'") == source
    assert int(source[0][0]) == ROWS


def tell(compose: Compose, run_id: str) -> Iterator[str]:
    with compose.api() as api:
        run = api.call("GET", f"/dags/big__score/dagRuns/{run_id}")
        tasks = api.tasks("big__score", run_id)
    begin, end = (datetime.fromisoformat(run[key]) for key in ("start_date", "end_date"))
    tries = {f"{t['task_id']}[{t['map_index']}]": t["try_number"] for t in tasks if t["try_number"] > 1}
    yield f"{run_id}: {run['state']} in {(end - begin).total_seconds():.0f} s, more than one try: {tries or 'none'}"


@pytest.mark.parametrize("service", ["scheduler", "api-server", "postgres"])
def test_a_kill_in_the_middle_of_scoring_loses_and_repeats_nothing(big: Compose, service: str) -> None:
    killed(big, service)


def killed(big: Compose, service: str) -> None:
    run_id = f"kill_{service}"
    start_scoring(big, run_id)
    wait_until_scoring(big, run_id, shards=2)
    container = big.kill(service)
    state = outcome(big, run_id)
    print("\n", *tell(big, run_id))
    [found] = json.loads(_docker("inspect", container))
    assert found["RestartCount"] >= 1, "the restart policy has brought it back"
    if state != "success":
        start_scoring(big, run_id)  # clears what failed
        assert outcome(big, run_id) == "success"
        print("\n after another trigger:", *tell(big, run_id))
    require_complete(big)
    deadline = time.monotonic() + MINUTES_15
    while any(c["State"].get("Health", {}).get("Status") != "healthy" for c in big.containers()):
        assert time.monotonic() < deadline, "not healthy again"
        time.sleep(2)


# ---------------------------------------------------------------- celery


def workers_of(compose: Compose, run_id: str) -> Counter[str]:
    """Return how many shards each worker scored."""
    names = {c["Config"]["Hostname"]: c["Name"].strip("/") for c in compose.containers()}
    with compose.api() as api:
        tasks = [t for t in api.tasks("big__score", run_id) if t["task_id"] == "score"]
    return Counter(names.get(t["hostname"], t["hostname"]) for t in tasks)


@pytest.mark.parametrize("workers", [1, 2])
def test_with_the_profile_celery_shards_spread_over_the_workers(big: Compose, workers: int) -> None:
    big("--profile", "celery", "up", "-d", "--wait", "--scale", f"worker={workers}")
    deadline = time.monotonic() + 180
    environment = "cat /proc/[0-9]*/environ | tr '\\0' '\\n'"
    while "EXECUTOR=CeleryExecutor" not in big("exec", "-T", "scheduler", "sh", "-c", environment, check=False):
        assert time.monotonic() < deadline, "the scheduler goes on with the LocalExecutor"
        time.sleep(2)
    run_id = f"celery_{workers}"
    start_scoring(big, run_id)
    assert outcome(big, run_id) == "success"
    spread = workers_of(big, run_id)
    print("\n", *tell(big, run_id), dict(spread))
    require_complete(big)
    assert len(spread) == workers
    assert all("worker" in name for name in spread)


def test_the_services_of_celery_are_confined_too(big: Compose) -> None:
    require_confined(big, SERVICES | {"worker", "redis"})
    require_closed(big, published={("8080/tcp", "127.0.0.1", big.ui_port), ("5432/tcp", "127.0.0.1", big.db_port)})


@pytest.mark.parametrize("service", ["worker", "redis"])
def test_a_kill_under_celery_loses_and_repeats_nothing(big: Compose, service: str) -> None:
    killed(big, service)


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
