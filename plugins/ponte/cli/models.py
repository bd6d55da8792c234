"""Commands about model folders."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ponte.cli import output

if TYPE_CHECKING:
    from ponte.model.folders import BrokenFolder, ModelFolder
    from ponte.storage.database import Database


def model_names() -> list[str]:
    """Return the names of the model folders, for the shell to complete."""
    from ponte.model.folders import folder_paths
    from ponte.runtime import models_root

    root = models_root()
    return [path.name for path in folder_paths(root)] if root.is_dir() else []


def new(  # noqa: PLR0917 - typer gives them by name
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model folder to write.")],
    table: Annotated[str, typer.Option(metavar="SCHEMA.TABLE", help="The table, or view, that holds the rows.")],
    key: Annotated[
        list[str], typer.Option(metavar="COLUMN", help="Identifies a row; several: --key a --key b, or --key a,b.")
    ],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="The outcome to predict.")],
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When a row was known; without it the table's one date.")
    ] = None,
    known: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When the label was known, if a column says so.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="binary, multiclass or regression; without it as the label looks."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Is no feature; several as with --key.")
    ] = None,
    owner: Annotated[str, typer.Option(help="The team that answers for the model.")] = "me",
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The database of the table; without it that of the stack, as ponte_trainer."),
    ] = None,
    json: output.Json = False,
) -> None:
    """Write a model folder from the columns of a table.

    Features by type, an estimator that suits them, windows, checks of what the rows look like today, a card to fill in;
    and say what to decide next. Reads the table only; never writes over a folder.
    """
    import datetime as dt
    from dataclasses import asdict
    from typing import get_args

    from ponte.authoring.writing import Request, write_model
    from ponte.errors import PonteError, did_you_mean
    from ponte.local.stack import database_of
    from ponte.model.spec import Task
    from ponte.runtime import models_root
    from ponte.schema import roles
    from ponte.storage.database import Database

    known_task: Task | None = next((known for known in get_args(Task) if known == task), None)
    if task is not None and known_task is None:
        raise PonteError("no such task", where="--task", got=task, fix=did_you_mean(task, get_args(Task)))
    keys, left_out = (tuple(column for part in given for column in part.split(",")) for given in (key, without or ()))
    asked = Request(
        name=name,
        table=table,
        key=keys,
        label=label,
        time=time,
        known=known,
        task=known_task,
        owner=owner,
        without=left_out,
    )
    db = Database(database or database_of(os.environ, roles.TRAINER))
    written = write_model(db, models_root(), asked, now=dt.datetime.now(dt.UTC))
    if json:
        output.as_json(
            {
                "path": written.path,
                "task": written.task,
                "features": written.features,
                "as_of": written.as_of,
                **asdict(written.said),
            }
        )
    else:
        print(written)


def check(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="All when none is named.", autocompletion=model_names),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The database their SQL runs on; without it that of the stack, as ponte_trainer."
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Say everything that is wrong with the model folders.

    Files, SQL, estimator and checks are held against the database and the libraries; a few rows of two windows are
    fitted, predicted, pickled, loaded and predicted again. Writes nothing. Exit status 1 when a folder is broken.
    """
    from ponte.errors import StackError, did_you_mean
    from ponte.local.stack import database_of
    from ponte.model.folders import find_folders
    from ponte.runtime import models_root
    from ponte.schema import roles
    from ponte.storage.database import Database

    folders = {folder.name: folder for folder in find_folders(models_root())}
    if unknown := sorted(set(models or ()) - folders.keys()):
        fix = "; ".join(did_you_mean(name, folders) for name in unknown if folders)
        raise StackError("no such model folder", where=str(models_root()), got=", ".join(unknown), fix=fix)
    db = Database(database or database_of(os.environ, roles.TRAINER))
    found = [_checked(db, folders[name]) for name in models or folders]
    if json:
        output.as_json(found)
    else:
        for model in found:
            print(model["message"])
    if not all(model["ok"] for model in found):
        raise typer.Exit(1)


def _checked(db: Database, folder: ModelFolder | BrokenFolder) -> dict[str, Any]:
    """Return what is wrong with a folder, and what is worth knowing of it."""
    import datetime as dt
    from dataclasses import asdict

    from ponte.authoring.examining import examine
    from ponte.errors import PonteError

    facts: dict[str, Any] = {"model": folder.name, "ok": False, "problems": [], "notes": []}
    try:
        found = examine(db, folder, now=dt.datetime.now(dt.UTC))
    except PonteError as error:
        return {**facts, "message": str(error)}
    problems = [asdict(problem) for problem in found.problems]
    facts |= {"ok": not problems, "problems": problems, "notes": list(found.notes)}
    return {**facts, "message": found.message}


def lock(
    check: Annotated[
        bool, typer.Option("--check", help="Resolve nothing, but name what folders need and the lock lacks.")
    ] = False,
) -> None:
    """Resolve the packages of Ponte and of all model folders.

    requirements.in and each folder's requirements.txt become the requirements.txt beside this program, for Python 3.11
    to 3.13. When they do not go together, it says which do not, and leaves that file as it was.
    """
    from ponte.errors import PonteError
    from ponte.packages import locking
    from ponte.packages.folder_requirements import CHECKOUT, of_checkout
    from ponte.runtime import models_root

    if not check:
        locking.lock(CHECKOUT, models_root())
        print(f"{CHECKOUT / 'requirements.txt'} is up to date; the next command installs it.")
    elif lacking := locking.what_is_not_locked(models_root(), of_checkout()):
        raise PonteError("\n".join(["model folders need what is not locked:", *lacking]))
