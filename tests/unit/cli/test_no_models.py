"""Commands that are told a model where there is none at all: no list of names is begun that has no name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.door import ponte

from ponte.errors import PonteError
from ponte.stream import worker


def test_the_next_step_of_a_worker_is_whole(tmp_path: Path) -> None:
    nothing: Any = None
    with pytest.raises(PonteError) as caught:
        worker.run(nothing, nothing, tmp_path, only=["visits"])
    assert caught.value.parts["fix"] == "[serving] api = true in its model.toml opens its queue"


def test_a_check_of_two_has_no_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path))
    assert ponte("check", "visits", "flights") == 1
    told = capsys.readouterr().err
    assert "got: flights, visits" in told
    assert "next" not in told
