"""Intervals of a regression: the same ends in every mode, and tables and views of before there were any."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from tests.door import ponte
from tests.postgres.exchange.test_export import elsewhere
from tests.postgres.monitoring.test_labels import day
from tests.postgres.offline.conftest import door
from tests.sample_model import FEATURES_SQL, NEXT_WEEK, WEEK, World, write_model

from ponte.errors import ModelFolderError, TrainingRefused
from ponte.monitoring.outcomes import ensure_outcomes_view
from ponte.publishing import tables
from ponte.storage import database, prediction_columns
from ponte.versions import registry
from ponte.versions.loading import REPORT, load_version, read_file

if TYPE_CHECKING:
    from ponte.versions.registry import Version

__all__ = ["door"]

INTERVAL = "calibration_windows = 1\ninterval = 0.8\n"
FEATURES = ("shop", "items", "price", "distance", "member", "shop_rate")
#: What a transaction keeps from readers, of what they name.
LOCKED = """SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock'
    AND c.relname IN ('prediction_spend', 'spend', 'spend_latest') ORDER BY 1"""
BEFORE_21 = ["window_start", "visit_id", "prediction", "scored_at", "model_version", "batch_id", "hindsight"]


def spend(world: World, training: str = INTERVAL, **changes: Any) -> World:
    """Return the world with the regression `spend`, whose predictions have intervals unless `training` says not."""
    folder = write_model(world.folder.path.parent, "spend", task="regression", training=training, **changes)
    return replace(world, folder=folder)


def shown(world: World, week: Any = WEEK, columns: str = "visit_id, prediction, low, high") -> list[Any]:
    query = f"SELECT {columns} FROM predictions.spend WHERE window_start = :week ORDER BY 1"
    return world.rows(query, week=week)


def columns_of(world: World, relation: str) -> list[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 ORDER BY attnum"
    return [name for (name,) in world.rows(query, name=relation)]


@pytest.fixture
def without(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """`spend` as it was before revision 0021: version 1 has published a week, and nothing has the columns."""
    before = spend(world, "")
    with monkeypatch.context() as patch:
        patch.setitem(prediction_columns.ADDED, "regression", {})
        before.train(run_id="before")
        before.run(run_id="before")
        ensure_outcomes_view(before.db, "spend")
    assert columns_of(before, "predictions.spend") == columns_of(before, "predictions.spend_latest") == BEFORE_21
    return before


# ---------------------------------------------------------------- every mode


def test_a_batch_has_the_ends_that_the_version_says_and_the_view_shows_them(world: World) -> None:
    model = spend(world)
    version = model.train(run_id="t").version
    assert (version.interval, version.calibration_rows > 100) == (0.8, True)
    assert version.half_width is not None
    model.run(run_id="r")
    rows = shown(model)
    assert len(rows) == 350
    half = version.half_width
    assert [(low, high) for _, _, low, high in rows] == [(p - half, p + half) for _, p, _, _ in rows]
    latest = model.rows("SELECT visit_id, prediction, low, high FROM predictions.spend_latest ORDER BY visit_id")
    assert latest == rows
    about = "SELECT col_description(CAST(:name AS regclass), attnum) FROM pg_attribute WHERE attrelid = "
    for relation in ("predictions.spend", "predictions.spend_latest", "ponte_data.prediction_spend"):
        assert all(
            "interval" in model.ask(f"{about} CAST(:name AS regclass) AND attname = :end", name=relation, end=end)
            for end in ("low", "high")
        )


def test_the_measured_coverage_is_a_figure_with_an_interval_and_the_report_says_it_in_words(world: World) -> None:
    model = spend(world, evaluation='slices = ["shop"]\nslice_rows = 50')
    trained = model.train(run_id="t")
    version = trained.version
    figures = {
        name: (value, low, high)
        for name, value, low, high in model.rows(
            "SELECT name, value, low, high FROM ponte.metric WHERE subject = 'candidate' AND slice = '' "
            "AND name LIKE 'interval%'"
        )
    }
    value, low, high = figures["interval_coverage"]
    assert 0.7 < low < value < high < 0.9
    assert figures["interval_width"] == pytest.approx((2 * version.half_width,) * 3)  # type: ignore[operator]
    assert model.ask("SELECT count(*) FROM ponte.metric WHERE name LIKE 'interval%' AND subject <> 'candidate'") == 0
    assert model.ask("SELECT count(*) FROM ponte.metric WHERE slice <> '' AND name = 'interval_coverage'") == 4
    assert model.ask("SELECT metrics ? 'interval_coverage' FROM ponte.version_overview")
    page = (read_file(model.store, version, REPORT) or b"").decode()
    assert "for 8 of 10 rows the outcome should lie between <code>low</code> and <code>high</code>" in page
    assert "80 %: the prediction ±" in page
    assert f'<data value="{value}">' in page
    # The others have no such words.
    plain = spend(world, "").train(run_id="plain").version
    assert (plain.interval, plain.half_width) == (None, None)
    assert "for 8 of 10" not in (read_file(model.store, plain, REPORT) or b"").decode()


def test_coverage_is_measured_again_when_labels_have_come(world: World) -> None:
    model = spend(world)
    model.train(run_id="t")
    model.run(run_id="r")
    model.monitor(now=day(40))
    value, low, high = model.rows(
        "SELECT value, low, high FROM ponte.quality WHERE metric = 'interval_coverage' AND maturity_days = 28"
    )[0]
    inside = model.ask(
        "SELECT avg((spent BETWEEN low AND high)::int)::float8 FROM predictions.spend JOIN shop.visit USING (visit_id)"
    )
    assert value == pytest.approx(inside)
    assert low < value < high
    assert 0.6 < value < 0.95


def test_a_file_and_a_folder_elsewhere_say_the_same_ends_to_the_last_bit(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = spend(door)
    version = model.train(run_id="t").version
    batch = model.run(run_id="r", until="publish")
    columns = ", ".join(("visit_id", *FEATURES))
    frozen = model.ask("SELECT frozen_table FROM ponte.batch WHERE batch_id = :id", id=batch.batch_id)
    rows = model.rows(f"SELECT {columns} FROM ponte_data.{frozen} ORDER BY visit_id")
    pd.DataFrame(rows, columns=["visit_id", *FEATURES]).to_csv("rows.csv", index=False)
    expected = shown(model)

    def said(text: str) -> list[tuple[Any, ...]]:
        found = csv.DictReader(io.StringIO(text))
        return [(int(r["visit_id"]), *(float(r[name]) for name in ("prediction", "low", "high"))) for r in found]

    capsys.readouterr()
    assert ponte("predict", "spend", "rows.csv") == 0
    assert said(capsys.readouterr().out) == expected
    assert ponte("predict", "spend", "rows.csv", "--output", "said.parquet") == 0
    offline = pd.read_parquet("said.parquet")
    assert list(offline.columns) == ["visit_id", "prediction", "low", "high", "model_version"]
    assert [tuple(row)[:4] for row in offline.itertuples(index=False)] == expected
    one = [
        f"--record={name}={'' if value is None else value}" for name, value in zip(FEATURES, rows[0][1:], strict=True)
    ]
    capsys.readouterr()
    assert ponte("predict", "spend", *one) == 0
    [record] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert tuple(float(record[name]) for name in ("prediction", "low", "high")) == pytest.approx(expected[0][1:])
    Path("none.csv").write_text(",".join(("visit_id", *FEATURES)) + "\n")
    assert ponte("predict", "spend", "none.csv", "--output", "none.parquet") == 0
    assert list(pd.read_parquet("none.parquet").columns) == list(offline.columns)

    assert ponte("export", "spend", "out", "--format", "mlflow") == 0
    assert said(elsewhere("out/predict.py", "rows.csv", cwd=tmp_path)) == expected
    facts = json.loads((tmp_path / "out" / "version.json").read_text())
    assert (facts["interval"], facts["half_width"]) == (0.8, version.half_width)
    assert f"ponte_half_width: {version.half_width!r}\nmlflow_version" in (tmp_path / "out" / "MLmodel").read_text()
    assert "Between `low` and `high`" in (tmp_path / "out" / "README.md").read_text()


def test_an_imported_version_has_no_interval_and_the_command_says_so(
    door: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is measured on all windows that it has not seen; none is left to set a width on."""
    import joblib
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from tests.postgres.exchange.test_import import DAY, UNTIL

    text = (
        "SELECT visit_id, items, price, shop FROM shop.visit WHERE day >= CAST(:window_start AS date) "
        "AND day < CAST(:window_end AS date) AND items IS NOT NULL AND price IS NOT NULL"
    )
    model = spend(door, files={"features.sql": text})
    rows = pd.DataFrame(
        model.rows("SELECT items::float8, price::float8, shop, spent FROM shop.visit WHERE day < '2024-01-29' "
                   "AND items IS NOT NULL AND price IS NOT NULL"),
        columns=["items", "price", "shop", "spent"],
    )  # fmt: skip
    columns = make_column_transformer(("passthrough", ["items", "price"]))
    fitted = make_pipeline(columns, LinearRegression()).fit(rows[["items", "price", "shop"]], rows["spent"])
    joblib.dump(fitted, "notebook.joblib")
    ponte("import", "spend", "notebook.joblib", "--trained-until", UNTIL, "--as-of", DAY, "--i-trust-this-file")
    said = capsys.readouterr()
    assert "Imported" in said.out, said.err
    assert "without an interval" in said.err
    assert registry.get_version(model.db, "spend", 1).interval is None


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("share", "least"), [(0.8, 100), (0.999, 999)], ids=["as few as no calibration can do with", "endless ends"]
)
def test_too_few_rows_for_an_interval_are_refused_with_how_many_are_needed(
    world: World, share: float, least: int
) -> None:
    model = spend(world, f"calibration_windows = 1\ninterval = {share}\n")
    if least == 100:
        model.execute("DELETE FROM shop.visit WHERE day >= '2024-01-22' AND day < '2024-01-29' AND visit_id % 5 > 0")
    with pytest.raises(TrainingRefused, match=rf"the calibration part has \d+ labelled rows, {least} are needed"):
        model.train(run_id="t")


