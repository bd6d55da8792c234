"""Live rows by window on real PostgreSQL: counted with the rows, folded, judged, labelled, measured, retired."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sklearn import metrics
from tests.postgres.monitoring.test_judging import SHARES, Weeks, week
from tests.postgres.monitoring.test_labels import AS_IT_IS, Killed, change_source, day, killed_at
from tests.postgres.schema.test_roles import as_role, opened
from tests.sample_model import NEXT_WEEK, WEEK, World

from ponte.counting.bins import FAMILIES, Tallies, microseconds
from ponte.live.counting import Answered, Counted, Counter, counted
from ponte.live.journal import Journal
from ponte.live.keeping import keep
from ponte.live.tables import LiveTable, prepare, request_ids
from ponte.model.windows import midnight
from ponte.monitoring.live_outcomes import measure_live, read_live_labels
from ponte.monitoring.live_windows import fold, judge_live
from ponte.schema import roles
from ponte.scoring.answering import answer
from ponte.scoring.scorer import Scorer
from ponte.storage.columns import select_list
from ponte.storage.database import Database
from ponte.versions.loading import load_registered

FEATURES = (
    "SELECT visit_id, shop, items, price, distance, member, 0.4 AS shop_rate FROM shop.visit WHERE "
    "visit_id = ANY(ARRAY[{}]::bigint[])"
)


@dataclass
class Live:
    """A process that answers for `visits`, and the monitor."""

    world: World
    monitor: World
    journal: Journal
    table: LiveTable
    scorer: Scorer
    of: Counted

    def ask(self, visits: list[int], at: dt.datetime, *, keys: bool = True, flush: bool = True) -> list[str]:
        """Answer requests about visits, in the order of their numbers; return the numbers of the requests."""
        signature = self.scorer.version.signature
        columns = select_list((*signature.key, *signature.features))
        given = FEATURES.format(", ".join(map(str, visits)) or "NULL")
        with self.world.db.adbc() as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {columns} FROM ({given}) AS f ORDER BY visit_id")
            rows = cursor.fetch_arrow_table()
        said = answer(self.scorer, rows).columns
        ids = request_ids(rows.num_rows, at)
        key = {"visit_id": rows.column("visit_id").to_pylist()} if keys else {}
        self.journal.put(
            self.table,
            {"request_id": ids, **key, **said, "scored_at": at, "model_version": self.of.version},
            source="api",
            asked_at=at,
            beside=Answered(of=self.of, asked_at=microseconds(at), rows=rows, answers=said),
        )
        assert not flush or self.journal.flush()
        return ids

    def run(self, now: dt.datetime) -> dict[str, int]:
        """Do what the monitoring DAG does with live rows, as its role."""
        read_live_labels(self.monitor.db, self.monitor.folder, now=now)
        judge_live(self.monitor.db, "visits", now=now)
        return measure_live(self.monitor.db, self.monitor.folder)

    def rows(self, query: str, **values: Any) -> list[Any]:
        return self.world.rows(query, **values)


def serving(world: World) -> Live:
    """Return a process that answers by the world's champion, as its role."""
    sources = opened(world)
    api = as_role(sources, roles.API)
    version = world.champion()
    with world.db.begin() as connection:
        of = counted(connection, "visits", version.version, world.folder.spec.window)
    return Live(
        world=sources,
        monitor=as_role(sources, roles.MONITOR),
        journal=Journal(api.db, beside=Counter()),
        table=LiveTable.of(version),
        scorer=Scorer(load_registered(world.db, world.store, version)),
        of=of,
    )


@pytest.fixture
def live(trained: World) -> Live:
    prepare(trained.db, "visits")
    return serving(trained.with_model(resamples=100))


def visits_of(live: Live, start: dt.date) -> list[int]:
    found = live.rows(
        "SELECT visit_id FROM shop.visit WHERE day >= :start AND day < :start + 7 ORDER BY 1", start=start
    )
    return [visit for (visit,) in found]


def at(start: dt.date, days: float = 0.5) -> dt.datetime:
    return midnight(start) + dt.timedelta(days=days)


COUNTS = (
    "SELECT family, column_name, counts FROM ponte.live_window_count JOIN ponte.live_window USING "
    "(live_window_id) WHERE window_start = :start"
)


# ---------------------------------------------------------------- counted


