"""A fast test that starts a server or Airflow all the same fails, and is told why."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from tests import fast


def start(*command: str) -> None:
    """Tell the interpreter's hooks of a process, without starting it."""
    sys.audit("subprocess.Popen", command[0], list(command), None, None)


@pytest.mark.parametrize(
    ("command", "fixture"),
    [
        (["/wheel/bin/pg_ctl", "start", "-D", "/data"], "postgres_programs"),
        (["/wheel/bin/initdb"], "postgres_programs"),
        (["setpriv", "--reuid=7", "/wheel/bin/postgres", "-D", "/data"], "postgres_programs"),
        (["python", "-m", "airflow", "db", "migrate"], "airflow"),
        (["/venv/bin/airflow", "scheduler"], "airflow"),
        (["python", "-c", "import json\nimport airflow.sdk"], "airflow"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_fast_test_cannot_start_a_server_or_airflow(command: Sequence[str], fixture: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"without asking for the fixture `{fixture}`"):
        start(*command)


def test_a_fast_test_cannot_import_airflow() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"test_a_fast_test_cannot_import_airflow.*`airflow`"):
        sys.audit("import", "airflow.sdk", None, None, None, None)


def test_other_processes_are_nobodys_business() -> None:
    start("python", "-c", "import airflow_local_settings")
    start("psql", "-U", "airflow", "postgres_of_somebody")


@pytest.mark.usefixtures("airflow", "postgres_programs")
def test_who_asks_may() -> None:
    start("python", "-m", "airflow")
    start("/wheel/bin/pg_ctl", "start")


def test_a_test_is_fast_unless_it_asks(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("fast")
    assert not {"airflow", "postgres_programs"} & set(request.fixturenames)


@pytest.fixture
def database(postgres_programs: None) -> None:
    """What the real ones are made of."""


@pytest.mark.usefixtures("database")
def test_who_asks_through_another_fixture_is_not_fast(request: pytest.FixtureRequest) -> None:
    assert fast.NEEDS & set(request.fixturenames) == {"postgres_programs"}
    assert not request.node.get_closest_marker("fast")
