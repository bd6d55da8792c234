"""Which code runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ponte.runtime import revision_of


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not needed to run Ponte")
def test_the_revision_says_when_files_differ_from_the_commit(tmp_path: Path) -> None:
    assert revision_of(tmp_path) == "", "outside git"
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = revision_of(tmp_path)
    assert len(clean) == 40
    (tmp_path / "new").touch()
    assert revision_of(tmp_path) == f"{clean}-dirty"
