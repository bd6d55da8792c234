"""Files below `embedded.postgres`: the data folder, its configuration and lock files, and whose postmaster runs."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from ponte.embedded import programs
from ponte.errors import StackError
from ponte.storage.artifacts import sync_folder

PORT = 5432
LOG_NAME = "server.log"
_CONFIG_NAME, _HBA_NAME = "ponte.conf", "ponte_hba.conf"
#: The one address on which a server may listen.
LOOPBACK = "127.0.0.1"
#: Longest path of a unix socket in bytes, without the final zero: 107 on Linux, 103 on macOS.
_SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107

#: Settings of every server, unless `start` is told otherwise.
OPTIONS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    # A reader of all windows, and a backup, lock every batch's table at once: room for some 60,000 of them, in 30 MB.
    "max_locks_per_transaction": "512",
    "shared_buffers": "256MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


def socket_dir(data_dir: Path) -> Path:
    """Return the folder for the server's socket: beside the data, or below the temporary folder if that is too long.

    Unusual characters count as too long: libpq reads a comma as a list of hosts, and URLs would need quoting.
    """
    beside = data_dir.with_name(data_dir.name + "-socket")
    length = len(os.fsencode(beside / f".s.PGSQL.{PORT}")) + 1  # a port of one's own may have five digits
    if length <= _SOCKET_PATH_LIMIT and re.fullmatch(r"[A-Za-z0-9_./+-]+", str(beside)):
        return beside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"ponte-{digest}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tcp:
    """A port on 127.0.0.1 for one role and one database; nobody else gets in by it, the superuser neither."""

    port: int
    database: str
    role: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PidFile:
    """What postmaster.pid says; it grows while the server starts, so any part may still be empty."""

    pid: int | None
    port: int | None
    socket_dir: Path | None
    #: Where it listens besides the socket.
    address: str | None
    ready: bool


def read_pid_file(data_dir: Path) -> PidFile:
    """Return the content of postmaster.pid, all empty if there is no such file."""
    # Lines: pid, data folder, start time, port, socket folder, address, shared memory, status.
    pid, _, _, port, folder, address, _, status = (*pid_file_lines(data_dir), *[""] * 8)[:8]
    return PidFile(
        pid=int(pid) if pid.strip().isdigit() else None,
        port=int(port) if port.strip().isdigit() else None,
        socket_dir=Path(folder.strip()) if folder.strip() else None,
        address=address.strip() or None,
        ready=status.strip() == "ready",
    )


def pid_file_lines(data_dir: Path) -> list[str]:
    """Return the lines of postmaster.pid; none if there is no such file."""
    try:
        return (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise StackError(
            f"Cannot look into {data_dir}: it belongs to another user. Run this as the user (or root) who made it."
        ) from error


def postmaster(data_dir: Path) -> psutil.Process | None:
    """Return the main process of the running server of `data_dir`, or None."""
    pid = read_pid_file(data_dir).pid
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if _belongs(process, data_dir) else None
    except psutil.NoSuchProcess:
        return None


def _belongs(process: psutil.Process, data_dir: Path) -> bool:
    """Say whether `process` is part of the server of `data_dir`: every one of them has it as its working folder."""
    try:
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(process.cwd() == str(data_dir))
    except psutil.AccessDenied:
        return False
    except (psutil.NoSuchProcess, OSError):
        return False


def clear_stale_locks(data_dir: Path, port: int, deadline: float) -> None:
    """Wait for the rest of a killed server to end, then remove lock files whose pid something else has now.

    PostgreSQL clears stale ones by itself only if the pid is free. In a container pids are small and soon used again,
    and a killed process may stay as a zombie for ever; then it would refuse to start.
    """
    locks = [data_dir / "postmaster.pid", socket_dir(data_dir) / f".s.PGSQL.{port}.lock"]
    if not any(lock.exists() for lock in locks):
        return
    while any(_belongs(process, data_dir) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            raise StackError(f"A killed PostgreSQL server still has processes that work in {data_dir}; end them first.")
        time.sleep(0.1)
    for lock in locks:
        lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
        # A negative pid means a single-user server.
        if lines and lines[0].strip().lstrip("-").isdigit() and psutil.pid_exists(abs(int(lines[0]))):
            lock.unlink()


def initialise(data_dir: Path, account: pwd.struct_passwd | None, superuser_password: str, *, durable: bool) -> None:
    """Create the data folder unless a complete one exists.

    initdb works in a sibling that is renamed when it is complete, so an interrupted one leaves nothing that looks like
    a database. A data folder that is incomplete all the same is moved aside, never removed.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    if account is not None:
        programs.open_the_way(data_dir.parent, account)
        programs.make_readable(programs.binaries().parent, account)
    for leftover in data_dir.parent.glob(f"{data_dir.name}-initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if _is_complete(data_dir):
        return
    if data_dir.exists():
        data_dir.rename(data_dir.with_name(f"{data_dir.name}-incomplete-{time.strftime('%Y%m%dT%H%M%S')}"))
    workshop = Path(tempfile.mkdtemp(dir=data_dir.parent, prefix=f"{data_dir.name}-initdb-"))
    password_file = workshop / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(superuser_password + "\n", encoding="utf-8")
    programs.give(workshop, account)
    programs.give(password_file, account)
    # The built-in locale provider sorts the same way on every machine and never changes with the C library.
    arguments = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--username=postgres", "--encoding=UTF8"]
    arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "-D", str(workshop / "data")]
    arguments += [] if durable else ["--no-sync"]
    result = programs.run("initdb", arguments, account, data_dir)
    if result.status != 0:
        shutil.rmtree(workshop, ignore_errors=True)
        raise StackError(f"initdb could not create the database in {data_dir}:\n{result.output}")
    (workshop / "data").rename(data_dir)
    sync_folder(data_dir.parent)
    shutil.rmtree(workshop)


