"""./ponte-secrets: secrets are made once, kept for ever, and shown to nobody."""

import base64
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).parents[2]
HEX, URLSAFE = r"[0-9a-f]", r"[A-Za-z0-9_=-]"
EXPECTED = {
    **{
        f"{name}_PASSWORD": HEX + "{48}"
        for name in (
            "POSTGRES", "AIRFLOW_DB", "PONTE_OWNER", "PONTE_TRAINER", "PONTE_SCORER", "PONTE_PROMOTER", "PONTE_MONITOR",
            "PONTE_API", "PONTE_STREAM", "PONTE_VIEWER", "PONTE_ANALYST", "REDIS",
        )
    },
    "AIRFLOW_FERNET_KEY": URLSAFE + "{44}",
    "AIRFLOW_JWT_SECRET": HEX + "{128}",
    "AIRFLOW_API_SECRET_KEY": HEX + "{64}",
    "AIRFLOW_ADMIN_PASSWORD": URLSAFE + "{16}",
}  # fmt: skip


def run(
    folder: Path, *arguments: str, docker: str = "exit 1", project: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the script in `folder`, under a umask that gives everything to everybody.

    docker : what a stand-in for `docker` does, of which the script asks for the exit status only; else the outcome
        would depend on the stacks of the machine.
    project : COMPOSE_PROJECT_NAME of the environment.
    """
    command = ["sh", "-c", 'umask 000; exec "$@"', "sh", str(ROOT / "ponte-secrets"), *arguments]
    environ = {name: value for name, value in os.environ.items() if name != "COMPOSE_PROJECT_NAME"}
    if project is not None:
        environ["COMPOSE_PROJECT_NAME"] = project
    with tempfile.TemporaryDirectory() as programs:
        stand_in = Path(programs, "docker")
        stand_in.write_text(f"#!/bin/sh\n{docker}\n", encoding="utf-8")
        stand_in.chmod(0o755)
        environ["PATH"] = f"{programs}:{environ['PATH']}"
        return subprocess.run(command, cwd=folder, env=environ, check=False, capture_output=True, text=True)


def values(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the .env of a first run."""
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    return tmp_path


@pytest.mark.parametrize("name", EXPECTED)
def test_a_value_has_its_length_and_alphabet(folder: Path, name: str) -> None:
    assert re.fullmatch(EXPECTED[name], values(folder)[name])


def test_there_are_no_other_values_and_none_twice(folder: Path) -> None:
    assert list(values(folder)) == list(EXPECTED)
    assert len(set(values(folder).values())) == len(EXPECTED)


def test_airflow_can_use_the_fernet_key(folder: Path) -> None:
    key = values(folder)["AIRFLOW_FERNET_KEY"]
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"text")) == b"text"


def test_only_the_owner_can_read_it_and_nothing_else_is_left(folder: Path) -> None:
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [".env"]


def test_it_is_replaced_whole(folder: Path) -> None:
    before = (folder / ".env").stat().st_ino
    (folder / ".env").write_text("A=1\n", encoding="utf-8")
    run(folder)
    assert (folder / ".env").stat().st_ino != before, "rename of a complete file, not writing into the one that is read"


