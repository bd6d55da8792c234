"""psql connects as the role that is asked for, and as no other."""

import os
from pathlib import Path

import pytest
from tests.door import ponte

from ponte.embedded import postgres
from ponte.local.secrets import load_or_create


@pytest.fixture
def passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A stack whose server seems to run."""
    monkeypatch.setenv("PONTE_HOME", str(tmp_path))
    monkeypatch.delenv("PONTE_ROLE", raising=False)
    monkeypatch.setattr(postgres, "is_running", lambda _: True)
    secrets = load_or_create(tmp_path / "secrets.json")
    return {**secrets.database_passwords, "postgres": secrets.postgres_password}


@pytest.mark.parametrize(
    ("asked", "user"),
    [
        (None, "ponte_owner"),
        ("", "ponte_owner"),
        *((role, role) for role in ("ponte_analyst", "ponte_trainer", "airflow", "postgres")),
    ],
)
def test_psql_is_that_role(
    asked: str | None, user: str, passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is not None:
        monkeypatch.setenv("PONTE_ROLE", asked)
    became = []
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call))
    assert ponte("psql", "-c", "SELECT 1") == 0
    [(program, arguments, environment)] = became
    assert (Path(program).name, arguments) == ("psql", [program, "-c", "SELECT 1"])
    login = {name: environment[name] for name in ("PGUSER", "PGPASSWORD", "PGDATABASE")}
    assert login == {"PGUSER": user, "PGPASSWORD": passwords[user], "PGDATABASE": "ponte"}


def test_all_arguments_are_those_of_psql_but_the_role(
    passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    became = []
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call))
    words = ["-XAt", "-F", "|", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-"]
    assert ponte("psql", *words[:3], "--role", "ponte_viewer", *words[3:]) == 0
    [(_, arguments, environment)] = became
    assert (arguments[1:], environment["PGUSER"]) == (words, "ponte_viewer")


def test_where_another_server_is_administered_psql_goes_there(
    passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_ADMIN_URL", "postgresql://admin:pw@db:5433/postgres")
    monkeypatch.setenv("PONTE_ANALYST_PASSWORD", "of the analyst")
    became = []
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call[2]))
    names = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")
    for role, login in (("ponte_analyst", ("ponte_analyst", "of the analyst")), ("postgres", ("admin", "pw"))):
        assert ponte("psql", "--role", role) == 0
        environment = became.pop()
        assert tuple(environment[name] for name in names) == ("db", "5433", *login, "ponte")
    assert ponte("psql") == 1
    assert "PONTE_OWNER_PASSWORD" in capsys.readouterr().err


def test_an_unknown_role_is_refused_with_those_that_there_are(
    passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_ROLE", "ponte_analist")
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("it became psql"))
    assert ponte("psql") == 1
    said = capsys.readouterr().err
    assert "got: ponte_analist" in said
    assert "did you mean 'ponte_analyst'?" in said
    assert [said.count(role) for role in passwords] == [1 + (role == "ponte_analyst") for role in passwords]
