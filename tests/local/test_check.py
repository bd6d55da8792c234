"""`./ponte check`: one line for each whole folder, every problem of a broken one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.door import ponte
from tests.sample_model import World, write_model


def test_whole_broken_and_unknown_folders_are_told_apart(
    world: World, models_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_MODELS", str(models_root))
    database = ("--database", world.db.url.render_as_string(hide_password=False))
    assert ponte("check", *database) == 0
    assert capsys.readouterr().out.startswith(f"{world.folder.name}: ok, ")
    write_model(models_root, "other")
    (models_root / "other" / "labels.sql").unlink()
    assert ponte("check", *database, "other") == 1
    said = capsys.readouterr().out
    assert "labels.sql: is missing" in said
    assert world.folder.name not in said.replace(str(models_root), "")
    assert ponte("check", *database, "--json") == 1
    found = {model["model"]: model for model in json.loads(capsys.readouterr().out)}
    assert {name: model["ok"] for name, model in found.items()} == {world.folder.name: True, "other": False}
    assert [(p["file"], p["what"]) for p in found["other"]["problems"]] == [("labels.sql", "is missing")]
    assert ponte("check", *database, "othr", "nobody") == 1
    refused = capsys.readouterr()
    assert refused.out == "", "a name that is no folder is a slip of the pen: nothing is checked"
    assert str(models_root) in refused.err
    assert "got: nobody, othr" in refused.err
    assert "did you mean 'other'?" in refused.err
