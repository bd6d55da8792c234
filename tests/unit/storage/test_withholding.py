"""What may be said of an error: its class and its place, never its words, unless they are Ponte's own."""

from __future__ import annotations

import logging
import traceback
import warnings

import numpy as np
import pyarrow as pa
import pytest

from ponte.errors import BatchRejected, DatabaseUnavailable, PonteError, Withheld
from ponte.storage.withholding import said_of, warnings_without_values, without_values
from ponte.versions.isolation import TooManyUnscored, isolate
from ponte.versions.predicting import Output, Predictions, as_labels, require_labels
from ponte.versions.signature import Signature

VALUE = "the secret of a row"


def raised(error: BaseException, *, cause: BaseException | None = None, context: BaseException | None = None):
    """Return the error as it is caught: with a traceback, raised from `cause`, or while `context` was handled."""
    try:
        try:
            if context is not None:
                raise context
        finally:
            if cause is not None:
                raise error from cause
            raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(ValueError(VALUE)), Withheld),
        (raised(ValueError("x"), cause=KeyError(VALUE)), Withheld),
        (raised(ValueError("x"), context=KeyError(VALUE)), Withheld),
        (raised(BatchRejected("too bad"), cause=ValueError(VALUE)), BatchRejected),
        (raised(BatchRejected("too bad"), context=raised(ValueError("x"), cause=KeyError(VALUE))), BatchRejected),
        (raised(ExceptionGroup(VALUE, [ValueError(VALUE)])), Withheld),
        (raised(UnicodeDecodeError("utf8", VALUE.encode(), 0, 1, VALUE)), Withheld),
        (raised(DatabaseUnavailable("away"), cause=OSError(VALUE)), DatabaseUnavailable),
        (raised(KeyboardInterrupt(), context=ValueError(VALUE)), KeyboardInterrupt),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_told_with_its_class_and_place_and_without_its_words(
    error: BaseException, kind: type[BaseException]
) -> None:
    before = type(error).__name__
    told = without_values(error)
    said = "".join(traceback.format_exception(told))
    assert type(told) is kind
    assert VALUE not in said
    assert before in said
    assert "in raised" in said  # where it happened
    seen: BaseException | None = told
    while seen is not None:
        assert seen.__context__ is None
        seen = seen.__cause__


def test_words_of_our_own_and_every_class_on_the_way_stay() -> None:
    told = without_values(raised(PonteError("ours", got="3 rows"), cause=raised(ValueError(VALUE), cause=KeyError())))
    assert str(told) == "ours\n  got: 3 rows"
    assert str(told.__cause__).startswith("ValueError\n  where: ")
    assert str(told.__cause__.__cause__).startswith("KeyError")


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert str(without_values(first).__cause__).startswith("KeyError")


def test_a_warning_is_logged_by_class_and_place(caplog: pytest.LogCaptureFixture) -> None:
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with caplog.at_level(logging.WARNING), warnings_without_values():
            shown = warnings.showwarning
            warnings.warn_explicit(VALUE, RuntimeWarning, __file__, 7)
            shown(RuntimeWarning(VALUE), RuntimeWarning, __file__, 7)
    assert f"RuntimeWarning at {__file__}, line 7" in caplog.text
    assert VALUE not in caplog.text
    assert warnings.showwarning == before


def test_too_many_rows_are_told_by_class_and_count_and_each_by_its_words() -> None:
    def predict(rows: pa.Table) -> Predictions:
        if (numbers := rows.column("n").to_numpy())[-1] >= 8:
            raise ValueError(f"{VALUE} {numbers}")
        return Predictions(numbers, None)

    rows = pa.table({"n": np.arange(10)})
    found = isolate(predict, rows, allowed=2)
    assert dict(found.kinds) == {"ValueError": 2}
    assert all(VALUE in why for _, _, why in found.unscored)  # for the quarantine
    with pytest.raises(TooManyUnscored) as caught:
        isolate(predict, rows, allowed=1)
    assert "2 rows: ValueError" in str(caught.value)
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("values", [[VALUE, 1], [VALUE, "a"]])
def test_labels_that_are_none_are_told_without_them(values: list[object]) -> None:
    signature = Signature(key=(), features=(), label="integer")
    array = np.array(values, dtype=object)
    with pytest.raises(PonteError, match="returned no labels") as caught:
        as_labels(array, signature, "multiclass")
    assert VALUE not in str(caught.value)
    text = Signature(key=(), features=(), label="text")
    with pytest.raises(PonteError, match="returned no labels") as caught:
        require_labels(Predictions(np.array([VALUE, "a"]), None), text, Output(task="multiclass", classes=("a", "b")))
    assert VALUE not in str(caught.value)
    assert said_of(caught.value) == str(caught.value)