def test_two_folders_have_nothing_in_common(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    run(other)
    assert not set(values(folder).values()) & set(values(other).values())


def test_a_second_run_changes_nothing(folder: Path) -> None:
    before = (folder / ".env").read_bytes()
    result = run(folder)
    assert (folder / ".env").read_bytes() == before
    assert "Nothing to add" in result.stdout


@pytest.mark.parametrize("name", EXPECTED)
def test_a_missing_value_is_added_and_all_others_stay(folder: Path, name: str) -> None:
    before = values(folder)
    lines = [f"{key}={value}" for key, value in before.items() if key != name]
    # The line of a person comes last, without an end.
    (folder / ".env").write_text("\n".join([*lines, "# of mine", "PONTE_UI_PORT=8081"]), encoding="utf-8")
    assert f"Added to .env: {name}\n" in run(folder).stdout
    after = values(folder)
    assert after.pop("PONTE_UI_PORT") == "8081"
    assert "# of mine\n" in (folder / ".env").read_text(encoding="utf-8")
    assert after.pop(name) != before.pop(name)
    assert after == before


def test_a_copy_of_the_example_is_completed(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    (tmp_path / ".env").write_text(example, encoding="utf-8")
    run(tmp_path)
    text = (tmp_path / ".env").read_text(encoding="utf-8")
    assert set(values(tmp_path)) == set(EXPECTED)
    assert all(len(re.findall(f"^{name}=", text, flags=re.MULTILINE)) == 1 for name in EXPECTED)


def test_a_file_that_others_can_read_is_closed_and_it_says_so(folder: Path) -> None:
    (folder / ".env").chmod(0o644)
    result = run(folder)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert "open to other users" in result.stderr


def test_no_secret_is_printed(tmp_path: Path) -> None:
    result = run(tmp_path)
    output = result.stdout + result.stderr
    assert "AIRFLOW_ADMIN_PASSWORD" in output, "it says where the password of the UI is"
    assert not [value for value in values(tmp_path).values() if value in output]


def test_help_writes_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, "--help")
    assert result.returncode == 0
    assert ".env" in result.stdout
    assert not list(tmp_path.iterdir())


def test_an_unknown_argument_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, "--force")
    assert result.returncode == 2
    assert "--help" in result.stderr
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what counts as a value

#: Where compose finds no value. A comment needs a space before it.
EMPTY = ["", '""', "''", " ", "\r", " # comment", '"" # comment', " ''", "\t# comment"]


@pytest.mark.parametrize("form", ["{}=", "export {}=", " export  {} = "])
@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "AIRFLOW_FERNET_KEY"])
def test_what_compose_calls_missing_is_replaced(tmp_path: Path, name: str, empty: str, form: str) -> None:
    (tmp_path / ".env").write_text(f"A=1\n{form.format(name)}{empty}\nB=2\n", encoding="utf-8", newline="")
    assert name in run(tmp_path).stdout
    assert re.fullmatch(EXPECTED[name], values(tmp_path)[name])
    text = (tmp_path / ".env").read_text(encoding="utf-8")
    assert len(re.findall(name, text)) == 1
    assert text.startswith("A=1\nB=2\n")


@pytest.mark.parametrize(
    "line",
    [
        "{}=mine",
        "export {}=mine",
        "\texport\t{}=mine",
        "  {} = mine",
        "{}: mine",
        '{}="mine"',
        "{}='mine' # old",
        "{}=mine\r",
    ],
)
@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "AIRFLOW_FERNET_KEY"])
def test_what_compose_calls_a_value_stays(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / ".env").write_text(f"{line.format(name)}\n", encoding="utf-8", newline="")
    assert name not in run(tmp_path).stdout
    text = (tmp_path / ".env").read_bytes().decode()
    assert text.startswith(f"{line.format(name)}\n")
    assert len(re.findall(name, text)) == 1


def test_a_value_counts_although_an_empty_line_hides_it(tmp_path: Path) -> None:
    """As when somebody appends .env.example; compose takes the last line."""
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=mine\nPOSTGRES_PASSWORD=\n", encoding="utf-8")
    assert run(tmp_path).returncode == 0
    assert [name for name, value in values(tmp_path).items() if value == "mine"] == ["POSTGRES_PASSWORD"]


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    """To replace it would leave two files that both look like the one that counts."""
    (tmp_path / "target").write_text("A=1\n", encoding="utf-8")
    (tmp_path / "target").chmod(0o644)
    (tmp_path / ".env").symlink_to("target")
    result = run(tmp_path)
    assert result.returncode == 1
    assert "symbolic link to target" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "target"]
    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "target").read_text(encoding="utf-8") == "A=1\n"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o644


# ---------------------------------------------------------------- passwords of one's own

PASSWORDS = [name for name in EXPECTED if name.endswith("_PASSWORD")]


