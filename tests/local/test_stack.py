"""Two commands never work on one stack at once, and a running stack is not silently given other settings."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from tests.door import ponte

from ponte.embedded.postgres import Server
from ponte.errors import StackError
from ponte.local import processes, stack
from ponte.local.secrets import generate, write_private_json
from ponte.local.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "repo", home=tmp_path / "home")


def test_a_second_command_is_refused_while_one_is_at_work(settings: Settings) -> None:
    settings.home.mkdir()
    with (settings.home / "lock").open("w", encoding="utf-8") as file:
        file.write("4711\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in (stack.up, stack.down):
            with pytest.raises(StackError, match="process 4711"):
                command(settings)


def test_stopping_nothing_is_fine(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    stack.down(settings)
    assert capsys.readouterr().out == "Nothing is running.\n"
    assert not settings.home.exists()


def test_status_of_nothing_says_how_to_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_HOME", str(settings.home))
    assert ponte("status") == 3
    assert "./ponte up" in capsys.readouterr().out
    assert ponte("status", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["running"], found["ui"], found["sql"]) == (False, None, None)
    assert {part["name"]: part["state"] for part in found["components"]} == dict.fromkeys(
        ("postgres", *processes.COMPONENTS), "stopped"
    )
    assert not settings.home.exists()


def test_the_settings_of_a_running_stack_win_unless_others_are_asked_for(settings: Settings) -> None:
    write_private_json(settings.run / "settings.json", {"ui_port": 8081})
    assert stack.as_running(settings, strict=True).ui_port == 8081
    write_private_json(settings.run / "settings.json", {"ui_port": 8081, "preload": 0, "score_slots": 7})
    running = stack.as_running(settings, strict=True)
    assert (running.preload, running.score_slots) == (0, 7)
    other = Settings(root=settings.root, home=settings.home, ui_port=8082)
    with pytest.raises(StackError, match="ui_port: runs with 8081, asked for 8082"):
        stack.as_running(other, strict=True)


@pytest.mark.parametrize("command", ["psql", "password", "env"])
def test_commands_that_need_secrets_never_make_new_ones(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_HOME", str(tmp_path / "home"))
    assert ponte(command) == 1
    assert "./ponte up" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_what_the_stack_writes_is_for_its_user_alone(settings: Settings) -> None:
    with stack._lock(settings):
        pass
    modes = {path.name: path.stat().st_mode & 0o077 for path in settings.home.iterdir() if path.is_dir()}
    assert modes == {"airflow": 0, "artifacts": 0, "logs": 0, "run": 0}


def test_up_says_what_folders_need_and_the_lock_lacks_and_resolves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One model's package keeps no other from running."""
    folder = settings.root / "include/models/churn"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("maths\nnonsuch-trees==1\n")
    (settings.root / "requirements.in").write_text("")
    (settings.root / "requirements.txt").write_text("maths==1 \\\n    --hash=sha256:00\n")
    monkeypatch.setenv("PONTE_MODELS", str(folder.parent))
    for name in ("start_database", "airflow_environment", "write_password_file", "_score_pool"):
        monkeypatch.setattr(stack, name, MagicMock())
    stack.start_database.return_value.address = None
    monkeypatch.setattr(processes, "alive", MagicMock(return_value=dict.fromkeys(processes.COMPONENTS)))
    monkeypatch.setattr(stack, "as_running", MagicMock(return_value=settings))
    monkeypatch.setattr(stack.postgres, "is_running", MagicMock(return_value=True))
    for name in ("airflow_is_migrated", "check_ports", "wait_until_healthy"):
        monkeypatch.setattr(stack.readiness, name, MagicMock())
    stack.up(settings, migrate=MagicMock())
    said = capsys.readouterr().out
    assert "churn: requirements.txt: nonsuch-trees==1: is not in the lock → run `make lock`\nReady: " in said
    assert "maths" not in said


def test_the_api_can_be_added_to_what_runs_and_stays_until_down(settings: Settings) -> None:
    asked = replace(settings, api=1, api_port=9000)
    write_private_json(settings.run / "settings.json", {"ui_port": 8080})  # as of a release without an API
    assert stack.as_running(settings, strict=True).api == 0
    added = stack.as_running(asked, strict=True)
    assert (added.api, added.api_port) == (1, 9000)
    assert processes.wanted(added) == (*processes.COMPONENTS, "api", "stream")
    write_private_json(settings.run / "settings.json", {"api": 1, "api_port": 9000})
    kept = stack.as_running(settings, strict=True)
    assert (kept.api, kept.api_port) == (1, 9000)
    with pytest.raises(StackError, match="api_port: runs with 9000, asked for 9001"):
        stack.as_running(replace(asked, api_port=9001), strict=True)


def test_what_answers_is_started_with_its_own_role_and_nothing_of_airflow(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever gets hold of it has neither the other roles' passwords nor Airflow's keys."""
    secrets = generate()
    server = Server(data_dir=tmp_path / "data", socket_dir=tmp_path / "socket")
    started = {}

    def start(_: Settings, name: str, environment: dict[str, str]) -> MagicMock:
        started[name] = environment
        return MagicMock(create_time=lambda: 0.0)

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(stack, "_wait", MagicMock())
    asked = replace(settings, api=1)
    environments = stack.environments_of(asked, secrets, server, airflow={"A": "1"})
    stack._start_components(asked, environments)
    assert list(started) == ["api-server", "scheduler", "dag-processor", "triggerer", "api", "stream"]
    for name, role in (("api", "ponte_api"), ("stream", "ponte_stream")):
        text = json.dumps(started[name])
        known = {other for other, password in secrets.database_passwords.items() if password in text}
        assert known == {role}
        assert not [key for key in started[name] if key.startswith("AIRFLOW__")]
        assert not {secrets.fernet_key, secrets.jwt_secret, secrets.api_secret_key, secrets.admin_password} & set(
            started[name].values()
        )
