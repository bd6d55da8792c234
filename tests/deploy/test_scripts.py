"""Scripts of the image, run by a real shell; stand-ins for their programs write down how they are called."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import psycopg2
import pytest
import yaml

from ponte.schema import roles
from ponte.storage.database import Database

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


class Programs:
    """A folder in front of the PATH, of programs that write a line `name|argument|argument` when they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"

    def add(self, name: str, does: str = ":") -> None:
        """Make the stand-in `name`, which writes down its call, then does what the shell program says."""
        path = self.folder / name
        head = f'#!/bin/sh\n(IFS="|"; printf "%s\\n" "{name}|$*") >>{shlex.quote(str(self._calls))}\n'
        path.write_text(f"{head}{does}\n", encoding="utf-8")
        path.chmod(0o755)

    def calls(self) -> list[str]:
        """Return the calls up to now, in their order."""
        return self._calls.read_text(encoding="utf-8").splitlines() if self._calls.exists() else []

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment in which the stand-ins are found, and nothing of this process but the PATH."""
        return {"PATH": f"{self.folder}:{os.environ['PATH']}", **more}

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, without a terminal."""
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("programs"))


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


# ---------------------------------------------------------------- docker/healthy.py

JSON, HTML = "application/json", "text/html"
#: What a server answers by the path: status, type and body.
ANSWERS = {
    "/well": (200, JSON, '{"metadatabase": {"status": "healthy"}, "scheduler": {"status": "unhealthy"}}'),
    "/database-down": (200, JSON, '{"metadatabase": {"status": "unhealthy"}}'),
    "/other-json": (200, JSON, '{"status": "healthy"}'),
    "/html": (200, HTML, "<p>not JSON</p>"),
    "/nothing": (200, None, ""),
    "/broken-json": (200, JSON, "{"),
    "/error": (500, JSON, '{"metadatabase": {"status": "healthy"}}'),
    "/unavailable": (503, None, ""),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, kind, body = ANSWERS.get(self.path, (404, None, ""))
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Port of a server that gives the answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def health(*what: str, **environment: str) -> int:
    """Return the status of the script, started as by a health check, where a proxy is set that leads nowhere."""
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, "-I", str(DOCKER / "healthy.py"), *what]
    environment |= proxies | {"PATH": os.environ["PATH"]}
    return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60).returncode


@pytest.mark.parametrize(
    ("paths", "status"),
    [
        (["/well"], 0),
        (["/database-down"], 1),
        (["/other-json"], 0),
        (["/html"], 0),
        (["/nothing"], 0),
        (["/broken-json"], 1),
        (["/error"], 1),
        (["/unavailable"], 1),
        (["/unknown"], 1),
        (["/other-json", "/well"], 0),
        (["/well", "/database-down"], 1),
        (["/database-down", "/well"], 1),
    ],
)
def test_a_server_is_well_if_every_answer_says_so(port: int, paths: list[str], status: int) -> None:
    assert health(*(f":{port}{path}" for path in paths)) == status


def test_a_server_that_does_not_listen_is_not_well() -> None:
    with socket.socket() as taken:  # bound, so that nobody else can listen there
        taken.bind(("127.0.0.1", 0))
        assert health(f":{taken.getsockname()[1]}/well") == 1


@pytest.mark.parametrize(
    ("job", "status"),
    [
        ({}, 0),
        ({"job_type": "SchedulerJob"}, 1),
        ({"hostname": "another"}, 1),
        ({"state": "failed"}, 1),
        ({"age": "61 seconds"}, 1),
    ],
)
def test_a_job_is_well_if_its_last_heartbeat_is_recent(empty_url: str, job: dict[str, str], status: int) -> None:
    row = {"job_type": "DagProcessorJob", "hostname": socket.gethostname(), "state": "running", "age": "30 seconds"}
    connection = psycopg2.connect(empty_url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE job (job_type text, hostname text, state text, latest_heartbeat timestamptz)")
            cursor.execute(
                "INSERT INTO job VALUES (%(job_type)s, %(hostname)s, %(state)s, now() - %(age)s::interval)", row | job
            )
    finally:
        connection.close()
    assert health("DagProcessorJob", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=empty_url) == status


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("", 0),
        ("INSERT INTO ponte.queue (model, open) VALUES ('m', false)", 0),
        ("INSERT INTO ponte.queue (model, open) VALUES ('m', true)", 1),
        ("INSERT INTO ponte.queue (model, open) VALUES ('m', true); {told}", 0),
        ("INSERT INTO ponte.queue (model, open) VALUES ('m', true); {old}", 1),
        ("INSERT INTO ponte.queue (model, open) VALUES ('m', true); {other}", 1),
    ],
)
def test_a_worker_of_the_queue_is_well_if_it_told_lately_what_it_did(db: Database, told: str, status: int) -> None:
    roles.grant(db)
    row = "INSERT INTO ponte.stream_progress (worker, model, at, seconds, answered, failed) "
    row += "VALUES ('{}', 'm', {}, 5, 0, 0)"
    name = socket.gethostname()
    rows = {
        "told": row.format(f"{name}:7", "now() - interval '100 seconds'"),
        "old": row.format(f"{name}:7", "now() - interval '3 minutes'"),
        "other": row.format("another:7", "now()"),
    }
    with db.begin() as connection:
        connection.exec_driver_sql(told.format_map(rows) or "SELECT")
    place = {"host": db.url.query["host"], "port": int(str(db.url.query.get("port", 5432))), "schema": db.url.database}
    login = {"login": roles.STREAM, "password": db.url.password}
    assert health("stream", AIRFLOW_CONN_PONTE_STREAM=json.dumps(place | login)) == status


