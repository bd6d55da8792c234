"""The scoring flow: what readers see is what was frozen, once, whole, and traceable."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pytest
from tests.sample_model import NEXT_WEEK, NOW, VISITS_PER_WEEK, WEEK, World, write_model

from ponte.errors import PonteError
from ponte.scoring import flow
from ponte.scoring.plan import plan_shards
from ponte.scoring.shards import score_shard
from ponte.storage.database import Database
from ponte.versions import aliases


def test_readers_see_every_frozen_row_once_with_its_lineage(trained: World) -> None:
    batch = trained.run(run_id="r")

    assert (batch.status, batch.row_count) == ("staged", VISITS_PER_WEEK)
    assert trained.rows(
        "SELECT count(*), count(DISTINCT visit_id), min(window_start), max(window_start), min(model_version), "
        "max(model_version), min(batch_id), max(batch_id), min(scored_at), max(scored_at) FROM predictions.visits"
    ) == [(350, 350, WEEK, WEEK, 1, 1, batch.batch_id, batch.batch_id, NOW, NOW)]
    missing = "SELECT visit_id FROM shop.visit WHERE day >= :week AND day < :week + 7"
    assert trained.rows(f"{missing} EXCEPT SELECT visit_id FROM predictions.visits", week=WEEK) == []


def test_scores_are_those_of_the_estimator_on_the_same_rows(trained: World) -> None:
    """Nothing on the way (types, order, NULLs, categories) changes what the estimator is asked."""
    import numpy as np
    import pandas as pd

    from ponte.versions.loading import load_version

    trained.run(run_id="r")
    query = trained.folder.text("features.sql")
    for name, value in (("window_start", WEEK), ("window_end", NEXT_WEEK), ("as_of", WEEK)):
        query = query.replace(f":{name}", f"'{value}'")
    with trained.db.begin() as connection:
        frame = pd.read_sql_query(f"{query} ORDER BY visit_id", connection)
        seen = pd.read_sql_query("SELECT * FROM predictions.visits ORDER BY visit_id", connection)
    frame["member"] = frame["member"].astype("float64")
    estimator = load_version(trained.store, trained.champion()).estimator

    assert frame[["shop", "items", "distance", "member"]].isna().any().all()
    np.testing.assert_allclose(seen["score"], estimator.predict_proba(frame)[:, 1], rtol=1e-12)
    assert (seen["prediction"] == estimator.predict(frame)).all()


def test_the_latest_view_shows_only_the_newest_window(trained: World) -> None:
    trained.run(run_id="r", week=NEXT_WEEK)
    trained.run(run_id="r")

    windows = "SELECT window_start, count(*) FROM predictions.visits{} GROUP BY 1 ORDER BY 1"
    assert trained.rows(windows.format("")) == [(WEEK, 350), (NEXT_WEEK, 350)]
    assert trained.rows(windows.format("_latest")) == [(NEXT_WEEK, 350)]


def test_shards_and_chunks_change_nothing_but_the_way(trained: World) -> None:
    # How many rows a matrix product has decides the last bit of each.
    rounded = "round(score::numeric, 12)"
    trained.run(run_id="one")
    whole = trained.published_checksum(score=rounded)
    split = trained.with_model(shard_rows=80, chunk_rows=30)
    batch = split.run(run_id="many")

    shards = split.rows(
        "SELECT shard, first_page, end_page, row_count FROM ponte.shard WHERE batch_id = :id ORDER BY 1",
        id=batch.batch_id,
    )
    assert len(shards) > 2
    assert shards[0][1] == 0
    assert shards[-1][2] == batch.page_count
    assert all(before[2] == after[1] for before, after in pairwise(shards))
    assert sum(s[3] for s in shards) == VISITS_PER_WEEK
    assert split.published_checksum(score=rounded) == whole


def test_running_twice_does_nothing(trained: World) -> None:
    """A cleared and repeated run changes no row of any table, receipts apart."""
    tables = ("claim", "batch", "shard", "published", "publication_event", "check_result")
    state = " UNION ALL ".join(
        f"SELECT '{t}', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM ponte.{t} t" for t in tables
    )

    first = trained.run(run_id="r")
    before = (trained.rows(state), trained.published_checksum(), trained.data_tables())
    second = trained.run(run_id="r")

    assert first == second
    assert (trained.rows(state), trained.published_checksum(), trained.data_tables()) == before
    assert len([r for r in before[0] if r[1]]) == len(tables)


def test_a_second_run_replaces_what_readers_see_and_keeps_the_old_batch(trained: World) -> None:
    first = trained.run(run_id="one")
    before = trained.published_checksum()
    trained.execute("UPDATE shop.visit SET distance = distance + 1 WHERE day >= :week", week=WEEK)
    second = trained.run(run_id="two")

    assert trained.published_checksum() != before
    assert trained.rows("SELECT DISTINCT batch_id FROM predictions.visits") == [(second.batch_id,)]
    assert trained.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK
    counts = (
        "SELECT batch_id, count(*), count(DISTINCT visit_id) FROM ponte_data.prediction_visits GROUP BY 1 ORDER BY 1"
    )
    assert trained.rows(counts) == [(first.batch_id, 350, 350), (second.batch_id, 350, 350)]


def test_publishing_again_says_what_the_first_time_said(trained: World) -> None:
    first = trained.run(run_id="one", until="guard")
    assert [trained.publish(first.batch_id).previous_batch_id for _ in range(2)] == [None, None]
    second = trained.run(run_id="two", until="guard")
    published = [trained.publish(second.batch_id) for _ in range(3)]

    assert published[0].previous_batch_id == first.batch_id
    assert published[1:] == published[:1] * 2
    assert trained.ask("SELECT count(*) FROM ponte.publication_event") == 2


def test_what_people_saw_on_a_day_is_a_query(trained: World) -> None:
    first, other = trained.run(run_id="one"), trained.run(run_id="one", week=NEXT_WEEK)
    between = trained.ask("SELECT clock_timestamp()")
    second = trained.run(run_id="two")

    events = (
        "SELECT window_start, batch_id, previous_batch_id, row_count FROM ponte.publication_event ORDER BY event_id"
    )
    assert trained.rows(events) == [
        (WEEK, first.batch_id, None, 350),
        (NEXT_WEEK, other.batch_id, None, 350),
        (WEEK, second.batch_id, first.batch_id, 350),
    ]
    seen = "SELECT window_start, batch_id, version FROM ponte.published_at('visits', :moment)"
    assert trained.rows(seen, moment=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) == []
    assert trained.rows(seen, moment=between) == [(WEEK, first.batch_id, 1), (NEXT_WEEK, other.batch_id, 1)]
    assert trained.rows(seen, moment=dt.datetime(2100, 1, 1, tzinfo=dt.UTC)) == [
        (WEEK, second.batch_id, 1),
        (NEXT_WEEK, other.batch_id, 1),
    ]
    assert trained.rows("SELECT * FROM ponte.published_at('visit', now())") == []


def test_the_overview_shows_state_rows_cost_and_publication(trained: World) -> None:
    first = trained.run(run_id="one")
    second = trained.run(run_id="two")
    third = trained.run(run_id="three", until="score")

    overview = (
        "SELECT batch_id, status, published, rows_frozen, rows_scored, rows_quarantined, run_id "
        "FROM ponte.batch_overview ORDER BY batch_id"
    )
    assert trained.rows(overview) == [
        (first.batch_id, "staged", False, 350, 350, 0, "one"),
        (second.batch_id, "staged", True, 350, 350, 0, "two"),
        (third.batch_id, "checked", False, 350, 350, 0, "three"),
    ]
    assert trained.ask(
        "SELECT bool_and(seconds > 0 AND cpu_seconds > 0 AND peak_bytes > 1e6) FROM ponte.batch_overview"
    )
    steps = "SELECT array_agg(step ORDER BY receipt_id) FROM ponte.receipt WHERE batch_id = :id"
    assert trained.ask(steps, id=first.batch_id) == ["freeze", "check", "score", "guard", "publish"]


def test_the_version_is_pinned_when_the_window_is_claimed(trained: World) -> None:
    """A promotion in the middle of a run does not change what scores the rest of the batch."""
    frozen = trained.run(run_id="r", until="check")
    other = trained.with_model(files={"features.sql": trained.folder.text("features.sql") + "-- as before\n"})
    assert other.train(run_id="next").version.version == 2
    other.folder.path.joinpath("features.sql").write_text(trained.folder.text("features.sql"))

    assert aliases.champion(trained.db, "visits").version == 2
    trained.run(run_id="r")
    assert trained.rows("SELECT DISTINCT model_version, batch_id FROM predictions.visits") == [(1, frozen.batch_id)]


def test_the_frozen_rows_are_what_is_scored_whatever_the_source_says_later(scored: World) -> None:
    expected = scored.published_checksum()
    scored.run(run_id="r", until="check")
    scored.execute("UPDATE shop.visit SET distance = 99")
    scored.execute("DELETE FROM shop.visit WHERE visit_id % 2 = 0")
    scored.run(run_id="r")

    assert scored.published_checksum() == expected


def test_the_features_of_a_batch_are_those_of_its_as_of(trained: World) -> None:
    """What became known after the window began does not reach its features."""
    batch = trained.run(run_id="r", until="freeze")
    rates = f"SELECT DISTINCT shop, shop_rate FROM ponte_data.{batch.frozen_table} WHERE shop IS NOT NULL ORDER BY 1"
    known = (
        "SELECT shop, round(avg(returned::int), 6)::float8 FROM shop.visit "
        "WHERE known_at <= :moment AND shop IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    assert trained.rows(rates) == trained.rows(known, moment=batch.as_of)
    assert trained.rows(rates) != trained.rows(known, moment=batch.as_of + dt.timedelta(days=7))


def test_a_regression_has_predictions_without_scores(world: World) -> None:
    regression = World(
        db=world.db, store=world.store, folder=write_model(world.folder.path.parent, "spend", task="regression")
    )
    regression.train(run_id="t")
    regression.run(run_id="r")

    columns = (
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'predictions' AND table_name = 'spend' ORDER BY ordinal_position"
    )
    assert regression.rows(columns) == [
        ("window_start", "date"),
        ("visit_id", "bigint"),
        ("prediction", "double precision"),
        ("scored_at", "timestamp with time zone"),
        ("model_version", "integer"),
        ("batch_id", "bigint"),
        ("hindsight", "boolean"),
        ("low", "double precision"),
        ("high", "double precision"),
    ]
    assert regression.ask("SELECT count(*) FROM predictions.spend WHERE prediction BETWEEN -50 AND 150") == 350


def test_shards_that_were_planned_anew_are_refused(trained: World) -> None:
    """With other page ranges for the same shard numbers, rows would be twice there or not at all."""
    batch = trained.run(run_id="r", until="score")
    split = trained.with_model(shard_rows=80)

    with pytest.raises(PonteError, match="shards were planned otherwise before"):
        split.score(batch.batch_id)


def test_two_copies_of_a_shard_at_once_write_its_rows_once(trained: World) -> None:
    """The twin that commits second finds the rows of the first; both say how many there are."""
    import threading
    from concurrent.futures import ThreadPoolExecutor
    from unittest.mock import patch

    batch = trained.run(run_id="r", until="check")
    (shard,) = plan_shards(trained.db, trained.folder, batch.batch_id)
    both_have_started = threading.Barrier(2, timeout=30)
    run = flow.Flow.run

    def wait_for_the_twin(stream: flow.Flow, db: Database) -> int:
        both_have_started.wait()
        return run(stream, db)

    def score(_: int) -> int:
        return score_shard(trained.db, trained.store, trained.folder, batch.batch_id, shard, now=NOW)

    with patch.object(flow.Flow, "run", wait_for_the_twin), ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(score, range(2)))

    assert counts == [350, 350]
    assert trained.ask(f"SELECT count(*) FROM ponte_data.{batch.prediction_table}") == 350
    assert trained.rows("SELECT shard, row_count FROM ponte.shard") == [(0, 350)]
    trained.run(run_id="r")
    assert trained.ask("SELECT count(*) FROM predictions.visits") == 350


@pytest.mark.parametrize("step", ["freeze", "check", "score", "guard", "publish", "clean"])
def test_two_copies_of_a_step_at_once_both_succeed(trained: World, step: str) -> None:
    """Airflow runs a task twice at times; whichever copy is first, neither fails and nothing is there twice."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from tests.sample_model import STEPS

    before = STEPS.index(step)
    batch = trained.run(run_id="r", until=STEPS[before - 1]) if before else None
    for _ in range(4 if batch is None else 1):
        start = threading.Barrier(2, timeout=30)

        def run(_: int, start: threading.Barrier = start) -> None:
            start.wait()
            if batch is None:
                trained.freeze(run_id="r")
            else:
                getattr(trained, step)(batch.batch_id)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, range(2)))
    trained.run(run_id="r")

    assert trained.rows("SELECT count(*), count(DISTINCT visit_id) FROM predictions.visits") == [(350, 350)]
    assert trained.rows("SELECT epoch FROM ponte.claim") == [(1,)]
    assert trained.ask("SELECT count(*) FROM ponte.publication_event") == 1
    assert trained.rows("SELECT position FROM ponte.check_result WHERE batch_id IS NOT NULL ORDER BY 1") == [
        (-2,),
        (-1,),
    ]
