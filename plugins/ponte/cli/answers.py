"""Commands that answer: a file at once, programs and people over HTTP, and who may ask."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponte.cli import output
from ponte.cli.models import model_names

if TYPE_CHECKING:
    import datetime as dt

    from ponte.offline.files import Counts
    from ponte.offline.keeping import Keep
    from ponte.offline.source import Source
    from ponte.storage.database import Database
    from ponte.versions.loading import LoadedVersion
    from ponte.versions.registry import Version

#: Every row that can be scored is, and some cannot.
SOME_REJECTED = 4


def predict(  # noqa: PLR0917 - every option of a command is one
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", autocompletion=model_names)],
    rows: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="CSV with names in its first row, or .parquet; - is stdin.")
    ] = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="Another version than the champion.")] = None,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="CSV, or .parquet; stdout without it.")
    ] = None,
    rejected_file: Annotated[
        Path | None,
        typer.Option(
            "--rejected",
            metavar="FILE",
            help="For rows that cannot be scored; without it <output>.rejected.csv, else <file>.rejected.csv here.",
        ),
    ] = None,
    record: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Instead of a file: a value of one row. Repeat it.")
    ] = None,
    delimiter: Annotated[str, typer.Option(metavar="C", help="Divides the values of the CSV; \\t is a tab.")] = ",",
    null: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Is NULL too, as NA; what is empty always is. Repeat it.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the rows in predictions.MODEL_live as well.")] = False,
) -> None:
    """Score the rows of a file with the champion, or another version.

    Prints or writes key, prediction, score (or low and high, of a regression with intervals) and model_version of each
    row. Nothing is written to the database but what --keep leaves there: all rows that were predicted, or none when the
    command does not come to its end. Exit status 4 when rows were rejected: they are in a file of their own, with
    reasons, and all others are scored.
    """
    from ponte.errors import StackError
    from ponte.offline.source import of_record, open_source

    if (rows is None) == (not record):
        raise StackError("nothing to score, or too much", got="a file and --record" if rows else "neither",
                         expected="a file, - for standard input, or --record name=value")  # fmt: skip
    mark = "\t" if delimiter == "\\t" else delimiter
    if len(mark.encode()) != 1 or mark in '"\r\n':
        expected = "one character of ASCII, and no quote; \\t is a tab"
        raise StackError("this divides no values", where="--delimiter", got=repr(delimiter), expected=expected)
    loaded = _loaded(model, version)
    if record:
        raise typer.Exit(_predict(loaded, of_record(record), output_file, None, keep=keep))
    assert rows is not None
    if rejected_file is None:
        whole = Path("stdin" if rows == "-" else Path(rows).name)
        rejected_file = Path(f"{output_file or whole}.rejected.csv")
    for name, path in (("--output", output_file), ("--rejected", rejected_file)):
        if path is not None and rows != "-" and path.resolve() == Path(rows).resolve():
            raise StackError("this would replace the rows that are read", where=name, got=str(path))
    if output_file is not None and output_file.resolve() == rejected_file.resolve():
        raise StackError("predictions and rejected rows need a file each", where="--rejected", got=str(rejected_file))
    with open_source(rows, sys.stdin.buffer, delimiter=mark, nulls=null or ()) as source:
        raise typer.Exit(_predict(loaded, source, output_file, rejected_file, keep=keep))


def serve(
    host: Annotated[str, typer.Option(envvar="PONTE_API_HOST", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PONTE_API_PORT", help="Port to listen at.")] = 8088,
) -> None:
    """Answer at once over HTTP, with the champion of each model.

    Those are the models whose folder says [serving] api = true. Champions and keys may change while it runs. It works
    as the database role ponte_api, and goes on while the database is away. Ends at Ctrl-C or SIGTERM, when what was
    asked is answered and kept.
    """
    import os

    # One thread computes a batch: those of OpenMP would spin while they wait, on the core that the answers need.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    from ponte.notebook.surroundings import runtime_of
    from ponte.runtime import models_root
    from ponte.schema import roles
    from ponte.serving.app import make_service, run

    place = runtime_of("", roles.API)
    run(make_service(place.db, place.store, models_root()), host=host, port=port)


keys = typer.Typer(no_args_is_help=True, help="Keys of the API: who may ask it, which models, and how much.")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, or what for.")],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model that it may ask; without it all. Repeat it.",
                     autocompletion=model_names),
    ] = None,
    per_minute: Annotated[
        int, typer.Option(metavar="ROWS", min=1, max=2**31 - 1, help="Rows that it may ask for a minute.")
    ] = 6_000,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_600, help="Days that it is valid; by default for ever.")
    ] = None,
    json: output.Json = False,
) -> None:  # fmt: skip
    """Make a key, and print it: this once, for it is kept nowhere."""
    import datetime as dt

    from ponte.access import keys as of_api
    from ponte.errors import did_you_mean
    from ponte.storage.runs import person

    known = model_names()
    if unknown := [one for one in model or () if one not in known]:
        meant = did_you_mean(unknown[0], known)
        output.complain(f"There is no model {unknown[0]!r} here{': ' if meant else ''}{meant}")
    expires = None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    key_id, token = of_api.create_key(
        _as_owner(), name, models=model or (), per_minute=per_minute, expires_at=expires, created_by=person()
    )
    if json:
        output.as_json({"key_id": key_id, "name": name, "key": token, "models": model or [], "expires_at": expires})
        return
    print(token)
    print(f"Key {key_id} of {name}. It is shown this once.", file=sys.stderr)


@keys.command("list")
def list_keys(json: output.Json = False) -> None:
    """List all keys that were ever made, and which are valid."""
    import datetime as dt

    from ponte.access import keys as of_api

    found, now = of_api.list_keys(_as_owner()), dt.datetime.now(dt.UTC)
    if json:
        output.as_json([
            {"key_id": key.key_id, "name": key.name, "models": key.models, "per_minute": key.per_minute,
             "created_at": key.created_at, "created_by": key.created_by, "expires_at": key.expires_at,
             "revoked_at": key.revoked_at, "state": key.state(now)}
            for key in found
        ])  # fmt: skip
        return
    rows = [
        (str(key.key_id), key.name, ", ".join(key.models) or "all", str(key.per_minute), f"{key.created_at:%Y-%m-%d}",
         f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never", key.state(now))
        for key in found
    ]  # fmt: skip
    output.table(("key_id", "name", "models", "per_minute", "created", "expires", "state"), rows)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.")]) -> None:
    """Revoke a key: within seconds no process takes it any more."""
    from uuid import UUID

    from ponte.access import keys as of_api
    from ponte.errors import PonteError
    from ponte.storage.runs import person

    try:
        known = UUID(key_id)
    except ValueError:
        fix = "./ponte keys list shows the numbers of all keys; the key itself is not one"
        got = "a key" if key_id.startswith(of_api.PREFIX) else key_id
        raise PonteError("no number of a key", got=got, expected="a UUID", fix=fix) from None
    print(f"The key of {of_api.revoke_key(_as_owner(), known, revoked_by=person())} is revoked.")


def _as_owner() -> Database:
    import os

    from ponte.local.stack import database_of
    from ponte.schema import roles
    from ponte.storage.database import Database

    return Database(database_of(os.environ, roles.OWNER))


def _loaded(model: str, version: int | None) -> LoadedVersion:
    """Return the version, loaded as a role that can only read."""
    from ponte.notebook.surroundings import runtime_of, version_of
    from ponte.schema import roles
    from ponte.versions import marks
    from ponte.versions.loading import load_registered

    place = runtime_of(model, roles.VIEWER)
    found = version_of(place.db, model, version)
    if version is not None and marks.is_bad(place.db, model, version):
        output.complain(f"Version {version} of {model} is marked bad.")
    return load_registered(place.db, place.store, found)


def _predict(
    loaded: LoadedVersion, source: Source, output_file: Path | None, rejected_file: Path | None, *, keep: bool
) -> int:
    """Score the rows, say the counts, and return the exit status."""
    import csv
    import datetime as dt
    import io

    from ponte.offline.files import REASON, predict_rows
    from ponte.offline.writing import Output

    reasons = io.BytesIO()
    written = Output(output_file, sys.stdout.buffer)
    rejected = Output(rejected_file, reasons)
    version, now = loaded.version, dt.datetime.now(dt.UTC)
    with _keeping(version, now=now, keep=keep) as kept, _progress(source) as show:
        counts = predict_rows(loaded, source, written, rejected, now=now, progress=show, keep=kept)
    said = f"{counts.read:,} rows read, {counts.predicted:,} predicted by version {version.version} of {version.model}"
    said += f" and kept in predictions.{version.model}_live" if keep else ""
    if not counts.rejected:
        print(f"{said}.", file=sys.stderr)
        return 0
    where = rejected_file or next(csv.DictReader(io.StringIO(reasons.getvalue().decode())))[REASON]
    output.complain(f"{said}, {counts.rejected:,} rejected: {where}")
    return SOME_REJECTED


@contextmanager
def _keeping(version: Version, *, now: dt.datetime, keep: bool) -> Iterator[Keep | None]:
    """Yield what leaves predictions among the live rows when its context ends; None when that is not asked for."""
    from ponte.notebook.surroundings import runtime_of
    from ponte.offline.keeping import kept
    from ponte.schema import roles

    if not keep:
        yield None
        return
    place = runtime_of(version.model, roles.SCORER)
    with kept(place.db, version, place.folder.spec.window, now=now) as write:
        yield write


@contextmanager
def _progress(source: Source) -> Iterator[Callable[[Counts], object]]:
    """Yield what shows how far it is, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal or source.file is None:
        yield lambda _: None
        return
    columns = (TextColumn("{task.fields[rows]:,} rows"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("", total=source.byte_count, rows=0)
        yield lambda counts: shown.update(task, completed=source.bytes_read(), rows=counts.read)


def work(
    model: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Models to answer for; all that are served without it.",
                       autocompletion=model_names),
    ] = None,
    take: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Requests per transaction, at most.")] = 256,
) -> None:  # fmt: skip
    """Answer what waits in the queue, the most urgent first.

    Until it is stopped, for the models whose folder says [serving] api = true, with the champion of each. Start as
    many as needed. It works as the database role ponte_stream, and waits while the database is away. Ctrl-C and
    SIGTERM let it finish what it took.
    """
    import os

    # One thread computes: those of OpenMP would spin while they wait, on the cores that other workers need.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    from ponte.notebook.surroundings import runtime_of
    from ponte.runtime import models_root
    from ponte.schema import roles
    from ponte.stream.worker import run

    place = runtime_of("", roles.STREAM)
    run(place.db, place.store, models_root(), only=model or (), most=take)
