"""The environment variables of the local Airflow, and of what answers beside it: every setting that is no default."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ponte.embedded.postgres import Server
from ponte.local.secrets import Secrets, write_private_json
from ponte.local.settings import Settings, cores
from ponte.schema import roles

#: User of the Airflow UI and REST API.
ADMIN = "admin"
#: Airflow pool of the score tasks; `up` makes it.
SCORE_POOL = "ponte_score"


def airflow_home(settings: Settings) -> Path:
    """Return AIRFLOW_HOME, where Airflow keeps its own files."""
    return settings.home / "airflow"


def password_file(settings: Settings) -> Path:
    """Return the file from which Airflow's SimpleAuthManager reads the passwords of its users."""
    return airflow_home(settings) / "passwords.json"


def write_password_file(settings: Settings, secrets: Secrets) -> None:
    """Write the password file (mode 0600), unless it is right already; without it Airflow would invent a password."""
    path = password_file(settings)
    wanted = {ADMIN: secrets.admin_password}
    try:
        current = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        current = None
    if current != wanted or path.stat().st_mode & 0o077:
        write_private_json(path, wanted)


def airflow_environment(settings: Settings, secrets: Secrets, server: Server) -> dict[str, str]:
    """Return all variables that the four components of Airflow, and any `airflow` command, need for this stack."""
    environment = {
        "AIRFLOW_HOME": str(airflow_home(settings)),
        "PYTHONPATH": os.pathsep.join(str(settings.root / part) for part in ("", "plugins", "config")),
        **_connections(secrets, server, _OF_AIRFLOW),
        **_places(settings),
        "PONTE_SCORE_POOL": SCORE_POOL,
        "PONTE_SCORE_SLOTS": str(settings.score_slots),
        "PONTE_PRELOAD": str(settings.preload),
        # Waiting OpenMP threads spin by default: on shared cores that made training 37 times slower.
        "OMP_WAIT_POLICY": "passive",
        "OMP_NUM_THREADS": str(cores()),
        "GX_ANALYTICS_ENABLED": "false",
        # Components talk to each other over HTTP; a proxy must not stand between them.
        "NO_PROXY": _no_proxy(),
        "no_proxy": _no_proxy(),
    }
    if sys.platform == "darwin":
        # macOS kills forked children that touch Objective-C (the proxy look-up does); tasks are forked children.
        environment["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
    for (section, option), value in _airflow_options(settings, secrets, server).items():
        environment[f"AIRFLOW__{section.upper()}__{option.upper()}"] = value
    return environment


def live_environment(settings: Settings, secrets: Secrets, server: Server, role: str) -> dict[str, str]:
    """Return the variables of a process that answers one by one: the connection of its role, and nothing of Airflow."""
    return {
        "PYTHONPATH": str(settings.root / "plugins"),
        **_places(settings),
        **_connections(secrets, server, (role,)),
        "OMP_WAIT_POLICY": "passive",
    }


def _places(settings: Settings) -> dict[str, str]:
    return {"PONTE_HOME": str(settings.home), "PONTE_ARTIFACTS": (settings.home / "artifacts").as_uri()}


#: Roles of tasks and of the web server.
_OF_AIRFLOW = (roles.TRAINER, roles.SCORER, roles.PROMOTER, roles.MONITOR, roles.VIEWER)


def _connections(secrets: Secrets, server: Server, of: Iterable[str]) -> dict[str, str]:
    """Return the connections of roles as Airflow takes them from the environment."""
    place = {"conn_type": "postgres", "host": str(server.socket_dir), "port": server.port, "schema": "ponte"}
    return {
        f"AIRFLOW_CONN_{role.upper()}": json.dumps(
            {**place, "login": role, "password": secrets.database_passwords[role]}
        )
        for role in of
    }


def _airflow_options(settings: Settings, secrets: Secrets, server: Server) -> dict[tuple[str, str], str]:
    """Return (section, option) -> value, as they would stand in airflow.cfg."""
    tasks = settings.logs / "tasks"
    return {
        ("core", "dags_folder"): str(settings.root / "dags"),
        ("core", "plugins_folder"): str(settings.root / "plugins"),
        ("core", "load_examples"): "false",
        ("core", "executor"): "LocalExecutor",
        ("core", "parallelism"): str(settings.parallelism),
        ("core", "default_timezone"): "utc",
        ("core", "fernet_key"): secrets.fernet_key,
        ("core", "execution_api_server_url"): f"{settings.ui_url}/execution/",
        ("core", "simple_auth_manager_users"): f"{ADMIN}:admin",
        ("core", "simple_auth_manager_passwords_file"): str(password_file(settings)),
        # Airflow derives the URL of its async engine (asyncpg) from this one.
        ("database", "sql_alchemy_conn"): server.url("airflow", "airflow", secrets.airflow_password, "psycopg2"),
        ("api", "host"): settings.ui_host,
        ("api", "port"): str(settings.ui_port),
        ("api", "base_url"): settings.ui_url,
        ("api", "secret_key"): secrets.api_secret_key,
        ("api_auth", "jwt_secret"): secrets.jwt_secret,
        ("scheduler", "enable_health_check"): "true",
        ("scheduler", "scheduler_health_check_server_host"): "127.0.0.1",
        ("scheduler", "scheduler_health_check_server_port"): str(settings.scheduler_port),
        # Ten small tasks in a row: 12.4 s with the default of 1 s, 7-10 s with this.
        ("scheduler", "scheduler_idle_sleep_time"): "0.2",
        # Tasks of a killed scheduler are run again after a minute at most, and not after five.
        ("scheduler", "orphaned_tasks_check_interval"): "30",
        # A worker that has missed the end of its task's process looks again after this time: with the default of 5 s
        # every fifth task kept its worker 5 s longer than it ran, and others waited for a free one.
        ("workers", "min_heartbeat_interval"): "1",
        ("dag_processor", "refresh_interval"): "15",
        ("dag_processor", "min_file_process_interval"): "30",
        ("logging", "base_log_folder"): str(tasks),
        ("logging", "dag_processor_child_process_log_directory"): str(settings.logs / "dag_processor"),
        ("logging", "worker_log_server_port"): str(settings.log_port),
        ("logging", "trigger_log_server_port"): str(settings.triggerer_log_port),
        # These logs go to files, where colour codes would be noise.
        ("logging", "colored_console_log"): "false",
        # Task logs are for the user of this stack alone.
        ("logging", "file_task_handler_new_folder_permissions"): "0o750",
        ("logging", "file_task_handler_new_file_permissions"): "0o640",
    }


def _no_proxy() -> str:
    """Return the caller's list of hosts without proxy, completed by this machine."""
    current = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = [host.strip() for host in current.split(",") if host.strip()]
    return ",".join([*hosts, *(host for host in ("localhost", "127.0.0.1", "::1") if host not in hosts)])
