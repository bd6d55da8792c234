"""What a task raises, and Airflow logs, holds no words of others."""

from __future__ import annotations

import logging
import traceback
import warnings
from typing import Any

import pytest

from ponte.errors import BatchRejected, Withheld

VALUE = "a value of a row"


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("kind", [ValueError, BatchRejected])
def test_an_operator_raises_no_words_of_a_library_and_logs_none_of_its_warnings(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    kind: type[Exception],
) -> None:
    from ponte.operators import base

    class Operator(base.PonteOperator):
        def run(self, runtime: Any, context: Any) -> None:
            warnings.warn(VALUE, RuntimeWarning, stacklevel=1)
            try:
                raise KeyError(VALUE)
            except KeyError as error:
                raise kind("too bad" if kind is BatchRejected else VALUE) from error

    monkeypatch.setattr(base, "runtime_of", lambda *_: None)
    with caplog.at_level(logging.DEBUG), pytest.raises(kind if kind is BatchRejected else Withheld) as caught:
        Operator(task_id="t", model="m").execute({})
    said = "".join(traceback.format_exception(caught.value))
    logged = caplog.text + "".join(capsys.readouterr())  # Airflow may have taken the log over
    assert VALUE not in said + logged
    assert "RuntimeWarning at" in logged
    assert caught.value.__context__ is None
    assert "KeyError" in said
    assert kind.__name__ in said
    assert "in run" in said
