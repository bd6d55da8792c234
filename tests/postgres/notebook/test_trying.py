"""A try is a training of which nothing stays: the same rows, the same figures, no row in the database."""

from __future__ import annotations

import dataclasses

import pytest
from tests.sample_model import AS_OF, World

from ponte.notebook import try_model
from ponte.quality.figures import Measured
from ponte.snapshots.parquet import read_snapshot

DAY = str(AS_OF.date())
#: A column more than the champion's text has: the champion is asked with features of its own.
OTHER_SQL = "SELECT f.*, items + 1 AS more FROM (\n{}\n) AS f"
#: Everything that can be edited and is about the rows, and what the estimator makes of them.
FOLDERS = {
    "another estimator": {"training": "seed = 1", "evaluation": 'slices = ["shop"]'},
    "other features": {"files": "other"},
    "three parts": {"training": 'calibration_windows = 1\ncalibration = "sigmoid"\nthreshold = "f1"'},
    "rows set aside": {
        "checks": '[[checks]]\nexpectation = "expect_column_values_to_be_between"\ncolumn = "items"\nmin_value = 1\n'
        'on_failure = "quarantine"\n[quarantine]\nbudget = 0.5'
    },
    "multiclass": {"task": "multiclass"},
    "regression": {"task": "regression"},
}


def edited(world: World, case: str) -> World:
    changes = dict(FOLDERS[case])
    if changes.pop("files", "") == "other":
        changes["files"] = {"features.sql": OTHER_SQL.format(world.folder.text("features.sql").rstrip().rstrip(";"))}
    return world.with_model(resamples=100, **changes)


def by_name(measured: list[Measured]) -> dict[tuple[str, str, str], Measured]:
    """How fast it was is not the same twice."""
    return {(m.subject, m.slice, m.name): m for m in measured if m.name != "rows_per_second"}


def counts(world: World) -> dict[str, object]:
    """Every table of Ponte with its rows, and the tables that hold rows."""
    names = [name for [name] in world.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'ponte' ORDER BY 1")]
    return {**{name: world.ask(f"SELECT count(*) FROM ponte.{name}") for name in names}, "data": world.data_tables()}


@pytest.mark.parametrize("case", FOLDERS)
def test_rows_and_every_figure_of_a_try_are_those_of_a_training(notebook: World, case: str) -> None:
    world = edited(notebook, case)
    before = counts(world)
    first = try_model("visits", as_of=DAY)
    assert counts(world) == before
    again = try_model("visits", as_of=DAY)
    assert (first.frozen.new, again.frozen.new) == (True, False)

    trained = world.train(run_id="really", promote=False)
    snapshot = dataclasses.asdict(trained.snapshot)
    own = {"snapshot_id", "run_id", "path", "sha256", "champion_path", "champion_sha256"}
    mine = dataclasses.asdict(first.frozen.snapshot)
    assert {k: v for k, v in mine.items() if k not in own} == {k: v for k, v in snapshot.items() if k not in own}
    assert first.frozen.rows.equals(read_snapshot(world.store, trained.snapshot))
    rows = world.rows("SELECT subject, slice, name, value, low, high, row_count FROM ponte.metric WHERE version = 2")
    expected = {tuple(row[:3]): tuple(row[3:]) for row in rows if row[2] != "rows_per_second"}
    assert any(subject.startswith("champion:") for subject, _, _ in expected)
    for done in (first, again):
        found = {
            key: (m.figure.value, m.figure.low, m.figure.high, m.row_count)
            for key, m in by_name(list(done.measured)).items()
            if "try:" not in key[0]
        }
        assert found == expected
