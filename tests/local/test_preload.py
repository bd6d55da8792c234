"""The libraries are preloaded only where it was asked for and helps, never at the price of a scheduler that stops."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "config" / "airflow_local_settings.py"

#: What Airflow's command `sys.argv` has loaded once it has started, and how many threads of Python that made.
START = """
import json, os, signal, sys, threading
sys.argv = json.loads(os.environ["ARGV"])
import airflow
import airflow_local_settings
loaded = {"modules": sorted(sys.modules), "threads": threading.active_count()}
"""
#: What a task does, two forks away from the scheduler. A pool of threads made before a fork would hang here for ever.
WORK = """
def work():
    import numpy as np
    import pyarrow as pa
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    x = np.random.default_rng(0).random((20_000, 8))
    for model in (HistGradientBoostingClassifier(max_iter=5), LogisticRegression()):
        model.fit(x, x[:, 0] > 0.5).predict_proba(x)
    assert x.T @ x is not None and pa.table({"x": x[:, 0]}).group_by("x").aggregate([]).num_rows
def fork(body):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    signal.alarm(60)  # ends this process, should it hang
    status = 1
    try:
        status = 1 if body() else 0
    finally:
        os._exit(status)
loaded["task"] = fork(lambda: fork(work))
"""


def started(home: Path, *argv: str, code: str = START, **environment: str) -> dict[str, object]:
    """Return what a process that runs `code` as the command `argv` of Airflow prints at its end."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PONTE"))}
    own |= {"AIRFLOW_HOME": str(home), "PYTHONPATH": str(FILE.parent), "ARGV": json.dumps(argv), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code + "print(json.dumps(loaded))"],
        capture_output=True,
        text=True,
        check=False,
        env=own,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def module() -> ModuleType:
    """Return the module, loaded without its effect: this process is no scheduler."""
    spec = importlib.util.spec_from_file_location("ponte_preload_under_test", FILE)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def heavy(modules: object) -> set[str]:
    assert isinstance(modules, list)
    return {"great_expectations", "sklearn", "pandas", "pyarrow", "adbc_driver_postgresql"} & set(modules)


@pytest.mark.usefixtures("airflow")
def test_a_scheduler_that_is_asked_to_loads_all_libraries_and_nothing_of_ponte(tmp_path: Path) -> None:
    found = started(tmp_path, "-m", "scheduler", code=START + WORK, PONTE_PRELOAD="1")
    modules = found["modules"]
    assert isinstance(modules, list)
    assert set(module().LIBRARIES) <= set(modules)
    assert not [name for name in modules if name.split(".")[0] == "ponte"]
    assert (found["threads"], found["task"]) == (1, 0)


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize(
    ("argv", "environment"),
    [
        pytest.param(("airflow", "scheduler"), {}, id="not asked"),
        pytest.param(("airflow", "scheduler"), {"PONTE_PRELOAD": "0"}, id="asked not to"),
        pytest.param(("airflow", "api-server"), {"PONTE_PRELOAD": "1"}, id="another component"),
    ],
)
def test_otherwise_airflow_loads_no_library(argv: tuple[str, ...], environment: dict[str, str], tmp_path: Path) -> None:
    found = started(tmp_path, *argv, **environment)
    assert not heavy(found["modules"])


@pytest.mark.usefixtures("airflow")
def test_only_processes_whose_children_are_tasks_count(tmp_path: Path) -> None:
    """One process answers for all commands, because each start of Airflow takes seconds."""
    code = """
from airflow.configuration import conf
def answer(executor, *argv):
    conf.set("core", "executor", executor)
    return airflow_local_settings.runs_tasks(["airflow", *argv])
loaded = {
    "local": answer("LocalExecutor", "scheduler"),
    "one of two": answer("CeleryExecutor,LocalExecutor", "scheduler", "--skip-serve-logs"),
    "worker": answer("CeleryExecutor", "celery", "worker", "--queues", "scheduler"),
    "celery": answer("CeleryExecutor", "scheduler"),
    "flower": answer("CeleryExecutor", "celery", "flower"),
    "dag-processor": answer("LocalExecutor", "dag-processor"),
    "triggerer": answer("LocalExecutor", "triggerer"),
    "a task": answer("LocalExecutor"),
}
"""
    found = started(tmp_path, "airflow", code=START + code)
    yes = [] if sys.platform == "darwin" else ["local", "one of two", "worker"]
    assert [name for name, answer in found.items() if answer] == yes


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("true", True), ("0", False), ("False", False), ("off", False), (" ", False)]
)
def test_the_variable_is_a_switch(value: str, expected: bool) -> None:
    assert module().wanted({"PONTE_PRELOAD": value}) is expected
    assert module().wanted({}) is False


def test_a_library_that_cannot_be_imported_is_named_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "true")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ponte_broken_library.py").write_text("raise RuntimeError('half installed')\n", encoding="utf-8")
    (tmp_path / "ponte_good_library.py").write_text("", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        module().preload(["ponte_missing_library", "ponte_broken_library", "ponte_good_library"])
    assert sys.modules.pop("ponte_good_library", None) is not None
    missing, broken = caplog.messages
    assert "ponte_missing_library is not preloaded: ModuleNotFoundError" in missing
    assert "ponte_broken_library is not preloaded: RuntimeError: half installed" in broken


def test_airflow_takes_no_name_of_the_module_for_a_setting_of_its_own() -> None:
    """Without `__all__` the module's `log` and `os` would replace those of `airflow.settings`."""
    assert module().__all__ == []
