"""Labels as they come in: what is kept of them, once, and what is only counted."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from tests.sample_model import LABELS_SQL, NEXT_WEEK, WEEK, World

from ponte.errors import PonteError
from ponte.model.windows import midnight
from ponte.monitoring.labels import read_labels, require_read
from ponte.monitoring.realised import measure

#: The end of the week that is scored. Visits are labelled three days after their day.
END = midnight(WEEK) + dt.timedelta(days=7)
VISITS = "CREATE VIEW shop.visit AS SELECT visit_id, day, shop, items, price, distance, member, {} FROM shop.visits"
UNION = " UNION ALL SELECT {}, day, shop, items, price, distance, member, {}, spent, {} FROM shop.visits"
AS_IT_IS = "returned, spent, known_at"


def day(number: float) -> dt.datetime:
    """Return the moment so many days after the end of the week."""
    return END + dt.timedelta(days=number)


def change_source(world: World, columns: str = AS_IT_IS, more: str = "") -> None:
    """Let the source return other values from now on; what was trained and scored stays."""
    if world.ask("SELECT to_regclass('shop.visits') IS NULL"):
        world.execute("ALTER TABLE shop.visit RENAME TO visits")
    else:
        world.execute("DROP VIEW shop.visit")
    world.execute(VISITS.format(columns) + more)


def counted(world: World, *names: str) -> tuple[Any, ...]:
    """Return columns of the newest reading."""
    return world.rows(f"SELECT {', '.join(names)} FROM ponte.label_read ORDER BY read_id DESC LIMIT 1")[0]


def labels(world: World, batch_id: int = 1, at: dt.datetime | None = None) -> dict[int, str]:
    """Return visit → label as known at a moment, by default the last."""
    query = "SELECT (key ->> 'visit_id')::int, label FROM ponte.labels_at(:id, :at, true)"
    return dict(world.rows(query, id=batch_id, at=at or day(3650)))


def test_a_label_is_kept_when_it_is_known_and_once(scored: World) -> None:
    scored.monitor(now=day(1))
    assert counted(scored, "labelled_rows", "new_labels", "future_labels") == (300, 300, 50)
    scored.monitor(now=day(4))
    assert counted(scored, "labelled_rows", "new_labels", "changed_labels", "withdrawn_labels") == (350, 50, 0, 0)
    assert scored.monitor(now=day(4)) == []  # read at that moment
    assert scored.monitor(now=day(2)) == []  # and later than that one
    scored.monitor(now=day(5))
    assert counted(scored, "key_count", "labelled_rows", "new_labels") == (350, 350, 0)

    truth = "SELECT visit_id, returned::int::text FROM shop.visit WHERE day >= :week AND day < :week + 7"
    assert labels(scored) == dict(scored.rows(truth, week=WEEK))
    assert scored.ask("SELECT count(*) FROM ponte.label_seen") == 350
    assert scored.ask("SELECT count(DISTINCT labelled_at) FROM ponte.label_seen WHERE known_at = labelled_at") == 7
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        scored.execute("UPDATE ponte.label_seen SET label = '1'")


#: What the source returns → what of it is counted, and how many labels are kept.
ODD: dict[str, tuple[str, str, dict[str, int], int]] = {
    "keys never predicted": (
        AS_IT_IS,
        UNION.format("visit_id + 10000", "returned", "known_at"),
        {"key_count": 700, "unknown_keys": 350, "labelled_rows": 350},
        350,
    ),
    "each twice": (
        AS_IT_IS,
        UNION.format("visit_id", "returned", "known_at + '1 day'"),
        {"key_count": 350, "contradictory": 0, "labelled_rows": 350},
        350,
    ),
    "some twice, and not the same": (
        AS_IT_IS,
        UNION.format("visit_id", "NOT returned", "known_at") + " WHERE visit_id % 10 = 0",
        {"key_count": 350, "contradictory": 35, "labelled_rows": 315},
        315,
    ),
    "in the future": (
        "returned, spent, CASE WHEN visit_id % 10 = 0 THEN 'infinity' ELSE known_at END AS known_at",
        "",
        {"future_labels": 35, "null_labels": 0, "labelled_rows": 315},
        315,
    ),
    "NULL": (
        "CASE WHEN visit_id % 10 > 0 THEN returned END AS returned, spent, known_at",
        "",
        {"future_labels": 0, "null_labels": 35, "labelled_rows": 315},
        315,
    ),
    "before their window": (
        "returned, spent, known_at - interval '30 days' AS known_at",
        "",
        {"early_labels": 350, "labelled_rows": 350},
        350,
    ),
    "without a moment": (
        "returned, spent, NULL::timestamptz AS known_at",
        "",
        {"early_labels": 0, "future_labels": 0, "labelled_rows": 350},
        350,
    ),
    "none at all": (AS_IT_IS, " WHERE false", {"key_count": 0, "labelled_rows": 0}, 0),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_labels_are_counted_and_only_good_ones_kept(scored: World, name: str) -> None:
    columns, more, expected, kept = ODD[name]
    change_source(scored, columns, more)
    scored.monitor(now=day(5))
    assert dict(zip(expected, counted(scored, *expected), strict=True)) == expected
    assert scored.rows("SELECT count(*), count(DISTINCT key) FROM ponte.label_seen") == [(kept, kept)]
    quality = "SELECT DISTINCT labelled_rows, row_count FROM ponte.quality WHERE maturity_days = 7"
    assert scored.rows(quality) == [(kept, 350)]
    if name == "each twice":
        assert scored.ask("SELECT bool_and(labelled_at = known_at AND labelled_at < seen_at) FROM ponte.label_seen")
    if name == "without a moment":
        assert scored.ask("SELECT bool_and(labelled_at IS NULL AND known_at = seen_at) FROM ponte.label_seen")


def test_corrected_labels_are_newer_rows_and_those_taken_back_rows_withdrawn(scored: World) -> None:
    scored.monitor(now=day(5))
    before = labels(scored)
    change_source(
        scored,
        "returned <> (visit_id % 10 = 0) AS returned, spent, "
        "CASE WHEN visit_id % 10 = 0 THEN known_at + interval '9 days' ELSE known_at END AS known_at",
        " WHERE visit_id % 10 <> 1",
    )
    scored.monitor(now=day(12))
    assert counted(scored, "new_labels", "changed_labels", "withdrawn_labels", "labelled_rows") == (0, 35, 35, 315)
    assert labels(scored, at=day(5)) == before
    now = labels(scored)
    assert {visit for visit in before if visit not in now} == {visit for visit in before if visit % 10 == 1}
    assert {v for v in now if now[v] != before[v]} == {v for v in before if v % 10 == 0}

    change_source(scored)
    scored.monitor(now=day(13))
    assert counted(scored, "new_labels", "changed_labels", "withdrawn_labels") == (35, 35, 0)
    assert labels(scored) == before
    states = "SELECT state, count(*) FROM ponte.label_seen GROUP BY 1 ORDER BY 1"
    assert scored.rows(states) == [("seen", 350 + 35 + 35 + 35), ("withdrawn", 35)]


def test_a_window_that_is_scored_again_gets_its_labels_at_the_moments_when_they_were_known(scored: World) -> None:
    change_source(scored, "returned, spent, NULL::timestamptz AS known_at")
    scored.monitor(now=day(5))
    scored.run(run_id="again")
    scored.monitor(now=day(40))
    found = "SELECT batch_id, known_at, seen_at, count(*) FROM ponte.label_seen GROUP BY 1, 2, 3 ORDER BY 1"
    assert scored.rows(found) == [(1, day(5), day(5), 350), (2, day(5), day(40), 350)]
    both = "SELECT batch_id, published, labelled_rows FROM ponte.quality WHERE metric = 'roc_auc' AND maturity_days = 7"
    assert sorted(scored.rows(both)) == [(1, False, 350), (2, True, 350)]


def test_every_window_has_its_labels_also_those_of_versions_that_nobody_uses_any_more(scored: World) -> None:
    edited = scored.folder.text("estimator.py") + "# edited\n"
    scored = scored.with_model(files={"estimator.py": edited})
    scored.train(run_id="second")
    scored.run(run_id="next", week=NEXT_WEEK)
    scored.mark(1, "bad", run_id="mark")
    readings = scored.monitor(now=day(12))
    assert [(r.about, r.new_labels, r.labels_from) for r in readings] == [
        ("batch 1", 350, "version"),
        ("batch 2", 350, "version"),
    ]
    found = "SELECT window_start, version, final, labelled_rows FROM ponte.quality"
    found += " WHERE metric = 'brier' AND maturity_days = 7"
    assert sorted(scored.rows(found)) == [(WEEK, 1, True, 350), (NEXT_WEEK, 2, False, 350)]
    assert not set(labels(scored, 1)) & set(labels(scored, 2))


def test_labels_are_read_until_they_can_change_no_more_and_once_after_that(scored: World) -> None:
    last = 84 + 28
    assert [len(scored.monitor(now=day(n))) for n in (5, last - 1, last + 30, last + 31, last + 300)] == [1, 1, 1, 0, 0]


def test_a_batch_that_was_never_published_is_not_read(scored: World) -> None:
    scored.run(run_id="next", week=NEXT_WEEK, until="guard")
    assert [reading.about for reading in scored.monitor(now=day(12))] == ["batch 1"]


#: A labels.sql of the folder, when that of the version fails → whose is read, and what is said.
TEXTS = {
    "as it was": (LABELS_SQL.format(label="returned::int"), None, "version"),
    "mended": (LABELS_SQL.format(label="returned::int").replace("shop.visit\n", "shop.visits\n"), "folder", "version"),
    "another label": (
        LABELS_SQL.format(label="returned::int::text").replace("shop.visit\n", "shop.visits\n"),
        None,
        "another label than the version was trained with",
    ),
    "another key": (
        LABELS_SQL.format(label="returned::int").replace("shop.visit\n", "shop.visits\n").replace("visit_id", "shop"),
        None,
        "another visit_id than the version was trained with",
    ),
    "two statements": (LABELS_SQL.format(label="returned::int") + "; SELECT 1", None, "holds 2 statements"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_when_the_labels_of_the_version_fail_the_folder_is_asked_and_it_is_said(scored: World, name: str) -> None:
    text, labels_from, said = TEXTS[name]
    scored.monitor(now=day(5))
    scored.execute("ALTER TABLE shop.visit RENAME TO visits")
    changed = scored.with_model(files={"labels.sql": text})
    (reading,) = changed.monitor(now=day(8))
    assert reading.labels_from == labels_from
    assert counted(changed, "state", "labels_from") == ("read" if labels_from else "failed", labels_from)
    why = counted(changed, "why")[0]
    assert 'relation "shop.visit" does not exist' in why
    assert said in why or labels_from
    # What was seen before counts on, and is not final before somebody has looked.
    assert changed.ask("SELECT count(*) FROM ponte.label_seen") == 350
    quality = "SELECT DISTINCT labels_from, final FROM ponte.quality WHERE maturity_days = 7"
    assert changed.rows(quality) == [("folder", True) if labels_from else ("version", False)]
    if labels_from is None:
        with pytest.raises(PonteError, match="labels could not be read"):
            require_read("visits", [reading])
        scored.execute("ALTER TABLE shop.visits RENAME TO visit")
        assert scored.monitor(now=day(9))[0].labels_from == "version"


def test_a_value_that_no_longer_casts_is_a_failed_reading_without_the_value(scored: World) -> None:
    change_source(scored, "CASE WHEN visit_id % 2 = 0 THEN 'secret' ELSE '1' END AS returned, spent, known_at")
    (reading,) = scored.monitor(now=day(5))
    assert reading.labels_from is None
    assert "SQLSTATE 22P02" in str(reading.why)
    assert "secret" not in str(scored.rows("SELECT * FROM ponte.label_read"))


# ---------------------------------------------------------------- twice, at once, killed

#: All that monitoring leaves, without numbers that depend on what was tried before.
LEFT = (
    "SELECT batch_id, key, label, labelled_at, known_at, seen_at, state, origin FROM ponte.label_seen",
    "SELECT batch_id, as_of, state, labels_from, why, labelled_rows, new_labels, changed_labels FROM ponte.label_read",
    "SELECT batch_id, maturity_days, metric, slice_value, value, low, high, coverage, final, as_of FROM ponte.realised",
)


def left(world: World) -> list[list[str]]:
    """Return what monitoring has written, in an order of its own."""
    return [sorted(map(str, world.rows(query))) for query in LEFT]


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


@contextmanager
def killed_at(world: World, number: int) -> Iterator[list[int]]:
    """Die before the statement or commit of this number, if there is one; yield what counts them."""
    seen = [0]

    def look(*_: object) -> None:
        seen[0] += 1
        if seen[0] == number:
            raise Killed

    events = ("before_cursor_execute", "commit")
    for event in events:
        sa.event.listen(world.db.engine, event, look)
    try:
        yield seen
    finally:
        for event in events:
            sa.event.remove(world.db.engine, event, look)


def test_killed_at_every_statement_it_ends_as_if_it_had_run_once(scored: World) -> None:
    """Dead before each statement and each commit in turn, and tried again at once: nothing twice, nothing lost."""
    quick = scored.with_model(resamples=100)
    quick.monitor(now=day(1))
    change_source(quick, AS_IT_IS, " WHERE visit_id % 10 <> 1")
    statements = 0
    while True:
        statements += 1
        try:
            with killed_at(quick, statements):
                quick.monitor(now=day(5))
        except Killed:
            continue
        break
    assert statements > 20, "it was killed at each of them"
    assert quick.ask("SELECT count(*) FROM ponte.label_seen WHERE state = 'withdrawn'") == 30
    disturbed = left(quick)

    for table in ("realised", "label_read", "label_seen"):
        quick.execute(f"ALTER TABLE ponte.{table} DISABLE TRIGGER append_only")
        quick.execute(f"DELETE FROM ponte.{table} WHERE true")
    change_source(quick)
    quick.monitor(now=day(1))
    change_source(quick, AS_IT_IS, " WHERE visit_id % 10 <> 1")
    quick.monitor(now=day(5))
    assert disturbed == left(quick)


def test_two_monitors_at_once_end_as_one(scored: World) -> None:
    barrier = threading.Barrier(2)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            barrier.wait()
            read_labels(scored.db, scored.folder, now=day(8))
            barrier.wait()
            measure(scored.db, scored.folder)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert scored.rows("SELECT count(*), count(DISTINCT key) FROM ponte.label_seen") == [(350, 350)]
    assert scored.ask("SELECT count(*) FROM ponte.label_read") == 1
    assert scored.ask("SELECT count(DISTINCT (maturity_days, metric)) = count(*) FROM ponte.realised")
