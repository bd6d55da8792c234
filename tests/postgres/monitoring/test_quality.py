"""Realised quality: of which rows, with which interval, by which slices, and what stays when the predictions go."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa
from sklearn import metrics
from tests.postgres.monitoring.test_labels import AS_IT_IS, change_source, day
from tests.sample_model import LATER, NEXT_WEEK, WEEK, World, write_model

from ponte.model.windows import midnight
from ponte.monitoring import realised
from ponte.monitoring.labels import read_labels
from ponte.monitoring.outcomes import ensure_outcomes_view
from ponte.monitoring.realised import last_figures, measure, measure_batch
from ponte.publishing import janitor
from ponte.schema import roles
from ponte.storage.database import Database

SLICES = 'slices = ["shop", "visit_id"]\nslice_rows = 60\n'


def as_role(world: World, role: str) -> World:
    """Return the world as a role sees it."""
    return replace(world, db=Database(world.db.url.set(username=role)))


def test_figures_are_never_overwritten_and_a_correction_is_told_apart(scored: World) -> None:
    cell = " FROM ponte.quality WHERE metric = 'accuracy' AND maturity_days = 7"
    scored.monitor(now=day(8))
    first = scored.rows("SELECT value, corrections, final" + cell)
    change_source(scored, "returned <> (visit_id % 2 = 0) AS returned, spent, known_at")
    scored.monitor(now=day(9))
    scored.monitor(now=day(10))
    second = scored.rows("SELECT value, corrections, final" + cell)
    assert (first[0][1:], second[0][1:]) == ((0, True), (1, True))
    assert abs(first[0][0] - second[0][0]) > 0.1
    at = "SELECT value FROM ponte.quality_at('visits', :at) WHERE metric = 'accuracy' AND maturity_days = 7"
    assert [scored.ask(at, at=day(n)) for n in (8, 9, 30)] == [first[0][0], second[0][0], second[0][0]]
    assert scored.rows(at, at=day(1)) == []
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        scored.execute("DELETE FROM ponte.realised WHERE true")


def test_a_figure_is_written_when_labels_change_or_it_becomes_final_and_not_every_day(scored: World) -> None:
    moments = []
    for number in range(30):
        scored.monitor(now=day(number + 0.5))
        moments.append(scored.ask("SELECT count(DISTINCT (as_of, maturity_days)) FROM ponte.realised"))
    # Labels come until the third day; the figures of 7 and of 28 days become final.
    written = [3, 6, 9, 9, 9, 9, 9, 10]
    assert moments[: len(written)] == written
    assert moments[27:] == [10, 11, 11]


def test_labels_that_are_too_late_for_every_maturity_are_looked_at_once(scored: World) -> None:
    change_source(scored, "returned, spent, known_at + interval '90 days' AS known_at")
    scored.monitor(now=day(95))
    assert scored.rows("SELECT DISTINCT labelled_rows, value, final FROM ponte.realised") == [(0, None, True)]
    change_source(scored, "returned, spent, known_at + interval '91 days' AS known_at")
    scored.monitor(now=day(96))
    assert scored.ask("SELECT sum(changed_labels) FROM ponte.label_read") == 350
    assert measure(scored.db, scored.folder) == {"batches": 0, "figures": 0}
    assert scored.ask("SELECT max(corrections) FROM ponte.quality") == 0


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_every_task_has_its_figures(world: World, task: str) -> None:
    folder = write_model(world.folder.path.parent, "spend", task=task, resamples=100)
    spend = World(db=world.db, store=world.store, folder=folder)
    spend.train(run_id="t")
    spend.run(run_id="r")
    if task == "multiclass":  # a class that the version has never seen
        change_source(spend, "returned, CASE WHEN visit_id % 50 = 0 THEN NULL ELSE spent END AS spent, known_at")
        edited = spend.folder.text("labels.sql").replace("ELSE 'much'", "WHEN spent IS NULL THEN 'none' ELSE 'much'")
        spend.execute("ALTER TABLE ponte.snapshot DISABLE TRIGGER USER")
        spend.execute("UPDATE ponte.snapshot SET labels_sql = :text", text=edited)
    spend.monitor(now=day(8))

    joined = spend.rows(
        "SELECT p.prediction, l.label, "
        + ("p.scores" if task == "multiclass" else "NULL")
        + " FROM predictions.spend p JOIN ponte.labels_at(1, now() + interval '9 years', true) l"
        " ON l.key = jsonb_build_object('visit_id', p.visit_id)"
    )
    got = dict(spend.rows("SELECT metric, value FROM ponte.quality WHERE maturity_days = 7"))
    rows = spend.rows("SELECT DISTINCT labelled_rows, other_rows, row_count FROM ponte.quality WHERE maturity_days = 7")
    if task == "regression":
        prediction, label = np.array([(p, float(y)) for p, y, _ in joined]).T
        assert rows == [(350, 0, 350)]
        assert got == {
            "mae": pytest.approx(metrics.mean_absolute_error(label, prediction)),
            "rmse": pytest.approx(metrics.mean_squared_error(label, prediction) ** 0.5),
            "r2": pytest.approx(metrics.r2_score(label, prediction)),
        }
    else:
        assert rows == [(343, 7, 350)]
        known = [row for row in joined if row[1] != "none"]
        label, prediction = [y for _, y, _ in known], [p for p, _, _ in known]
        scores = np.array([s for _, _, s in known])
        assert got["accuracy"] == pytest.approx(metrics.accuracy_score(label, prediction))
        assert got["log_loss"] == pytest.approx(metrics.log_loss(label, scores, labels=["low", "much", "some"]))
        assert got["f1"] == pytest.approx(metrics.f1_score(label, prediction, average="macro"))


def test_three_rows_have_figures_without_an_interval_and_none_at_all_has_neither(scored: World) -> None:
    scored.execute("DELETE FROM shop.visit WHERE day >= :week AND visit_id % 117 <> 0", week=NEXT_WEEK)
    small = scored.with_model(empty="allow", checks="[guard]\nminimum_batches = 8\n")
    small.run(run_id="three", week=NEXT_WEEK)
    small.execute("DELETE FROM shop.visit WHERE day >= :week", week=NEXT_WEEK + dt.timedelta(days=7))
    small.run(run_id="none", week=NEXT_WEEK + dt.timedelta(days=7))
    small.monitor(now=day(40))
    found = "SELECT row_count, labelled_rows, coverage, low, value IS NULL FROM ponte.quality"
    found += " WHERE metric = 'accuracy' AND maturity_days = 7 ORDER BY window_start"
    assert small.rows(found)[1:] == [(3, 3, 1.0, None, False), (0, 0, None, None, True)]


def test_slices_are_measured_weeks_later_and_their_columns_go_with_the_batch(trained: World) -> None:
    world = trained.with_model(evaluation=SLICES, checks="[retention]\nreplaced_batches = 0\n")
    batch = world.run(run_id="first")
    assert batch.frozen_table is None
    kept = f"SELECT * FROM ponte_data.{batch.slice_table}"
    assert sorted(world.rows(kept)) == sorted(
        world.rows("SELECT visit_id, shop FROM shop.visit WHERE day >= :week AND day < :week + 7", week=WEEK)
    )
    world.monitor(now=day(8))
    value = (
        "SELECT slice_value, labelled_rows, row_count, value, low < value AND value < high FROM ponte.quality "
        "WHERE slice_column = 'shop' AND maturity_days = 7 AND metric = 'roc_auc' ORDER BY 1"
    )
    found = world.rows(value)
    assert [row[0] for row in found] == ["NULL", "mill", "park", "quay"]
    assert sum(row[1] for row in found) == sum(row[2] for row in found) == 350
    assert all(row[4] for row in found)
    # Every value of the key is a slice of one row: too small.
    assert world.ask("SELECT count(*) FROM ponte.quality WHERE slice_column = 'visit_id'") == 0

    world.run(run_id="again")  # replaces it
    assert janitor.tidy(world.db, world.folder)["retired_batches"] + 1
    assert world.rows("SELECT slice_table IS NULL, prediction_table IS NULL FROM ponte.batch ORDER BY batch_id") == [
        (True, True),
        (False, False),
    ]
    assert [name for name in world.data_tables() if "slice" in name] == ["visits__slice_2"]
    assert world.rows(value)[: len(found)] == found  # what was measured stays


def test_a_batch_that_nobody_sees_leaves_no_slices(trained: World) -> None:
    world = trained.with_model(evaluation=SLICES)
    world.run(run_id="first", until="score")
    world.run(run_id="second")
    assert [name for name in world.data_tables() if "slice" in name] == ["visits__slice_2"]
    world.run(run_id="third")
    assert world.ask("SELECT count(*) FROM ponte.batch WHERE slice_table IS NOT NULL AND prediction_table IS NULL") == 0


def test_retention_writes_the_last_figures_before_it_drops(scored: World) -> None:
    scored.monitor(now=day(1))
    world = scored.with_model(checks="[retention]\nreplaced_batches = 0\n")
    world.run(run_id="again", until="publish")
    asked = []

    def last(batch_ids: list[int]) -> None:
        asked.append(batch_ids)
        last_figures(world.db, world.folder, batch_ids, now=day(8))

    assert janitor.tidy(world.db, world.folder, last_figures=last)["retired_batches"] == 1
    assert asked == [[1]]
    found = "SELECT batch_id, published, labelled_rows, final, as_of FROM ponte.quality"
    found += " WHERE metric = 'brier' AND maturity_days = 7"
    assert world.rows(found) == [(1, False, 350, True, day(8))]
    # Nobody is asked when nothing is due, and what is not there any more is neither read nor measured.
    assert janitor.tidy(world.db, world.folder, last_figures=last)["retired_batches"] == 0
    assert len(asked) == 1
    assert [reading.about for reading in world.monitor(now=day(9))] == ["batch 2"]
    assert measure_batch(world.db, world.folder, 1) == 0


def test_labels_that_cannot_be_read_do_not_keep_what_retention_gives_up(scored: World) -> None:
    scored.monitor(now=day(4))
    world = scored.with_model(checks="[retention]\nreplaced_batches = 0\n")
    world.run(run_id="again", until="publish")
    world.execute("ALTER TABLE shop.visit RENAME TO gone")
    done = janitor.tidy(
        world.db, world.folder, last_figures=lambda ids: last_figures(world.db, world.folder, ids, now=day(8))
    )
    assert done["retired_batches"] == 1
    assert world.rows("SELECT DISTINCT labelled_rows, final FROM ponte.quality") == [(350, False)]


def test_rows_of_one_unit_count_as_one_and_a_column_that_is_gone_gives_no_interval(trained: World) -> None:
    """`resample_by` means the same as in the evaluation; of the features only the slices are there weeks later."""
    widths = {}
    for by, slices in (("visit_id", ""), ("items", ""), ("items", 'slices = ["items"]\n')):
        world = trained.with_model(evaluation=f'resample_by = "{by}"\n{slices}', resamples=300)
        batch = world.run(run_id=f"{by} {slices}")
        read_labels(world.db, world.folder, now=day(8))
        measure_batch(world.db, world.folder, batch.batch_id)
        widths[by, bool(slices)] = world.ask(
            "SELECT high - low FROM ponte.quality WHERE batch_id = :id AND metric = 'brier' AND maturity_days = 7",
            id=batch.batch_id,
        )
    assert widths["items", False] is None
    assert widths["items", True] is None, "nine values are too few to tell chance from difference"
    assert widths["visit_id", False] > 0


def test_many_rows_are_resampled_in_part_and_the_interval_is_as_wide(
    scored: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = "SELECT value, high - low FROM ponte.quality WHERE metric = 'brier' AND maturity_days = 7"
    scored.monitor(now=day(8))
    value, whole = scored.rows(cell)[0]
    monkeypatch.setattr(realised, "INTERVAL_ROWS", 120)
    scored.execute("ALTER TABLE ponte.realised DISABLE TRIGGER append_only")
    scored.execute("DELETE FROM ponte.realised WHERE true")
    measure(scored.db, scored.folder)
    again, part = scored.rows(cell)[0]
    assert again == value
    assert 0.7 < part / whole < 1.4  # and not 1.7 times as wide, as of 120 rows


def test_corrections_of_people_count_only_where_the_model_says_so(scored: World) -> None:
    given = (
        "INSERT INTO ponte.label_seen (model, window_start, batch_id, key, label, known_at, seen_at, state, origin) "
        "SELECT model, window_start, batch_id, key, 1 - label::int, :at, :at, 'seen', 'feedback' FROM ponte.label_seen "
        "WHERE (key ->> 'visit_id')::int % 10 = 0"
    )
    cell = (
        "SELECT labelled_rows, feedback_rows, value FROM ponte.quality WHERE metric = 'accuracy' AND maturity_days = 28"
    )
    counting = scored.with_model(checks='[monitoring]\ncorrections = "count"\n')
    scored.monitor(now=day(8))
    plain = scored.rows(cell)
    scored.execute(given, at=day(9))
    measure(scored.db, scored.with_model().folder)
    assert scored.rows(cell) == plain
    counting = scored.with_model(checks='[monitoring]\ncorrections = "count"\n')
    change_source(counting, AS_IT_IS, " WHERE visit_id % 10 <> 1")
    counting.monitor(now=day(10))
    labelled, feedback, value = counting.rows(cell)[0]
    assert (labelled, feedback) == (315, 35)
    assert value != plain[0][2]


def test_the_monitor_does_its_work_with_its_own_rights_and_labels_are_read_by_nobody_else(scored: World) -> None:
    sliced = scored.with_model(evaluation=SLICES)
    roles.grant(scored.db)
    with scored.db.begin() as connection:
        roles.open_source(connection, "shop")
    as_role(sliced, roles.SCORER).run(run_id="as scorer")
    monitor = as_role(sliced, roles.MONITOR)
    ensure_outcomes_view(monitor.db, "visits")
    monitor.monitor(now=day(8))
    ensure_outcomes_view(monitor.db, "visits")
    assert monitor.ask("SELECT count(*) FROM ponte.quality WHERE slice_column = 'shop'") > 0

    outcomes = "SELECT count(*) FILTER (WHERE outcome = prediction), count(*) FROM predictions.visits_outcomes"
    right, rows = monitor.rows(outcomes)[0]
    assert right / rows == monitor.ask(
        "SELECT value FROM ponte.quality WHERE metric = 'accuracy' AND maturity_days = 7 AND slice_column = '' "
        "AND published"
    )
    private = [
        outcomes,
        "SELECT * FROM ponte.label_seen",
        "SELECT * FROM ponte.labels_at(1, now(), true)",
        "SELECT * FROM ponte_data.visits__slice_2",
    ]
    for role in (roles.TRAINER, roles.PROMOTER, roles.VIEWER, roles.ANALYST, roles.SCORER):
        other = as_role(sliced, role)
        for query in private:
            if role == roles.SCORER and "slice" in query:
                continue  # who made it
            with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
                other.rows(query)
    analyst = as_role(sliced, roles.ANALYST)
    assert analyst.ask("SELECT value FROM ponte.quality WHERE metric = 'brier' AND slice_column = '' LIMIT 1") > 0
    # A value of a column is content of rows: it is there for whoever may read it where it lies, and for nobody else.
    values = "SELECT DISTINCT slice_value FROM ponte.quality WHERE slice_column <> ''"
    assert analyst.rows(values) == [(None,)]
    assert (None,) not in as_role(sliced, roles.VIEWER).rows(values)
    monitor.execute(f"GRANT SELECT ON predictions.visits_outcomes TO {roles.ANALYST}")
    assert analyst.rows(outcomes) == [(right, rows)]
    roles.grant(scored.db)  # after an upgrade, too
    assert analyst.rows(outcomes) == [(right, rows)]
    assert as_role(sliced, roles.VIEWER).ask("SELECT count(*) FROM ponte.quality_at('visits', :at)", at=LATER) > 0
    assert midnight(WEEK) < day(0)