# ---------------------------------------------------------------- docker/scheduler.sh


@pytest.fixture
def scheduler(programs: Programs) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Return a function that starts the script; there is a broker as soon as the folder has a file `broker`."""
    folder = shlex.quote(str(programs.folder))
    programs.add("getent", f'[ "$*" = "hosts redis" ] && [ -e {folder}/broker ]')
    programs.add("sleep", "exec /bin/sleep 0.05")
    programs.add("airflow", f'echo "$* $AIRFLOW__CORE__EXECUTOR" >{folder}/started; exec /bin/sleep 60')
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        command = ["/bin/sh", str(DOCKER / "scheduler.sh")]
        environment = programs.environment(AIRFLOW__CORE__EXECUTOR="Wrong")
        # A group of its own: what looks for the broker is to end with the test, too.
        started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with suppress(OSError):  # nothing is left of it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def running(programs: Programs) -> str:
    """Return the arguments of `airflow` and its executor, once it has been started."""
    path = programs.folder / "started"
    wait_for(lambda: path.exists() and path.stat().st_size)
    return path.read_text(encoding="utf-8")


def test_with_a_broker_the_scheduler_has_celery_and_looks_no_further(
    programs: Programs, scheduler: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    (programs.folder / "broker").touch()
    process = scheduler()
    assert running(programs) == "scheduler CeleryExecutor\n"
    time.sleep(0.3)
    assert process.poll() is None
    assert [call for call in programs.calls() if call.startswith("getent")] == ["getent|hosts|redis"]


def test_without_a_broker_the_scheduler_runs_tasks_itself(
    programs: Programs, scheduler: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    process = scheduler()
    assert running(programs) == "scheduler LocalExecutor\n"
    wait_for(lambda: len([call for call in programs.calls() if call.startswith("sleep")]) > 2)
    assert process.poll() is None
    # What looks for the broker is none: Airflow would find a child that it does not know.
    wait_for(lambda: not psutil.Process(process.pid).children())


def test_a_broker_that_comes_later_ends_the_scheduler_gracefully(
    programs: Programs, scheduler: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    process = scheduler()
    running(programs)
    (programs.folder / "broker").touch()
    assert process.wait(timeout=30) == -signal.SIGTERM


# ---------------------------------------------------------------- docker/init.sh

PASSWORD = "sesame-open"  # noqa: S105 - of nothing
CREATE = "airflow|users|create|--role|Admin|--username|admin|--email|admin@localhost|--firstname|Ponte|--lastname|Admin"
POOL = "airflow|pools|set|ponte_score|3|Shards that are scored at the same time, of all models"
SHOWN = "airflow|roles|add-perms|Viewer|User|-a|can_read|-r|Plugins"
#: `users list` prints a table; without users it is empty, and Airflow says so.
NO_USERS = "No data found"
USERS = "id username email first_name last_name roles\n1 me me@example.org Me Me Admin"


def init(programs: Programs, users: str = NO_USERS, fails: str = "nothing") -> "subprocess.CompletedProcess[str]":
    """Run the script where `users` are there and the call that begins with `fails` ends with status 3."""
    (programs.folder / "users").write_text(f"{users}\n", encoding="utf-8")
    folder = shlex.quote(str(programs.folder))
    # Not the real one, which no Mac has.
    programs.add("setsid", 'shift; exec "$@"')
    programs.add("ponte", f'[ "ponte $*" != {shlex.quote(fails)} ] || exit 3')
    programs.add(
        "airflow",
        f'case "airflow $*" in {shlex.quote(fails)}*) exit 3 ;; esac\n'
        f'case "$1 $2" in "users list") cat {folder}/users ;; "users create") cat >{folder}/typed ;; esac',
    )
    return programs.run("/bin/sh", str(DOCKER / "init.sh"), AIRFLOW_ADMIN_PASSWORD=PASSWORD, PONTE_SCORE_SLOTS="3")


BEFORE = ["ponte|provision|--own-server", "airflow|db|migrate", "airflow|users|list|--output|plain"]


def test_the_first_start_makes_the_administrator_and_shows_the_pages_to_everybody(programs: Programs) -> None:
    result = init(programs)
    assert result.returncode == 0, result.stderr
    assert programs.calls() == [*BEFORE, f"setsid|--wait|{CREATE}", CREATE, SHOWN, POOL]
    assert (programs.folder / "typed").read_text(encoding="utf-8") == f"{PASSWORD}\n" * 2
    assert PASSWORD not in "".join(programs.calls()) + result.stdout + result.stderr


def test_where_there_are_users_none_is_added(programs: Programs) -> None:
    result = init(programs, users=USERS)
    assert result.returncode == 0, result.stderr
    assert programs.calls() == [*BEFORE, POOL]


@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("ponte provision --own-server", BEFORE[:1]),
        ("airflow db migrate", BEFORE[:2]),
        ("airflow users list", BEFORE),
        ("airflow users create", [*BEFORE, f"setsid|--wait|{CREATE}", CREATE]),
        ("airflow roles add-perms", [*BEFORE, f"setsid|--wait|{CREATE}", CREATE, SHOWN]),
        ("airflow pools set", [*BEFORE, f"setsid|--wait|{CREATE}", CREATE, SHOWN, POOL]),
    ],
)
def test_a_step_that_fails_is_the_last(programs: Programs, fails: str, calls: list[str]) -> None:
    """Other services wait for status 0, and would meet half a database."""
    assert init(programs, fails=fails).returncode == 3
    assert programs.calls() == calls


# ---------------------------------------------------------------- docker/ops.sh

COMMAND = ("python", "-c", "two words")
LOOK = "stat|-c|%u|/backups"
AS_PONTE = "setpriv|--reuid=ponte|--regid=ponte|--clear-groups|--no-new-privs|python|-c|two words"


@pytest.mark.parametrize(
    ("owner", "calls"),
    [("0", [LOOK, "chown|ponte:ponte|/backups", AS_PONTE]), ("50000", [LOOK, AS_PONTE]), ("1000", [LOOK, AS_PONTE])],
)
def test_only_a_folder_that_docker_made_gets_another_owner(programs: Programs, owner: str, calls: list[str]) -> None:
    programs.add("stat", f"echo {owner}")
    programs.add("chown")
    programs.add("setpriv", "exit 7")
    result = programs.run("/bin/sh", str(DOCKER / "ops.sh"), *COMMAND)
    assert result.returncode == 7, "the status of the command"
    assert programs.calls() == calls


def test_without_its_folder_the_command_does_not_run(programs: Programs) -> None:
    programs.add("stat", "echo 0")
    programs.add("chown", "exit 1")
    programs.add("setpriv")
    assert programs.run("/bin/sh", str(DOCKER / "ops.sh"), *COMMAND).returncode == 1
    assert AS_PONTE not in programs.calls()


# ---------------------------------------------------------------- the command of redis


def test_redis_asks_for_a_password_that_is_no_argument(programs: Programs) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))["services"]["redis"]
    command = [part.replace("$$", "$") for part in service["command"]]  # as compose does
    programs.add("redis-server", "exec cat")
    result = programs.run(*command, REDISCLI_AUTH=PASSWORD)
    assert result.returncode == 0, result.stderr
    assert f"requirepass {PASSWORD}" in result.stdout.splitlines()
    assert 'save ""' in result.stdout.splitlines(), "its file system is read-only"
    assert programs.calls() == ["redis-server|-"]


# ---------------------------------------------------------------- ./ponte-secrets without randomness


@pytest.mark.parametrize("content", [None, "# of mine\nPONTE_UI_PORT=8081", "REDIS_PASSWORD=mine\nA=1\n"])
@pytest.mark.parametrize(("program", "prints"), [("od", ""), ("od", "ab cd"), ("dd", ""), ("base64", "")])
def test_a_secret_that_is_no_secret_is_not_written(
    programs: Programs, tmp_path: Path, program: str, prints: str, content: str | None
) -> None:
    """A pipeline has the status of its last program, so what the first could not do shows in the length only."""
    programs.add(program, f"cat >/dev/null; printf '%s' '{prints}'; exit 1")
    programs.add("docker", "exit 1")  # no stack of the machine
    if content is not None:
        (tmp_path / ".env").write_text(content, encoding="utf-8")
        (tmp_path / ".env").chmod(0o640)
    result = programs.run("/bin/sh", str(ROOT / "ponte-secrets"), cwd=tmp_path)
    assert result.returncode == 1
    assert "no randomness" in result.stderr
    assert any(call.startswith(program) for call in programs.calls())
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else [".env"])
    if content is not None:
        assert (tmp_path / ".env").read_text(encoding="utf-8") == content
        assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o640


# ---------------------------------------------------------------- docker/ponte


def test_in_the_image_ponte_is_the_same_program(programs: Programs) -> None:
    programs.add("python", "exit 3")
    assert programs.run(str(DOCKER / "ponte"), "check", "two words").returncode == 3
    assert programs.calls() == ["python|-m|ponte.cli|check|two words"]
    link = "ln -s /opt/ponte/docker/ponte /usr/local/bin/ponte"
    assert link in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["up", "down", "status", "password", "env"])
def test_in_the_image_there_is_no_stack_of_this_machine(programs: Programs, command: str) -> None:
    programs.add("python")
    result = programs.run(str(DOCKER / "ponte"), command)
    assert (result.returncode, result.stdout) == (2, "")
    assert "docker compose" in result.stderr
    assert programs.calls() == []
