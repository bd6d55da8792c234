"""PostgreSQL of the local stack on 127.0.0.1: only when asked, only for the role of people, and closed again."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from tests.door import ponte

from ponte.embedded import postgres, programs
from ponte.local import processes, stack
from ponte.local.secrets import Secrets, load_or_create
from ponte.local.settings import Settings
from ponte.schema.provision import upgrade

pytestmark = pytest.mark.usefixtures("postgres_programs")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A stack whose PostgreSQL has Ponte's schema, and no port."""
    # No folder of pytest's: another run would close it to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="ponte-stack-"))
    try:
        server, secrets = start(folder, None)
        upgrade(server.url("ponte", "ponte_owner", secrets.ponte_password))
        yield folder
    finally:
        postgres.stop(folder / "postgres", mode="immediate")
        shutil.rmtree(folder)


def start(home: Path, port: int | None) -> tuple[postgres.Server, Secrets]:
    """Do what `up` does about PostgreSQL."""
    settings = Settings(root=home / "repo", home=home, db_port=port)
    secrets = load_or_create(settings.secrets_file)
    keep = postgres.is_running(settings.data_dir) and stack.listens_as_asked(settings)
    return stack.start_database(settings, secrets, keep=keep), secrets


def log_in(port: int, user: str, password: str, database: str = "ponte") -> str:
    login = {"host": "127.0.0.1", "port": port, "dbname": database, "user": user, "password": password}
    connection = psycopg2.connect(**login, connect_timeout=10)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user || ' at ' || inet_server_addr()::text")
            return str(cursor.fetchone()[0])
    finally:
        connection.close()


def test_a_port_is_open_when_it_is_asked_for_and_closed_when_not(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, secrets = start(home, None)
    assert (server.address, server.port) == (None, 5432)

    port = free_port()
    server, _ = start(home, port)
    assert (server.address, server.port) == ("127.0.0.1", port)
    assert start(home, port)[0] == server
    assert log_in(port, "ponte_analyst", secrets.analyst_password) == "ponte_analyst at 127.0.0.1/32"
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        log_in(port, "ponte_analyst", "wrong")
    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        log_in(port, "ponte_analyst", "")
    everybody = {**secrets.database_passwords, "postgres": secrets.postgres_password}
    del everybody["ponte_analyst"]
    for role, password in everybody.items():
        with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
            log_in(port, role, password)
    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
        log_in(port, "ponte_analyst", secrets.analyst_password, database="postgres")
    with psycopg2.connect(server.url("ponte", "ponte_owner", secrets.ponte_password)) as by_socket:
        assert by_socket.info.user == "ponte_owner", "on the socket everybody gets in as before"
    by_socket.close()

    monkeypatch.setenv("PONTE_HOME", str(home))
    capsys.readouterr()
    ponte("status", "--json")
    sql = json.loads(capsys.readouterr().out)["sql"]
    assert (sql["tcp_host"], sql["tcp_port"], sql["socket_port"]) == ("127.0.0.1", port, port)
    password = json.loads(Path(sql["password_file"]).read_text(encoding="utf-8"))[sql["password_key"]]
    ask = [str(postgres.psql_path()), "-XAtc", "SELECT current_user"]
    place = {"PGDATABASE": sql["database"], "PGUSER": sql["role"], "PGPASSWORD": password}
    for host in (sql["tcp_host"], sql["socket_folder"]):
        done = subprocess.run(ask, env={"PGHOST": host, "PGPORT": str(port), **place}, capture_output=True, check=True)
        assert done.stdout == b"ponte_analyst\n"
    ponte("status")
    said = capsys.readouterr().out
    assert f"host 127.0.0.1, port {port}" in said
    assert password not in said
    ponte("password", "ponte_analyst")
    assert capsys.readouterr().out == f"{password}\n"

    server, _ = start(home, None)
    assert (server.address, server.port) == (None, 5432)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    ponte("status")
    assert "TCP" in (said := capsys.readouterr().out)
    assert "closed" in said


def test_a_killed_server_starts_again_on_its_port(home: Path) -> None:
    """Its lock file is named after the port, and the process that it names may be another one by now."""
    port = free_port()
    server, secrets = start(home, port)
    postgres.crash(server.data_dir)
    lock = server.socket_dir / f".s.PGSQL.{port}.lock"
    lines = lock.read_text(encoding="utf-8").splitlines()
    account = programs.server_account()
    with subprocess.Popen(["sleep", "300"], user=account.pw_uid if account else None) as other:
        lock.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n", encoding="utf-8")
        try:
            start(home, port)
            assert log_in(port, "ponte_analyst", secrets.analyst_password)
        finally:
            other.kill()


def test_a_taken_port_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("PONTE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("PONTE_DB_PORT", str(port))
        monkeypatch.setattr(processes, "COMPONENTS", ())
        assert ponte("up") == 1
    said = capsys.readouterr().err
    assert f"Port {port}, needed for PostgreSQL, is not free" in said
    assert "PONTE_DB_PORT=" in said
    assert not (tmp_path / "home" / "postgres").exists()
