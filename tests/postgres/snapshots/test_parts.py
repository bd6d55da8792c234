"""Three parts by time, of which none knows what the next one measures; and the file they all come from."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pytest
from tests.sample_model import AS_OF, FEATURES_SQL, LABELS_SQL, World

from ponte.model.estimator import load_estimator
from ponte.snapshots.files import DESCRIPTION
from ponte.snapshots.lifecycle import get_snapshot
from ponte.snapshots.parquet import read_snapshot
from ponte.snapshots.parts import Part, Parts, split
from ponte.training import candidate
from ponte.training.fitting import fit
from ponte.versions.loading import load_version

CALIBRATION_FROM, HOLDOUT_FROM = dt.date(2024, 1, 22), dt.date(2024, 1, 29)
CALIBRATED = 'calibration_windows = 1\ncalibration = "sigmoid"\nthreshold = "f1"'
KNOWN = (
    "SELECT visit_id FROM shop.visit WHERE day >= :first AND day < :end AND known_at <= :moment "
    "AND known_at <= '2024-02-12' ORDER BY 1"
)


def known(world: World, first: str, end: dt.date, moment: dt.date) -> list[int]:
    """Return the visits of days [first, end) whose outcome was known at midnight of a day, and when training ran."""
    return [v for (v,) in world.rows(KNOWN, first=first, end=end, moment=moment)]


def visits(part: Part) -> list[int]:
    return sorted(part.rows.column("visit_id").to_pylist())


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Parts]:
    """The parts that each training fits on, as they reach the estimator."""
    seen: list[Parts] = []

    def noted(spec: Any, estimator: Any, parts: Parts) -> Any:
        seen.append(parts)
        return fit(spec, estimator, parts)

    monkeypatch.setattr(candidate, "fit", noted)
    return seen


def test_rows_known_too_late_for_the_next_part_are_counted_and_never_fitted(world: World, used: list[Parts]) -> None:
    calibrated = world.with_model(training=CALIBRATED)
    world.execute("UPDATE shop.visit SET known_at = '2024-01-25' WHERE day = '2024-01-03'")
    calibrated.train(run_id="t")

    [parts] = used
    fitting = known(world, "2024-01-01", CALIBRATION_FROM, CALIBRATION_FROM)
    calibration = known(world, str(CALIBRATION_FROM), HOLDOUT_FROM, HOLDOUT_FROM)
    holdout = known(world, str(HOLDOUT_FROM), AS_OF.date(), AS_OF.date())
    assert (visits(parts.fitting), visits(parts.calibration), visits(parts.holdout)) == (fitting, calibration, holdout)
    purged = 3 * 350 - len(fitting) + 350 - len(calibration)
    assert purged == 100 + 50 + 100
    counts = "SELECT train_rows, calibration_rows, holdout_rows, purged_rows FROM ponte.version"
    assert world.rows(counts) == [(len(fitting), len(calibration), len(holdout), purged)]
    assert world.rows("SELECT calibration_from, holdout_from FROM ponte.snapshot") == [(CALIBRATION_FROM, HOLDOUT_FROM)]


def test_the_calibration_part_calibrates_and_sets_the_threshold_at_which_batches_are_cut(world: World) -> None:
    from sklearn.calibration import CalibratedClassifierCV

    calibrated = world.with_model(training=CALIBRATED)
    version = calibrated.train(run_id="t").version
    calibrated.run(run_id="r")

    assert isinstance(load_version(world.store, version).estimator, CalibratedClassifierCV)
    threshold = world.ask("SELECT threshold FROM ponte.version")
    assert threshold == version.threshold
    assert 0.1 < threshold < 0.5
    cut = "SELECT count(*) FROM predictions.visits WHERE prediction = (score >= :threshold)::int"
    assert world.ask(cut, threshold=threshold) == 350
    assert world.ask(cut, threshold=0.5) < 350
    assert world.rows("SELECT calibration_rows, threshold FROM ponte.version_overview") == [(250, threshold)]


@pytest.mark.parametrize(("days", "last", "rows"), [(0, "2024-02-05", 2000), (3, "2024-01-29", 1750)])
def test_a_window_trains_only_when_its_outcomes_are_due(world: World, days: int, last: str, rows: int) -> None:
    """With three days to wait, the last week, of which two days were not known yet, does not count at all."""
    written = world.with_model(training=f"label_delay_days = {days}").snapshot(run_id="t")

    assert (written.windows[-1]["window_start"], len(written.windows), written.row_count) == (last, 6, rows)


# ---------------------------------------------------------------- the snapshot


def test_the_snapshot_says_itself_what_it_is(world: World) -> None:
    written = world.with_model(training=CALIBRATED).snapshot(run_id="t")
    metadata = read_snapshot(world.store, written).schema.metadata
    said = json.loads(metadata[DESCRIPTION.encode()])

    starts = [dt.date(2024, 1, 1) + dt.timedelta(weeks=n) for n in range(6)]
    assert said["windows"] == [
        {
            "window_start": str(start),
            "window_end": str(start + dt.timedelta(weeks=1)),
            "as_of": f"{start}T00:00:00+00:00",
            "rows": 250 if n == 5 else 350,
        }
        for n, start in enumerate(starts)
    ]
    assert (said["features_sql"], said["labels_sql"]) == (FEATURES_SQL, LABELS_SQL.format(label="returned::int"))
    assert (said["model"], said["as_of"]) == ("visits", "2024-02-12T00:00:00+00:00")
    assert (said["calibration_from"], said["holdout_from"], said["row_count"]) == ("2024-01-22", "2024-01-29", 2000)
    assert [c["name"] for c in said["columns"]["features"]] == [
        "shop", "items", "price", "distance", "member", "shop_rate"
    ]  # fmt: skip
    row = "SELECT windows, columns, row_count, path, status FROM ponte.snapshot"
    [(windows, *others)] = world.rows(row)
    assert others == [said["columns"], 2000, written.path, "written"]
    # Not what was left out: the same rows make the same file.
    assert [{name: window[name] for name in said["windows"][0]} for window in windows] == said["windows"]
    assert windows[0].keys() - said["windows"][0].keys() == {"features", "left_out"}


def test_the_snapshot_is_named_by_its_content(world: World) -> None:
    import hashlib

    one, two = (world.snapshot(run_id=run_id) for run_id in ("one", "two"))
    content = (world.store.root / one.path).read_bytes()

    assert one.snapshot_id != two.snapshot_id
    assert one.path == two.path == f"visits/snapshots/{hashlib.sha256(content).hexdigest()}.parquet"
    assert world.rows("SELECT DISTINCT sha256, byte_count FROM ponte.snapshot") == [(one.sha256, len(content))]


#: Both draw at random, and neither says from which seed.
RANDOM = {
    "boosting": (
        "from sklearn.ensemble import HistGradientBoostingClassifier",
        "HistGradientBoostingClassifier(max_iter=15, early_stopping=True, validation_fraction=0.3)",
    ),
    "forest": ("from sklearn.ensemble import RandomForestClassifier", "RandomForestClassifier(n_estimators=15)"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_fitting_again_from_the_stored_snapshot_predicts_the_same_to_the_last_bit(world: World, name: str) -> None:
    statement, made = RANDOM[name]
    text = world.folder.text("estimator.py").replace("LogisticRegression()", made)
    drawing = world.with_model(files={"estimator.py": f"{text}\n\n{statement}\n"}, training="seed = 11")
    written = drawing.snapshot(run_id="t")
    version = drawing.fit(written.snapshot_id, run_id="t")

    stored = get_snapshot(world.db, version.snapshot_id)
    rows = read_snapshot(world.store, stored)
    spec = drawing.folder.spec

    def scores(seed: int) -> Any:
        estimator = load_estimator(drawing.folder.text("estimator.py"), model="visits", task="binary")
        seeded = spec.model_copy(update={"training": spec.training.model_copy(update={"seed": seed})})
        fitted = fit(seeded, estimator, split(rows, stored))
        return fitted.estimator.predict_proba(split(rows, stored).holdout.features)[:, 1]

    loaded = load_version(world.store, version).predictions(split(rows, stored).holdout.rows).score
    assert loaded is not None
    assert np.array_equal(scores(11).view("int64"), loaded.view("int64"))
    assert not np.array_equal(scores(12), loaded)
