"""Airflow for tests: a throw-away home with SQLite, set up before anything imports airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.airflow_connections import set_connections

from ponte.schema import roles

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG
    from playwright.sync_api import Page
    from tests.sample_model import World

ROOT = Path(__file__).parents[2]
_HOME = Path(tempfile.mkdtemp(prefix="ponte-airflow-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

os.environ |= {
    "AIRFLOW_HOME": str(_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
    # A test may run a DAG in another form right after another: what is not written is read by nobody.
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "false",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(_HOME / "logs"),
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
}


@pytest.fixture(autouse=True)
def _needs_airflow(airflow: None) -> None:
    """Every test of this folder does."""


@pytest.fixture(scope="session")
def airflow_db(airflow: None) -> None:
    """A migrated metadata database, made once per session by a process of its own."""
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a browser without a screen."""
    from playwright.sync_api import sync_playwright
    from tests.e2e.browser import chromium

    program = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started.new_page()
        started.close()


@pytest.fixture
def dags(models_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, DAG]]:
    """Return a function that reads the DAG files, with the model folders as they are at the time of the call.

    It returns the DAGs of the models, and with `by_hand=True` those that serve all of them.
    """
    monkeypatch.setenv("PONTE_MODELS", str(models_root))

    def read(*, by_hand: bool = False) -> dict[str, DAG]:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(ROOT / "dags"))
        assert bag.import_errors == {}
        return {dag_id: dag for dag_id, dag in bag.dags.items() if dag_id.startswith("ponte__") is by_hand}

    return read


#: The worlds that a test may ask for, each a database of its own.
WORLDS = ("two_versions", "scored", "trained", "world")


@pytest.fixture
def run_dag(
    request: pytest.FixtureRequest,
    airflow_db: None,
    dags: Callable[..., dict[str, DAG]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[DagRun, dict[str, str]]]:
    """Return a function that runs a DAG in this process and returns the run and the state of each of its tasks.

    The connections lead to the world that the test asks for, by default `world`.
    """
    world: World = request.getfixturevalue(next((n for n in WORLDS if n in request.fixturenames), "world"))
    set_connections(world.db, monkeypatch)
    monkeypatch.setenv("PONTE_ARTIFACTS", Path(world.store.root.path).as_uri())
    monkeypatch.setenv("PONTE_CODE_REVISION", "abc123")

    def run(dag_id: str, **options: Any) -> tuple[DagRun, dict[str, str]]:
        roles.grant(world.db)  # what a test has made as the owner becomes the scorer's
        with monkeypatch.context() as patch:
            # While no task can run, dag.test() waits for somebody else to change that, a second for each that follows
            # one that has failed. Here is nobody else.
            patch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.05)))
            finished = dags(by_hand=dag_id.startswith("ponte__"))[dag_id].test(**options)
        return finished, {ti.task_id: str(ti.state) for ti in finished.get_task_instances()}

    return run