@pytest.mark.parametrize(
    ("name", "character"),
    [*((name, "@") for name in PASSWORDS), *(("REDIS_PASSWORD", character) for character in '/#%"$: \\{&+é')],
)
def test_a_password_that_would_have_to_be_quoted_somewhere_is_refused(
    tmp_path: Path, name: str, character: str
) -> None:
    line = f"{name}='abc{character}def'\n"
    (tmp_path / ".env").write_text(line, encoding="utf-8")
    (tmp_path / ".env").chmod(0o600)
    result = run(tmp_path)
    assert result.returncode == 1
    assert name in result.stderr
    assert not re.search("abc|def\\b", result.stdout + result.stderr)
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert (tmp_path / ".env").read_text(encoding="utf-8") == line


@pytest.mark.parametrize("value", ["a@b", '"abc', "abc'", "'a'b", "a b", "#abc", "a@b # c"])
def test_every_way_to_write_such_a_password_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text(f"export REDIS_PASSWORD={value}\n", encoding="utf-8")
    result = run(tmp_path)
    assert result.returncode == 1
    assert "REDIS_PASSWORD" in result.stderr


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_password_of_harmless_characters_is_accepted(tmp_path: Path, quote: str) -> None:
    line = f"REDIS_PASSWORD={quote}aZ09._~=-{quote}\n"
    (tmp_path / ".env").write_text(line, encoding="utf-8")
    assert run(tmp_path).returncode == 0
    assert (tmp_path / ".env").read_text(encoding="utf-8").startswith(line)


def test_other_passwords_in_the_file_are_not_its_business(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAIL_PASSWORD=a@b\n# REDIS_PASSWORD=a@b\n", encoding="utf-8")
    assert run(tmp_path).returncode == 0


# ---------------------------------------------------------------- a second stack on the machine

STACK = '[ "$*" = "volume inspect {}_postgres" ]'


@pytest.mark.parametrize("content", [None, "PONTE_UI_PORT=8081\n", "POSTGRES_PASSWORD=\n"])
def test_passwords_for_a_stack_that_has_others_are_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / ".env").write_text(content, encoding="utf-8")
        (tmp_path / ".env").chmod(0o644)
    result = run(tmp_path, docker=STACK.format("ponte"))
    assert result.returncode == 1
    assert "ponte_postgres" in result.stderr
    assert "COMPOSE_PROJECT_NAME=" in result.stderr
    if content is None:
        assert not list(tmp_path.iterdir())
    else:
        assert [path.name for path in tmp_path.iterdir()] == [".env"]
        assert (tmp_path / ".env").read_text(encoding="utf-8") == content
        assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("content", "project", "name"),
    [
        ("COMPOSE_PROJECT_NAME=second", None, "second"),
        ("export COMPOSE_PROJECT_NAME='second' # mine", None, "second"),
        ("COMPOSE_PROJECT_NAME=first\nCOMPOSE_PROJECT_NAME=second", None, "second"),
        ("# COMPOSE_PROJECT_NAME=second", None, "ponte"),
        ("COMPOSE_PROJECT_NAME=", None, "ponte"),
        ("", "second", "second"),
        ("COMPOSE_PROJECT_NAME=first", "second", "second"),
        ("COMPOSE_PROJECT_NAME=first", "", "ponte"),
    ],
)
def test_the_stack_is_the_one_that_compose_would_start(
    tmp_path: Path, content: str, project: str | None, name: str
) -> None:
    (tmp_path / ".env").write_text(f"{content}\n", encoding="utf-8")
    assert run(tmp_path, docker=STACK.format(name), project=project).returncode == 1
    assert run(tmp_path, docker=f"! {STACK.format(name)}", project=project).returncode == 0


def test_the_stack_of_this_file_is_no_second_one(folder: Path) -> None:
    text = "".join(f"{name}={value}\n" for name, value in values(folder).items() if name != "REDIS_PASSWORD")
    (folder / ".env").write_text(text, encoding="utf-8")
    assert "Added to .env: REDIS_PASSWORD\n" in run(folder, docker="exit 0").stdout
