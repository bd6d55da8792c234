"""A batch that looks unlike those before it is not shown, until a person says so; every finding is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cluster, Template
from tests.postgres.checks.test_quarantine import PICKY, bad_prices
from tests.sample_model import FEATURES_SQL, NEXT_WEEK, NOW, WEEK, World, run_named, write_model

from ponte.errors import BatchRejected, Fenced, PonteError, VersionMarkedBad
from ponte.guards import profiles
from ponte.publishing import pointer
from ponte.scoring.window import stage_window

THIRD_WEEK, FOURTH_WEEK = dt.date(2024, 2, 26), dt.date(2024, 3, 4)
NAMES = ("row_count", "unscored", "set_aside", "constant_score", "mean_score", "class_share", "freshness")
BEFORE = (WEEK, NEXT_WEEK, THIRD_WEEK)
RESULTS = "SELECT guard, outcome FROM ponte.guard_result WHERE batch_id = :id"
IN_FOURTH = "WHERE day >= '2024-03-04'"
#: When the newest row was known that was known at as_of, in every row.
SEEN_AT = FEATURES_SQL.replace(
    "r.rate AS shop_rate",
    "r.rate AS shop_rate, (SELECT max(known_at) FROM shop.visit WHERE known_at <= CAST(:as_of AS timestamptz)) "
    "AS seen_at",
)
NEVER_SEEN = FEATURES_SQL.replace("r.rate AS shop_rate", "r.rate AS shop_rate, CAST(NULL AS date) AS seen_at")
#: The figures of the predictions are what is judged here.
COLUMNS_OFF = '[guard]\ncolumns = "off"'
FRESH = '[guard]\ncolumns = "off"\nfreshness_column = "seen_at"\nfreshness_hours = 24'
LATE = "UPDATE shop.visit SET known_at = known_at + interval '9 days' WHERE known_at > timestamptz '2024-03-02 12:00Z'"
SAME = f"UPDATE shop.visit SET shop = 'mill', items = 3, price = 9, distance = 1, member = true {IN_FOURTH}"


def few_rows(world: World) -> None:
    world.execute("DELETE FROM shop.visit WHERE visit_id >= 3300")


def run(world: World, *weeks: dt.date) -> None:
    for week in weeks:
        world.run(run_id="before", week=week)


@pytest.fixture(scope="module")
def three_weeks(
    server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """Three weeks have been published."""
    folder = tmp_path_factory.mktemp("three weeks")
    with trained_template.after(server, folder, lambda world: run(world, *BEFORE)) as found:
        yield found


@pytest.fixture
def known(server: Cluster, three_weeks: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of it."""
    with three_weeks.copy(server, tmp_path) as world:
        yield world


