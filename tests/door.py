"""Commands of `./ponte` inside the process of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"


def ponte(*arguments: object) -> int:
    """Give a command and return its exit status; capsys sees what it prints, monkeypatch reaches what it calls."""
    from ponte.cli.app import app

    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments], prog_name="ponte")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def unread(*arguments: object, **environment: str) -> tuple[int, str]:
    """Give a command in a process of its own whose output nobody reads; return its exit status and its complaints."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "ponte.cli", *map(str, arguments)],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PLUGINS), "PYTHONUNBUFFERED": "", **environment},
        text=True,
        check=False,
        timeout=60,
    )
    os.close(theirs)
    return done.returncode, done.stderr
