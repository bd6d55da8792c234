"""Where there is no log, a refusal is not printed a second time."""

from __future__ import annotations

import logging

import pytest

from ponte.decisions import verdicts


@pytest.mark.parametrize("kept", [False, True])
def test_a_refusal_is_in_the_log_where_there_is_one_and_not_on_a_bare_terminal(
    kept: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    printed: list[logging.LogRecord] = []
    terminal = logging.Handler()
    monkeypatch.setattr(terminal, "emit", printed.append)
    monkeypatch.setattr(logging, "lastResort", terminal)
    monkeypatch.setattr(logging.root, "handlers", [caplog.handler] if kept else [])
    verdicts.log.warning("REFUSED")
    assert not printed
    assert [record.message for record in caplog.records] == (["REFUSED"] if kept else [])
