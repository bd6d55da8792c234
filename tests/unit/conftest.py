"""What several unit tests share: a model folder that keeps the contract, and hypothesis without surprises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: the cores are shared. No database of examples: a test run leaves nothing in the tree. Fixtures of the
# function's scope are allowed: the tests that use them make a new place per example.
settings.register_profile(
    "ponte",
    deadline=None,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ponte")

MODEL_TOML = """\
description = "A customer leaves within a month"
owner = "retention"
task = "binary"
key = ["customer_id"]

[gate]
metric = "roc_auc"
minimum = 0.6
"""

FOLDER = {
    "model.toml": MODEL_TOML,
    "features.sql": "SELECT customer_id, visits FROM customers WHERE day < :as_of\n",
    "labels.sql": "SELECT customer_id, left_us AS label FROM leavers\n",
    "estimator.py": "from sklearn.linear_model import LogisticRegression\n\n"
    "def build_estimator():\n    return LogisticRegression()\n",
    "README.md": "# churn\n",
}


@pytest.fixture
def model_toml() -> str:
    """A `model.toml` with only what is required; a table can be appended."""
    return MODEL_TOML


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes `models/<name>`; keywords replace a file's text, None leaves the file out."""

    def make(name: str = "churn", changes: dict[str, str | bytes | None] | None = None) -> Path:
        path = tmp_path / "models" / name
        path.mkdir(parents=True)
        for file, content in {**FOLDER, **(changes or {})}.items():
            if content is not None:
                (path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make
