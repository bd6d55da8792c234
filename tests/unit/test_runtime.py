"""Where a step's surroundings come from, without any of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ponte.runtime import models_root

ROOT = Path(__file__).parents[2]


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