def _is_complete(data_dir: Path) -> bool:
    """Say whether initdb has finished here; raise StackError if another version of PostgreSQL made the folder."""
    try:
        version = (data_dir / "PG_VERSION").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if version and version != str(programs.VERSION):
        raise StackError(
            f"{data_dir} was made by PostgreSQL {version}; this is PostgreSQL {programs.VERSION}. "
            f"Upgrade it with pg_upgrade, or move it away to start with an empty database."
        )
    # initdb writes postgresql.conf and pg_control early; the database `postgres` (always oid 5) is its last step.
    return (data_dir / "global" / "pg_control").is_file() and (data_dir / "base" / "5").is_dir()


def configure(
    data_dir: Path, account: pwd.struct_passwd | None, options: Mapping[str, str], tcp: Tcp | None = None
) -> None:
    """Write our settings to a file of their own, included by postgresql.conf, and prepare the socket's folder.

    A file and not command-line options: pg_ctl passes those through a shell, where a quote in a path would break them.
    """
    folder = socket_dir(data_dir)
    programs.private_folder(folder, account)
    settings = {**OPTIONS, "unix_socket_directories": str(folder), **_shared_memory(), **options}
    if tcp is not None:
        settings |= {"listen_addresses": LOOPBACK, "port": str(tcp.port), "hba_file": str(data_dir / _HBA_NAME)}
        _write(data_dir / _HBA_NAME, account, _who_gets_in(tcp))
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
    advice = "# Written at every start; put settings of your own into postgresql.auto.conf (ALTER SYSTEM).\n"
    _write(data_dir / _CONFIG_NAME, account, "".join([advice, *lines]))
    main = data_dir / "postgresql.conf"
    include = f"include_if_exists = '{_CONFIG_NAME}'\n"
    if include not in main.read_text(encoding="utf-8"):
        with main.open("a", encoding="utf-8") as file:
            file.write(f"\n{include}")


def _write(path: Path, account: pwd.struct_passwd | None, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    programs.give(path, account)


def _who_gets_in(tcp: Tcp) -> str:
    """Return a pg_hba.conf: by the socket every role, by TCP one; each with its password."""
    return (
        "# Written at every start with a TCP port; without one pg_hba.conf holds.\n"
        "local all all scram-sha-256\n"
        f"host {tcp.database} {tcp.role} {LOOPBACK}/32 scram-sha-256\n"
    )


def _shared_memory() -> dict[str, str]:
    """Containers often have 64 MB of /dev/shm, too little for a parallel query; then use files in the data folder."""
    try:
        info = os.statvfs("/dev/shm")  # noqa: S108 - its size is asked, nothing is written
    except OSError:
        return {}
    return {"dynamic_shared_memory_type": "mmap"} if info.f_frsize * info.f_blocks < 512 * 1024**2 else {}


def rotate_log(data_dir: Path, limit: int = 20 * 1024**2) -> None:
    """Keep the log below about twice `limit` bytes: a full one replaces the one before it."""
    log = data_dir / LOG_NAME
    if log.exists() and log.stat().st_size > limit:
        log.replace(log.with_suffix(".log.1"))


def log_tail(data_dir: Path, lines: int = 20) -> str:
    """Return the last lines of the server's log."""
    try:
        text = (data_dir / LOG_NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])
