"""Verdicts about drift on real PostgreSQL: which windows a batch is held against, and what they make in a row."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from tests.sample_model import NEXT_WEEK, World

from ponte.monitoring import drift, judging
from ponte.schema import roles
from ponte.storage.database import Database

Array = np.ndarray[Any, Any]

#: Version 7 was trained on the weeks before this day, version 8 on the same.
FIRST = dt.date(2030, 1, 7)
SHARES = np.array([0.3, 0.3, 0.2, 0.15, 0.05])
NUMBERS = itertools.count(1000)
DRIFTED = np.array([0.1, 0.3, 0.3, 0.2, 0.1])


def week(number: int) -> dt.date:
    return FIRST + dt.timedelta(weeks=number)


def copied(world: World, table: str, **changes: Any) -> None:
    """Insert a row like the first one of a table of Ponte's."""
    world.execute(
        f"INSERT INTO ponte.{table} OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record("
        f"NULL::ponte.{table}, to_jsonb(t) || CAST(:changes AS jsonb))).* FROM ponte.{table} t ORDER BY t LIMIT 1",
        changes=json.dumps(changes, default=str),
    )


class Weeks:
    """Versions and published batches of a model that only their counts are known of."""

    def __init__(self, world: World, model: str = "visits") -> None:
        self.world = world
        self.model = model
        self.rng = np.random.default_rng(1)
        self.columns: dict[str, list[str]] = {}

    def version(
        self, number: int = 7, *, windows: int = 20, answers: int = 4, columns: int = 3, rows: int = 500
    ) -> None:
        """Register a version with counts of so many windows, the last ones of them out of sample."""
        copied(self.world, "version", model=self.model, version=number, train_key=f"key {number}")
        self.columns = {"features": [f"f{place}" for place in range(columns)], "answers": ["prediction", "score"]}
        found = [
            {"family": family, "name": name, "day": week(place - windows), "counts": self.counts(rows, SHARES, name)}
            for family, names in self.columns.items()
            for name in names
            for place in range(windows - answers if family == "answers" else 0, windows)
        ]
        self.insert(
            'reference_column (model, version, family, position, column_name, kind, edges, "values")',
            "DISTINCT :model, CAST(:version AS integer), r.family, 0, r.name, 'number', '{1}'::float8[], '{}'::text[]",
            found, version=number,
        )  # fmt: skip
        self.insert(
            "reference_count (model, version, family, part, window_start, column_name, counts)",
            ":model, CAST(:version AS integer), r.family, 'holdout', r.day, r.name, r.counts", found, version=number,
        )  # fmt: skip

    def counts(self, rows: int, shares: Array, name: str) -> list[int]:
        """Return counts per bin; f2 has more bins than the others."""
        shares = np.insert(shares, 0, [0.0, 0.0]) if name == "f2" else shares
        return [int(n) for n in self.rng.multinomial(rows, shares)]

    def insert(self, table: str, selected: str, rows: list[dict[str, Any]], **values: Any) -> None:
        self.world.execute(
            f"INSERT INTO ponte.{table} SELECT {selected} FROM jsonb_to_recordset("
            "CAST(:rows AS jsonb)) AS r (family text, name text, day date, counts bigint[], shard integer)",
            rows=json.dumps(rows, default=str), **values, **({"model": self.model} if ":model" in selected else {}),
        )  # fmt: skip

    def publish(
        self, number: int, *, version: int = 7, drifted: tuple[str, ...] = (), rows: int = 500, counted: bool = True,
        published: bool = True, shards: int = 2,
    ) -> int:  # fmt: skip
        """Publish a batch of a week whose columns are like those of training, but for some; return its number."""
        batch_id, start = next(NUMBERS), week(number)
        copied(
            self.world, "batch", batch_id=batch_id, model=self.model, version=version, window_start=start,
            window_end=start + dt.timedelta(weeks=1), run_id=f"r{batch_id}", run_key=f"r{batch_id}", epoch=batch_id,
        )  # fmt: skip
        sizes = [rows // shards + (shard < rows % shards) for shard in range(shards)]
        for shard, of_shard in enumerate(sizes):
            self.world.execute(
                "INSERT INTO ponte.shard (batch_id, shard, first_page, end_page, row_count) VALUES (:b, :s, 0, 1, :n)",
                b=batch_id, s=shard, n=of_shard,
            )  # fmt: skip
        found = [
            {"shard": shard, "family": family, "name": name,
             "counts": self.counts(of_shard, DRIFTED if name in drifted else SHARES, name)}
            for shard, of_shard in enumerate(sizes) for family, names in self.columns.items() for name in names
        ]  # fmt: skip
        if counted:
            self.insert(
                "batch_count (batch_id, shard, family, column_name, counts)",
                "CAST(:batch AS bigint), r.shard, r.family, r.name, r.counts", found, batch=batch_id,
            )  # fmt: skip
        if published:
            self.show(batch_id, start)
        return batch_id

    def show(self, batch_id: int, start: dt.date) -> None:
        self.world.execute(
            "INSERT INTO ponte.publication_event (model, window_start, batch_id, row_count, actor, reason) "
            "VALUES (:m, :w, :b, 1, 'a', 'test')", m=self.model, w=start, b=batch_id,
        )  # fmt: skip

    def judge(self, *batch_ids: int) -> list[dict[str, str]]:
        return [judging.judge_batch(self.world.db, batch_id) for batch_id in batch_ids]

    def verdict(self, batch_id: int, family: str = "features") -> Any:
        rows = self.world.db.engine.connect().execute(
            sa.text("SELECT * FROM ponte.drift_verdict WHERE batch_id = :b AND family = :f"),
            {"b": batch_id, "f": family},
        )
        return rows.one()

    def seen(self, family: str = "features") -> list[Any]:
        """Return state, would_be, place of the first week of the episode, and its weeks so far, of each week."""
        return [
            (s, w, e and (e - FIRST).days // 7, n)
            for s, w, e, n in self.world.rows(
                f"SELECT state, would_be, episode_start, episode_windows FROM ponte.drift WHERE family = '{family}' "
                f"AND window_start >= '{FIRST}' AND model = '{self.model}' ORDER BY window_start"
            )
        ]


@pytest.fixture
def weeks(scored: World) -> Weeks:
    return Weeks(scored)


def test_a_batch_like_training_is_quiet_one_that_differs_a_notice_and_a_second_one_an_episode(weeks: Weeks) -> None:
    weeks.version(answers=20)
    batches = [weeks.publish(n, drifted=("f1",) if n in (1, 2) else ()) for n in range(6)]
    states = weeks.judge(*batches)
    assert [s["features"] for s in states] == ["quiet", "notice", "drift", "quiet", "quiet", "quiet"]
    assert {s["answers"] for s in states} == {"quiet"}
    assert [(e, n) for _, _, e, n in weeks.seen()] == [(None, None), (None, None), (1, 2), (1, 2), (1, 2), (None, None)]
    found = weeks.verdict(batches[1])
    assert (found.row_count, found.column_count, found.windows, found.strong) == (500, 3, 20, True)
    assert 0 < found.detectable < 0.5
    analyst = replace(weeks.world, db=Database(weeks.world.db.url.set(username=roles.ANALYST)))
    named = "SELECT columns FROM ponte.drift WHERE batch_id = :b AND family = 'features'"
    assert analyst.ask(named, b=batches[1]) == ["f1"]
    assert analyst.ask(named, b=batches[0]) is None
    changed = "SELECT share_change FROM ponte.drift_column WHERE batch_id = :b AND column_name = 'f1' AND named"
    assert analyst.ask(changed, b=batches[1]) == pytest.approx(0.2, abs=0.07)
    nulls = "SELECT null_change FROM ponte.drift_column WHERE batch_id = :b AND column_name = 'f1'"
    assert analyst.ask(nulls, b=batches[1]) == pytest.approx(0.05, abs=0.04)
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        analyst.ask("SELECT count(*) FROM ponte.drift_verdict")


#: Each week: q quiet, n beyond the limit, Q and N the same with too few windows, x not judged; | a new version, / a new
#: normal. What is said of it: q, n, d for drift, in capitals when it only would be; the first week of its episode, -
#: outside.
ROWS = [
    ("qnqn", "qnqn", "----"),
    ("nn", "nd", "-0"),
    ("nnqqqn", "ndqqqn", "-000--"),
    ("nnqqnqqqnn", "ndqqdqqqnd", "-000000--8"),
    ("nn|nqnn", "ndnqnd", "-0---4"),
    ("nn/nn", "ndnd", "-0-2"),
    ("NNQ", "NDQ", "-00"),
    ("NNnn", "NDnd", "-0-2"),
    ("nxn", "nxn", "---"),
    ("nnxqqq", "ndxqqq", "-0000-"),
    ("nnqqxq", "ndqqxq", "-00000"),
]


def test_what_weeks_make_in_a_row_judged_in_order_or_backfilled(scored: World) -> None:
    letters = {"quiet": "q", "notice": "n", "drift": "d", "not_judged": "x", None: "x"}
    for backwards in (False, True):
        for weeks_were, said, episodes in ROWS:
            weeks = Weeks(scored, f"{weeks_were} {backwards}")
            for number in (7, 8):
                copied(scored, "version", model=weeks.model, version=number, train_key=f"key {number}")
            rows = list(told(weeks_were))
            for number, (letter, version, since) in reversed([*enumerate(rows)]) if backwards else enumerate(rows):
                write_verdict(weeks, weeks.publish(number, version=version, counted=False), letter, since)
            found = weeks.seen()
            shown = [letters[w].upper() if s == "provisional" else letters[s] for s, w, _, _ in found]
            starts = ["-" if e is None else str(e) for _, _, e, _ in found]
            assert ("".join(shown), "".join(starts)) == (said, episodes), weeks.model


def told(weeks_were: str) -> Iterator[tuple[str, int, dt.date | None]]:
    """Yield letter, version and new normal of each week."""
    version, since, number = 7, None, 0
    for letter in weeks_were:
        if letter == "|":
            version = 8
        elif letter == "/":
            since = week(number)
        else:
            yield letter, version, since
            number += 1


def write_verdict(weeks: Weeks, batch_id: int, letter: str, since: dt.date | None) -> None:
    beyond = {"n": True, "q": False}.get(letter.lower())
    weeks.world.execute(
        'INSERT INTO ponte.drift_verdict VALUES (:b, :f, :state, :why, :beyond, :strong, 1, 1, 1, 0, :since, '
        ":x, :x, :x, :x, :x)",
        b=batch_id, f="features", state={"x": "not_judged", "n": "notice", "q": "quiet"}.get(letter, "provisional"),
        why="reason" if beyond is None else None, beyond=beyond, strong=None if beyond is None else False, since=since,
        x=None if beyond is None else 0.5,
    )  # fmt: skip


def test_weeks_judged_in_any_order_get_the_same_features(weeks: Weeks) -> None:
    """A backfill counts in its place in time; a month without runs in between changes nothing."""
    weeks.version()
    batches = {n: weeks.publish(n, drifted=("f0",) if n in (2, 7, 8) else ()) for n in (1, 2, 7, 8, 9)}
    weeks.judge(*(batches[n] for n in (8, 2, 9, 1, 7)))
    assert [s for s, *_ in weeks.seen()] == ["quiet", "notice", "drift", "drift", "quiet"]
    assert weeks.seen()[1:] == [
        ("notice", None, None, None),
        ("drift", None, 2, 2),
        ("drift", None, 2, 3),
        ("quiet", None, 2, 3),
    ]


def test_answers_are_held_against_published_weeks_too_but_not_against_odd_ones(weeks: Weeks) -> None:
    weeks.version(answers=4)
    odd = {5: ("score",), 9: ("f0",), 10: ("f0",)}  # a notice of the answers, and an episode of the features to 12
    batches = [weeks.publish(n, drifted=odd.get(n, ())) for n in range(26)]
    weeks.judge(*batches)
    found = [weeks.verdict(b, "answers") for b in batches]
    assert (found[0].state, found[0].why) == ("not_judged", "4 windows to compare with, 6 needed")
    assert [f.state for f in found[1:4]] == ["not_judged", "provisional", "provisional"]
    assert found[5].beyond is True
    # Not 5; not the weeks of the episode, which are known only after the second: 10 to 12.
    missing = [n + 4 - f.windows for n, f in enumerate(found)]
    assert missing == [0] * 6 + [1] * 5 + [2, 3] + [4] * 13
    assert all(f.published_windows == f.windows - 4 for f in found)
    assert [f.state for f in found[20:]] == ["quiet"] * 6
    assert {f.state for f in found[2:20]} == {"provisional"}
    assert {weeks.verdict(b).published_windows for b in batches} == {0}, "features are held against training only"


@pytest.mark.parametrize(
    ("version", "batch", "said"),
    [
        ({"windows": 2, "answers": 1}, {}, "2 windows to compare with, 6 needed"),
        ({"windows": 5, "answers": 1}, {}, "5 windows to compare with, 6 needed"),
        ({}, {"counted": False}, "rows of the batch were not counted"),
        ({}, {"rows": 0}, "the batch has no rows"),
        (None, {}, "the version has no counts"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_says_why(weeks: Weeks, version: Any, batch: Any, said: str) -> None:
    if version is None:
        copied(weeks.world, "version", version=7, train_key="of then")
        weeks.columns = {}
    else:
        weeks.version(**version)
    batch_id = weeks.publish(0, **batch)
    assert weeks.judge(batch_id) == [{"features": "not_judged", "answers": "not_judged"}]
    assert said in weeks.verdict(batch_id).why


def test_a_week_of_three_rows_is_judged_and_says_how_little_it_can_see(weeks: Weeks) -> None:
    weeks.version()
    small, large = weeks.publish(0, rows=3), weeks.publish(1, rows=500)
    weeks.judge(small, large)
    assert weeks.verdict(small).state == "quiet"
    assert weeks.verdict(small).detectable > 4 * weeks.verdict(large).detectable


def test_a_thousand_columns_share_one_rate_of_false_alarms(weeks: Weeks) -> None:
    weeks.version(columns=1000, rows=1000)
    quiet, drifted = weeks.publish(0, shards=1), weeks.publish(1, drifted=("f7",), shards=1)
    assert [s["features"] for s in weeks.judge(quiet, drifted)] == ["quiet", "notice"]
    assert weeks.world.ask(
        "SELECT columns FROM ponte.drift WHERE batch_id = :b AND family = 'features'", b=drifted
    ) == ["f7"]


def test_a_batch_is_judged_once_by_whom_ever_and_only_when_it_was_published(weeks: Weeks) -> None:
    weeks.version()
    hidden = weeks.publish(0, published=False)
    batches = [weeks.publish(n) for n in (2, 1)]
    assert weeks.judge(hidden) == [{}]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: judging.judge_batch(weeks.world.db, batches[0]), range(8)))
    assert judging.judge_published(weeks.world.db, "visits") == [1, batches[1]], "in the order of windows"
    assert judging.judge_published(weeks.world.db, "visits") == []
    verdicts = "SELECT batch_id, count(*) FROM ponte.drift_verdict GROUP BY 1 ORDER BY 1"
    assert weeks.world.rows(verdicts) == [(1, 2), *((b, 2) for b in sorted(batches))]
    weeks.show(hidden, week(0))
    assert judging.judge_published(weeks.world.db, "visits") == [hidden]


def test_a_week_that_was_scored_again_is_what_people_see_of_it(weeks: Weeks) -> None:
    """A rollback shows the old batch again: a window of the version that is shown, and a new version begins anew."""
    weeks.version()
    weeks.version(8)
    first = [weeks.publish(n, drifted=("f0",) if n < 2 else ()) for n in range(2)]
    weeks.judge(*first)
    assert [s for s, *_ in weeks.seen()] == ["notice", "drift"]
    again = weeks.publish(1, version=8)
    weeks.judge(again)
    assert [s for s, *_ in weeks.seen()] == ["notice", "quiet"]
    assert weeks.world.ask("SELECT count(DISTINCT batch_id) FROM ponte.drift_verdict") == 3
    weeks.show(first[1], week(1))
    assert [s for s, *_ in weeks.seen()] == ["notice", "drift"]


def test_a_window_that_its_version_was_trained_on_is_not_held_against_itself(weeks: Weeks) -> None:
    weeks.version(answers=8)
    batches = [weeks.publish(n) for n in (-3, -2)]
    weeks.judge(*batches)
    assert [weeks.verdict(b).windows for b in batches] == [19, 19]
    found = [weeks.verdict(b, "answers") for b in batches]
    # Of the second the first one is a window of training, and has been published, and counts once.
    assert [(f.windows, f.published_windows) for f in found] == [(7, 0), (7, 0)]


def test_after_a_new_normal_only_windows_from_then_on_count(weeks: Weeks) -> None:
    weeks.version()
    batches = [weeks.publish(n, drifted=("f0",)) for n in range(10)]
    weeks.world.execute(
        "INSERT INTO ponte.normal_event (model, window_start, batch_id, actor, reason) "
        "VALUES ('visits', :w, :b, 'a person', 'prices rose')", w=week(2), b=batches[2],
    )  # fmt: skip
    weeks.judge(*batches)
    found = [weeks.verdict(b) for b in batches]
    assert [f.since for f in found] == [None, None] + [week(2)] * 8
    assert [f.windows for f in found] == [20, 20, *range(8)]
    assert found[2].why == f"0 windows to compare with from {week(2)} on, the new normal, 6 needed"
    assert [s for s, *_ in weeks.seen()] == ["notice", "drift", *["not_judged"] * 6, "provisional", "provisional"]
    assert found[9].beyond is False, "what was far from training is normal now"


@pytest.mark.parametrize("role", [roles.SCORER, roles.MONITOR])
def test_the_scorer_and_the_monitor_may_judge(scored: World, role: str) -> None:
    """What the steps of training and scoring leave is enough, and content of rows is not read."""
    scored.run(run_id="next", week=NEXT_WEEK)
    worker = Database(scored.db.url.set(username=role))
    assert judging.judge_published(worker, "visits") == [1, 2]
    assert scored.rows("SELECT DISTINCT family, state, windows, row_count FROM ponte.drift_verdict ORDER BY 1, 3") == [
        ("answers", "not_judged", 2, 350),
        ("answers", "not_judged", 3, 350),
        ("features", "provisional", 6, 350),
    ]
    assert scored.rows("SELECT batch_id, version FROM ponte.receipt WHERE step = 'judge' ORDER BY 1") == [
        (1, 1),
        (2, 1),
    ]


def test_killed_between_the_families_nothing_is_written(weeks: Weeks, monkeypatch: pytest.MonkeyPatch) -> None:
    weeks.version()
    batch_id = weeks.publish(0)
    calls = []

    def second_fails(*args: Any, **settings: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return learn(*args, **settings)

    learn = drift.learn
    with monkeypatch.context() as patch:
        patch.setattr(drift, "learn", second_fails)
        weeks.version(8, answers=20)
        both = weeks.publish(1, version=8)
        with pytest.raises(KeyboardInterrupt):
            weeks.judge(both)
    assert weeks.world.ask("SELECT count(*) FROM ponte.drift_verdict") == 0
    assert weeks.judge(batch_id, both)[1] == {"features": "quiet", "answers": "quiet"}
