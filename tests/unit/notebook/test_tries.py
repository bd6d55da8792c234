"""Which rows a try is about: the moment, and all that decides which rows are frozen."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.sample_model import FEATURES_SQL, LABELS_SQL, write_model

from ponte.errors import WindowError
from ponte.model.windows import matured_windows, midnight
from ponte.notebook import tries

NOW = dt.datetime(2024, 3, 12, 8, tzinfo=dt.UTC)
TODAY = dt.date(2024, 3, 12)
EAST = dt.timezone(dt.timedelta(hours=9))


@pytest.mark.parametrize(
    ("said", "day"),
    [
        (None, TODAY),
        ("2024-03-12", TODAY),
        ("2024-03-11", dt.date(2024, 3, 11)),
        (dt.date(2024, 3, 11), dt.date(2024, 3, 11)),
        (dt.datetime(2024, 3, 12, 7, tzinfo=EAST), dt.date(2024, 3, 11)),
    ],
    ids=str,
)
def test_a_try_is_of_the_beginning_of_a_day_in_utc(said: Any, day: dt.date) -> None:
    assert tries.moment_of(said, now=NOW) == midnight(day)


def test_a_day_to_come_is_refused() -> None:
    with pytest.raises(WindowError):
        tries.moment_of("2024-03-13", now=NOW)


EDITS: dict[str, dict[str, Any]] = {
    "features.sql": {"files": {"features.sql": f"{FEATURES_SQL}-- edited\n"}},
    "labels.sql": {"files": {"labels.sql": f"{LABELS_SQL.format(label='returned::int')}-- edited\n"}},
    "parts": {"training": 'calibration_windows = 1\ncalibration = "sigmoid"'},
    "integers": {"training": "nullable_integers = true"},
    "checks": {"checks": '[[checks]]\nexpectation = "expect_column_to_exist"\ncolumn = "items"'},
    "budget": {"checks": "[quarantine]\nbudget = 0.5"},
}


def test_whatever_decides_which_rows_are_frozen_is_in_their_name_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion: list[Any] = [None]
    monkeypatch.setattr(tries.aliases, "current_alias", lambda *_: champion[0])
    as_of, later = midnight(TODAY), midnight(TODAY) + dt.timedelta(days=1)

    def named(folder: Any, moment: dt.datetime = as_of, windows: int = 6) -> str:
        found = matured_windows(folder.spec.window, as_of=moment, count=windows)
        return tries.digest(SimpleNamespace(folder=folder, db=None), found, moment)  # type: ignore[arg-type]

    usual = write_model(tmp_path, "visits")
    names = [named(usual), named(usual, later), named(usual, windows=5)]
    for version in (1, 2):
        champion[0] = SimpleNamespace(version=version)
        names.append(named(usual))
    champion[0] = None
    names += [named(write_model(tmp_path, "visits", **change)) for change in EDITS.values()]
    assert len(set(names)) == len(names)
    others: list[dict[str, Any]] = [{"training": "seed = 3"}, {"gate": "leakage_alarm = 0.9"}, {"resamples": 100}]
    for change in others:
        assert named(write_model(tmp_path, "visits", **change)) == names[0], change


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_moment_without_a_zone_is_of_its_own_day_wherever_the_notebook_runs(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert tries.moment_of(dt.datetime(2024, 3, 4), now=NOW) == midnight(dt.date(2024, 3, 4))  # noqa: DTZ001
        assert tries.moment_of(dt.datetime(2024, 3, 4, 23), now=NOW) == midnight(dt.date(2024, 3, 4))  # noqa: DTZ001
    finally:
        monkeypatch.undo()
        time.tzset()
