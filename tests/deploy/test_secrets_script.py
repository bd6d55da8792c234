"""./ponte-secrets: secrets are made once, kept for ever, and shown to nobody."""

import base64
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).parents[2]
HEX, URLSAFE = r"[0-9a-f]", r"[A-Za-z0-9_=-]"
EXPECTED = {
    **{
        f"{name}_PASSWORD": HEX + "{48}"
        for name in (
            "POSTGRES", "AIRFLOW_DB", "PONTE_OWNER", "PONTE_TRAINER", "PONTE_SCORER", "PONTE_PROMOTER", "PONTE_VIEWER",
            "PONTE_ANALYST", "REDIS",
        )
    },
    "AIRFLOW_FERNET_KEY": URLSAFE + "{44}",
    "AIRFLOW_JWT_SECRET": HEX + "{128}",
    "AIRFLOW_API_SECRET_KEY": HEX + "{64}",
    "AIRFLOW_ADMIN_PASSWORD": URLSAFE + "{16}",
}  # fmt: skip


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the script in `folder`, under a umask that gives everything to everybody."""
    command = ["sh", "-c", 'umask 000; exec "$@"', "sh", str(ROOT / "ponte-secrets"), *arguments]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


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
