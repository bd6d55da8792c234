"""Command line of the local stack: `python -m ponte.local --help`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from ponte.embedded import postgres
from ponte.errors import StackError, did_you_mean
from ponte.local import stack
from ponte.local.environment import airflow_environment
from ponte.local.secrets import Secrets, load_or_create
from ponte.local.settings import Settings
from ponte.schema import roles

_ENVIRONMENT = """\
environment variables:
  PONTE_HOME                folder for everything the stack writes (default: .ponte in the repository)
  PONTE_UI_HOST             address of the UI (default: 127.0.0.1, this machine only)
  PONTE_UI_PORT             port of the UI (default: 8080)
  PONTE_LOG_PORT            port for logs of running tasks (default: 8793)
  PONTE_TRIGGERER_LOG_PORT  port for logs of running triggers (default: 8794)
  PONTE_SCHEDULER_PORT      port of the scheduler's health check (default: 8974)
  PONTE_PARALLELISM         tasks that run at the same time (default: 4)
  PONTE_SCORE_SLOTS         score tasks that run at the same time (default: number of cores)
  PONTE_PRELOAD             0: each task imports the heavy libraries by itself (default: 1, once for all)
  PONTE_ROLE                database role that psql connects as (default: ponte_owner)
  PONTE_START_TIMEOUT       seconds to wait for Airflow to become healthy (default: 300)
  PONTE_STOP_TIMEOUT        seconds that a component gets to stop before it is killed (default: 20)
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    main_parser = argparse.ArgumentParser(
        prog="python -m ponte.local",
        description="Run PostgreSQL and Airflow on this machine, as ordinary processes.",
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("up", help="start everything; what runs already is left alone")
    commands.add_parser("down", help="stop everything, running tasks included")
    commands.add_parser("status", help="show what runs; exit status 3 if something does not")
    commands.add_parser("password", help="print the password of the user admin of the Airflow UI")
    commands.add_parser(
        "env", help='print shell exports, for airflow commands by hand: eval "$(python -m ponte.local env)"'
    )
    commands.add_parser("check-models", help="inspect the model folders; arguments are model names", add_help=False)
    commands.add_parser("psql", help="open psql on the database ponte; arguments go to psql", add_help=False)
    return main_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Everything after these is for another program; argparse would take psql's `-c` for an option of its own.
    rest = words[1:] if words[:1] in (["psql"], ["check-models"]) else []
    command = parser().parse_args(words[: len(words) - len(rest)]).command
    try:
        return _run(command, rest, Settings.from_environment(os.environ))
    except StackError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. `make up` continues where this stopped; `make down` stops what runs.", file=sys.stderr)
        return 130


def _run(command: str, rest: Sequence[str], settings: Settings) -> int:
    """Dispatch to the command."""
    match command:
        case "up":
            stack.up(settings)
        case "down":
            stack.down(settings)
        case "status":
            return 0 if stack.status(settings) else 3
        case "password":
            print(_secrets(settings).admin_password)
        case "env":
            server = postgres.describe(settings.data_dir)
            variables = airflow_environment(stack.as_running(settings), _secrets(settings), server)
            for name, value in variables.items():
                print(f"export {name}={shlex.quote(value)}")
        case "psql":
            _psql(settings, os.environ.get("PONTE_ROLE") or roles.OWNER, rest)
        case "check-models":
            from ponte.local import check_models

            password = _secrets(settings).trainer_password
            url = _running_server(settings).url("ponte", roles.TRAINER, password)
            return 1 if check_models.main(["--database", url, *rest]) else 0
    return 0


def _secrets(settings: Settings) -> Secrets:
    """Return the existing secrets; only `up` may make new ones."""
    if not settings.secrets_file.exists():
        raise StackError(f"There is no {settings.secrets_file} yet. Start the stack first:  make up")
    return load_or_create(settings.secrets_file)


def _running_server(settings: Settings) -> postgres.Server:
    """Return the running server; raises StackError when there is none."""
    if not postgres.is_running(settings.data_dir):
        raise StackError("PostgreSQL is not running. Start it first:  make up")
    return postgres.describe(settings.data_dir)


def _psql(settings: Settings, role: str, arguments: Sequence[str]) -> None:
    """Become psql, connected to the database `ponte` as one of its roles, or as the superuser."""
    secrets = _secrets(settings)
    passwords = {**secrets.database_passwords, postgres.SUPERUSER: secrets.postgres_password}
    if role not in passwords:
        raise StackError("no such role", where="PONTE_ROLE", got=role, fix=did_you_mean(role, passwords))
    environment = postgres.client_environment(_running_server(settings), "ponte", role, passwords[role])
    program = str(postgres.psql_path())
    os.execve(program, [program, *arguments], environment)  # noqa: S606 - becoming psql is the point


if __name__ == "__main__":
    sys.exit(main())
