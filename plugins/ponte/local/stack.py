"""Start and stop the whole stack: secrets, PostgreSQL, schemas, components of Airflow, and what answers one by one."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa

from ponte.embedded import cluster, postgres
from ponte.embedded.postgres import SUPERUSER, Server
from ponte.errors import PonteError, StackError, did_you_mean
from ponte.local import processes, readiness
from ponte.local.environment import (
    ADMIN,
    SCORE_POOL,
    airflow_environment,
    live_environment,
    write_password_file,
)
from ponte.local.secrets import Secrets, load_or_create, write_private_json
from ponte.local.settings import Settings
from ponte.packages import locking
from ponte.packages.folder_requirements import of_checkout
from ponte.runtime import models_root
from ponte.schema import roles
from ponte.schema.provision import passwords_of

#: What `up` remembers, so that `status`, `down` and a second `up` need no PONTE_* variables.
_REMEMBERED = (
    *("ui_host", "ui_port", "db_port", "log_port", "triggerer_log_port", "scheduler_port"),
    *("parallelism", "score_slots", "preload", "api", "api_port"),
)

#: Seconds; the time of a shorter step is not printed.
_WORTH_TELLING = 2.0


def up(settings: Settings, migrate: Callable[[str], None] | None = None) -> None:
    """Bring the whole stack up and return when it is ready for work; what runs already is left alone.

    Can be repeated after any interruption. migrate: brings the schema `ponte` up to date, given its owner's URL; the
    default is `ponte.schema.provision.upgrade`.
    """
    with _lock(settings):
        running = processes.alive(settings)
        if running:
            settings = as_running(settings, strict=True)
        missing = [name for name in processes.wanted(settings) if name not in running]
        # What a killed component has left behind: it may hold ports, or write results that nobody waits for.
        if missing and processes.members(settings, missing):
            with _step("Ending what stopped components have left behind"):
                processes.stop(settings, missing)
        # Only a restart opens or closes its port, and what works with it would notice one.
        keep = postgres.is_running(settings.data_dir) and (bool(running) or listens_as_asked(settings))
        readiness.check_ports(settings, missing if keep else ["postgres", *missing])
        secrets = load_or_create(settings.secrets_file)
        server = start_database(settings, secrets, keep=keep)
        environment = airflow_environment(settings, secrets, server)
        write_password_file(settings, secrets)
        metadata = server.url("airflow", "airflow", secrets.airflow_password, "psycopg2")
        if not readiness.airflow_is_migrated(settings, metadata):
            with _step("Preparing Airflow's schema (about half a minute)"):
                readiness.migrate_airflow(settings, metadata, environment)
        with _step("Preparing Ponte's schema"):
            (migrate or _ponte_migrations)(server.url("ponte", roles.OWNER, secrets.ponte_password))
        if missing:
            with _step(f"Starting {', '.join(missing)} (about a minute)"):
                environments = environments_of(settings, secrets, server, airflow=environment)
                _start_components(settings, {name: environments[name] for name in missing})
        else:
            _wait(settings, {})
        _score_pool(settings, secrets)
        for line in locking.what_is_not_locked(models_root(), of_checkout(settings.root)):
            print(line)
        print(f"Ready: {settings.ui_url}  (user admin; `./ponte password` prints the password)")
        if settings.api:
            print(f"API: {settings.api_url}  (`./ponte keys create NAME` makes a key)")
        if server.address:
            print(f"SQL on {server.address}:{server.port} until `./ponte down`; `./ponte status` says how to connect")


def listens_as_asked(settings: Settings) -> bool:
    """Say whether PostgreSQL, which runs, has the port that the settings have, or none."""
    server = postgres.describe(settings.data_dir)
    return (server.port if server.address else None) == settings.db_port


def start_database(settings: Settings, secrets: Secrets, *, keep: bool) -> postgres.Server:
    """Start PostgreSQL with both databases, and with a port for people if the settings have one.

    keep : leave one that runs as it is; else it is started again, with the port that is asked for or none.
    """
    if keep:
        server = postgres.describe(settings.data_dir)
        ensure_databases(server, secrets)
        return server
    tcp = cluster.Tcp(port=settings.db_port, database="ponte", role=roles.ANALYST) if settings.db_port else None
    with _step("Starting PostgreSQL"):
        postgres.stop(settings.data_dir)
        server = postgres.start(
            settings.data_dir, superuser_password=secrets.postgres_password, tcp=tcp, timeout=settings.start_timeout
        )
        ensure_databases(server, secrets)
    return server


def _ponte_migrations(url: str) -> None:
    """Bring the schema `ponte` up to date, and what each role may do in it."""
    from ponte.schema.provision import upgrade

    upgrade(url)


def environments_of(
    settings: Settings, secrets: Secrets, server: Server, *, airflow: Mapping[str, str]
) -> dict[str, Mapping[str, str]]:
    """Return component -> its variables, for all that run; `airflow` has those of the components of Airflow."""
    live = {
        "api": live_environment(settings, secrets, server, roles.API),
        "stream": live_environment(settings, secrets, server, roles.STREAM),
    }
    return {name: live.get(name, airflow) for name in processes.wanted(settings)}


def _start_components(settings: Settings, environments: Mapping[str, Mapping[str, str]]) -> None:
    """Start components (name -> its environment) and wait until all are healthy; on failure stop those again."""
    write_private_json(settings.run / "settings.json", {name: getattr(settings, name) for name in _REMEMBERED})
    started: dict[str, float] = {}

    try:
        for name, environment in environments.items():
            started[name] = processes.start(settings, name, environment).create_time()
        _wait(settings, started)
    except StackError:
        processes.stop(settings, environments)
        raise


def _wait(settings: Settings, since: Mapping[str, float]) -> None:
    """Return when every component is healthy; since as of `readiness.wait_until_healthy`."""

    def check() -> None:
        _check_alive(settings)

    readiness.wait_until_healthy(settings, since, check)
    if settings.api:
        readiness.wait_for_api(settings, check)


def _score_pool(settings: Settings, secrets: Secrets) -> None:
    """Let Airflow have the pool of the score tasks; they would wait for it for ever."""
    import httpx

    from ponte.local.airflow_api import connect

    description = "Score tasks of all models; its size is PONTE_SCORE_SLOTS, set by `./ponte up`"
    try:
        with connect(settings.ui_url, user=ADMIN, password=secrets.admin_password) as api:
            api.pool(SCORE_POOL, slots=settings.score_slots, description=description)
    except (PonteError, httpx.HTTPError) as error:
        fix = "run `./ponte up` again"
        raise StackError(f"Airflow has no pool {SCORE_POOL}, and score tasks wait", got=str(error), fix=fix) from error


def _check_alive(settings: Settings) -> None:
    """Raise StackError with the end of its log if a component does not run."""
    for name in processes.wanted(settings):
        if processes.find(settings, name) is None:
            log = processes.log_file(settings, name)
            raise StackError(f"The {name} has died. End of {log}:\n{processes.log_tail(log)}")


def down(settings: Settings) -> None:
    """Stop everything that `up` has started, running tasks included; nothing to stop is fine."""
    if not settings.home.exists():
        print("Nothing is running.")
        return
    with _lock(settings):
        anything = False
        if processes.members(settings):
            anything = True
            with _step("Stopping Airflow and what runs beside it"):
                killed = processes.stop(settings)
            if killed:
                seconds = settings.stop_timeout
                print(f"  (not ended after {seconds} s, and killed, running tasks included: {', '.join(killed)})")
        if postgres.is_running(settings.data_dir):
            anything = True
            with _step("Stopping PostgreSQL"):
                postgres.stop(settings.data_dir)
        # Its presence tells the Makefile that something may run.
        (settings.run / "settings.json").unlink(missing_ok=True)
        print("Stopped." if anything else "Nothing is running.")


def as_running(settings: Settings, *, strict: bool = False) -> Settings:
    """Return the settings with which the stack was started, where they differ from `settings`.

    strict: raise StackError if the environment asks for something else than what runs (only a restart could change it).
    The API may be asked for later: it is started beside what runs.
    """
    try:
        remembered = json.loads((settings.run / "settings.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return settings
    default = Settings(root=settings.root, home=settings.home)
    runs_with = {name: remembered.get(name, getattr(default, name)) for name in _REMEMBERED}
    if strict and not runs_with["api"]:
        runs_with |= {"api": settings.api, "api_port": settings.api_port}
    changed = [
        f"{name}: runs with {value!r}, asked for {getattr(settings, name)!r}"
        for name, value in runs_with.items()
        if getattr(settings, name) not in (value, getattr(default, name))
    ]
    if changed and strict:
        raise StackError(
            "The stack runs already, with other settings:\n  "
            + "\n  ".join(changed)
            + "\nStop it first (./ponte down), or leave the settings as they are."
        )
    return replace(settings, **runs_with)


def admin_database(environ: Mapping[str, str]) -> sa.URL:
    """Return the database `ponte` as superuser: of PONTE_ADMIN_URL, else of the local stack.

    Raises StackError when there is neither.
    """
    return database_of(environ, SUPERUSER)


def database_of(environ: Mapping[str, str], role: str) -> sa.URL:
    """Return the database `ponte` as one of its roles, or as the superuser.

    On the server of PONTE_ADMIN_URL, with the password that the environment has for the role, else of the local stack.
    Raises StackError when there is neither, when there is no such role, and when its password is not to be found.
    """
    if environ.get("PONTE_ADMIN_URL"):
        admin = sa.make_url(environ["PONTE_ADMIN_URL"]).set(database="ponte")
        if role == SUPERUSER:
            return admin
        _require_known(role)
        return admin.set(username=role, password=passwords_of(environ, (role,))[role])
    settings = Settings.from_environment(environ)
    if not settings.secrets_file.exists():
        fix = "./ponte up starts one; PONTE_ADMIN_URL=postgresql://postgres:...@host:5432/postgres names another server"
        raise StackError("which database?", where="environment", expected="PONTE_ADMIN_URL or a local stack", fix=fix)
    _require_known(role)
    if not postgres.is_running(settings.data_dir):
        raise StackError("PostgreSQL is not running", where=str(settings.home), fix="./ponte up")
    secrets = load_or_create(settings.secrets_file)
    passwords = {**secrets.database_passwords, SUPERUSER: secrets.postgres_password}
    return sa.make_url(postgres.describe(settings.data_dir).url("ponte", role, passwords[role]))


def _require_known(role: str) -> None:
    known = (SUPERUSER, "airflow", *roles.LOGINS)
    if role not in known:
        raise StackError("no such role", got=role, fix=did_you_mean(role, known))


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Hold the stack's lock, which the system releases however this process ends; refuse if another one holds it."""
    # Others must be able to pass through (not list) when root runs PostgreSQL as another user.
    settings.home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    for name in ("airflow", "artifacts", "logs", "run"):  # what is in them is for the user of this stack alone
        (settings.home / name).mkdir(mode=0o700, exist_ok=True)
    path = settings.home / "lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StackError(
                f"Another `up` or `down` is at work on {settings.home} (process {holder}). Wait for its end."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Print the name of a step when it starts, and `done` when it ends, with the seconds if it took over two."""
    print(f"{name} ... ", end="", flush=True)
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    seconds = time.monotonic() - begin
    print(f"done in {seconds:.0f} s" if seconds > _WORTH_TELLING else "done", flush=True)


def ensure_databases(server: Server, secrets: Secrets) -> None:
    """Create the databases `airflow` and `ponte` and their roles unless they exist.

    Afterwards the passwords in `secrets` are valid. Nobody but its owner, the roles that are granted it, and the
    superuser can connect to either. Raises StackError if the superuser's password is not that of this server.
    """
    from sqlalchemy.exc import OperationalError

    from ponte.schema.provision import prepare_server

    try:
        admin = server.url(SUPERUSER, SUPERUSER, secrets.postgres_password)
        prepare_server(admin, secrets.database_passwords, own_server=True)
    except OperationalError as error:
        raise StackError(
            f"Cannot log in to PostgreSQL ({server.data_dir}) as its superuser: {error.orig}\n"
            f"If secrets.json was replaced since the database was made, put the old one back. "
            f"To start afresh and lose all local data: make clean."
        ) from error
