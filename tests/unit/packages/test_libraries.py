"""To which distribution a module belongs is read once, and again when something was installed."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from ponte.packages import libraries


def install(folder: Path, name: str) -> None:
    """Put a distribution with one module of its name into the folder, as an installer does."""
    (folder / f"{name}.py").touch()
    info = folder / f"{name}_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"{name}\n")


def test_what_is_installed_is_read_once_and_again_after_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(side_effect=libraries.packages_distributions)
    monkeypatch.setattr(libraries, "packages_distributions", read)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "not there")
    assert "first" not in libraries.distributions_of_modules()
    for count, name in enumerate(("first", "second"), 2):
        install(tmp_path, name)
        assert libraries.distributions_of_modules()[name] == [f"{name}-dist"]
        assert libraries.distributions_of_modules()["numpy"] == ["numpy"]
        assert read.call_count == count
    monkeypatch.undo()
    assert "first" not in libraries.distributions_of_modules()