def test_a_column_that_is_called_as_an_end_is_refused_in_a_regression_only(world: World) -> None:
    text = FEATURES_SQL.replace("v.items, ", "v.items, v.items AS low, ")
    files = {"features.sql": text}
    with pytest.raises(ModelFolderError, match=r"features.sql: low: is a reserved name → rename it with AS"):
        spend(world, files=files).train(run_id="t")
    world.with_model(files=files).train(run_id="t")


def test_a_version_that_read_such_a_column_before_it_was_reserved_goes_on_scoring(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = spend(world, "", files={"features.sql": FEATURES_SQL.replace("v.items, ", "v.items, v.items AS low, ")})
    with monkeypatch.context() as patch:
        patch.setattr("ponte.model.inspection.reserved_columns", lambda _: frozenset())
        model.train(run_id="t")
    model.run(run_id="r")
    assert shown(model, columns="DISTINCT low") == [(None,)]


# ---------------------------------------------------------------- from before there were intervals


def test_tables_and_views_of_before_get_the_columns_with_the_next_batch(without: World) -> None:
    seen = without.rows("SELECT * FROM predictions.spend ORDER BY visit_id")
    without.execute("CREATE VIEW predictions.mine AS SELECT * FROM predictions.spend")  # of an analyst
    without.execute("GRANT SELECT ON predictions.spend, predictions.spend_latest TO ponte_analyst")
    rights = "SELECT relname, relacl::text FROM pg_class WHERE relname IN ('spend', 'spend_latest') ORDER BY 1"
    granted = without.rows(rights)

    after = spend(without)
    version = after.train(run_id="after").version
    assert after.champion().version == version.version == 2
    after.run(run_id="after", week=NEXT_WEEK)

    assert columns_of(after, "predictions.spend") == [*BEFORE_21, "low", "high"]
    assert after.rows(f"SELECT {', '.join(BEFORE_21)} FROM predictions.spend WHERE window_start = :w ORDER BY visit_id",
                      w=WEEK) == seen  # fmt: skip
    assert shown(after, columns="DISTINCT low, high") == [(None, None)]
    assert after.ask("SELECT count(*) FROM predictions.spend_latest WHERE high - low > 0") == 350
    assert after.rows("SELECT * FROM predictions.mine WHERE window_start = :w ORDER BY visit_id", w=WEEK) == seen
    assert after.rows(rights) == granted
    # Nothing is left to do for the next one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_make_alone", None)
        after.run(run_id="again", week=NEXT_WEEK)
    # The view of outcomes follows, at its end.
    ensure_outcomes_view(after.db, "spend")
    assert columns_of(after, "predictions.spend_outcomes")[-5:] == [
        "outcome", "outcome_known_at", "outcome_seen_at", "low", "high"
    ]  # fmt: skip


def test_a_version_without_intervals_can_come_back_and_go_again(without: World) -> None:
    after = spend(without)
    after.train(run_id="after")
    after.run(run_id="after", week=NEXT_WEEK)
    with_ends = shown(after, NEXT_WEEK)
    assert all(row[2] is not None for row in with_ends)

    after.roll_back(1, run_id="back", windows=[NEXT_WEEK])
    assert shown(after, NEXT_WEEK, "DISTINCT low, high, model_version") == [(None, None, 1)]
    after.monitor(now=day(47))  # a batch without ends beside one that has some
    measured = "SELECT DISTINCT version FROM ponte.quality WHERE metric = '{}' AND window_start = '2024-02-19'"
    assert sorted(after.rows(measured.format("mae"))) == [(1,), (2,)]
    assert after.rows(measured.format("interval_coverage")) == [(2,)]
    after.roll_back(2, run_id="forth", windows=[NEXT_WEEK])
    assert shown(after, NEXT_WEEK) == with_ends
    # A week of before there were columns is scored again by the version that has intervals.
    after.roll_back(2, run_id="older", windows=[WEEK], allow_hindsight=True)
    assert shown(after, WEEK, "low IS NULL") == [(False,)] * 350


def test_a_batch_that_was_under_way_becomes_a_partition_of_the_table_with_more_columns(
    without: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(prediction_columns.ADDED, "regression", {})
        batch = without.run(run_id="under way", week=NEXT_WEEK, until="score")
    without.run(run_id="meanwhile")
    assert "low" in columns_of(without, "ponte_data.prediction_spend")
    without.guard(batch.batch_id)
    without.publish(batch.batch_id)
    assert shown(without, NEXT_WEEK, "DISTINCT low, high") == [(None, None)]


@pytest.mark.parametrize("made", [0, 1, 2])
def test_killed_between_two_changes_the_next_run_makes_the_others(
    without: World, monkeypatch: pytest.MonkeyPatch, made: int
) -> None:
    real: Callable[..., None] = tables._make_alone
    done: list[str] = []

    def killed(db: Any, model: str, change: Any) -> None:
        if len(done) == made:
            raise KeyboardInterrupt
        real(db, model, change)
        done.append(change.relation)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "_make_alone", killed)
        with pytest.raises(KeyboardInterrupt):
            without.run(run_id="killed", week=NEXT_WEEK)
    assert without.ask("SELECT count(*) FROM predictions.spend_latest") == 350
    without.run(run_id="killed", week=NEXT_WEEK)
    assert columns_of(without, "predictions.spend_latest")[-2:] == ["low", "high"]
    assert shown(without, NEXT_WEEK, "count(*)") == [(350,)]


def test_a_change_holds_one_relation_from_readers_and_gives_way_to_one_that_reads_long(
    without: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CHANGE_TIMEOUT", "50ms")
    monkeypatch.setattr(database, "LOCK_TRIES", 2)
    held: list[list[str]] = []

    @sa.event.listens_for(without.db.engine, "commit")
    def look(connection: sa.Connection) -> None:
        held.append([name for (name,) in connection.exec_driver_sql(LOCKED)])

    with without.db.engine.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM predictions.spend")
        with pytest.raises(sa.exc.DBAPIError, match="lock timeout"):
            without.run(run_id="r", week=NEXT_WEEK)
        assert without.ask("SELECT count(*) FROM predictions.spend_latest") == 350
    without.run(run_id="r", week=NEXT_WEEK)
    assert columns_of(without, "predictions.spend")[-1] == "high"
    assert [names for names in held if names] == [["prediction_spend"], ["spend"], ["spend_latest"]]


# ---------------------------------------------------------------- what was registered


def test_a_manifest_of_before_loads_and_one_that_says_another_width_does_not(world: World) -> None:
    model = spend(world)
    version: Version = model.train(run_id="t").version
    rows = model.rows("SELECT interval, half_width FROM ponte.version")
    assert rows == [(0.8, version.half_width)]
    loaded = load_version(model.store, registry.get_version(model.db, "spend", 1))
    assert loaded.version.output == version.output
    other = replace(version, half_width=np.nextafter(version.half_width, np.inf))
    with pytest.raises(Exception, match="half_width is"):
        load_version(model.store, other)
