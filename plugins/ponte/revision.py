"""Which code runs? Recorded with every version, so that a prediction leads back to the text that made it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def code_revision(root: Path) -> str:
    """Return the commit of the repository, with `-dirty` if files differ from it; empty outside git."""
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return ""
    return f"{head}-dirty" if _git(root, "status", "--porcelain") else head


def _git(root: Path, *arguments: str) -> str:
    """Return the output of a git command, or nothing if git is missing, slow or not content."""
    command = ["git", "-C", str(root), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
