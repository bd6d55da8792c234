"""The environment holds every setting of the local Airflow, and nothing in it is mangled on the way."""

import json
import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ponte.embedded.postgres import Server
from ponte.local.environment import SCORE_POOL, airflow_environment, password_file, write_password_file
from ponte.local.secrets import Secrets, generate
from ponte.local.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "repo", home=tmp_path / "home", ui_port=8081)


@pytest.fixture
def secrets() -> Secrets:
    return generate()


@pytest.fixture
def environment(settings: Settings, secrets: Secrets, tmp_path: Path) -> dict[str, str]:
    server = Server(data_dir=tmp_path / "data", socket_dir=tmp_path / "sock et")
    return airflow_environment(settings, secrets, server)


def test_both_databases_are_reached_over_the_socket(
    environment: dict[str, str], secrets: Secrets, tmp_path: Path
) -> None:
    url = make_url(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    assert (url.username, url.password, url.database) == ("airflow", secrets.airflow_password, "airflow")
    assert url.query["host"] == str(tmp_path / "sock et")
    for role in ("ponte_trainer", "ponte_scorer", "ponte_promoter", "ponte_monitor", "ponte_viewer"):
        connection = json.loads(environment[f"AIRFLOW_CONN_{role.upper()}"])
        assert (connection["login"], connection["password"]) == (role, secrets.database_passwords[role])
        assert (connection["schema"], connection["host"]) == ("ponte", str(tmp_path / "sock et"))
    assert not {secrets.ponte_password, secrets.postgres_password} & set(" ".join(environment.values()).split('"'))


def test_score_tasks_have_a_pool_and_libraries_are_preloaded(environment: dict[str, str], settings: Settings) -> None:
    assert environment["PONTE_SCORE_POOL"] == SCORE_POOL
    assert environment["PONTE_SCORE_SLOTS"] == str(settings.score_slots)
    assert environment["PONTE_PRELOAD"] == "1"
    assert str(settings.root / "config") in environment["PYTHONPATH"].split(os.pathsep), "airflow_local_settings"


def test_no_value_holds_what_airflow_would_expand(environment: dict[str, str]) -> None:
    assert [name for name, value in environment.items() if "$" in value] == []


def test_all_components_know_the_port_of_the_ui(environment: dict[str, str]) -> None:
    assert environment["AIRFLOW__API__PORT"] == "8081"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8081/execution/"


def test_a_proxy_of_the_caller_keeps_its_exceptions(
    settings: Settings, secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet, localhost")
    environment = airflow_environment(settings, secrets, Server(data_dir=tmp_path, socket_dir=tmp_path))
    assert environment["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1"


def test_the_password_file_is_private_and_written_once(settings: Settings, secrets: Secrets) -> None:
    write_password_file(settings, secrets)
    path = password_file(settings)
    assert json.loads(path.read_text(encoding="utf-8")) == {"admin": secrets.admin_password}
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.stat().st_mtime_ns
    write_password_file(settings, secrets)
    assert path.stat().st_mtime_ns == written
