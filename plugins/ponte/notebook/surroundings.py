"""Where a notebook finds the stack: what the environment names, else the local stack that runs on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ponte.errors import PonteError, did_you_mean
from ponte.local.settings import Settings
from ponte.local.stack import database_of
from ponte.model.folders import ModelFolder, folder_paths
from ponte.model.spec import MODEL_NAME
from ponte.runtime import Runtime, from_environment, models_root
from ponte.schema import roles
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.versions import aliases, registry
from ponte.versions.registry import Version


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a model is tried with."""

    #: As the trainer, who may read the sources.
    db: Database
    #: Of the versions.
    store: ArtifactStore
    folder: ModelFolder
    #: Holds the rows that were frozen for tries.
    tries: Path


def find(model: str, environ: Mapping[str, str] = os.environ) -> Surroundings:
    """Return the surroundings of a model; raises StackError that says what to start or set, when there are none."""
    runtime = runtime_of(model, roles.TRAINER, environ)
    return Surroundings(db=runtime.db, store=runtime.store, folder=runtime.folder, tries=tries_root(environ))


def tries_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that holds the rows frozen for tries: `tries` in `$PONTE_HOME`."""
    return Settings.from_environment(environ).home / "tries"


def runtime_of(model: str, role: str, environ: Mapping[str, str] = os.environ) -> Runtime:
    """Return the runtime of a model as one of the roles: of what the environment names, else of the local stack.

    `$AIRFLOW_CONN_<ROLE>` and `$PONTE_ARTIFACTS` are those of Airflow's workers. Raises StackError when there is no
    database.
    """
    found = from_environment(model, role, environ)
    if not environ.get(f"AIRFLOW_CONN_{role.upper()}"):
        url = database_of(environ, role)
        found = replace(found, connect=lambda: Database(url))
    return (
        found
        if found.artifacts
        else replace(found, artifacts=(Settings.from_environment(environ).home / "artifacts").as_uri())
    )


def require_name(model: str) -> str:
    """Return the name of a model; raises PonteError for anything else: a DataFrame given by mistake, or a path."""
    if not isinstance(model, str) or not MODEL_NAME.fullmatch(model):
        got = repr(model) if isinstance(model, str) else type(model).__name__
        raise PonteError("no name of a model", got=got, expected=f"the name of its folder: {MODEL_NAME.pattern}")
    return model


def version_of(db: Database, model: str, number: int | None) -> Version:
    """Return a version, of None the champion.

    Raises NoChampion, VersionMarkedBad, or PonteError naming the versions that there are; of a name that has neither a
    version nor a folder it says so, and which name may be meant.
    """
    try:
        return aliases.champion(db, model) if number is None else registry.get_version(db, model, number)
    except PonteError as error:
        root = models_root()
        if (root / model).is_dir() or registry.numbers(db, model):
            raise
        known = [path.name for path in folder_paths(root)] if root.is_dir() else []
        raise PonteError("no such model", where=str(root), got=model, fix=did_you_mean(model, known)) from error
