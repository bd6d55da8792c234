"""The command line: `python -m ponte.backup create|verify|restore FOLDER`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from ponte.backup.backups import create, restore, verify
from ponte.errors import PonteError
from ponte.local.settings import Settings
from ponte.local.stack import admin_database


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    main_parser = argparse.ArgumentParser(
        prog="python -m ponte.backup",
        description="Back up the database ponte with its artifacts; check a backup; put one back.",
    )
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in (
        ("create", "write a backup into a new folder"),
        ("verify", "check every file of a backup; needs no database"),
        ("restore", "put a backup in the place of an empty database"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("folder", type=Path, help="folder of the backup")
        if name != "verify":
            database = "default: the database ponte of $PONTE_ADMIN_URL, else of the local stack, which has to run"
            command.add_argument("--database", metavar="URL", help=f"as superuser; {database}")
            artifacts = "artifact root; default: $PONTE_ARTIFACTS, else that of the local stack"
            command.add_argument("--artifacts", metavar="URL", help=artifacts)
        if name == "restore":
            replace = "end the sessions of the database that is there, keep it under another name, take its place"
            command.add_argument("--replace", action="store_true", help=replace)
    return main_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 after an error, 130 when interrupted."""
    arguments = parser().parse_args(argv)
    # A container is stopped by SIGTERM: tidy up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(_run(arguments))
    except (PonteError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
    except sa.exc.DBAPIError as error:
        print(f"\nthe database refused: {error.orig}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    else:
        return 0
    return 1


def _run(arguments: argparse.Namespace) -> str:
    """Do what the arguments say and return what to print."""
    folder: Path = arguments.folder.expanduser().absolute()  # not every shell does it within FOLDER=~/backups
    if arguments.command == "verify":
        return f"{folder} is whole: {verify(folder).summary}"
    database = sa.make_url(arguments.database) if arguments.database else admin_database(os.environ)
    artifacts = arguments.artifacts or os.environ.get("PONTE_ARTIFACTS")
    if not artifacts:
        artifacts = (Settings.from_environment(os.environ).home / "artifacts").as_uri()
    if arguments.command == "create":
        return f"{folder}: {create(folder, database, artifacts).summary}"
    manifest, kept = restore(folder, database, artifacts, replace=arguments.replace)
    old = f"\nThe database that was there is now {kept}." if kept else ""
    return f"{folder} is restored as database {database.database}: {manifest.summary}{old}"


if __name__ == "__main__":
    sys.exit(main())
