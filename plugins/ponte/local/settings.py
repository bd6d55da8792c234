"""Where the local stack lives and which ports it uses: read once from the environment, then passed around."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ponte.errors import StackError

#: Environment variable -> (field of Settings, smallest, largest value).
_NUMBERS = {
    "PONTE_UI_PORT": ("ui_port", 1, 65535),
    "PONTE_DB_PORT": ("db_port", 1, 65535),
    "PONTE_LOG_PORT": ("log_port", 1, 65535),
    "PONTE_TRIGGERER_LOG_PORT": ("triggerer_log_port", 1, 65535),
    "PONTE_SCHEDULER_PORT": ("scheduler_port", 1, 65535),
    "PONTE_API": ("api", 0, 1),
    "PONTE_API_PORT": ("api_port", 1, 65535),
    "PONTE_PARALLELISM": ("parallelism", 1, 256),
    "PONTE_SCORE_SLOTS": ("score_slots", 1, 256),
    "PONTE_PRELOAD": ("preload", 0, 1),
    "PONTE_START_TIMEOUT": ("start_timeout", 10, 86400),
    "PONTE_STOP_TIMEOUT": ("stop_timeout", 1, 86400),
}
_PORTS = (
    *("PONTE_UI_PORT", "PONTE_DB_PORT", "PONTE_LOG_PORT", "PONTE_TRIGGERER_LOG_PORT", "PONTE_SCHEDULER_PORT"),
    "PONTE_API_PORT",
)


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of one local stack. Two stacks with different `home` and ports can run side by side."""

    #: Folder of the repository: holds dags/, plugins/ and include/.
    root: Path
    #: Everything the stack writes: database, logs, artifacts, secrets.
    home: Path
    #: Address the UI and REST API listen on; the default is reachable from this machine only.
    ui_host: str = "127.0.0.1"
    ui_port: int = 8080
    #: Port of PostgreSQL on 127.0.0.1, for the role of people; None: it listens on its socket only.
    db_port: int | None = None
    #: Logs of running tasks, served by the scheduler for the UI.
    log_port: int = 8793
    #: Logs of running triggers, served by the triggerer for the UI.
    triggerer_log_port: int = 8794
    #: The scheduler's own health check.
    scheduler_port: int = 8974
    #: 1: the API and a worker of the queue run beside Airflow.
    api: int = 0
    #: Port of the API on 127.0.0.1.
    api_port: int = 8088
    #: Tasks that run at the same time. Each costs a process from the start, so Airflow's default of 32 is too many.
    parallelism: int = 4
    #: Score tasks that run at the same time, of all models: each keeps a core busy and holds a chunk of rows in memory.
    score_slots: int = field(default_factory=cores)
    #: 1: the scheduler imports the heavy libraries once, for all tasks; 0: each task imports what it needs.
    preload: int = 1
    #: Seconds until `up` gives up waiting for Airflow to become healthy.
    start_timeout: int = 300
    #: Seconds that a component gets to stop by itself before it is killed.
    stop_timeout: int = 20

    @property
    def data_dir(self) -> Path:
        """Data folder of the embedded PostgreSQL."""
        return self.home / "postgres"

    @property
    def logs(self) -> Path:
        """Folder of the log files of all components; task logs are in its subfolder `tasks`."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Folder of the records about what is running."""
        return self.home / "run"

    @property
    def secrets_file(self) -> Path:
        """The one file with all passwords and keys."""
        return self.home / "secrets.json"

    @property
    def ui_url(self) -> str:
        """Address of the UI for programs and people on this machine, without a trailing slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.ui_host, self.ui_host)  # noqa: S104
        return f"http://{host}:{self.ui_port}"

    @property
    def api_url(self) -> str:
        """Address of the API on this machine, without a trailing slash."""
        return f"http://127.0.0.1:{self.api_port}"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], root: Path | None = None) -> Settings:
        """Return the settings that `environ` describes; unset or empty variables mean the default.

        Raises StackError that names every bad variable, what was found and what was expected.
        """
        root = (root or Path(__file__).parents[3]).resolve()
        home = Path(environ.get("PONTE_HOME") or root / ".ponte").expanduser()
        problems: list[str] = []
        numbers: dict[str, int] = {}
        for name, (attribute, low, high) in _NUMBERS.items():
            text = environ.get(name, "").strip()
            if not text:
                continue
            if text.isascii() and text.isdigit() and low <= int(text) <= high:
                numbers[attribute] = int(text)
            else:
                problems.append(f"{name}: got {text!r}, expected a whole number from {low} to {high}.")
        settings = cls(
            root=root,
            # Symbolic links are resolved because processes are recognised by this path.
            home=home.resolve(),
            ui_host=environ.get("PONTE_UI_HOST", "").strip() or "127.0.0.1",
            **numbers,
        )
        problems += settings._conflicting_ports()
        if settings.home == root or settings.home in root.parents:
            problems.append(
                f"PONTE_HOME: got {str(home)!r}, which contains the repository; expected a folder of its own, "
                f"for example {str(root / '.ponte')!r}."
            )
        if "$" in f"{root}{settings.home}":
            problems.append(
                f"PONTE_HOME or the repository's folder: got {str(home)!r} and {str(root)!r}, "
                f"expected paths without '$' (Airflow would expand it as a variable)."
            )
        if problems:
            raise StackError("Bad settings in the environment:\n  " + "\n  ".join(problems))
        return settings

    def _conflicting_ports(self) -> list[str]:
        """Return one line for each pair of settings that name the same port."""
        names: dict[int, str] = {}
        problems = []
        for name in _PORTS:
            port = getattr(self, _NUMBERS[name][0])
            if port is None:
                continue
            if port in names:
                problems.append(f"{name}: got {port}, which {names[port]} has already; expected a port of its own.")
            names.setdefault(port, name)
        return problems
