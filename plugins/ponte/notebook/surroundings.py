"""Where a notebook finds the stack: what the environment names, else the local stack that runs on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ponte.errors import PonteError, StackError
from ponte.local.environment import airflow_environment
from ponte.local.secrets import load_or_create
from ponte.local.settings import Settings
from ponte.local.stack import as_running
from ponte.model.folders import ModelFolder
from ponte.runtime import Runtime, from_environment
from ponte.schema import roles
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database


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
    """Return the runtime of a model as one of the roles: of `$AIRFLOW_CONN_<ROLE>`, else of the local stack.

    Raises StackError when neither is there.
    """
    return from_environment(model, role, {**_of_local_stack(role, environ), **environ})


def _of_local_stack(role: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Airflow's processes of the local stack have; none when the environment names others."""
    from ponte.embedded import postgres

    if environ.get(f"AIRFLOW_CONN_{role.upper()}"):
        return {}
    settings = Settings.from_environment(environ)
    if not settings.secrets_file.exists() or not postgres.is_running(settings.data_dir):
        raise StackError(
            "no database to work with",
            where=f"local stack in {settings.home}, which does not run",
            expected=f"a running local stack, or AIRFLOW_CONN_{role.upper()} and PONTE_ARTIFACTS in the environment",
            fix="start it with:  make up",
        )
    server, secrets = postgres.describe(settings.data_dir), load_or_create(settings.secrets_file)
    return airflow_environment(as_running(settings), secrets, server)


def require_name(model: str) -> str:
    """Return the name of a model; raises PonteError for anything else, a class or a DataFrame given by mistake."""
    if not isinstance(model, str):
        raise PonteError("no name of a model", got=type(model).__name__, expected="a text, the name of its folder")
    return model
