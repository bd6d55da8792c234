"""What a step gets from its surroundings, without Airflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ponte.errors import PonteError
from ponte.runtime import Runtime, from_environment, models_root, revision_of

ROOT = Path(__file__).parents[2]
PLACE = {"host": "db.example", "port": 5433, "schema": "ponte", "login": "ponte_scorer", "password": "p@ss/word"}
URL = "postgresql+psycopg2://ponte_scorer:p%40ss%2Fword@db.example:5433/ponte"


def database_of(text: str) -> str:
    runtime = from_environment("visits", "ponte_scorer", {"AIRFLOW_CONN_PONTE_SCORER": text})
    return runtime.db.url.render_as_string(hide_password=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ponte_scorer:p%40ss%2Fword@db.example:5433/ponte", URL),
        (json.dumps(PLACE), URL),
        (json.dumps({**PLACE, "extra": {"sslmode": "require"}}), f"{URL}?sslmode=require"),
        (json.dumps({**PLACE, "extra": '{"sslmode": "require"}'}), f"{URL}?sslmode=require"),
        (
            json.dumps({**PLACE, "host": "/run/socket", "port": None}),
            "postgresql+psycopg2://ponte_scorer:p%40ss%2Fword@/ponte?host=%2Frun%2Fsocket&port=5432",
        ),
    ],
    ids=["URL", "JSON", "JSON with parameters", "JSON with parameters as text", "unix socket"],
)
def test_the_database_is_that_of_the_connection_as_airflow_takes_it(text: str, expected: str) -> None:
    assert database_of(text) == expected


def test_without_a_connection_the_error_names_the_variable() -> None:
    with pytest.raises(PonteError, match="AIRFLOW_CONN_PONTE_SCORER=postgresql://"):
        database_of(" ")


def test_broken_json_is_refused_without_showing_the_password() -> None:
    with pytest.raises(PonteError, match="AIRFLOW_CONN_PONTE_SCORER") as caught:
        database_of('{"password": "sesame"')
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_is_looked_for_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that needs no files needs no artifact root, one that needs no database opens none."""

    def refuse(*_: object) -> object:
        raise AssertionError("nobody has asked")

    monkeypatch.delenv("PONTE_ARTIFACTS", raising=False)
    runtime = Runtime(model="visits", connect=refuse, open_root=refuse)
    with pytest.raises(PonteError, match="PONTE_ARTIFACTS=file://"):
        runtime.store  # noqa: B018 - the property looks


def test_the_artifact_store_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONTE_ARTIFACTS", tmp_path.as_uri())
    stored = from_environment("visits", "ponte_scorer", {}).store.write_folder("visits/1", {"a": b"b"}, {})
    assert (tmp_path / "visits" / "1" / "a").read_bytes() == b"b"
    assert stored.byte_count > 0


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not needed to run Ponte")
def test_the_revision_says_when_files_differ_from_the_commit(tmp_path: Path) -> None:
    assert revision_of(tmp_path) == "", "outside git"
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = revision_of(tmp_path)
    assert len(clean) == 40
    (tmp_path / "new").touch()
    assert revision_of(tmp_path) == f"{clean}-dirty"


def test_models_root_is_the_configured_folder_or_the_one_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONTE_MODELS", "/srv/models")
    assert models_root() == Path("/srv/models")
    monkeypatch.delenv("PONTE_MODELS")
    assert models_root() == ROOT / "include" / "models"


def test_importing_the_runtime_loads_nothing_heavier_than_pydantic() -> None:
    """DAG files import it, and Airflow reads those for every task. A process of its own: this one has loaded much."""
    program = "import json, sys; import ponte.runtime; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert {"ponte", "pydantic"} <= loaded
    assert not {"airflow", "sqlalchemy", "upath", "pandas", "numpy", "sklearn", "pyarrow", "alembic"} & loaded
