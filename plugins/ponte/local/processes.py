"""The four components of Airflow as processes, and the two that answer one by one: start, recognise, stop.

A component is recognised by the pid and the start time in its record, so a pid that another program has got since is
never taken for ours. Everything that a component starts inherits two environment variables (`marks`), and is found by
them even if it has left the component's session or has lost its parent, as tasks do when the scheduler is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from ponte.errors import StackError
from ponte.local.secrets import write_private_json
from ponte.local.settings import Settings

#: Those of Airflow, in the order of start: the others report to the api-server.
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: What answers one by one, if the settings say so: component -> command of `./ponte`.
LIVE = {"api": "serve", "stream": "work"}
#: In the order of stop: tasks that are being ended by the scheduler still report to the api-server.
_STOP_ORDER = (("scheduler", "dag-processor", "triggerer", *LIVE), ("api-server",))

_HOME_MARK = "PONTE_LOCAL_STACK"
_COMPONENT_MARK = "PONTE_LOCAL_COMPONENT"
#: Seconds. psutil derives start times from the boot time, which moves when the clock is set.
_START_TIME_TOLERANCE = 2.0
_LOG_LIMIT = 20 * 1024**2


def wanted(settings: Settings) -> tuple[str, ...]:
    """Return the components that run when all is up."""
    return (*COMPONENTS, *(LIVE if settings.api else ()))


def marks(settings: Settings, component: str) -> dict[str, str]:
    """Return the environment variables by which the processes of a component are found."""
    # Airflow's setproctitle writes long process titles over the environment, marks included, unless told not to.
    return {_HOME_MARK: str(settings.home), _COMPONENT_MARK: component, "SPT_NOENV": "1"}


def log_file(settings: Settings, component: str) -> Path:
    """Return the file with a component's output."""
    return settings.logs / f"{component}.log"


def record_file(settings: Settings, component: str) -> Path:
    """Return the file that records a component's process."""
    return settings.run / f"{component}.json"


def find(settings: Settings, component: str) -> psutil.Process | None:
    """Return the running main process of a component, or None."""
    try:
        record = json.loads(record_file(settings, component).read_text(encoding="utf-8"))
        process = psutil.Process(int(record["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if abs(process.create_time() - float(record["created"])) <= _START_TIME_TOLERANCE:
            return process
        # Perhaps the clock was set. The marks tell, and an unrelated process does not have them.
        ours = _marked(process, settings, (component,)) and os.getsid(process.pid) == process.pid
        return process if ours else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def alive(settings: Settings) -> dict[str, psutil.Process]:
    """Return component -> main process, for those that run."""
    found = {component: find(settings, component) for component in (*COMPONENTS, *LIVE)}
    return {component: process for component, process in found.items() if process is not None}


def start(settings: Settings, component: str, environment: Mapping[str, str]) -> psutil.Process:
    """Start a component in a session of its own, so that Ctrl-C in this terminal does not reach it; return at once."""
    path = log_file(settings, component)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    # Variables of another Airflow or Python set-up in the caller's shell must not change this one.
    own = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "VIRTUAL_ENV"}}
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with path.open("ab") as log:
        log.write(f"\n--- {time.strftime('%Y-%m-%d %H:%M:%S %z')} start of {component} ---\n".encode())
        log.flush()
        started = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            [sys.executable, "-m", *_arguments(settings, component)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=settings.root,
            env={**own, **environment, **marks(settings, component)},
        )
    process = psutil.Process(started.pid)
    record = {"component": component, "pid": started.pid, "created": process.create_time(), "log": str(path)}
    write_private_json(record_file(settings, component), record)
    return process


def _arguments(settings: Settings, component: str) -> list[str]:
    if component not in LIVE:
        return ["airflow", component]
    place = ["--host", "127.0.0.1", "--port", str(settings.api_port)] if component == "api" else []
    return ["ponte.cli", LIVE[component], *place]


def stop(settings: Settings, components: Iterable[str] = (*COMPONENTS, *LIVE)) -> list[str]:
    """Stop components with everything that they have started; return the names of those that had to be killed.

    SIGTERM first, then SIGKILL for the tasks that still run after a quarter of `settings.stop_timeout` (which their
    supervisors record as failed or up for retry), and for everything that is left at its end.
    """
    wanted = set(components)
    killed: list[str] = []
    for group in _STOP_ORDER:
        names = [name for name in group if name in wanted]
        if not names:
            continue
        killed += _end(settings, names)
        for name in names:
            record_file(settings, name).unlink(missing_ok=True)
    return killed


def _end(settings: Settings, names: Sequence[str]) -> list[str]:
    """End the processes of `names`, and return those of them that took a SIGKILL."""
    leaders = {process.pid for process in (find(settings, name) for name in names) if process is not None}
    for process in members(settings, names):
        _signal(process, signal.SIGTERM)
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < settings.stop_timeout:
        remaining = members(settings, names)
        if not remaining:
            return []
        # A Python task goes on after SIGTERM (Airflow calls its on_kill, no more). Killed without its supervisor, it is
        # still recorded as failed or up for retry; killed with it, it would look as if it were running.
        if leaders and waited > settings.stop_timeout / 4:
            for process in remaining:
                if _group(process) not in leaders:
                    _signal(process, signal.SIGKILL)
        time.sleep(0.2)
    stubborn = [name for name in names if members(settings, (name,))]
    # Again and again, because what is being killed may be starting something at this moment.
    deadline = time.monotonic() + 10
    while remaining := members(settings, names):
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in remaining)
            raise StackError(f"These processes do not end, not even by SIGKILL: {pids}.")
        for process in remaining:
            _signal(process, signal.SIGKILL)
        time.sleep(0.1)
    return stubborn


def members(settings: Settings, components: Sequence[str] = (*COMPONENTS, *LIVE)) -> list[psutil.Process]:
    """Return every living process of `components`: the main ones, their descendants, and all that carry the marks."""
    found: dict[int, psutil.Process] = {}
    for component in components:
        leader = find(settings, component)
        if leader is None:
            continue
        found[leader.pid] = leader
        with suppress(psutil.Error):
            found.update({child.pid: child for child in leader.children(recursive=True)})
    for process in psutil.process_iter():
        if process.pid not in found and _marked(process, settings, components):
            found[process.pid] = process
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _is_alive(process)]


def _marked(process: psutil.Process, settings: Settings, components: Sequence[str]) -> bool:
    """Say whether a process carries the marks of one of `components`; no for processes of other users."""
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    return environment.get(_HOME_MARK) == str(settings.home) and environment.get(_COMPONENT_MARK) in components


def _is_alive(process: psutil.Process) -> bool:
    """Say whether a process still runs (a zombie does not)."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _group(process: psutil.Process) -> int | None:
    """Return the process group; tasks have one of their own, supervisors that of the component."""
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal; psutil refuses if the pid has been given to another process since it was looked up."""
    with suppress(psutil.Error, ProcessLookupError):
        process.send_signal(number)


def log_tail(path: Path, lines: int = 20) -> str:
    """Return the last lines of a log file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])
