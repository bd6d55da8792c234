"""Training rows are of one moment, and what training leaves out is counted, by reason, until it adds up."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa
from tests.postgres.children import wait_for
from tests.sample_model import AS_OF, FEATURES_SQL, LABELS_SQL, World, run_named

from ponte.errors import RowsLost, TrainingRefused
from ponte.snapshots import parts as parts_of
from ponte.snapshots.freezing import freeze_snapshot
from ponte.snapshots.lifecycle import Snapshot, get_snapshot
from ponte.snapshots.parquet import read_snapshot

COUNTS = (
    "SELECT feature_rows, row_count, no_label_rows, null_label_rows, late_label_rows, set_aside_rows "
    "FROM ponte.snapshot"
)
#: Of the sample's six windows, before anything is changed: 100 visits were known too late.
ALL, LATE = 2100, 100
NOT_NULL = """
[quarantine]
budget = 0.5
[[checks]]
expectation = "expect_column_values_to_not_be_null"
column = "shop"
on_failure = "quarantine"
"""


def freeze(world: World, run_id: str = "t") -> Snapshot:
    return freeze_snapshot(world.db, world.folder, world.windows(), as_of=AS_OF, run=run_named(run_id))


def at_the_first_window(world: World, happen: object) -> None:
    """Let `happen` be called once the first window is loaded; the others come after it."""
    windows = []

    @sa.event.listens_for(world.db.engine, "after_cursor_execute")
    def noticed(*event: object) -> None:
        if "INSERT INTO" in str(event[2]) and "ponte_features" in str(event[2]):
            windows.append(event[2])
            if len(windows) == 1:
                happen()


# ---------------------------------------------------------------- one moment


def test_all_windows_are_of_one_moment_of_the_source(world: World) -> None:
    """A load of the source that commits between two windows is in none of them, or in all."""
    etl = sa.create_engine(world.db.url, poolclass=sa.NullPool)

    def corrected() -> None:
        with etl.begin() as connection:
            connection.exec_driver_sql("UPDATE shop.visit SET price = 1000, returned = true")

    at_the_first_window(world, corrected)
    frozen = freeze(world)

    table = f'ponte_data."{frozen.frozen_table}"'
    assert world.ask("SELECT count(*) FROM shop.visit WHERE price = 1000") == 3500
    assert world.rows(f"SELECT count(*), count(*) FILTER (WHERE price = 1000) FROM {table}") == [(2000, 0)]
    assert world.ask(f"SELECT count(DISTINCT label) FROM {table} WHERE window_start = '2024-02-05'") == 2


def test_whoever_changes_the_row_of_the_snapshot_meanwhile_only_makes_it_begin_anew(world: World) -> None:
    """As a twin does that claims it: the moment that began before that may not lock the row any more."""
    elsewhere = sa.create_engine(world.db.url, poolclass=sa.NullPool)
    locks: list[str] = []
    threads: list[threading.Thread] = []

    @sa.event.listens_for(world.db.engine, "before_cursor_execute")
    def noticed(*event: object) -> None:
        if "ponte.snapshot" not in str(event[2]) or "FOR UPDATE" not in str(event[2]):
            return
        locks.append(str(event[0].get_isolation_level()))
        if locks.count("REPEATABLE READ") == 1 and not threads:
            twin = elsewhere.connect()
            twin.exec_driver_sql("UPDATE ponte.snapshot SET frozen_table = frozen_table")

            def let_go() -> None:
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                with elsewhere.connect() as looking:
                    wait_for(lambda: looking.exec_driver_sql(waiting).scalar_one() > 0)
                twin.commit()
                twin.close()

            threads.append(threading.Thread(target=let_go))
            threads[0].start()

    frozen = freeze(world)
    threads[0].join()
    assert locks.count("REPEATABLE READ") == 2
    assert (frozen.status, frozen.row_count) == ("frozen", 2000)


# ---------------------------------------------------------------- what is left out


def test_every_row_that_training_leaves_out_is_counted_by_its_reason(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """One row of each reason in one window, and a check that sets rows aside."""
    labels = LABELS_SQL.format(label="CASE WHEN visit_id = 3 THEN NULL ELSE returned::int END")
    checked = world.with_model(checks=NOT_NULL, files={"labels.sql": f"{labels} AND visit_id NOT IN (1, 2)"})
    world.execute("UPDATE shop.visit SET known_at = '2024-02-13' WHERE visit_id IN (4, 5, 6, 7)")
    world.execute("UPDATE shop.visit SET shop = 'mill' WHERE visit_id < 10")
    lacking = world.ask(
        "SELECT count(*) FROM shop.visit WHERE shop IS NULL AND day < '2024-02-12' AND known_at <= :as_of", as_of=AS_OF
    )
    with caplog.at_level(logging.INFO, "ponte"):
        run = checked.train(run_id="t")

    kept = ALL - LATE - 7 - lacking
    assert lacking > 100
    assert checked.rows(COUNTS) == [(ALL, kept, 2, 1, LATE + 4, lacking)]
    [version] = checked.rows("SELECT train_rows + calibration_rows + holdout_rows + purged_rows FROM ponte.version")
    assert version == (kept,)
    first = run.snapshot.windows[0]
    aside = checked.ask("SELECT count(*) FROM ponte.quarantine WHERE key ->> 'window_start' = '2024-01-01'")
    assert first["features"] == 350
    assert first["left_out"] == {"no_label": 2, "null_label": 1, "late_label": 4, "set_aside": aside}
    assert first["rows"] == 350 - 7 - aside
    for window in run.snapshot.windows:
        assert window["features"] == window["rows"] + sum(window["left_out"].values())
    said = (
        "2 left out: labels.sql returns no row of its key; 1 left out: its label is NULL; 4 left out: its label became"
    )
    where = "window [2024-01-01, 2024-01-08): of 350 rows of features.sql"
    assert f"{where}, {said} known after as_of" in caplog.messages


def test_a_label_without_a_moment_counts_as_known(world: World) -> None:
    """NULL says that nobody wrote down when it was known, as a labels.sql without the column does."""
    world.execute("ALTER TABLE shop.visit ALTER known_at DROP NOT NULL")
    changed = world.execute("UPDATE shop.visit SET known_at = NULL WHERE day >= '2024-02-05' AND day < '2024-02-12'")
    written = world.snapshot(run_id="t")

    assert (changed, written.row_count) == (350, ALL)
    assert world.rows(COUNTS) == [(ALL, ALL, 0, 0, 0, 0)]
    rows = read_snapshot(world.store, written)
    assert rows.column("labelled_at").null_count == 350
    split = parts_of.split(rows, written)
    assert len(split.holdout.labels) == 700


def test_a_key_is_kept_by_the_one_of_its_labels_that_counts(world: World) -> None:
    """As from a table of events: first unknown, then known, then corrected after as_of."""
    earlier = LABELS_SQL.format(label="NULL::int").rstrip()
    later = LABELS_SQL.format(label="1").replace("known_at AS", "'2024-03-01'::timestamptz AS")
    labels = f"{earlier}\nUNION ALL\n{LABELS_SQL.format(label='returned::int')}\nUNION ALL\n{later}"
    world.with_model(files={"labels.sql": labels}).snapshot(run_id="t")
    assert world.rows(COUNTS) == [(ALL, ALL - LATE, 0, 0, LATE, 0)]


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        (
            {"labels.sql": LABELS_SQL.format(label="returned::int") + "UNION ALL SELECT 7, 1, NULL"},
            TrainingRefused,
            r"a key has more than one label[^$]*351 labels of 350 rows of features.sql[^$]*return a key once",
        ),
        (
            {"features.sql": FEATURES_SQL + "UNION ALL SELECT 7, NULL, NULL, NULL, NULL, NULL, NULL"},
            TrainingRefused,
            r"key_is_unique\(key=\['window_start', 'visit_id'\]\): failed, 2 of 2001 rows",
        ),
    ],
    ids=["labels.sql", "features.sql"],
)
def test_a_key_that_is_there_twice_is_refused(
    world: World, files: dict[str, str], error: type[Exception], said: str
) -> None:
    files = {name: text.replace("SELECT 7,", "SELECT 7::bigint,") for name, text in files.items()}
    if "features.sql" in files:
        files["features.sql"] += " WHERE CAST(:window_start AS date) = '2024-01-01'"
    with pytest.raises(error, match=said):
        world.with_model(files=files).snapshot(run_id="t")


def test_a_training_without_a_row_says_what_became_of_all(world: World) -> None:
    world.execute("UPDATE shop.visit SET known_at = '2030-01-01'")
    for _ in range(2):
        with pytest.raises(TrainingRefused, match="2,100 left out: its label became known after as_of"):
            freeze(world)
    assert world.rows(COUNTS) == [(ALL, 0, 0, 0, ALL, 0)]


def test_the_same_rows_make_the_same_file_and_version_however_many_are_left_out(world: World) -> None:
    first = world.train(run_id="one")
    world.execute(
        "INSERT INTO shop.visit SELECT visit_id + 10000, day, shop, items, price, distance, member, returned, spent, "
        "'2030-01-01' FROM shop.visit WHERE visit_id < 20"
    )
    second = world.train(run_id="two")
    assert second.snapshot.sha256 == first.snapshot.sha256
    assert second.version == first.version
    assert [row[0] for row in world.rows(f"{COUNTS} ORDER BY snapshot_id")] == [ALL, ALL + 20]


# ---------------------------------------------------------------- it adds up, or it is not written


def test_a_snapshot_whose_rows_do_not_add_up_is_not_written(world: World) -> None:
    """A row that goes without being set aside is missed when the check has counted again."""
    frozen = freeze(world)
    world.execute(f'DELETE FROM ponte_data."{frozen.frozen_table}" WHERE visit_id = 9')
    checked = replace(world)
    with pytest.raises(RowsLost, match=r"window of 2024-01-01[^$]*349 kept[^$]*350 rows of features.sql"):
        checked.snapshot(run_id="t")
    assert get_snapshot(world.db, frozen.snapshot_id).status == "frozen"


@pytest.mark.parametrize("change", ["row_count = row_count - 1", "set_aside_rows = 1", "late_label_rows = NULL"])
def test_the_database_itself_holds_that_the_rows_of_a_snapshot_add_up(world: World, change: str) -> None:
    freeze(world)
    with pytest.raises(sa.exc.IntegrityError, match=r"snapshot_rows_(add_up|are_counted_all_or_none)"):
        world.execute(f"UPDATE ponte.snapshot SET {change}")


def test_a_row_that_is_in_no_part_is_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written = world.snapshot(run_id="t")
    world.fit(written.snapshot_id, run_id="t")
    world.execute("SELECT 1")
    other = world.with_model(training="seed = 5").snapshot(run_id="u")
    monkeypatch.setattr("ponte.training.candidate.split", lambda t, s: parts_of.split(t.slice(1), s))
    with pytest.raises(RowsLost, match=r"fitting \d+, calibration 0, holdout 600, purged 100"):
        world.with_model(training="seed = 5").fit(other.snapshot_id, run_id="u")


def test_a_snapshot_of_before_rows_were_counted_goes_on(world: World) -> None:
    frozen = freeze(world)
    world.execute(
        "UPDATE ponte.snapshot SET feature_rows = NULL, no_label_rows = NULL, null_label_rows = NULL, "
        "late_label_rows = NULL, set_aside_rows = NULL, windows = "
        "(SELECT jsonb_agg(w - 'features' - 'left_out') FROM jsonb_array_elements(windows) AS w)"
    )
    run = world.train(run_id="t")
    assert (run.snapshot.snapshot_id, run.snapshot.status) == (frozen.snapshot_id, "written")
    assert world.rows(COUNTS) == [(None, 2000, None, None, None, None)]