#: guard → (settings of the model, what happens to the source before the fourth week, what is told)
TRIPS: dict[str, tuple[dict[str, Any], Callable[[World], object], str]] = {
    "row_count": ({}, few_rows, "row_count: 150 rows, expected 175 to 700"),
    "unscored": (
        {"files": {"estimator.py": PICKY.format(kind="LogisticRegression")}},
        lambda world: bad_prices(world, 3200, 3210, 3220, 3300),
        "unscored: 4 of 350 rows have no score, expected at most 3",
    ),
    "constant_score": (
        {"checks": COLUMNS_OFF},
        lambda world: world.execute(SAME),
        "for every row, expected different scores",
    ),
    "mean_score": (
        {"checks": f"{COLUMNS_OFF}\nmean_score_jump = 0.5\nclass_share_jump = 1.0"},
        lambda world: world.execute(f"UPDATE shop.visit SET items = 7, distance = 0, member = true {IN_FOURTH}"),
        "standard deviations off, expected at most 0.5",
    ),
    "class_share": (
        {"checks": f"{COLUMNS_OFF}\nmean_score_jump = 100"},
        lambda world: world.execute(f"UPDATE shop.visit SET items = 0, distance = 12, member = false {IN_FOURTH}"),
        "expected at most 25.0% off",
    ),
    "freshness": (
        {"files": {"features.sql": SEEN_AT}, "checks": FRESH},
        lambda world: world.execute(LATE),
        "freshness: newest seen_at is 2024-03-02T00:00:00+00:00, expected 2024-03-03T00:00:00+00:00 or later",
    ),
    "freshness of NULL": (
        {"files": {"features.sql": NEVER_SEEN}, "checks": FRESH},
        lambda _: None,
        "freshness: newest seen_at is NULL, expected 2024-03-03T00:00:00+00:00 or later",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TRIPS)
def test_a_guard_rejects_the_batch_and_what_people_see_stays(trained: World, case: str) -> None:
    settings, happens, said = TRIPS[case]
    guard = case.partition(" ")[0]
    world = trained.with_model(**settings)
    if "files" in settings:
        assert world.train(run_id="t").alias.version == 2
    if case != "freshness of NULL":
        run(world, *BEFORE)
    happens(world)
    batch = world.run(run_id="r", week=FOURTH_WEEK, until="score")
    seen = world.rows("SELECT window_start, count(*) FROM predictions.visits GROUP BY 1 ORDER BY 1")

    with pytest.raises(BatchRejected, match="a guard has tripped, nothing was published") as caught:
        world.guard(batch.batch_id)
    assert said in str(caught.value)
    assert "ponte__publish_batch" in str(caught.value)
    state = "SELECT status, rejected_by, why FROM ponte.batch WHERE batch_id = :id"
    ((status, rejected_by, why),) = world.rows(state, id=batch.batch_id)
    assert (status, rejected_by) == ("rejected", "guard")
    assert why.startswith("a guard has tripped: ")
    assert said in why
    outcomes = dict(world.rows(RESULTS, id=batch.batch_id))
    assert outcomes[guard] == "tripped"
    assert set(outcomes) == {*NAMES, "columns"}
    if guard in ("row_count", "unscored", "mean_score", "class_share", "freshness"):
        assert [g for g, o in outcomes.items() if o == "tripped"] == [guard], "and only it"
    assert world.rows("SELECT window_start, count(*) FROM predictions.visits GROUP BY 1 ORDER BY 1") == seen
    tripped = "SELECT guards_tripped, published, published_anyway FROM ponte.batch_overview WHERE batch_id = :id"
    [(names, published, anyway)] = world.rows(tripped, id=batch.batch_id)
    assert guard in names
    assert (published, anyway) == (False, None)


def test_a_usual_batch_passes_every_guard_and_the_evidence_names_what_it_was_compared_with(known: World) -> None:
    batch = known.run(run_id="r", week=FOURTH_WEEK)
    assert dict(known.rows(RESULTS, id=batch.batch_id)) == {
        **dict.fromkeys(["row_count", "unscored", "constant_score", "mean_score", "class_share", "columns"], "passed"),
        **dict.fromkeys(["freshness", "set_aside"], "skipped"),
    }
    evidence = dict(
        known.rows("SELECT guard, evidence FROM ponte.guard_result WHERE batch_id = :id", id=batch.batch_id)
    )
    assert evidence["row_count"] == {"earlier": {"1": 350, "2": 350, "3": 350}, "median": 350}
    assert set(evidence["mean_score"]["earlier"]) == {"1", "2", "3"}


def test_a_batch_is_compared_with_what_people_see_of_earlier_windows_and_nothing_else(known: World) -> None:
    """Not with a replaced batch, one that nobody saw, a later window, or another model."""
    replaced = known.run(run_id="again", week=NEXT_WEEK)
    known.run(run_id="later", week=FOURTH_WEEK)
    unseen = known.run(run_id="unseen", week=WEEK, until="guard")
    batch = known.with_model(checks="[guard]\nwait_minutes = 0").run(run_id="r", week=THIRD_WEEK)
    found = known.ask(
        "SELECT evidence->'earlier' FROM ponte.guard_result WHERE batch_id = :id AND guard = 'row_count'",
        id=batch.batch_id,
    )
    assert found is None, "two earlier windows are too few"
    batch = known.with_model(checks="[guard]\nminimum_batches = 2\nwait_minutes = 0").run(run_id="r2", week=THIRD_WEEK)
    found = known.ask(
        "SELECT evidence->'earlier' FROM ponte.guard_result WHERE batch_id = :id AND guard = 'row_count'",
        id=batch.batch_id,
    )
    assert found == {"1": 350, str(replaced.batch_id): 350}
    assert str(unseen.batch_id) not in found


def test_only_so_many_earlier_batches_count_the_latest_first(known: World) -> None:
    known.with_model(checks="[guard]\nbatches = 2\nminimum_batches = 2").run(run_id="r", week=FOURTH_WEEK)
    found = known.ask("SELECT evidence->'earlier' FROM ponte.guard_result WHERE batch_id = 4 AND guard = 'row_count'")
    assert found == {"2": 350, "3": 350}


def test_a_profile_is_kept_when_the_retention_has_dropped_the_rows(known: World) -> None:
    """A model that keeps few weeks is guarded like any other."""
    world = known.with_model(checks="[retention]\nweeks = 1")
    world.run(run_id="clean", week=THIRD_WEEK)
    assert world.rows("SELECT window_start FROM ponte.published ORDER BY 1") == [(NEXT_WEEK,), (THIRD_WEEK,)]
    few_rows(world)
    with pytest.raises(BatchRejected, match="row_count: 150 rows, expected 175 to 700"):
        world.run(run_id="r", week=FOURTH_WEEK)
    found = world.ask(
        "SELECT evidence->'earlier' FROM ponte.guard_result WHERE guard = 'row_count' AND outcome = 'tripped'"
    )
    assert set(found) == {"1", "2", "4"}


def test_a_window_that_was_retired_and_shown_again_counts_once(known: World) -> None:
    world = known.with_model(checks="[retention]\nweeks = 1")
    world.run(run_id="clean", week=THIRD_WEEK)
    for run_id in ("again", "and again"):
        known.with_model().run(run_id=run_id, week=WEEK, until="publish")
        world.clean(None)
    shown = known.with_model().run(run_id="shown", week=WEEK)
    batch = world.run(run_id="r", week=FOURTH_WEEK, until="score")
    with world.db.begin() as connection:
        found = profiles.earlier_profiles(connection, batch, world.folder.spec.guard)
    assert [p.batch_id for p in found] == [4, 2, shown.batch_id]


def test_an_empty_batch_that_is_allowed_is_not_judged_and_not_compared_with(known: World) -> None:
    known.execute(f"UPDATE shop.visit SET day = day + 700 {IN_FOURTH}")
    allowing = known.with_model(empty="allow", checks="[guard]\nbatches = 3")
    batch = allowing.run(run_id="r", week=FOURTH_WEEK)
    assert batch.status == "staged"
    assert known.rows(RESULTS, id=batch.batch_id) == []
    [(rows, mean)] = known.rows("SELECT row_count, score_mean FROM ponte.batch_profile WHERE batch_id = :id", id=4)
    assert (rows, mean) == (0, [])
    known.execute("UPDATE shop.visit SET day = day - 693 WHERE day > '2025-01-01'")
    after = allowing.run(run_id="r", week=FOURTH_WEEK + dt.timedelta(days=7), until="guard")
    evidence = "SELECT evidence->'earlier' FROM ponte.guard_result WHERE guard = 'row_count' AND batch_id = :id"
    assert set(known.ask(evidence, id=after.batch_id)) == {"1", "2", "3"}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_profile_is_what_the_published_rows_say(world: World, task: str) -> None:
    folder = write_model(world.folder.path.parent, "other", task=task)
    other = World(db=world.db, store=world.store, folder=folder)
    other.train(run_id="t")
    batch = other.run(run_id="r")
    score = {"binary": "score", "regression": "prediction"}.get(task)
    columns = [score] if score else [f"scores[{n}]" for n in (1, 2, 3)]
    figures = ", ".join(f"avg({c}), stddev_pop({c})" for c in columns)
    [row] = other.rows(f"SELECT {figures} FROM predictions.other")
    [(rows, scored, unscored, mean, sd, distinct, shares, newest)] = other.rows(
        "SELECT row_count, scored_count, unscored_count, score_mean, score_sd, distinct_scores, class_shares, "
        "newest_feature FROM ponte.batch_profile WHERE batch_id = :id",
        id=batch.batch_id,
    )
    assert (rows, scored, unscored, distinct, newest) == (350, 350, 0, True, None)
    assert mean == pytest.approx(list(row[0::2]))
    assert sd == pytest.approx(list(row[1::2]))
    counted = other.rows("SELECT prediction::text, count(*) / 350.0 FROM predictions.other GROUP BY 1")
    assert shares == ({} if task == "regression" else pytest.approx({k: float(v) for k, v in counted}))


def test_a_classifier_without_probabilities_is_guarded_by_its_labels(world: World) -> None:
    text = world.folder.text("estimator.py").replace("LogisticRegression", "RidgeClassifier")
    world = world.with_model(
        files={"estimator.py": text}, metric="f1", bound="minimum = 0.2", gate="beats_baseline = false"
    )
    world.train(run_id="t")
    run(world, *BEFORE)
    batch = world.run(run_id="r", week=FOURTH_WEEK)
    outcomes = dict(world.rows(RESULTS, id=batch.batch_id))
    assert outcomes["class_share"] == "passed"
    assert {outcomes["constant_score"], outcomes["mean_score"]} == {"skipped"}


def test_a_window_that_a_guard_rejected_is_published_by_the_next_run_when_the_source_is_mended(known: World) -> None:
    known.execute("UPDATE shop.visit SET day = day + 700 WHERE visit_id >= 3300")
    rejected = known.run(run_id="r", week=FOURTH_WEEK, until="score")
    for _ in range(2):
        with pytest.raises(BatchRejected, match="row_count: 150 rows"):
            known.guard(rejected.batch_id)
    known.execute("UPDATE shop.visit SET day = day - 700 WHERE visit_id >= 3300")
    known.run(run_id="again", week=FOURTH_WEEK)
    assert known.ask("SELECT count(*) FROM predictions.visits WHERE window_start = :w", w=FOURTH_WEEK) == 350
    assert known.rows(RESULTS, id=rejected.batch_id), "the finding is kept"


# ---------------------------------------------------------------- published all the same


@pytest.fixture
def rejected(known: World) -> tuple[World, int]:
    """The batch of the fourth week has been rejected for too few rows."""
    few_rows(known)
    batch = known.run(run_id="r", week=FOURTH_WEEK, until="score")
    with pytest.raises(BatchRejected):
        known.guard(batch.batch_id)
    return known, batch.batch_id


def publish_anyway(world: World, batch_id: int, *, run_id: str = "p") -> pointer.Publication:
    pointer.prepare_publication(world.db, batch_id, model="visits")
    return pointer.publish_anyway(
        world.db, batch_id, model="visits", run_id=run_id, actor="somebody", reason="a holiday"
    )


def everything(world: World) -> Any:
    tables = ("batch", "published", "publication_event", "guard_override", "guard_result", "claim")
    return [world.rows(f"SELECT to_jsonb(t)::text FROM ponte.{t} t ORDER BY 1") for t in tables]


def test_a_person_publishes_a_rejected_batch_with_a_reason_that_is_kept(rejected: tuple[World, int]) -> None:
    world, batch_id = rejected
    what = "SELECT rejected_by, why FROM ponte.batch_overview WHERE batch_id = :id"
    found = world.rows(what, id=batch_id)
    assert found == [("guard", "a guard has tripped: row_count: 150 rows, expected 175 to 700")]
    done = publish_anyway(world, batch_id)
    assert world.rows(what, id=batch_id) == found, "what a guard had found is part of the decision"
    assert done == pointer.Publication(batch_id=batch_id, previous_batch_id=None, row_count=150)
    assert world.ask("SELECT count(*) FROM predictions.visits WHERE window_start = :w", w=FOURTH_WEEK) == 150
    override = "SELECT batch_id, run_id, actor, reason FROM ponte.guard_override"
    assert world.rows(override) == [(batch_id, "p", "somebody", "a holiday")]
    event = "SELECT batch_id, actor, reason, row_count FROM ponte.publication_event ORDER BY event_id DESC LIMIT 1"
    assert world.rows(event) == [(batch_id, "somebody", "a holiday", 150)]
    overview = (
        "SELECT status, published, guards_tripped, published_anyway FROM ponte.batch_overview WHERE batch_id = :id"
    )
    assert world.rows(overview, id=batch_id) == [("staged", True, ["row_count"], "a holiday")]


def test_a_repetition_changes_nothing_and_says_the_same(rejected: tuple[World, int]) -> None:
    """A retry, or a second person who had the same thought."""
    world, batch_id = rejected
    first = publish_anyway(world, batch_id)
    before = everything(world)
    assert publish_anyway(world, batch_id) == publish_anyway(world, batch_id, run_id="other") == first
    assert everything(world) == before


def test_what_a_person_published_counts_for_the_batches_after_it(rejected: tuple[World, int]) -> None:
    world, batch_id = rejected
    publish_anyway(world, batch_id)
    world.execute("INSERT INTO shop.visit SELECT visit_id + 10000, day + 7, shop, items, price, distance, member, "
                  f"returned, spent, known_at FROM shop.visit {IN_FOURTH}")  # fmt: skip
    after = world.run(run_id="after", week=FOURTH_WEEK + dt.timedelta(days=7), until="score")
    with world.db.begin() as connection:
        found = profiles.earlier_profiles(connection, after, world.folder.spec.guard)
    assert [p.row_count for p in found] == [150, 350, 350, 350]


def test_the_frozen_rows_of_what_a_person_published_go_with_the_next_clean_up(rejected: tuple[World, int]) -> None:
    world, batch_id = rejected
    publish_anyway(world, batch_id)
    assert [t for t in world.data_tables() if "frozen" in t] == [f"visits__frozen_{batch_id}"]
    world.clean(1)
    assert [t for t in world.data_tables() if "frozen" in t] == []
    assert world.ask("SELECT count(*) FROM predictions.visits WHERE window_start = :w", w=FOURTH_WEEK) == 150


def _claimed(world: World, batch_id: int) -> None:
    world.freeze(run_id="newer", week=FOURTH_WEEK)


def _marked(world: World, batch_id: int) -> None:
    world.mark(1, "bad", run_id="m")


def _lost(world: World, batch_id: int) -> None:
    world.execute(f"DELETE FROM ponte_data.visits__prediction_{batch_id} WHERE visit_id = 3200")


#: What happens between → the error, and what it says.
REFUSED: dict[str, tuple[Callable[[World, int], object], type[PonteError], str]] = {
    "a newer run": (_claimed, Fenced, "a newer run owns the window"),
    "a bad mark": (_marked, VersionMarkedBad, "the version was marked bad"),
    "a lost row": (_lost, PonteError, "rows frozen are not rows predicted plus rows quarantined"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_person_cannot_publish_what_must_not_be_seen_for_another_reason(
    rejected: tuple[World, int], case: str
) -> None:
    world, batch_id = rejected
    happens, error, said = REFUSED[case]
    happens(world, batch_id)
    before = everything(world)
    with pytest.raises(error, match=said):
        publish_anyway(world, batch_id)
    assert everything(world) == before, "no override is left behind"


def test_a_batch_is_published_by_the_model_that_it_is_of(rejected: tuple[World, int]) -> None:
    world, batch_id = rejected
    before = everything(world)
    said: dict[str, Any] = {"run_id": "p", "actor": "somebody", "reason": "a holiday"}
    for number, model, problem in (
        (batch_id, "other", "the batch is another model's"),
        (999, "visits", "no such batch"),
    ):
        with pytest.raises(PonteError, match=problem):
            pointer.prepare_publication(world.db, number, model=model)
        with pytest.raises(PonteError, match=problem):
            pointer.publish_anyway(world.db, number, model=model, **said)
    assert everything(world) == before


@pytest.mark.parametrize("until", ["freeze", "check", "score", "guard", "publish"])
def test_a_batch_that_no_guard_has_rejected_is_refused(known: World, until: str) -> None:
    batch = known.run(run_id="r", week=FOURTH_WEEK, until=until)
    before = everything(known)
    with pytest.raises(PonteError, match="no guard has rejected this batch"):
        publish_anyway(known, batch.batch_id)
    assert everything(known) == before


def test_a_batch_that_its_checks_rejected_is_refused(known: World) -> None:
    stop = '[[checks]]\nexpectation = "expect_table_row_count_to_be_between"\nmin_value = 1000\n'
    world = known.with_model(checks=stop)
    batch = world.run(run_id="r", week=FOURTH_WEEK, until="freeze")
    with pytest.raises(BatchRejected):
        world.check(batch.batch_id)
    with pytest.raises(PonteError, match="a batch that its checks rejected has no predictions") as caught:
        publish_anyway(world, batch.batch_id)
    assert "status rejected: expect_table_row_count_to_be_between" in str(caught.value)


def test_who_comes_again_is_sent_to_the_person_only_when_a_guard_has_rejected_the_batch(known: World) -> None:
    """Whatever the reason says: a check may be about guards."""
    batch = known.run(run_id="r", week=FOURTH_WEEK, until="check")
    known.execute(
        "UPDATE ponte.batch SET status = 'rejected', rejected_by = 'check', why = 'a guard has tripped: so it says' "
        "WHERE batch_id = :id",
        id=batch.batch_id,
    )
    with pytest.raises(BatchRejected, match="so it says") as caught:
        known.score(batch.batch_id)
    assert "ponte__publish_batch" not in str(caught.value)
    known.execute("UPDATE ponte.batch SET rejected_by = 'guard', why = 'x' WHERE batch_id = :id", id=batch.batch_id)
    with pytest.raises(BatchRejected, match="trigger ponte__publish_batch"):
        known.score(batch.batch_id)


def test_one_of_two_people_at_once_publishes_and_the_other_finds_it_done(rejected: tuple[World, int]) -> None:
    from tests.postgres.batches.test_fence import at_once

    world, batch_id = rejected
    done = at_once([lambda n=n: publish_anyway(world, batch_id, run_id=f"p{n}") for n in range(3)])
    assert done == [done[0]] * 3
    assert world.ask("SELECT count(*) FROM ponte.guard_override") == 1
    assert world.ask("SELECT count(*) FROM ponte.publication_event WHERE batch_id = :id", id=batch_id) == 1


# ---------------------------------------------------------------- rollback


def test_a_rollback_records_what_the_guards_say_and_acts_without_them(known: World) -> None:
    """A person asked for this version and these windows; the batches compared with are those of the bad one."""
    known.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}).train(run_id="second")
    known.execute("DELETE FROM shop.visit WHERE visit_id BETWEEN 3160 AND 3400")
    batch = stage_window(
        known.db, known.store, known.folder, 1, FOURTH_WEEK, run=run_named("back"), now=NOW, allow_hindsight=False
    )
    assert batch.status == "staged"
    assert dict(known.rows(RESULTS, id=batch.batch_id))["row_count"] == "tripped"
    done = known.roll_back(1, run_id="back", windows=[FOURTH_WEEK])
    assert [w["batch_id"] for w in done.windows] == [batch.batch_id]
    overview = "SELECT guards_tripped, published FROM ponte.batch_overview WHERE batch_id = :id"
    assert known.rows(overview, id=batch.batch_id) == [(["row_count"], True)]
    assert known.ask("SELECT count(*) FROM ponte.guard_override") == 0
