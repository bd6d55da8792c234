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
    from ponte.runtime import models_root

    return sorted(path.name for path in models_root().iterdir() if path.is_dir() and path.name[0] not in "_.")


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
        fix = "; ".join(did_you_mean(name, folders) for name in unknown)
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
