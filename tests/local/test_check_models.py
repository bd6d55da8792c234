"""`make check-models`: one line for each whole folder, every problem of a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sample_model import World, write_model

from ponte.local.check_models import main


def test_whole_broken_and_unknown_folders_are_told_apart_and_counted(
    world: World, models_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_MODELS", str(models_root))
    database = ["--database", world.db.url.render_as_string(hide_password=False)]
    assert main(database) == 0
    assert capsys.readouterr().out.startswith(f"{world.folder.name}: ok, ")
    write_model(models_root, "other")
    (models_root / "other" / "labels.sql").unlink()
    assert main([*database, "other", "nobody"]) == 2
    said = capsys.readouterr().out
    assert said.startswith(f"nobody: no such folder in {models_root}\n")
    assert "labels.sql: is missing" in said
    assert world.folder.name not in said.replace(str(models_root), "")
