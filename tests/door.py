"""Commands of `./ponte` inside the process of a test."""

from __future__ import annotations

import pytest


def ponte(*arguments: object) -> int:
    """Give a command and return its exit status; capsys sees what it prints, monkeypatch reaches what it calls."""
    from ponte.cli.app import app

    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments], prog_name="ponte")
    assert isinstance(ended.value.code, int)
    return ended.value.code
