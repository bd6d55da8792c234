"""Commands about the database: ask it, back it up, put it back, make a server ready."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponte.cli import output

if TYPE_CHECKING:
    import sqlalchemy as sa

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the backup.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="As superuser; without it the database ponte of PONTE_ADMIN_URL, else of the local stack."
    ),
]
Artifacts = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Artifact root; without it PONTE_ARTIFACTS, else that of the local stack."),
]


def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[PSQL ARGUMENT]...", help="For psql itself, as -c 'SELECT 1'.")
    ] = None,
    role: Annotated[
        str, typer.Option(envvar="PONTE_ROLE", help="Database role, as ponte_analyst; postgres is the superuser.")
    ] = "ponte_owner",
) -> None:
    """Open psql on the database ponte."""
    from ponte.embedded import postgres
    from ponte.local.stack import database_of

    environment = postgres.client_environment(database_of(os.environ, role))
    program = str(postgres.psql_path())
    os.execve(program, [program, *(arguments or ())], environment)  # noqa: S606 - becoming psql is the point


def backup(
    folder: Folder,
    verify: Annotated[bool, typer.Option("--verify", help="Write nothing, but check every file of a backup.")] = False,
    database: DatabaseUrl = None,
    artifacts: Artifacts = None,
    json: output.Json = False,
) -> None:
    """Write the database and its artifacts into a new folder."""
    with _whole():
        from ponte.backup import backups

        folder = folder.expanduser().absolute()  # not every shell does it within FOLDER=~/backups
        if verify:
            manifest = backups.verify(folder)
        else:
            manifest = backups.create(folder, _url(database), _root(artifacts))
    if json:
        facts = {"created_at": manifest.created_at, "schema_revision": manifest.dump.schema_revision}
        sizes = {"files": len(manifest.files), "bytes": sum(file.byte_count for file in manifest.files.values())}
        output.as_json({"folder": folder, **facts, **sizes, "rows": sum(manifest.dump.row_counts.values())})
    else:
        print(f"{folder} is whole: {manifest.summary}" if verify else f"{folder}: {manifest.summary}")


def restore(
    folder: Folder,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="End the sessions of the database that is there, keep it under another name."),
    ] = False,
    database: DatabaseUrl = None,
    artifacts: Artifacts = None,
) -> None:
    """Put a backup in the place of an empty database."""
    with _whole():
        from ponte.backup import backups

        folder, url = folder.expanduser().absolute(), _url(database)
        manifest, kept = backups.restore(folder, url, _root(artifacts), replace=replace)
    print(f"{folder} is restored as database {url.database}: {manifest.summary}")
    if kept:
        print(f"The database that was there is now {kept}.")


def provision(
    own_server: Annotated[
        bool,
        typer.Option("--own-server", help="The server is Ponte's alone: also close the databases that come with it."),
    ] = False,
) -> None:
    """Make any PostgreSQL server ready for Ponte.

    Databases, roles, schema and rights; can be repeated. The local stack needs none of it.
    Reads PONTE_ADMIN_URL (postgresql://postgres:password@host:5432/postgres), AIRFLOW_DB_PASSWORD and, of each role,
    PONTE_OWNER_PASSWORD, PONTE_TRAINER_PASSWORD and so on.
    """
    import time

    from ponte.schema.provision import provision as make_ready

    started = time.monotonic()
    if left := make_ready(os.environ, own_server=own_server):
        print("Still open to every role of the server:", *left, sep="\n  ")
    print(f"PostgreSQL is ready for Ponte ({time.monotonic() - started:.1f} s).")


@contextmanager
def _whole() -> Iterator[None]:
    """A container is stopped by SIGTERM: tidy up as after Ctrl-C. What a disk refuses is told, too."""
    import signal

    from ponte.errors import PonteError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except OSError as error:
        raise PonteError(str(error)) from error


def _url(database: str | None) -> sa.URL:
    import sqlalchemy as sa

    from ponte.local.stack import admin_database

    return sa.make_url(database) if database else admin_database(os.environ)


def _root(artifacts: str | None) -> str:
    from ponte.local.settings import Settings

    found = artifacts or os.environ.get("PONTE_ARTIFACTS")
    return found or (Settings.from_environment(os.environ).home / "artifacts").as_uri()
