"""The queue: who may put what into it, in which order it is answered, and what becomes of each request."""

from __future__ import annotations

import json
import select
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from tests.postgres.stream.waiting import (
    ROW,
    answers,
    as_role,
    assert_each_once,
    enqueue,
    enqueue_many,
    list_of,
    notes,
    open_queue,
    served,
    set_aside,
    waiting,
    worker_of,
)
from tests.sample_model import ESTIMATOR, World

from ponte.model.spec import ModelSpec
from ponte.schema import roles
from ponte.stream import taking
from ponte.versions.loading import load_registered

ENQUEUE = "SELECT ponte.enqueue(:model, CAST(:key AS jsonb), CAST(:features AS jsonb), :priority)"
GIVEN: dict[str, Any] = {"model": "visits", "key": '{"visit_id": 7}', "features": json.dumps(ROW), "priority": 0}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"model": "visit"},
            "no queue of this model: got 'visit', expected one of: visits\nHINT:  Did you mean 'visits'?",
        ),
        ({"model": "predictions.visits"}, "Did you mean 'visits'?"),
        ({"model": None}, "no queue of this model: got NULL"),
        ({"model": "old"}, "the queue of this model is closed: got 'old', expected one of: visits"),
        ({"key": "[7]"}, "the key is no object: got array, expected an object of columns and values, or NULL"),
        ({"key": "null"}, "the key is no object: got null"),
        ({"features": "[1]"}, "the features are no object: got array"),
        ({"features": None}, "the features are no object: got NULL"),
        ({"features": '"a"'}, "the features are no object: got string"),
        ({"priority": 10}, "the priority is out of range: got 10, expected 0 to 9"),
        ({"priority": -1}, "the priority is out of range: got -1"),
        ({"priority": 2**31 - 1}, "the priority is out of range: got 2147483647"),
        ({"priority": None}, "the priority is out of range: got NULL"),
        ({"features": json.dumps({"shop": "x" * 1_000_000})}, "the request is too large: got 1000"),
        ({"key": json.dumps({"visit_id": "x" * 70_000})}, "expected at most 65536\nHINT:  The limit is most_bytes"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_was_expected(world: World, given: dict[str, Any], told: str) -> None:
    open_queue(world)
    world.execute("INSERT INTO ponte.queue (model, open) VALUES ('old', false)")
    enqueuer = as_role(world, roles.API)
    with pytest.raises(sa.exc.DBAPIError) as refused:
        enqueuer.ask(ENQUEUE, **GIVEN | given)
    assert told in str(refused.value.orig)
    if given.get("priority", 0) is not None:  # in COPY it may be left out
        with pytest.raises(sa.exc.DBAPIError) as refused:
            enqueuer.execute(
                "INSERT INTO ponte.queue_in (model, key, features, priority) "
                "VALUES (:model, CAST(:key AS jsonb), CAST(:features AS jsonb), :priority)",
                **GIVEN | given,
            )
        assert told in str(refused.value.orig)
    assert waiting(world) == 0


def test_a_full_queue_refuses_and_says_what_to_do(world: World) -> None:
    open_queue(world)
    world.execute("UPDATE ponte.queue SET most_waiting = 3")
    enqueue_many(world, 3)
    for fill in (enqueue, lambda w: enqueue_many(w, 2)):
        with pytest.raises(sa.exc.DBAPIError, match="the queue of visits is full: 3 requests wait already") as refused:
            fill(world)
        assert "ponte.queue_overview" in str(refused.value.orig)
        assert "most_waiting in ponte.queue" in str(refused.value.orig)
    assert waiting(world) == 3
    world.execute("DELETE FROM ponte.request WHERE key = '{\"visit_id\": 1}'")
    enqueue(world)


def test_copy_puts_requests_in_by_the_thousand_and_returning_tells_the_ids(world: World) -> None:
    open_queue(world)
    enqueuer = as_role(world, roles.API)
    connection = enqueuer.db.engine.raw_connection()
    with connection.cursor() as cursor:
        lines = "".join(f'visits\t{{"visit_id": {n}}}\t{json.dumps(ROW)}\t\\N\n' for n in range(1000))
        cursor.copy_expert("COPY ponte.queue_in (model, key, features, priority) FROM STDIN", StringIO(lines))
    connection.commit()
    connection.close()
    # In the order in which they came, without a time twice.
    assert world.rows(
        "SELECT count(*), count(DISTINCT request_id), bool_and(rank = extract(epoch FROM arrived_at)), "
        "array_agg(CAST(key->>'visit_id' AS int) ORDER BY rank, request_id) = ARRAY(SELECT generate_series(0, 999)), "
        "bool_and(arrived_at = uuid_extract_timestamp(request_id)) FROM ponte.request"
    ) == [(1000, 1000, True, True, True)]
    found = enqueuer.ask(
        "INSERT INTO ponte.queue_in (model, features, priority) VALUES ('visits', CAST(:f AS jsonb), 9) "
        "RETURNING request_id",
        f=json.dumps(ROW),
    )
    assert enqueuer.rows("SELECT state, model, ahead FROM ponte.request_state(:id)", id=found) == [
        ("waiting", "visits", 0)
    ]
    with pytest.raises(sa.exc.DBAPIError, match="the request has an id already"):
        enqueuer.execute("INSERT INTO ponte.queue_in (model, features, request_id) SELECT 'visits', '{}', uuidv7()")


def test_urgent_requests_are_first_and_nothing_starves(world: World) -> None:
    """Rank is the time of arrival less ageing_seconds for each step of priority; ties by id."""
    open_queue(world)
    world.execute("UPDATE ponte.queue SET ageing_seconds = 10")
    for arrived, priority in ((100, 0), (145, 5), (100.5, 0), (189, 9), (191, 9), (100, 1), (130, 2)):
        world.execute(
            "INSERT INTO ponte.request "
            "SELECT uuidv7(), 'visits', NULL, '{}', :p, to_timestamp(:a), :a - :p * ageing_seconds FROM ponte.queue",
            a=arrived, p=priority,
        )  # fmt: skip
    order = []
    with world.db.engine.connect() as connection:
        while True:
            with connection.begin():
                taken = taking.take(connection, "visits", 1)
            if taken is None:
                break
            order.append(taken.requests[0].arrived_at.timestamp())
    # 189 with priority 9 passes all that came after 99; 191 with priority 9 came too late to pass 100 with 0.
    assert order == [100, 145, 189, 100, 100.5, 191, 130]


def test_each_request_becomes_an_answer_or_a_reason(trained: World) -> None:
    """One take of good and bad ones. What the estimator and the reader say is that of a batch, or of the API."""
    open_queue(trained)
    good = enqueue(trained, key={"visit_id": 1}, priority=3)
    without_key = enqueue(trained)
    bad = {
        "price is no number": enqueue(trained, price="much"),
        "shop is missing": str(trained.ask("SELECT ponte.enqueue('visits', NULL, '{\"a\": 1}')")),
        "items is out of range": enqueue(trained, items=2**70),
        "key.visit is no column of the model": enqueue(trained, key={"visit": 1}),
        "key.visit_id is no integer": enqueue(trained, key={"visit_id": "one"}),
        "it cannot be read as JSON: ValueError": str(
            trained.ask("SELECT ponte.enqueue('visits', NULL, CAST(:f AS jsonb))", f=f'{{"items": 1{"0" * 5000}}}')
        ),
        "it cannot be read as JSON: RecursionError": str(
            trained.ask(
                "SELECT ponte.enqueue('visits', NULL, CAST(:f AS jsonb))", f=f'{{"a": {"[" * 3000}{"]" * 3000}}}'
            )
        ),
    }
    assert worker_of(trained).step() == 2 + len(bad)

    loaded = load_registered(trained.db, trained.store, trained.champion())
    rows = pa.table({c.name: [ROW[c.name]] for c in loaded.signature.features}).cast(_schema_of(loaded))
    expected = loaded.predictions(rows)
    for columns in answers(trained, "request_id::text, visit_id, prediction, score, model_version, source"):
        assert columns[0] in {good, without_key}
        assert columns[1] == (1 if columns[0] == good else None)
        assert columns[2:] == (expected.prediction[0], expected.score[0], 1, "queue")
    assert len(answers(trained)) == 2
    assert trained.ask("SELECT count(features) FROM ponte_data.live_visits") == 0
    assert answers(trained, "asked_at = uuid_extract_timestamp(request_id) AND scored_at >= asked_at") == [True, True]
    reasons = {request_id: (kind, why) for request_id, kind, why in set_aside(trained)}
    assert {request_id: words in reasons[request_id][1] for words, request_id in bad.items()} == dict.fromkeys(
        bad.values(), True
    )
    assert {kind for kind, _ in reasons.values()} == {"input"}
    assert set_aside(trained, "features, model_version, source") == [(None, 1, "queue")] * len(bad)
    assert waiting(trained) == notes(trained) == 0

    enqueuer = as_role(trained, roles.API)
    state = "SELECT state, model, answer->>'score', why FROM ponte.request_state(:id)"
    assert enqueuer.rows(state, id=good) == [("answered", "visits", repr(float(expected.score[0])), None)]
    assert enqueuer.rows(state, id=bad["price is no number"])[0][0] == "failed"
    assert enqueuer.rows("SELECT answer ? 'features' FROM ponte.request_state(:id)", id=good) == [(False,)]
    assert enqueuer.rows(state, id="00000000-0000-0000-0000-000000000000") == []


def _schema_of(loaded: Any) -> pa.Schema:
    from ponte.live.records import arrow_types

    types = arrow_types()
    return pa.schema([(c.name, types[c.family]) for c in loaded.signature.features])


def test_a_row_that_the_estimator_or_the_table_refuses_does_not_hold_the_others_up(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one try alone; features are kept where [serving] log_features says so."""
    open_queue(trained)
    enqueue_many(trained, 20)
    raising, refused = enqueue(trained, items=66), enqueue(trained, items=77)
    from ponte.versions.loading import LoadedVersion

    predict, tried = LoadedVersion.predictions, []

    def predict_or_raise(loaded: LoadedVersion, rows: pa.Table) -> Any:
        items = list_of(rows.column("items"))
        if 66 in items:
            tried.append(len(items))
            raise ValueError(f"cannot do {items}")
        found = predict(loaded, rows)
        return replace(found, score=np.where(np.array(items) == 77, 2.0, found.score))

    monkeypatch.setattr(LoadedVersion, "predictions", predict_or_raise)
    worker = worker_of(trained, {"visits": served(trained, log_features=True)})
    assert worker.step() == 22
    assert tried[-1] == 1
    assert sorted(answers(trained, "visit_id")) == list(range(1, 21))
    assert [(name, kind) for name, kind, _ in set_aside(trained)] == [
        (raising, "ValueError"),
        (refused, "refused by the table of answers"),
    ]
    # The estimator's words are in the quarantine; of the table's, which repeat the row, the constraint alone.
    assert set_aside(trained, "why")[0] == ("ValueError: cannot do [66]",)
    assert "live_visits_score_check" in set_aside(trained, "why")[1][0]
    assert "77" not in set_aside(trained, "why")[1][0]
    assert set_aside(trained, "features->>'items'") == [("66",), ("77",)]
    assert trained.ask("SELECT count(features->>'items') FROM ponte_data.live_visits") == 20


def test_ids_and_nothing_else_are_told_to_who_listens(trained: World) -> None:
    open_queue(trained)
    enqueue_many(trained, 450)
    ids = trained.rows("SELECT request_id::text FROM ponte.request")
    with trained.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("LISTEN ponte_answer")
        driver: Any = connection.connection.driver_connection
        assert worker_of(trained, most=450).step() == 450
        while select.select([driver], [], [], 2)[0]:
            driver.poll()
        told = [n.payload for n in driver.notifies]
    assert sorted((one,) for payload in told for one in payload.split(",")) == sorted(ids)
    assert max(map(len, told)) < 8000
    assert_each_once(trained, 450)


def test_the_next_take_is_the_new_champions_and_what_it_cannot_read_is_set_aside(trained: World) -> None:
    """One take, one version. While the champion is marked bad nothing is answered: requests wait, and it is said."""
    other = trained.with_model(files={"estimator.py": ESTIMATOR.format(kind="LogisticRegression") + "# second\n"})
    other.train(run_id="second")
    trained.set_champion(1)
    worker = worker_of(trained)
    worker.step()
    enqueue(trained)
    assert worker.step() == 1
    trained.set_champion(2)
    enqueue(trained)
    assert worker.step() == 1
    assert answers(trained, "model_version") == [1, 2]

    trained.mark(2, "bad", run_id="m")
    last = enqueue(trained)
    assert worker.step() == 0
    assert waiting(trained) == 1
    worker._told_at = -float("inf")
    worker.step()
    assert trained.rows("SELECT waiting, workers, why FROM ponte.queue_overview") == [
        (1, 1, "version 2, its champion, is marked bad")
    ]
    trained.set_champion(1)
    assert worker.step() == 1
    assert answers(trained, "request_id::text, model_version")[-1] == (last, 1)

    # A champion that reads other columns.
    trained.execute("ALTER TABLE ponte.version DISABLE TRIGGER append_only")
    trained.execute(
        "UPDATE ponte.version SET signature = jsonb_set(signature, '{features,1,name}', '\"things\"') WHERE version = 1"
    )
    worker = worker_of(trained)
    worker._champions._load = _renamed(trained)
    gone = enqueue(trained)
    assert worker.step() == 1
    assert set_aside(trained)[0][:2] == (gone, "input")
    assert "things is missing" in set_aside(trained)[0][2]
    assert "items is no column of the model" in set_aside(trained)[0][2]


def _renamed(world: World) -> Any:
    """Return what loads a version whose second feature has another name, as one trained on other columns has."""

    def load(version: Any) -> Any:
        first, second, *others = version.signature.features
        known = replace(version.signature, features=(first, replace(second, name="items"), *others))
        loaded = load_registered(world.db, world.store, replace(version, signature=known))
        return replace(loaded, version=version, signature=version.signature)

    return load


def test_a_queue_is_open_as_long_as_the_folder_says_so(trained: World) -> None:
    """What waits when it is closed goes on waiting, and may be given up; a broken folder changes nothing."""
    models: dict[str, ModelSpec | None] = {"visits": served(trained)}
    worker = worker_of(trained, models)
    worker.step()
    enqueue_many(trained, 2)

    def look() -> None:
        trained.execute("UPDATE ponte.queue SET seen_at = seen_at - interval '6 minutes'")
        worker._looked_at = -float("inf")
        worker.step()

    models["visits"] = None
    worker._champions.cannot(taking.heads(worker._beside, ["visits"])[0], "so that they wait")
    look()
    assert trained.rows("SELECT model, open FROM ponte.queue") == [("visits", True)]
    models["visits"] = served(trained, api=False)
    look()
    assert trained.rows("SELECT open, waiting FROM ponte.queue_overview") == [(False, 2)]
    with pytest.raises(sa.exc.DBAPIError, match="the queue of this model is closed"):
        enqueue(trained)
    models["visits"] = served(trained)
    look()
    assert trained.ask("SELECT open FROM ponte.queue") is True
    del models["visits"]
    look()
    assert trained.ask("SELECT open FROM ponte.queue") is False
    assert waiting(trained) == 2
    assert trained.ask("SELECT ponte.give_up_requests('visits', 'no longer served')") == 2
    assert set_aside(trained, "kind, why, features->>'shop'") == [("given up", "no longer served", "mill")] * 2


def test_a_worker_answers_for_the_model_whose_request_is_next(trained: World) -> None:
    """Two models, by rank; one whose champion cannot answer does not hold the other up."""
    trained.execute("INSERT INTO ponte.queue (model, open) VALUES ('visits', true), ('other', true)")
    trained.rows(
        "SELECT ponte.enqueue('other', NULL, '{}', 5), ponte.enqueue('visits', NULL, CAST(:f AS jsonb), 3)",
        f=json.dumps(ROW),
    )
    with trained.db.begin() as connection:
        assert [h.model for h in taking.heads(connection, ["visits", "other"])] == ["other", "visits"]
        assert [h.model for h in taking.heads(connection, ["visits"])] == ["visits"]
        assert [h.waits for h in taking.heads(connection, ["none", "visits"])] == [True, False]
    assert worker_of(trained, {"visits": served(trained), "other": served(trained)}).step() == 1
    assert len(answers(trained)) == 1
    assert waiting(trained) == 1


def test_the_overview_says_what_waits_how_fast_it_goes_and_how_long_it_takes(world: World) -> None:
    open_queue(world)
    assert world.rows("SELECT priority, waiting, oldest_at, expected_seconds FROM ponte.queue_overview") == [
        (None, 0, None, None)
    ]
    for priority in (0, 0, 4):
        enqueue(world, priority=priority)
    world.execute(
        "INSERT INTO ponte.stream_progress (worker, model, seconds, answered, failed) "
        "VALUES ('a', 'visits', 5, 50, 10), ('b', 'visits', 5, 60, 0)"
    )
    analyst = as_role(world, roles.ANALYST)
    query = (
        "SELECT priority, waiting, workers, answered, failed, per_second, expected_seconds, oldest_seconds < 60 "
        "FROM ponte.queue_overview ORDER BY 1"
    )
    assert analyst.rows(query) == [(0, 2, 2, 110, 10, 2.0, 1.5, True), (4, 1, 2, 110, 10, 2.0, 0.5, True)]


ALLOWED = {
    "SELECT features FROM ponte.request": {roles.STREAM},
    "DELETE FROM ponte.request": {roles.STREAM},
    "INSERT INTO ponte.request (model) VALUES ('a')": set(),
    "UPDATE ponte.request SET features = '{}'": set(),
    "SELECT ponte.enqueue('visits', NULL, '{}')": {roles.API},
    "INSERT INTO ponte.queue_in (model, features) VALUES ('visits', '{}')": {roles.API},
    "SELECT * FROM ponte.request_state(uuidv7())": {roles.API},
    "SELECT ponte.put_request('visits', NULL, '{}', 0)": set(),
    "SELECT ponte.give_up_requests('visits', 'a')": set(),
    "UPDATE ponte.queue SET open = true": {roles.STREAM},
    "UPDATE ponte.queue SET most_waiting = 1": set(),
    "SELECT why FROM ponte.live_unscored": set(),
    "SELECT prediction FROM ponte_data.live_visits": {roles.MONITOR},
    "SELECT waiting FROM ponte.queue_overview": {*roles.LOGINS} - {roles.OWNER},
}


@pytest.mark.parametrize("statement", ALLOWED)
def test_who_fills_the_queue_reads_nothing_of_it_and_who_works_it_no_answers(trained: World, statement: str) -> None:
    worker_of(trained).step()
    trained.execute("SELECT ponte.prepare_live('visits')")
    enqueue(trained)
    may = set()
    for role in {*roles.LOGINS} - {roles.OWNER}:
        try:
            with as_role(trained, role).db.begin() as connection:
                connection.exec_driver_sql(statement)
                connection.rollback()
            may.add(role)
        except sa.exc.DBAPIError as error:
            assert getattr(error.orig, "pgcode", None) == "42501", (role, error)  # noqa: PT017
    assert may == ALLOWED[statement]


def test_what_is_answered_is_counted_in_the_same_transaction(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a minute, to which each take adds; what the monitor has folded meanwhile is not counted again."""
    from ponte.live.counting import Answered, counts_of
    from ponte.stream import counts

    given: list[Answered] = []
    add = counts.RunningCounts.add

    def noted(running: counts.RunningCounts, connection: sa.Connection, answered: Answered) -> None:
        given.append(answered)
        add(running, connection, answered)

    monkeypatch.setattr(counts.RunningCounts, "add", noted)
    open_queue(trained)
    worker = worker_of(trained, most=4)
    enqueue_many(trained, 10)
    enqueue(trained, items="many")
    while worker.step():
        pass
    query = "SELECT row_count, features, answers FROM ponte.live_count"
    expected = counts_of(given, flush_id=uuid4())[0]
    assert trained.rows(query) == [(10, expected["features"], expected["answers"])]
    trained.execute("DELETE FROM ponte.live_count")
    enqueue_many(trained, 3)
    assert worker.step() == 3
    assert trained.rows("SELECT row_count FROM ponte.live_count") == [(3,)]
    monkeypatch.setattr(counts, "SECONDS", 0.0)
    enqueue_many(trained, 2)
    assert worker.step() == 2
    assert trained.rows("SELECT row_count FROM ponte.live_count ORDER BY at") == [(3,), (2,)]


def test_a_table_that_another_role_has_made_is_not_asked_for_answers(trained: World) -> None:
    """A policy on it would run with the rights of the owner."""
    scorer = as_role(trained, roles.SCORER)
    scorer.execute(
        "CREATE TABLE ponte_data.live_visits (request_id uuid, asked_at timestamptz) PARTITION BY RANGE (asked_at)"
    )
    found = trained.ask("SELECT uuidv7()")
    scorer.execute("CREATE TABLE ponte_data.live_visits_all PARTITION OF ponte_data.live_visits DEFAULT")
    scorer.execute("INSERT INTO ponte_data.live_visits SELECT :id, uuid_extract_timestamp(:id)", id=found)
    scorer.execute("GRANT SELECT ON ponte_data.live_visits TO ponte_owner")
    assert as_role(trained, roles.API).rows("SELECT state FROM ponte.request_state(:id)", id=found) == []


def test_a_statement_is_held_to_the_limits_of_the_models_it_put_rows_in(world: World) -> None:
    """Subtransactions count when they stand; what others put in meanwhile does not."""
    open_queue(world)
    world.execute("INSERT INTO ponte.queue (model, open) VALUES ('other', true)")
    fill = "INSERT INTO ponte.queue_in (model, features) SELECT '{}', '{{}}' FROM generate_series(1, {})"
    world.execute(fill.format("other", 3))
    world.execute("UPDATE ponte.queue SET most_waiting = 1 WHERE model = 'other'")
    world.execute(fill.format("visits", 2))
    full = "the queue of other is full"
    with pytest.raises(sa.exc.DBAPIError, match=full):
        world.execute(fill.format("other", 1))
    both = "INSERT INTO ponte.queue_in (model, features) VALUES ('other', '{}'), ('visits', '{}')"
    with pytest.raises(sa.exc.DBAPIError, match=full):
        world.execute(both)
    with world.db.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(fill.format("visits", 1))
        with pytest.raises(sa.exc.DBAPIError, match=full), connection.begin_nested():
            connection.exec_driver_sql(both)
        with connection.begin_nested():
            connection.exec_driver_sql(fill.format("visits", 1))
        connection.exec_driver_sql(fill.format("visits", 1))
    assert waiting(world) == 8
    # What comes from another session while the statement is at work is seen at its end, and is not its own.
    world.execute("UPDATE ponte.queue SET most_waiting = 100 WHERE model = 'other'")
    with world.db.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(
            "CREATE FUNCTION pg_temp.slow() RETURNS text LANGUAGE plpgsql VOLATILE AS $$ BEGIN "
            "PERFORM pg_advisory_xact_lock(28); RETURN 'visits'; END $$"
        )
        with world.db.engine.connect() as gate, ThreadPoolExecutor(1) as pool:
            with gate.begin():
                gate.exec_driver_sql("SELECT pg_advisory_xact_lock(28)")
                at_work = pool.submit(
                    connection.exec_driver_sql,
                    "INSERT INTO ponte.queue_in (model, features) SELECT pg_temp.slow(), '{}'",
                )
                blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 28 AND NOT granted"
                while not world.ask(blocked) and not at_work.done():
                    pass
                world.execute(fill.format("other", 1))
                world.execute("UPDATE ponte.queue SET most_waiting = 1 WHERE model = 'other'")
            at_work.result()
    assert waiting(world) == 10


def test_a_worker_closes_only_what_nobody_has_vouched_for(trained: World) -> None:
    """Whatever order they look in; one for a single model opens and closes no other's queue."""
    api, off = served(trained), served(trained, api=False)
    serving = worker_of(trained, {"visits": api})
    lacking, refusing = worker_of(trained, {}), worker_of(trained, {"visits": off})
    single = worker_of(trained, {"visits": api, "other": api}, only=("other",))

    def is_open(*workers: Any) -> Any:
        for worker in workers:
            worker._looked_at = -float("inf")
            worker.step()
        return trained.ask("SELECT bool_or(open) FROM ponte.queue WHERE model = 'visits'")

    old = "UPDATE ponte.queue SET seen_at = seen_at - interval '6 minutes' WHERE model = 'visits'"
    assert is_open(single) is None
    assert is_open(serving, lacking, refusing, single)
    changed = trained.ask("SELECT changed_at FROM ponte.queue WHERE model = 'visits'")
    trained.execute(old)
    assert is_open(single), "those that serve it may be stopped"
    assert is_open(serving, lacking, refusing), "vouched for again"
    assert trained.ask("SELECT changed_at FROM ponte.queue WHERE model = 'visits'") == changed
    trained.execute(old)
    assert is_open(worker_of(trained, {"visits": None})), "a broken folder says nothing"
    assert not is_open(lacking)
    assert is_open(serving)
    trained.execute(old)
    assert not is_open(refusing)
