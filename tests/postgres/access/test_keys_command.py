"""`./ponte keys`: a key is made, shown once, listed and revoked; what is no key, no name or no model is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.door import ponte
from tests.sample_model import World

from ponte.access.keys import LONGEST_NAME
from ponte.cli import answers


@pytest.fixture
def owner(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, whose database the command works on as its owner."""
    monkeypatch.setattr(answers, "_as_owner", lambda: world.db)
    monkeypatch.setenv("PONTE_MODELS", str(world.folder.path.parent))
    return world


def test_a_key_is_shown_once_listed_and_revoked(owner: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert ponte("keys", "create", "shop", "--model", "visits", "--days", "90", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["key"].startswith("ponte_")
    assert ponte("keys", "list") == 0
    listed = capsys.readouterr().out
    assert made["key_id"] in listed
    assert made["key"] not in listed
    for secret in (made["key"], "nonsense"):
        assert ponte("keys", "revoke", secret) == 1
        assert made["key"] not in capsys.readouterr().err
    for _ in range(2):
        assert ponte("keys", "revoke", made["key_id"]) == 0
    assert capsys.readouterr().out == "The key of shop is revoked.\n" * 2
    assert ponte("keys", "list", "--json") == 0
    [one] = json.loads(capsys.readouterr().out)
    assert (one["state"], one["models"], one["per_minute"]) == ("revoked", ["visits"], 6_000)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["x" * (LONGEST_NAME + 1)], 1, "no name for a key"),
        (["  "], 1, "no name for a key"),
        (["a\nb"], 1, "no name for a key"),
        (["shop", "--days", "99999999"], 2, "--days"),
        (["shop", "--per-minute", str(2**31)], 2, "--per-minute"),
    ],
)
def test_what_cannot_be_meant_makes_no_key(
    owner: World, capsys: pytest.CaptureFixture[str], words: list[str], status: int, told: str
) -> None:
    assert ponte("keys", "create", *words) == status
    assert told in capsys.readouterr().err
    assert owner.ask("SELECT count(*) FROM ponte.api_key") == 0


def test_a_model_that_is_not_here_may_come_and_is_said(owner: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert ponte("keys", "create", "shop", "--model", "visit") == 0
    assert "There is no model 'visit' here: did you mean 'visits'?" in capsys.readouterr().err


def test_a_model_that_is_not_here_is_said_without_names_where_there_is_none(
    owner: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path / "none"))
    assert ponte("keys", "create", "shop", "--model", "visits") == 0
    assert "There is no model 'visits' here\n" in capsys.readouterr().err
