"""What a step gets from its surroundings: database, artifact store, model folder, revision of the code.

The library never looks for these itself. Airflow's operators bring the database of a connection; every other entrance
takes it from the environment. DAG files import this module, so it loads nothing heavier than pydantic.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponte.errors import PonteError
from ponte.model.folders import ModelFolder, get_folder

if TYPE_CHECKING:
    from ponte.storage.artifacts import ArtifactStore
    from ponte.storage.database import Database


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The surroundings of one model's step. Each part is looked for when it is first asked for, and only then."""

    model: str
    #: Returns the database, as the role of the step.
    connect: Callable[[], Database]
    #: Makes a path of the URL of the artifact root.
    open_root: Callable[[str], Any]
    #: URL of the artifact root; None: `$PONTE_ARTIFACTS`.
    artifacts: str | None = None

    @cached_property
    def db(self) -> Database:
        """The database `ponte`."""
        return self.connect()

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store at `artifacts`."""
        from ponte.storage.artifacts import ArtifactStore

        root = self.artifacts or os.environ.get("PONTE_ARTIFACTS")
        if not root:
            fix = "for example PONTE_ARTIFACTS=file:///var/lib/ponte/artifacts, the same for all workers"
            raise PonteError("no artifact root", where="environment of the task", expected="PONTE_ARTIFACTS", fix=fix)
        return ArtifactStore(self.open_root(root))

    @cached_property
    def folder(self) -> ModelFolder:
        """The model folder as it is now."""
        return get_folder(models_root(), self.model)

    @property
    def code_revision(self) -> str | None:
        """Revision of the code that runs: what a deployment says, else that of the checkout at this moment."""
        return os.environ.get("PONTE_CODE_REVISION") or revision_of(Path(__file__).parents[2]) or None


def models_root() -> Path:
    """Return the folder that holds the model folders: `$PONTE_MODELS`, else `include/models` of this checkout.

    Operators and DAG files share this one rule, so that what was parsed is what is run.
    """
    configured = os.environ.get("PONTE_MODELS")
    return Path(configured) if configured else Path(__file__).parents[2] / "include" / "models"


def of_connection(model: str, find: Callable[[], Any], open_root: Callable[[str], Any]) -> Runtime:
    """Return the runtime of a step that knows its database by a connection of Airflow.

    find : returns the connection: host, port, login, password, schema, and extra_dejson for parameters of libpq.
    """

    def connect() -> Database:
        from ponte.storage.database import Database, connection_url

        found = find()
        url = connection_url(
            host=found.host,
            port=found.port,
            login=found.login,
            password=found.password,
            database=found.schema,
            options=found.extra_dejson,
        )
        return Database(url)

    return Runtime(model=model, connect=connect, open_root=open_root)


def from_environment(model: str, role: str, environ: Mapping[str, str] = os.environ) -> Runtime:
    """Return the runtime of a step that Airflow does not run: its database is that of `$AIRFLOW_CONN_<ROLE>`.

    The variable holds what Airflow itself takes: a URL, or JSON with host, port, schema, login, password and extra.
    """

    def connect() -> Database:
        from ponte.storage.database import Database

        return Database(_url_of(environ, f"AIRFLOW_CONN_{role.upper()}"))

    def open_root(url: str) -> Any:
        from upath import UPath

        return UPath(url)

    return Runtime(model=model, connect=connect, open_root=open_root, artifacts=environ.get("PONTE_ARTIFACTS"))


def _url_of(environ: Mapping[str, str], name: str) -> Any:
    from ponte.storage.database import connection_url

    text = environ.get(name, "").strip()
    if not text:
        fix = f"{name}=postgresql://role:password@host:5432/ponte"
        raise PonteError("no database to connect to", where="environment", expected=name, fix=fix)
    if not text.startswith("{"):
        return text
    try:
        found = json.loads(text)
    except ValueError as error:  # without the text, which holds a password
        where = f"environment, {name}"
        raise PonteError("is no JSON", where=where, expected="a URL, or JSON", got=str(error)) from None
    extra = found.get("extra") or {}
    return connection_url(
        host=found.get("host"),
        port=found.get("port"),
        login=found.get("login"),
        password=found.get("password"),
        database=found.get("schema"),
        options=json.loads(extra) if isinstance(extra, str) else extra,
    )


def revision_of(root: Path) -> str:
    """Return the commit of the repository, with `-dirty` if files differ from it; empty outside git."""
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return ""
    return f"{head}-dirty" if _git(root, "status", "--porcelain") else head


def _git(root: Path, *arguments: str) -> str:
    """Return the output of a git command, or nothing if git is missing, slow or not content."""
    command = ["git", "-C", str(root), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