def test_a_window_has_the_counts_of_its_rows_and_of_no_others(live: Live) -> None:
    """As a batch of the same rows has, by whichever flushes they came, and however often they are folded."""
    asked = visits_of(live, WEEK)
    for place in range(0, 200, 50):
        live.ask(asked[place : place + 50], at(WEEK, place / 50))
    assert fold(live.monitor.db, "visits") == 4
    assert fold(live.monitor.db, "visits") == 0
    live.ask(asked[200:210], at(WEEK, 5), flush=False)
    live.ask(asked[210:220], at(WEEK, 6))
    live.ask(asked[:3], at(NEXT_WEEK))
    assert fold(live.monitor.db, "visits") == 2
    windows = live.rows(
        "SELECT window_start, window_end, version, row_count, flushes, cpu_seconds > 0 FROM "
        "ponte.live_window ORDER BY 1"
    )
    assert windows == [(WEEK, NEXT_WEEK, 1, 220, 5, True), (NEXT_WEEK, NEXT_WEEK + dt.timedelta(days=7), 1, 3, 1, True)]
    per_window = (
        "SELECT date_trunc('week', asked_at)::date, count(*) FROM predictions.visits_live GROUP BY 1 ORDER BY 1"
    )
    assert live.rows(per_window) == [(WEEK, 220), (NEXT_WEEK, 3)], "as many as there are rows"

    expected = {}
    with live.world.db.adbc() as connection, connection.cursor() as cursor:
        signature = live.scorer.version.signature
        given = FEATURES.format(", ".join(map(str, asked[:220])))
        cursor.execute(f"SELECT {select_list((*signature.key, *signature.features))} FROM ({given}) AS f")
        rows = cursor.fetch_arrow_table()
        cursor.execute("SELECT prediction, score FROM predictions.visits_live WHERE asked_at < '2024-02-19'")
        said = cursor.fetch_arrow_table()
    for family in FAMILIES:
        tallies = Tallies(family, live.of.bins[family], at(WEEK))
        tallies.add(rows if family == "features" else said)
        expected |= {(family, tally.bins.name): tally.counts.tolist() for tally in tallies.columns}
    assert {(family, name): counts for family, name, counts in live.rows(COUNTS, start=WEEK)} == expected
    assert all(sum(counts) == 220 for counts in expected.values())


