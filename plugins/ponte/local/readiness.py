"""Is the way free before the start, is Airflow's database what it needs, and is everything healthy after it?"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import sqlalchemy as sa

from ponte.errors import StackError
from ponte.local.processes import log_tail
from ponte.local.secrets import write_private_json
from ponte.local.settings import Settings

_AIRFLOW_REVISION = sa.text("SELECT version_num FROM alembic_version")
_DATABASE_SYSTEM = sa.text("SELECT system_identifier::text FROM pg_control_system()")

#: Requests go to this machine, so a proxy of the environment must not be asked.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ports(settings: Settings, component: str) -> dict[str, tuple[str, int, str]]:
    """Return what a component listens on: setting -> (host, port, purpose)."""
    return {
        "postgres": {"PONTE_DB_PORT": ("127.0.0.1", settings.db_port, "PostgreSQL")} if settings.db_port else {},
        "api-server": {"PONTE_UI_PORT": (settings.ui_host, settings.ui_port, "the Airflow UI")},
        "scheduler": {
            "PONTE_LOG_PORT": ("", settings.log_port, "the logs of running tasks"),
            "PONTE_SCHEDULER_PORT": ("127.0.0.1", settings.scheduler_port, "the scheduler's health check"),
        },
        "triggerer": {"PONTE_TRIGGERER_LOG_PORT": ("", settings.triggerer_log_port, "the logs of running triggers")},
        "api": {"PONTE_API_PORT": ("127.0.0.1", settings.api_port, "the API")},
    }.get(component, {})


def check_ports(settings: Settings, components: Iterable[str]) -> None:
    """Raise StackError that names every port of `components` that something else has, and how to choose another."""
    problems = []
    for component in components:
        for name, (host, port, purpose) in ports(settings, component).items():
            error = _why_not(host, port)
            if error is not None:
                problems.append(
                    f"Port {port}, needed for {purpose}, is not free: {_holder(port) or error}.\n"
                    f"  Stop that, or use another port:  {name}={_next_free(host, port)} ./ponte up"
                )
    if problems:
        raise StackError("\n".join(problems) + "\nNothing was started.")


def _why_not(host: str, port: int) -> str | None:
    """Return why nothing can listen on (host, port), or None if it is free."""
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_dualstack_ipv6()) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        # As servers do; without it, connections that have just been closed would count.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and not host:
            candidate.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            candidate.bind((host, port))
            candidate.listen(1)
        except OSError as error:
            return (error.strerror or str(error)).lower()
    # macOS lets one bind 127.0.0.1 although another program listens on all addresses.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        return "another program answers there" if client.connect_ex(("127.0.0.1", port)) == 0 else None


def _holder(port: int) -> str | None:
    """Describe the process that listens on `port`, if this user may see it."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline()) or process.name()
                return f"process {connection.pid} has it ({command[:120].strip()})"
    except (psutil.Error, OSError):
        pass
    return None


def _next_free(host: str, port: int) -> int:
    """Return the first free port above `port`, as a suggestion."""
    return next((other for other in range(port + 1, min(port + 100, 65536)) if _why_not(host, other) is None), port + 1)


def fetch_json(url: str, timeout: float) -> Any:
    """Return the JSON at `url`, or None if there is no answer in `timeout` seconds or it is not JSON."""
    try:
        with _OPENER.open(url, timeout=timeout) as response:
            return json.load(response)
    except (OSError, ValueError):
        return None


def unhealthy(report: Any, since: Mapping[str, float]) -> list[str]:
    """Return the parts that a report of /api/v2/monitor/health does not show to be healthy.

    since: component -> moment of its start, in seconds since 1970. An older heartbeat is one of its predecessor, which
    Airflow calls healthy for 30 seconds after that has been killed.
    """
    bad = []
    for part in ("metadatabase", "scheduler", "dag_processor", "triggerer"):
        entry = report.get(part) if isinstance(report, dict) else None
        heartbeat = (entry or {}).get(f"latest_{part}_heartbeat")
        started = since.get(part.replace("_", "-"), 0.0)
        # One second: the start times of processes are rounded.
        fresh = not heartbeat or datetime.fromisoformat(heartbeat).timestamp() >= started - 1
        if not entry or entry.get("status") != "healthy" or not fresh:
            bad.append(part)
    return bad


def wait_until_healthy(settings: Settings, since: Mapping[str, float], check: Callable[[], None]) -> None:
    """Return when all parts of Airflow are healthy and its task API is warm.

    check: called about twice a second; raises if waiting has become pointless (a component has died).
    Raises StackError after `settings.start_timeout` seconds.
    """
    deadline = time.monotonic() + settings.start_timeout
    while True:
        check()
        bad = unhealthy(fetch_json(f"{settings.ui_url}/api/v2/monitor/health", 10), since)
        if not bad:
            break
        if time.monotonic() > deadline:
            raise StackError(
                f"Airflow is not healthy after {settings.start_timeout} s; missing: {', '.join(bad)}.\n"
                f"Look into {settings.logs}, or allow more time:  "
                f"PONTE_START_TIMEOUT={settings.start_timeout * 2} ./ponte up"
            )
        time.sleep(0.5)
    # The task API starts at its first request (7 s and more), which would otherwise time out the first task's.
    while fetch_json(f"{settings.ui_url}/execution/health", 60) is None and time.monotonic() < deadline:
        check()
        time.sleep(0.5)


def wait_for_api(settings: Settings, check: Callable[[], None]) -> None:
    """Return when the API answers; whether a model has a champion is another question.

    check: as of `wait_until_healthy`. Raises StackError after `settings.start_timeout` seconds.
    """
    deadline = time.monotonic() + settings.start_timeout
    while not api_lives(settings):
        check()
        if time.monotonic() > deadline:
            raise StackError(f"The API does not answer after {settings.start_timeout} s; look into {settings.logs}")
        time.sleep(0.2)


def api_lives(settings: Settings) -> bool:
    """Say whether the API answers."""
    return fetch_json(f"{settings.api_url}/health/live", 10) is not None


def airflow_is_migrated(settings: Settings, database_url: str) -> bool:
    """Say whether this version of Airflow has migrated this very database.

    The database is asked, not only the marker file: it may have been replaced or migrated by hand since.
    """
    try:
        done = json.loads(_marker(settings).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return done is not None and done == _airflow_schema(database_url)


def migrate_airflow(settings: Settings, database_url: str, environment: Mapping[str, str]) -> None:
    """Run `airflow db migrate`, and note which database it was; raises StackError with the end of its log."""
    log = settings.logs / "migrate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        result = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=settings.root,
            env={**os.environ, **environment},
            check=False,
        )
    if result.returncode != 0:
        raise StackError(
            f"`airflow db migrate` failed with exit status {result.returncode}. End of {log}:\n{log_tail(log)}"
        )
    write_private_json(_marker(settings), _airflow_schema(database_url) or {})


def _marker(settings: Settings) -> Path:
    return settings.run / "airflow-migrated.json"


def _airflow_schema(database_url: str) -> dict[str, Any] | None:
    """Return what identifies a migrated metadata database, or None if it is not migrated at all."""
    engine = sa.create_engine(database_url)
    try:
        with engine.connect() as connection:
            revision = connection.scalar(_AIRFLOW_REVISION)
            system = connection.scalar(_DATABASE_SYSTEM)
    except sa.exc.ProgrammingError:
        return None
    finally:
        engine.dispose()
    return {"airflow": version("apache-airflow-core"), "revision": revision, "database_system": system}
