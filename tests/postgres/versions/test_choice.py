"""A backfill must not look better than the past was: a window is scored by what was champion at its as_of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from tests.sample_model import AS_OF, NEXT_WEEK, WEEK, World

from ponte.batches.lifecycle import Batch
from ponte.errors import HindsightRefused, VersionMarkedBad
from ponte.versions import registry

EARLIER = dt.date(2024, 2, 5)
CLAIMED = "SELECT (SELECT count(*) FROM ponte.batch) + (SELECT count(*) FROM ponte.claim)"


def versions(world: World, count: int) -> None:
    """Register copies of version 1, so that there are `count` versions."""
    first = world.champion()
    for number in range(2, count + 1):
        registry.register(
            world.db,
            "visits",
            f"key {number}",
            lambda new: replace(first, version=new, train_key=f"key {new}"),
        )


def promoted(world: World, version: int, at: str) -> None:
    """Append the event of a promotion that happened at another time: the column has a default only."""
    world.execute(
        "INSERT INTO ponte.alias_event (model, alias, version, previous_event_id, actor, reason, at) "
        "SELECT 'visits', 'champion', :version, max(event_id), 'test', 'test', :at FROM ponte.alias_event",
        version=version,
        at=at,
    )


@dataclass(frozen=True)
class Case:
    """Promotions (version, when) in their order, the versions marked bad, and what then scores which week."""

    promotions: Sequence[tuple[int, str]]
    week: dt.date
    version: int
    reason: str
    bad: Sequence[int] = ()


AT_AS_OF = "champion at as_of"
CASES = {
    "the champion of then, not of now": Case([(2, "2024-01-20"), (3, "2026-01-01")], WEEK, 2, AT_AS_OF),
    "of several the last one before": Case(
        [(2, "2024-01-20"), (3, "2024-02-10"), (1, "2026-01-01")], WEEK, 3, AT_AS_OF
    ),
    "promoted at as_of itself": Case([(2, "2024-02-12"), (3, "2026-01-01")], WEEK, 2, AT_AS_OF),
    "promoted just after as_of": Case(
        [(2, "2024-01-20"), (3, "2024-02-12 00:00:01"), (1, "2026-01-01")], WEEK, 2, AT_AS_OF
    ),
    "another week, another champion": Case([(2, "2024-01-20"), (3, "2024-02-13")], NEXT_WEEK, 3, AT_AS_OF),
    "a champion of then that is bad is passed over": Case(
        [(2, "2024-01-20"), (3, "2024-02-10"), (1, "2026-01-01")],
        WEEK,
        2,
        "champion before as_of; version 3, champion then, is marked bad",
        bad=[3],
    ),
    "all champions of then are bad, today's stands in": Case(
        [(2, "2024-01-20"), (3, "2024-02-10"), (1, "2026-01-01")],
        WEEK,
        1,
        "no champion at as_of; today's had seen nothing later than that",
        bad=[2, 3],
    ),
    "none then, today's stands in": Case([], WEEK, 1, "no champion at as_of; today's had seen nothing later than that"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_window_is_scored_by_the_champion_of_its_as_of(trained: World, case: Case) -> None:
    versions(trained, 3)
    for version, at in case.promotions:
        promoted(trained, version, at)
    for version in case.bad:
        trained.mark(version, "bad", run_id="m")
    batch = trained.freeze(run_id="r", week=case.week)

    found = "SELECT version, version_reason, hindsight FROM ponte.batch_overview WHERE batch_id = :id"
    assert trained.rows(found, id=batch.batch_id) == [(case.version, case.reason, False)]
    promoted(trained, 1, "2024-01-02")
    assert trained.freeze(run_id="r", week=case.week) == batch, "a retry keeps the version that the run chose"


NOW_CHAMPION = "champion now; the window is the newest"


@pytest.mark.parametrize(
    ("now", "version", "reason"),
    [
        ("2024-02-12 06:00", 2, NOW_CHAMPION),
        ("2024-02-18 23:59:59", 2, NOW_CHAMPION),
        ("2024-02-19 00:00", 1, AT_AS_OF),
    ],
    ids=["some hours after as_of", "the last moment of the window", "the next window has begun"],
)
def test_a_promotion_counts_at_once_for_the_newest_window_and_for_no_past_one(
    trained: World, now: str, version: int, reason: str
) -> None:
    """Promoted between as_of, midnight, and the run, some hours later."""
    versions(trained, 2)
    promoted(trained, 1, "2024-01-20")
    promoted(trained, 2, "2024-02-12 03:00")
    batch = trained.freeze(run_id="r", now=dt.datetime.fromisoformat(f"{now}+00:00"))

    why = trained.ask("SELECT version_reason FROM ponte.batch WHERE batch_id = :id", id=batch.batch_id)
    assert (batch.version, why) == (version, reason)


def test_a_champion_that_has_seen_the_newest_window_leaves_it_to_the_one_of_then(trained: World) -> None:
    """Trained on Thursday with the outcomes until Wednesday, promoted at once."""
    first = trained.champion()
    promoted(trained, 1, "2024-01-20")
    cutoff = dt.datetime(2024, 2, 15, tzinfo=dt.UTC)
    registry.register(
        trained.db, "visits", "late", lambda n: replace(first, version=n, train_key="late", train_cutoff=cutoff)
    )
    promoted(trained, 2, "2024-02-15 03:00")
    batch = trained.freeze(run_id="r", now=dt.datetime(2024, 2, 15, 6, tzinfo=dt.UTC))
    assert batch.version == 1


def test_a_bad_champion_stops_the_newest_window(trained: World) -> None:
    """Somebody has to decide; falling back in silence would look as if all were well."""
    versions(trained, 2)
    promoted(trained, 1, "2024-01-20")
    promoted(trained, 2, "2024-02-10")
    trained.mark(2, "bad", run_id="m")
    with pytest.raises(VersionMarkedBad):
        trained.freeze(run_id="r", now=dt.datetime(2024, 2, 12, 6, tzinfo=dt.UTC))
    assert trained.ask(CLAIMED) == 0


def test_bad_champions_of_then_and_of_now_score_nothing(trained: World) -> None:
    versions(trained, 2)
    promoted(trained, 2, "2024-01-20")
    for version in (1, 2):
        trained.mark(version, "bad", run_id="m")

    with pytest.raises(VersionMarkedBad, match="model visits, version 2"):
        trained.freeze(run_id="r")
    assert trained.ask(CLAIMED) == 0


def test_a_champion_that_has_seen_later_days_is_refused_with_both_dates(trained: World) -> None:
    """It was trained on the outcomes of that very week."""
    with pytest.raises(HindsightRefused) as caught:
        trained.run(run_id="r", week=EARLIER)
    assert "got: train cutoff 2024-02-12T00:00:00+00:00\n  expected: at or before as_of 2024-02-05T00:00:00+00:00" in (
        str(caught.value)
    )
    assert "where: model visits, window [2024-02-05, 2024-02-12), version 1" in str(caught.value)
    assert "allow_hindsight" in str(caught.value)
    assert trained.ask(CLAIMED) == 0


def test_hindsight_that_was_allowed_is_said_of_the_batch_and_of_every_row(trained: World) -> None:
    batch = trained.freeze(run_id="r", week=EARLIER, allow_hindsight=True)
    for step in ("check", "score", "guard", "publish"):
        getattr(trained, step)(batch.batch_id)
    honest = trained.run(run_id="honest", week=WEEK)
    needless: Batch = trained.freeze(run_id="needless", week=NEXT_WEEK, allow_hindsight=True)

    marked = "SELECT batch_id, hindsight FROM ponte.batch ORDER BY 1"
    assert trained.rows(marked) == [(batch.batch_id, True), (honest.batch_id, False), (needless.batch_id, False)]
    rows = "SELECT window_start, hindsight, count(*) FROM predictions.visits GROUP BY 1, 2 ORDER BY 1"
    assert trained.rows(rows) == [(EARLIER, True, 350), (WEEK, False, 350)]
    assert trained.rows("SELECT DISTINCT hindsight FROM predictions.visits_latest") == [(False,)]
    reason = "SELECT version_reason FROM ponte.batch WHERE batch_id = :id"
    assert trained.ask(reason, id=batch.batch_id) == (
        "no champion at as_of; today's has seen later days, and hindsight was allowed"
    )


def test_a_version_trained_as_of_then_may_stand_in_whenever_it_was_trained(world: World) -> None:
    """What counts is what it has seen, not when the training ran."""
    earlier = AS_OF - dt.timedelta(weeks=1)
    short = world.with_model(bound="minimum = 0.5", gate="beats_baseline = false")
    short.train(run_id="t", as_of=earlier)
    batch = short.run(run_id="r", week=EARLIER)

    assert (batch.version, batch.hindsight) == (1, False)
    assert world.rows("SELECT DISTINCT hindsight FROM predictions.visits") == [(False,)]