def test_a_flush_that_is_repeated_adds_nothing_twice(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has heard that its COMMIT came through: it is tried again as it is, and meets its keys."""
    live.ask(visits_of(live, WEEK)[:5], at(WEEK), flush=False)
    monkeypatch.setattr(Journal, "_done", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        live.journal.flush()
    monkeypatch.undo()
    assert live.journal.flush()
    assert fold(live.monitor.db, "visits") == 1
    assert live.rows("SELECT row_count, flushes FROM ponte.live_window") == [(5, 1)]
    assert live.rows("SELECT count(*) FROM predictions.visits_live") == [(5,)]


def test_what_the_database_refuses_is_not_counted_and_what_was_asked_with_it_is(live: Live) -> None:
    live.ask(visits_of(live, WEEK)[:5], at(WEEK), flush=False)
    live.world.execute("ALTER TABLE ponte_data.live_visits ADD CHECK (visit_id % 5 <> 3) NOT VALID")
    live.journal.flush()
    fold(live.monitor.db, "visits")
    assert live.rows("SELECT count(*) FROM predictions.visits_live") == [(4,)]
    assert live.rows("SELECT sum(row_count) FROM ponte.live_window") == [(4,)]
    assert {sum(counts) for _, _, counts in live.rows(COUNTS, start=WEEK)} == {4}
    assert live.rows("SELECT sum(rows) FROM ponte.live_dropped") == [(1,)]


def test_folding_is_killed_at_every_statement_and_done_by_many_at_once(live: Live) -> None:
    asked = visits_of(live, WEEK)
    statements = 0
    for turn in range(8):
        live.ask(asked[10 * turn : 10 * turn + 10], at(WEEK))
        statements += 1
        try:
            with killed_at(live.monitor, statements):
                fold(live.monitor.db, "visits")
        except Killed:
            continue
        break
    else:
        raise AssertionError("it was killed at each of them")
    live.ask(asked[100:110], at(WEEK))
    threads = [threading.Thread(target=fold, args=(live.monitor.db, "visits")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert live.world.ask("SELECT row_count FROM ponte.live_window") == 10 * (turn + 2)
    assert all(sum(counts) == 10 * (turn + 2) for _, _, counts in live.rows(COUNTS, start=WEEK))


# ---------------------------------------------------------------- drift


@pytest.fixture
def weeks(scored: World) -> Weeks:
    made = Weeks(scored)
    made.version(windows=20, answers=4)
    return made


def came(weeks: Weeks, number: int, shares: Any = SHARES, rows: int = 500) -> None:
    """Let live rows of version 7 have come in the week of that number, of which only the counts are known."""
    weeks.world.execute(
        "INSERT INTO ponte.live_window (model, version, window_start, window_end, row_count, flushes, "
        "seconds, cpu_seconds, peak_bytes) "
        "VALUES ('visits', 7, :day, :day + 7, :rows, 1, 1, 1, 1)",
        day=week(number), rows=rows,
    )  # fmt: skip
    found = [
        {"family": family, "name": name, "counts": weeks.counts(rows, shares, name)}
        for family, names in weeks.columns.items()
        for name in names
    ]
    weeks.insert(
        "live_window_count (live_window_id, family, column_name, counts)",
        f"(SELECT max(live_window_id) FROM ponte.live_window WHERE window_start = '{week(number)}'), "
        "r.family, r.name, r.counts",
        found,
    )


def test_a_finished_window_is_judged_once_beside_the_windows_of_training(weeks: Weeks) -> None:
    world, end = weeks.world, midnight(week(1))
    came(weeks, 0)
    assert judge_live(world.db, "visits", now=end + dt.timedelta(minutes=59)) == [], "rows may still come"
    assert len(judge_live(world.db, "visits", now=end + dt.timedelta(hours=1))) == 1
    assert judge_live(world.db, "visits", now=end + dt.timedelta(days=9)) == []
    shown = (
        "SELECT family, state, why, windows, live_windows, row_count, late_rows FROM ponte.live_drift "
        "ORDER BY family DESC"
    )
    assert world.rows(shown) == [
        ("features", "quiet", None, 20, 0, 500, 0),
        ("answers", "not_judged", "4 windows to compare with, 6 needed", 4, 0, 500, 0),
    ]
    world.execute("UPDATE ponte.live_window SET row_count = 510")
    assert world.rows(shown)[0] == ("features", "quiet", None, 20, 0, 500, 10)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        world.execute("DELETE FROM ponte.live_drift_verdict WHERE true")


def test_drift_is_two_windows_in_a_row_and_only_calm_ones_are_compared_with(weeks: Weeks) -> None:
    drifted = np.array([0.1, 0.3, 0.3, 0.2, 0.1])
    for number in range(9):
        came(weeks, number, drifted if number in (5, 6) else SHARES)
    judge_live(weeks.world.db, "visits", now=midnight(week(12)))
    found = "SELECT state, coalesce(would_be, '') FROM ponte.live_drift WHERE family = :family ORDER BY window_start"
    features = [state for state, _ in weeks.world.rows(found, family="features")]
    assert features == ["quiet"] * 5 + ["notice", "drift", "quiet", "quiet"]
    answers = weeks.world.rows(found, family="answers")
    assert answers[:2] == [("not_judged", "")] * 2
    assert answers[2:5] == [("provisional", "quiet")] * 3
    assert answers[5:7] == [("provisional", "notice"), ("provisional", "drift")]
    compared = "SELECT live_windows, windows FROM ponte.live_drift WHERE family = 'answers' ORDER BY window_start"
    assert weeks.world.rows(compared)[5:] == [(5, 9), (5, 9), (5, 9), (6, 10)], "not with those that drifted"
    named = (
        "SELECT array_agg(column_name ORDER BY column_name) FROM ponte.live_drift_column WHERE named "
        "AND family = 'features' AND window_start = :day"
    )
    assert weeks.world.ask(named, day=week(5)) == ["f0", "f1", "f2"]


def test_live_windows_and_batches_know_nothing_of_each_other(weeks: Weeks) -> None:
    """Nothing of what a live window does is in a view of batches, and the other way round."""
    world = weeks.world
    batches = (
        "batch_overview",
        "drift",
        "drift_column",
        "quality",
        "published",
        "batch_profile",
        "guard_result",
        "batch_count",
    )
    published = [weeks.publish(number) for number in range(4)]
    weeks.judge(*published)
    before = {name: sorted(map(str, world.rows(f"SELECT * FROM ponte.{name}"))) for name in batches}
    weekly = world.rows("SELECT * FROM predictions.visits ORDER BY visit_id")
    for number in range(4, 8):
        came(weeks, number, np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    judge_live(world.db, "visits", now=midnight(week(12)))
    assert {name: sorted(map(str, world.rows(f"SELECT * FROM ponte.{name}"))) for name in batches} == before
    assert world.rows("SELECT * FROM predictions.visits ORDER BY visit_id") == weekly
    compared = "SELECT live_windows, windows FROM ponte.live_drift WHERE family = 'answers' ORDER BY window_start"
    assert world.rows(compared) == [(0, 4), (1, 5), (2, 6), (3, 7)], "with no published one"
    weeks.judge(weeks.publish(8))
    assert (
        world.ask(
            "SELECT published_windows FROM ponte.drift WHERE window_start = :day AND family = 'answers'", day=week(8)
        )
        == 4
    )


# ---------------------------------------------------------------- labels and quality

CELL = (
    "SELECT value, labelled_rows, feedback_rows, row_count, final FROM ponte.live_quality "
    "WHERE metric = :metric AND maturity_days = :days AND window_start = :start AND slice_column = '' AND version = 1"
)


def cell(live: Live, metric: str = "accuracy", days: int = 7, start: dt.date = WEEK) -> Any:
    return live.rows(CELL, metric=metric, days=days, start=start)[0]


def test_quality_is_that_of_each_answer_by_the_label_of_its_key(live: Live) -> None:
    asked = visits_of(live, WEEK)
    live.ask(asked[:100], at(WEEK, 0.5))
    live.ask(asked[:30], at(WEEK, 3))  # once more: each answer counts
    live.ask(asked[100:120], at(WEEK, 3), keys=False)
    live.ask(asked[:10], at(NEXT_WEEK))  # about visits of the week before: no label in this one
    live.ask(visits_of(live, NEXT_WEEK)[:5], at(WEEK, 4))  # and of the week after
    assert live.run(day(-2)) == {"live_windows": 0, "figures": 0}, "the window has not ended"
    live.run(day(6))
    assert live.run(day(7))["live_windows"] == 1, "they have become final"
    joined = live.rows(
        "SELECT p.score, p.prediction, v.returned FROM predictions.visits_live p JOIN shop.visit v USING (visit_id) "
        "WHERE asked_at < '2024-02-19' AND v.day < '2024-02-19'"
    )
    score, prediction, label = np.array(joined, dtype=float).T
    assert len(joined) == 130
    assert cell(live) == (pytest.approx((prediction == label).mean()), 130, 0, 155, True)
    assert cell(live, "roc_auc")[0] == pytest.approx(metrics.roc_auc_score(label, score))
    assert live.rows("SELECT count(*), count(DISTINCT key) FROM ponte.live_label_seen") == [(100, 100)], "one per key"
    read = (
        "SELECT labels_from, labelled_rows, unknown_keys, new_labels FROM ponte.live_label_read ORDER "
        "BY read_id LIMIT 1"
    )
    assert live.rows(read) == [("version", 100, 250, 100)]
    live.run(day(16))
    assert cell(live, start=NEXT_WEEK)[1:] == (0, 0, 10, True)
    assert live.world.ask("SELECT count(*) FROM ponte.realised") == 0


def test_answers_about_one_key_are_drawn_together(live: Live) -> None:
    """What was asked ten times tells no more than once: the interval is as wide."""
    asked = visits_of(live, WEEK)[:60]
    for hour in range(10):
        live.ask(asked, at(WEEK, hour / 24))
    for visit in visits_of(live, NEXT_WEEK)[:60]:
        live.ask([visit], at(NEXT_WEEK), flush=False)
    assert live.journal.flush()
    live.run(day(20))
    width = (
        "SELECT high - low FROM ponte.live_quality WHERE metric = 'accuracy' AND maturity_days = 7 "
        "ORDER BY window_start"
    )
    often, once = (float(found) for (found,) in live.rows(width))
    assert 0.5 < often / once < 2


def test_corrected_labels_are_measured_again_and_nothing_is_overwritten(live: Live) -> None:
    live.ask(visits_of(live, WEEK)[:50], at(WEEK))
    live.run(day(8))
    first = cell(live)
    assert live.run(day(9)) == {"live_windows": 0, "figures": 0}
    change_source(live.world, AS_IT_IS.replace("returned", "NOT returned AS returned"))
    live.world.execute("GRANT SELECT ON shop.visit TO ponte_reader")
    live.run(day(10))
    second = cell(live)
    assert second[0] == pytest.approx(1 - first[0])
    assert live.rows("SELECT DISTINCT corrections FROM ponte.live_quality WHERE final") == [(1,)]
    assert live.world.ask("SELECT count(DISTINCT as_of) FROM ponte.live_realised") == 2


def said_of(
    live: Live, request: str, verdict: str, label: str | None = None, *, by: str = "key", when: dt.datetime
) -> None:
    live.world.execute(
        "INSERT INTO ponte.live_feedback (request_id, asked_at, model, model_version, verdict, "
        "prediction, correct_label, given_by, at) "
        "SELECT request_id, asked_at, 'visits', model_version, :verdict, CAST(prediction AS text), "
        "CAST(:label AS text), :by, :at "
        "FROM predictions.visits_live WHERE request_id = CAST(:id AS uuid)",
        id=request, verdict=verdict, label=label, by=by, at=when,
    )  # fmt: skip


@pytest.mark.parametrize("corrections", ["count", "ignore"])
def test_where_the_source_has_no_label_what_a_person_said_is_one_if_it_counts(live: Live, corrections: str) -> None:
    counting = replace(
        live, monitor=live.monitor.with_model(resamples=100, checks=f'[monitoring]\ncorrections = "{corrections}"\n')
    )
    labelled = counting.ask(visits_of(live, WEEK)[:4], at(WEEK))
    keyless = counting.ask(visits_of(live, WEEK)[4:12], at(WEEK), keys=False)
    predicted = dict(
        live.rows("SELECT CAST(request_id AS text), CAST(prediction AS text) FROM predictions.visits_live")
    )
    other = {request: "0" if said == "1" else "1" for request, said in predicted.items()}
    when = day(1)
    said_of(live, labelled[0], "right", when=when)  # the source knows better
    said_of(live, keyless[0], "right", when=when)
    said_of(live, keyless[1], "wrong", other[keyless[1]], when=when)
    said_of(live, keyless[2], "wrong", when=when)  # of two classes, so it is the other one
    said_of(live, keyless[3], "right", when=when)
    said_of(live, keyless[3], "withdrawn", when=when)
    said_of(live, keyless[4], "right", when=when)
    said_of(live, keyless[4], "wrong", by="somebody else", when=when)  # the newest word stands
    said_of(live, keyless[5], "right", when=day(20))  # late for the first maturity, not for the second
    said_of(live, keyless[6], "right", when=day(7 + 84 + 28))  # when nobody looks any more
    counting.run(day(8))
    found = cell(live)
    if corrections == "ignore":
        assert found[1:4] == (4, 0, 12)
        return
    assert found[1:4] == (8, 4, 12)
    of_source = live.rows(
        "SELECT avg((p.prediction = v.returned::int)::int)::float8 FROM predictions.visits_live p JOIN "
        "shop.visit v USING (visit_id)"
    )[0][0]
    assert found[0] == pytest.approx((4 * of_source + 1) / 8), "one right, three wrong"
    assert counting.run(day(30))["live_windows"] == 1
    assert (cell(live)[1:4], cell(live, days=28)[1:4]) == ((8, 4, 12), (9, 5, 12))


def test_killed_at_every_statement_and_two_at_once_it_ends_as_if_it_had_run_once(live: Live) -> None:
    live.ask(visits_of(live, WEEK)[:40], at(WEEK))
    live.ask(visits_of(live, NEXT_WEEK)[:30], at(NEXT_WEEK))
    live.run(day(5))
    change_source(live.world, AS_IT_IS, " WHERE visit_id % 10 <> 1")
    live.world.execute("GRANT SELECT ON shop.visit TO ponte_reader")
    live.ask(visits_of(live, WEEK)[40:45], at(WEEK))
    statements = 0
    while True:
        statements += 1
        try:
            with killed_at(live.monitor, statements):
                live.run(day(15))
        except Killed:
            continue
        break
    assert statements > 20, "it was killed at each of them"
    left = (
        "SELECT count(*), count(DISTINCT (live_window_id, key, state)) FROM ponte.live_label_seen",
        "SELECT count(*), count(DISTINCT (live_window_id, as_of)) FROM ponte.live_label_read",
        "SELECT count(*), count(DISTINCT (live_window_id, maturity_days, metric, as_of)) FROM ponte.live_realised",
        "SELECT count(*), count(DISTINCT (live_window_id, family)) FROM ponte.live_drift_verdict",
        "SELECT sum(row_count), 75 FROM ponte.live_window",
    )
    disturbed = [live.rows(query)[0] for query in left]
    assert all(one == other for one, other in disturbed), disturbed
    assert cell(live)[3] == 45
    threads = [threading.Thread(target=live.run, args=(day(16),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    twins = [live.rows(query)[0] for query in left]
    assert all(one == other for one, other in twins), twins
    assert live.run(day(16)) == {"live_windows": 0, "figures": 0}


def test_labels_that_cannot_be_read_are_told_and_the_folder_is_asked(live: Live) -> None:
    live.ask(visits_of(live, WEEK)[:5], at(WEEK))
    live.world.execute("ALTER TABLE shop.visit RENAME COLUMN returned TO came_back")
    [reading] = read_live_labels(live.monitor.db, live.monitor.folder, now=day(8))
    assert (reading.about, reading.labels_from) == ("live window 1", None)
    assert live.rows("SELECT state, why IS NOT NULL FROM ponte.live_label_read") == [("failed", True)]
    assert measure_live(live.monitor.db, live.monitor.folder) == {"live_windows": 0, "figures": 0}


# ---------------------------------------------------------------- cost, retention, rights


def test_live_answers_are_a_step_of_the_cost_of_their_window(live: Live) -> None:
    live.ask(visits_of(live, WEEK)[:200], at(WEEK))
    fold(live.monitor.db, "visits")
    cost = (
        "SELECT window_start, receipts, row_count, predictions, abs(cpu_seconds_per_1000 - cpu_seconds "
        "* 5) < 1e-9, estimated_wh > 0 FROM ponte.cost WHERE step = 'live'"
    )
    assert live.rows(cost) == [(WEEK, 1, 200, 200, True, True)]


def test_what_retention_drops_is_measured_no_more_and_its_figures_stay(live: Live) -> None:
    january = dt.date(2024, 1, 29)  # this window ends in February
    live.world.ask("SELECT ponte.make_live_months('visits', '2024-01-15')")
    for start in (january, WEEK):
        live.ask(visits_of(live, start)[:50], at(start))
    live.run(day(8))
    figures = live.rows("SELECT * FROM ponte.live_quality ORDER BY 1, 2, 5, 6")
    gone = dt.datetime.now(dt.UTC).date() - dt.date(2024, 2, 1)
    assert keep(live.monitor.db, "visits", gone.days, now=day(8))["months_dropped"] == 1
    assert live.rows("SELECT * FROM ponte.live_quality ORDER BY 1, 2, 5, 6") == figures
    change_source(live.world, AS_IT_IS.replace("returned", "NOT returned AS returned"))
    live.world.execute("GRANT SELECT ON shop.visit TO ponte_reader")
    assert live.run(day(9))["live_windows"] == 1, "that of which rows lack is left as it was"
    assert live.world.ask("SELECT count(*) FROM ponte.live_label_read WHERE window_start = :start", start=january) == 1


def test_who_answers_may_count_and_read_nothing(live: Live) -> None:
    for role in (roles.API, roles.STREAM, roles.SCORER):
        db = Database(live.world.db.url.set(username=role))
        said = {"prediction": [True], "score": [0.7]}
        part = Answered(of=live.of, asked_at=microseconds(at(WEEK)), rows=_one_row(live), answers=said)
        with db.begin() as connection:
            Counter()(connection, uuid.uuid4(), [part])
        for table in ("live_window", "live_window_count", "live_label_seen", "live_quality"):
            with pytest.raises(sa.exc.DBAPIError, match="permission denied"), db.begin() as connection:
                connection.exec_driver_sql(f"SELECT * FROM ponte.{table}")
    assert fold(live.monitor.db, "visits") == 3


def _one_row(live: Live) -> Any:
    import pyarrow as pa

    kinds = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "text": pa.string()}
    return pa.table({c.name: pa.nulls(1, kinds[c.family]) for c in live.scorer.version.signature.features})
