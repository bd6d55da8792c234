"""The real compose stack, for whoever has a Docker engine: `make compose-test`. Otherwise it is left out.

A project, an .env and volumes of its own, so that a stack that runs beside it is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.bench import scoring_cases
from tests.sample_model import AS_OF

from ponte.schema import roles

if TYPE_CHECKING:
    from ponte.local.airflow_api import AirflowApi

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SHARD_ROWS = 500_000
ROWS = int(os.environ.get("PONTE_COMPOSE_ROWS", "5000000"))
WANTED = bool(os.environ.get("PONTE_COMPOSE_TEST"))
collect_ignore_glob = [] if WANTED else ["test_*.py"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of this folder into the order of the file: starting containers anew for each would take an hour."""
    story = [item for item in items if item.path.is_relative_to(HERE)]
    story.sort(key=lambda item: (item.path, item.reportinfo()[1] or 0))
    items[:] = [item for item in items if not item.path.is_relative_to(HERE)] + story


@dataclass(frozen=True, kw_only=True)
class Compose:
    """A project of docker compose."""

    folder: Path
    secrets: dict[str, str]
    ui_port: int
    db_port: int
    api_port: int
    #: Compose files, in their order.
    files: list[Path]
    #: TCP ports of this machine that something listened on before the stack came up.
    busy_before: frozenset[int]

    def __call__(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """Run `docker compose` in the project; return what it prints."""
        command = ["docker", "compose", "-p", "ponte-test", "--env-file", str(self.folder / ".env")]
        command += [part for file in self.files for part in ("-f", str(file))]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, input=stdin
        )
        if check and done.returncode:
            raise AssertionError(f"docker compose {' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """Return what the engine knows of the containers, of one service or of all that are meant to run."""
        ids = self("--profile", "*", "ps", "-aq", *([service] if service else [])).split()
        found = json.loads(_run("docker", "inspect", *ids)) if ids else []
        return [c for c in found if c["Config"]["Labels"]["com.docker.compose.service"] not in ("airflow-init", "ops")]

    def kill(self, service: str) -> str:
        """Kill the first process of a service's container with SIGKILL, as the kernel would; return its container."""
        [container, *_] = self.containers(service)
        # As root on the machine of the engine. Not `docker kill`: that is taken for somebody's wish, and no restart
        # policy follows it.
        os.kill(container["State"]["Pid"], 9)
        return str(container["Id"])

    def open_database(self) -> None:
        """Let this machine reach PostgreSQL, as for analysts; once is enough."""
        override = ROOT / "docker-compose.analysts.yaml"
        if override in self.files:
            return
        with (self.folder / ".env").open("a") as file:
            file.write(f"PONTE_DB_PORT={self.db_port}\n")
        self.files.append(override)
        self("up", "-d", "--wait")

    def sql(self, query: str) -> list[list[str]]:
        """Return the rows of a query as the superuser, inside of the database's container."""
        out = self("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "ponte", "-AtX", "-c", query)
        return [line.split("|") for line in out.splitlines()]

    @contextmanager
    def api(self) -> Iterator[AirflowApi]:
        """Yield a client of the UI's REST interface."""
        from ponte.local.airflow_api import connect

        password = self.secrets["AIRFLOW_ADMIN_PASSWORD"]
        with connect(f"http://127.0.0.1:{self.ui_port}", user="admin", password=password) as api:
            yield api


def _ignore(task: dict[str, Any]) -> None:
    del task


@pytest.fixture(scope="session")
def big(compose: Compose) -> Compose:
    """A champion for a table of many events."""
    compose.open_database()
    password = compose.secrets["POSTGRES_PASSWORD"]
    url = sa.URL.create("postgresql+psycopg2", "postgres", password, "127.0.0.1", compose.db_port, "ponte")
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        scoring_cases.create_events(connection, ROWS)
        roles.open_source(connection, "bench")
    compose.sql("ANALYZE bench.event")
    with compose.api() as api:
        for dag_id in ("big__train", "big__score"):
            api.wait_for_dag(dag_id)
        api.run("big__train", "first", {"as_of": f"{AS_OF:%Y-%m-%d}"})
        assert api.wait_for_run("big__train", "first", seconds=900, on_task=_ignore) == "success"
    return compose


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        return int(candidate.getsockname()[1])


def _listening() -> frozenset[int]:
    sockets = [
        line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return frozenset(int(fields[1].rsplit(":", 1)[1], 16) for fields in sockets if fields[3] == "0A")


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The stack as an operator starts it, with one more model that has many rows to score; healthy."""
    folder = tmp_path_factory.mktemp("compose")
    models = folder / "models"
    shutil.copytree(ROOT / "include" / "models", models)
    more = 'schedule = { score = "on demand", train = "on demand" }\n'
    scoring_cases.write_folder(models / "big", "logistic", shard_rows=SHARD_ROWS, more=more)
    with (models / "big" / "model.toml").open("a") as file:
        file.write("[serving]\napi = true\n")
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011 if path != folder else 0o755)
    _run("chmod", "-R", "a+rX", str(models))
    # With a password of its own the script does not look for a stack of the machine: there may be one.
    (folder / ".env").write_text(f"POSTGRES_PASSWORD={os.urandom(24).hex()}\n")
    subprocess.run([ROOT / "ponte-secrets"], cwd=folder, check=True, capture_output=True)
    secrets = dict(
        line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if "=" in line and line[0] != "#"
    )
    files = [ROOT / "docker-compose.yaml", folder / "override.yaml"]
    compose = Compose(
        folder=folder,
        secrets=secrets,
        ui_port=_free_port(),
        db_port=_free_port(),
        api_port=_free_port(),
        files=files,
        busy_before=_listening(),
    )
    with (folder / ".env").open("a") as file:
        file.write(
            f"PONTE_UI_PORT={compose.ui_port}\nPONTE_BACKUPS={folder}/backups\nPONTE_CODE_REVISION=tested\nPONTE_TAG=test\n"
            f"PONTE_API_PORT={compose.api_port}\n"
        )
    service = f"{{environment: {{PONTE_MODELS: /models}}, volumes: ['{models}:/models:ro']}}"
    names = ("api-server", "scheduler", "dag-processor", "worker", "api", "stream")
    override = "services:\n" + "".join(f"  {name}: {service}\n" for name in names)
    (folder / "override.yaml").write_text(override)
    try:
        compose("--profile", "*", "down", "-v", "--timeout", "1")  # of a test that was killed
        compose("up", "-d", "--build", "--wait", "--wait-timeout", "600")
        yield compose
    finally:
        (folder / "logs.txt").write_text(compose("--profile", "*", "logs", "--no-color", check=False))
        print(f"\nlogs of all services: {folder / 'logs.txt'}")
        compose("--profile", "*", "down", "-v", "--timeout", "20", check=False)
