"""The embedded server: starts, survives kills and interrupted initialisation, and lets in only who has a password."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from ponte.embedded import cluster, postgres
from ponte.errors import StackError
from ponte.local import stack
from ponte.local.secrets import Secrets, generate, write_private_json
from ponte.local.stack import admin_database

pytestmark = pytest.mark.usefixtures("postgres_programs")

OPTIONS = {"fsync": "off", "shared_buffers": "32MB"}
#: Of servers that one test starts; full of what URLs and shells treat specially.
PASSWORD = "p@ss:/w#rd% $HOME'"  # noqa: S105


@pytest.fixture(scope="module")
def secrets() -> Secrets:
    return generate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, secrets: Secrets) -> Iterator[postgres.Server]:
    """A running server with both databases; each test leaves it running."""
    data_dir = tmp_path_factory.mktemp("home") / "postgres"
    server = postgres.start(data_dir, superuser_password=secrets.postgres_password, options=OPTIONS)
    try:
        stack.ensure_databases(server, secrets)
        yield server
    finally:
        postgres.stop(data_dir, mode="immediate")


def ask(server: postgres.Server, sql: str, database: str, user: str, password: str) -> object:
    """Return the one value that `sql` selects."""
    engine = sqlalchemy.create_engine(server.url(database, user, password, "psycopg2"))
    try:
        with engine.begin() as connection:
            return connection.scalar(sqlalchemy.text(sql))
    finally:
        engine.dispose()


def restart(server: postgres.Server) -> None:
    """Start the server again; its password was set when it was made."""
    postgres.start(server.data_dir, superuser_password=PASSWORD, options=OPTIONS)


def test_each_role_owns_its_database(server: postgres.Server, secrets: Secrets) -> None:
    assert ask(server, "SELECT current_user", "ponte", "ponte_owner", secrets.ponte_password) == "ponte_owner"
    assert ask(server, "SELECT current_user", "airflow", "airflow", secrets.airflow_password) == "airflow"


def test_whoever_administers_the_local_stack_finds_its_database(server: postgres.Server, secrets: Secrets) -> None:
    home = server.data_dir.parent
    with pytest.raises(StackError, match=r"which database\?"):
        admin_database({"PONTE_HOME": str(home)})
    write_private_json(home / "secrets.json", asdict(secrets))
    found = admin_database({"PONTE_HOME": str(home)})
    assert found == sqlalchemy.make_url(server.url("ponte", "postgres", secrets.postgres_password))
    elsewhere = {"PONTE_HOME": str(home), "PONTE_ADMIN_URL": "postgresql://admin:p%40ss@db:5433/postgres"}
    assert admin_database(elsewhere) == sqlalchemy.make_url("postgresql://admin:p%40ss@db:5433/ponte")


def test_a_role_cannot_enter_the_other_database(server: postgres.Server, secrets: Secrets) -> None:
    with pytest.raises(OperationalError, match="permission denied"):
        ask(server, "SELECT 1", "airflow", "ponte_owner", secrets.ponte_password)


def test_a_wrong_password_is_refused_even_on_the_socket(server: postgres.Server) -> None:
    with pytest.raises(OperationalError, match="password authentication failed"):
        ask(server, "SELECT 1", "ponte", "ponte_owner", "wrong")


def test_the_server_has_no_tcp_port_and_a_private_socket(server: postgres.Server, secrets: Secrets) -> None:
    assert ask(server, "SHOW listen_addresses", "ponte", "ponte_owner", secrets.ponte_password) == ""
    assert server.socket_dir.stat().st_mode & 0o777 == 0o700


def test_ensuring_again_writes_no_role_and_no_database(server: postgres.Server, secrets: Secrets) -> None:
    """xmin changes with every write of a row, even one that changes nothing."""
    rows = """SELECT string_agg(name || xmin || coalesce(detail, ''), ' ' ORDER BY name) FROM (
        SELECT rolname AS name, xmin::text, rolpassword AS detail FROM pg_authid
        UNION ALL SELECT datname, xmin::text, datacl::text FROM pg_database) AS everything"""
    before = ask(server, rows, "postgres", "postgres", secrets.postgres_password)
    stack.ensure_databases(server, secrets)
    assert ask(server, rows, "postgres", "postgres", secrets.postgres_password) == before


def test_a_replaced_password_is_set_again(server: postgres.Server, secrets: Secrets) -> None:
    ask(server, "ALTER ROLE ponte_owner PASSWORD 'other'; SELECT 1", "postgres", "postgres", secrets.postgres_password)
    stack.ensure_databases(server, secrets)
    assert ask(server, "SELECT 1", "ponte", "ponte_owner", secrets.ponte_password) == 1


def test_the_only_role_of_an_earlier_release_becomes_the_owner(server: postgres.Server, secrets: Secrets) -> None:
    superuser = ("postgres", "postgres", secrets.postgres_password)
    ask(server, "ALTER ROLE ponte_owner RENAME TO ponte; SELECT 1", *superuser)
    stack.ensure_databases(server, secrets)
    owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'ponte'"
    assert ask(server, owner, "ponte", "ponte_owner", secrets.ponte_password) == "ponte_owner"
    assert ask(server, "SELECT count(*) FROM pg_roles WHERE rolname = 'ponte'", *superuser) == 0


def test_a_start_while_it_runs_changes_nothing(server: postgres.Server) -> None:
    pid = cluster.pid_file_lines(server.data_dir)[0]
    restart(server)
    assert cluster.pid_file_lines(server.data_dir)[0] == pid


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_committed_rows_survive_every_way_to_end(server: postgres.Server, secrets: Secrets, how: str) -> None:
    """Also shows that stale lock files do not matter: after a kill they are there, perhaps with the pid of a zombie."""
    login = ("ponte", "ponte_owner", secrets.ponte_password)
    ask(server, f"CREATE TABLE survivor_{how} AS SELECT 42 AS answer; SELECT 1", *login)
    match how:
        case "kill":
            assert postgres.crash(server.data_dir)
        case "fast":
            assert postgres.stop(server.data_dir, mode="fast")
        case _:
            assert postgres.stop(server.data_dir, mode="immediate")
    assert not postgres.is_running(server.data_dir)
    assert not postgres.stop(server.data_dir), "nothing to stop"
    restart(server)
    assert ask(server, f"SELECT answer FROM survivor_{how}", *login) == 42


def test_a_pid_that_something_else_has_now_does_not_prevent_the_start(server: postgres.Server) -> None:
    postgres.crash(server.data_dir)
    pid_file = server.data_dir / "postmaster.pid"
    lines = pid_file.read_text(encoding="utf-8").splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n", encoding="utf-8")
    assert not postgres.is_running(server.data_dir)
    restart(server)
    assert postgres.is_running(server.data_dir)


def test_a_lost_secrets_file_is_explained(server: postgres.Server) -> None:
    with pytest.raises(StackError, match=r"secrets\.json was replaced"):
        stack.ensure_databases(server, generate())


def test_an_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    """What a kill leaves: initdb's workshop half full. It is removed, and nothing was in the data folder's place."""
    data_dir = tmp_path / "data"
    leftover = tmp_path / "data-initdb-abc"
    (leftover / "data").mkdir(parents=True)
    (leftover / "data" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    try:
        postgres.start(data_dir, superuser_password=PASSWORD, options=OPTIONS)
        assert postgres.is_running(data_dir)
        assert not leftover.exists()
    finally:
        postgres.stop(data_dir, mode="immediate")


def test_an_incomplete_data_folder_is_moved_aside_not_removed(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "global").mkdir(parents=True)
    (data_dir / "PG_VERSION").write_text("18\n", encoding="utf-8")
    (data_dir / "precious").write_text("keep me", encoding="utf-8")
    try:
        postgres.start(data_dir, superuser_password=PASSWORD, options=OPTIONS)
        [aside] = tmp_path.glob("data-incomplete-*")
        assert (aside / "precious").read_text(encoding="utf-8") == "keep me"
    finally:
        postgres.stop(data_dir, mode="immediate")


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("16\n", encoding="utf-8")
    with pytest.raises(StackError, match="made by PostgreSQL 16; this is PostgreSQL 18"):
        postgres.start(tmp_path / "data", superuser_password=PASSWORD)


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="unrecognized configuration parameter"):
        postgres.start(tmp_path / "data", superuser_password=PASSWORD, options={**OPTIONS, "no_such_option": "1"})


@pytest.mark.parametrize("name", ["long" * 30, "it's a, folder"])
def test_long_or_unusual_paths_get_a_short_private_socket_folder(tmp_path: Path, name: str) -> None:
    data_dir = tmp_path / name
    try:
        server = postgres.start(data_dir, superuser_password=PASSWORD, options=OPTIONS)
        try:
            assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432")) <= 103, "what macOS allows"
            assert server.socket_dir.stat().st_mode & 0o777 == 0o700
            assert ask(server, "SELECT 1", "postgres", "postgres", PASSWORD) == 1
        finally:
            postgres.stop(data_dir, mode="immediate")
            shutil.rmtree(server.socket_dir, ignore_errors=True)
    finally:
        postgres.stop(data_dir, mode="immediate")


def test_a_socket_folder_that_somebody_else_planted_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (tmp_path / "data-socket").symlink_to(target)
    try:
        with pytest.raises(StackError, match="should be a folder of user"):
            postgres.start(tmp_path / "data", superuser_password=PASSWORD, options=OPTIONS)
    finally:
        postgres.stop(tmp_path / "data", mode="immediate")
