"""Secrets are made once, in a file that is always complete and never readable for others."""

import base64
import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from ponte.errors import StackError
from ponte.local.secrets import generate, load_or_create, write_private_json


def test_the_second_call_returns_the_same(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_or_create(path)
    written = path.stat().st_mtime_ns
    assert load_or_create(path) == first
    assert path.stat().st_mtime_ns == written


def test_a_file_of_before_there_were_roles_gives_every_reader_the_same_and_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    before = load_or_create(path)
    since = ("trainer", "scorer", "promoter", "monitor", "api", "stream", "viewer", "analyst")
    roles = [f"{role}_password" for role in since]
    kept = {name: value for name, value in asdict(before).items() if name not in roles}
    write_private_json(path, kept)
    text = path.read_text(encoding="utf-8")

    first = load_or_create(path)
    assert load_or_create(path) == first
    assert path.read_text(encoding="utf-8") == text
    assert {name: value for name, value in asdict(first).items() if name not in roles} == kept
    assert len(set(asdict(first).values())) == len(asdict(first)), "no password is that of another role"
    assert re.fullmatch(r"[0-9a-f]{48}", first.analyst_password)


def test_only_the_owner_can_read_the_file_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create(tmp_path / "secrets.json")
    finally:
        os.umask(before)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_keys_are_what_airflow_expects() -> None:
    secrets = generate()
    assert len(base64.urlsafe_b64decode(secrets.fernet_key)) == 32
    assert len(secrets.jwt_secret) >= 64
    for value in asdict(secrets).values():
        assert re.fullmatch(r"[A-Za-z0-9_=-]+", value), "characters that URLs, shells and ConfigParser leave alone"


def test_no_two_secrets_are_equal_and_none_is_shown() -> None:
    secrets = generate()
    values = list(asdict(secrets).values())
    assert len(set(values)) == len(values)
    assert not any(value in repr(secrets) for value in values)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets.json"
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(StackError, match=f"chmod 600 '{re.escape(str(path))}'"):
        load_or_create(path)


def test_a_damaged_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.touch(mode=0o600)
    path.write_text('{"jwt_secret": "a"', encoding="utf-8")
    with pytest.raises(StackError, match="Cannot read the secrets"):
        load_or_create(path)
    assert path.read_text(encoding="utf-8") == '{"jwt_secret": "a"'


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    content = asdict(generate())
    del content["fernet_key"]
    write_private_json(path, content)
    with pytest.raises(StackError, match="lacks: fernet_key"):
        load_or_create(path)


@pytest.mark.parametrize(("owner", "function"), [(os, "fsync"), (Path, "replace")])
def test_an_interruption_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, function: str
) -> None:
    path = tmp_path / "file.json"
    write_private_json(path, {"old": 1})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_private_json(path, {"new": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
