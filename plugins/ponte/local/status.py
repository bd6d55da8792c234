"""What runs of the local stack, and how to reach it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]

from ponte.embedded import cluster, postgres
from ponte.errors import StackError
from ponte.local import processes, readiness
from ponte.local.environment import ADMIN
from ponte.local.secrets import existing
from ponte.local.settings import Settings
from ponte.local.stack import as_running
from ponte.schema import roles

State = Literal["running", "unhealthy", "stopped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """PostgreSQL, a component of Airflow, or what answers one by one beside it."""

    name: str
    state: State
    #: None while it does not run.
    pid: int | None
    uptime_seconds: float | None
    log: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Ui:
    """The UI of Airflow."""

    url: str
    user: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sql:
    """How any SQL tool connects: by the socket, and by TCP when a port is open."""

    database: str
    #: The role for people; it reads predictions and nothing else.
    role: str
    password_file: Path
    #: Where in that file.
    password_key: str
    socket_folder: Path
    socket_port: int
    #: None while PostgreSQL listens on the socket only.
    tcp_host: str | None
    tcp_port: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """A stack at one moment."""

    components: tuple[Component, ...]
    #: None while the api-server does not run.
    ui: Ui | None
    #: Address of the API; None while it does not run.
    api_url: str | None
    #: None while PostgreSQL does not run.
    sql: Sql | None

    @property
    def everything_runs(self) -> bool:
        """Whether each component runs and is healthy."""
        return all(part.state == "running" for part in self.components)


def look(settings: Settings) -> Status:
    """Return what runs now; asks Airflow for its health, and changes nothing."""
    settings = as_running(settings)
    running = processes.alive(settings)
    health = readiness.fetch_json(f"{settings.ui_url}/api/v2/monitor/health", 10) if "api-server" in running else None
    bad = readiness.unhealthy(health, {}) if running.keys() >= set(processes.COMPONENTS) else []
    if "api" in running and not readiness.api_lives(settings):
        bad.append("api")
    database, server = cluster.postmaster(settings.data_dir), postgres.describe(settings.data_dir)
    components = [_component("postgres", database, server.log_file, bad)]
    components += [
        _component(name, running.get(name), processes.log_file(settings, name), bad)
        for name in processes.wanted(settings)
    ]
    return Status(
        components=tuple(components),
        ui=Ui(url=settings.ui_url, user=ADMIN) if "api-server" in running else None,
        api_url=settings.api_url if "api" in running else None,
        sql=_sql(settings, server) if database is not None else None,
    )


def _component(name: str, process: psutil.Process | None, log: Path, bad: list[str]) -> Component:
    if process is None:
        return Component(name=name, state="stopped", pid=None, uptime_seconds=None, log=log)
    state: State = "unhealthy" if name.replace("-", "_") in bad else "running"
    uptime = max(0.0, time.time() - process.create_time())
    return Component(name=name, state=state, pid=process.pid, uptime_seconds=round(uptime, 1), log=log)


def _sql(settings: Settings, server: postgres.Server) -> Sql:
    return Sql(
        database="ponte",
        role=roles.ANALYST,
        password_file=settings.secrets_file,
        password_key="analyst_password",  # noqa: S106 - a name
        socket_folder=server.socket_dir,
        socket_port=server.port,
        tcp_host=server.address,
        tcp_port=server.port if server.address else None,
    )


def airflow_of(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the URL of Airflow and the password of its user admin: of PONTE_UI_URL, else of the local stack.

    Raises StackError when there is neither.
    """
    if environ.get("PONTE_ADMIN_URL"):
        if missing := [name for name in ("PONTE_UI_URL", "AIRFLOW_ADMIN_PASSWORD") if not environ.get(name)]:
            raise StackError("the stack is not described", where="environment", expected=", ".join(missing))
        return environ["PONTE_UI_URL"], environ["AIRFLOW_ADMIN_PASSWORD"]
    settings = as_running(Settings.from_environment(environ))
    return settings.ui_url, existing(settings).admin_password
