"""The API while the world around it changes: champions, keys, folders, the database."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
import sqlalchemy as sa
from tests.conftest import Cluster
from tests.postgres.serving.served import ROW, SERVED, Served
from tests.sample_model import ESTIMATOR, World

from ponte.access import keys
from ponte.access.limits import Bucket
from ponte.computing.pace import BATCH_ROWS
from ponte.computing.workers import InProcess
from ponte.model.estimator import ESTIMATOR_FILE

#: Says something else than the version of the fixture.
OTHER = ESTIMATOR.format(kind="LogisticRegression").replace("LogisticRegression())", "LogisticRegression(C=0.01))")


def second_version(own: Served) -> int:
    """Register another version; return its number. It is not champion."""
    gate = f'champion_indistinguishable = "promote"\n{SERVED}'
    world = own.world.with_model(gate=gate, files={ESTIMATOR_FILE: OTHER})
    return world.train(run_id="second", promote=False).version.version


def wait_for(done: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return what `done` returns when it is true; a test that waits in vain fails."""
    until = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found


def test_promotion_and_rollback_reach_it_under_load_without_an_error_or_a_mixed_answer(own: Served) -> None:
    second = second_version(own)
    own.service.champions.start()
    seen: Counter[int] = Counter()
    expected = {1: _score_of(own, 1), second: _score_of(own, second)}
    assert expected[1] != expected[second]

    async def client(stop: asyncio.Event) -> None:
        while not stop.is_set():
            reply = await own.request("POST", "/v1/models/visits:predict", json={"instances": [ROW] * 3})
            assert reply.status_code == 200, reply.text
            version = reply.json()["model_version"]
            seen[version] += 1
            scores = [row["score"] for row in reply.json()["predictions"]]
            assert scores == pytest.approx([expected[version]] * 3, rel=1e-12)

    async def decide(stop: asyncio.Event) -> None:
        for version in (second, 1, second, 1):
            await asyncio.to_thread(own.world.set_champion, version)
            await asyncio.to_thread(
                wait_for, lambda v=version: own.service.champions.get("visits").version.version == v
            )
            before = seen[version]
            await asyncio.to_thread(wait_for, lambda v=version, b=before: seen[v] > b)
        stop.set()

    async def play() -> None:
        stop = asyncio.Event()
        await asyncio.gather(decide(stop), *(client(stop) for _ in range(6)))

    asyncio.run(play())
    assert set(seen) == {1, second}


def _score_of(own: Served, version: int) -> float:
    from ponte.versions import registry
    from ponte.versions.loading import load_registered

    loaded = load_registered(own.world.db, own.world.store, registry.get_version(own.world.db, "visits", version))
    rows = own.service.champions.get("visits").reader.parse([ROW]).rows.table()
    return float(loaded.predictions(rows).score[0])


def test_who_listens_hears_at_once_that_a_champion_has_moved(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from ponte.serving import champions

    second = second_version(own)
    monkeypatch.setattr(champions, "LOOK_SECONDS", 3600.0)  # it would never look by itself
    before = own.service.champions.seen_at
    own.service.champions.start()
    wait_for(lambda: own.service.champions.seen_at > before)  # so it listens
    own.world.set_champion(second)
    wait_for(lambda: own.service.champions.get("visits").version.version == second)
    own.world.mark(second, "bad", run_id="mark")
    wait_for(lambda: own.service.champions.get("visits") is None)
    reply = own.predict([ROW])
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")
    assert "is marked bad" in reply.json()["error"]["got"]
    assert own.ask("GET", "/health/ready", token=None).status_code == 503


def test_a_key_is_taken_as_soon_as_it_is_made_and_no_more_as_soon_as_it_is_revoked(
    own: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.serving import champions

    monkeypatch.setattr(champions, "LOOK_SECONDS", 3600.0)  # it would never look by itself
    before = own.service.champions.seen_at
    own.service.champions.start()
    wait_for(lambda: own.service.champions.seen_at > before)  # so it listens
    key_id, token = keys.create_key(own.world.db, "new", models=(), created_by="test")
    wait_for(lambda: own.ask("GET", "/v1/models", token=token).status_code == 200)
    keys.revoke_key(own.world.db, key_id, revoked_by="test")
    wait_for(lambda: own.ask("GET", "/v1/models", token=token).status_code == 401)


def test_a_version_that_cannot_be_loaded_changes_nothing_but_what_is_told(own: Served) -> None:
    second = second_version(own)
    folder = own.world.store.root / own.world.ask("SELECT path FROM ponte.version WHERE version = :v", v=second)
    (folder / "model.joblib").write_bytes(b"broken")
    own.world.set_champion(second)
    own.look()
    assert own.predict([ROW]).json()["model_version"] == 1
    behind = own.ask("GET", "/v1/models/visits").json()["behind"]
    assert behind == f"version {second} could not be loaded: the artifact is not what was registered"
    assert 'ponte_api_model_behind{model="visits"} 1.0' in own.ask("GET", "/metrics").text
    own.world.set_champion(1)
    own.look()
    assert own.ask("GET", "/v1/models/visits").json()["behind"] == ""


def test_a_folder_that_says_so_no_more_is_served_no_more(own: Served) -> None:
    own.world.with_model()
    own.look()
    assert own.predict([ROW]).status_code == 404
    assert own.ask("GET", "/v1/models").json() == {"models": []}


def test_a_folder_that_is_broken_stays_what_it_was(own: Served) -> None:
    (own.world.folder.path / "model.toml").write_text("[", encoding="utf-8")
    own.look()
    assert own.predict([ROW]).status_code == 200


# ---------------------------------------------------------------- keys


def test_a_key_that_is_revoked_or_expired_is_taken_no_more(own: Served) -> None:
    key_id, token = own.key()
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3)
    _, short = own.key(expires_at=soon)
    own.look()
    assert {own.ask("GET", "/v1/models", token=one).status_code for one in (token, short)} == {200}
    keys.revoke_key(own.world.db, key_id, revoked_by="test")
    own.look()
    assert own.ask("GET", "/v1/models", token=token).status_code == 401
    wait_for(lambda: own.ask("GET", "/v1/models", token=short).status_code == 401)  # without another look
    states = {key.key_id: key.state(dt.datetime.now(dt.UTC)) for key in keys.list_keys(own.world.db)}
    assert states[key_id] == "revoked"
    assert sorted(states.values()) == ["expired", "revoked", "valid"]


def test_a_key_opens_its_own_models_only(own: Served) -> None:
    _, token = own.key("another")
    own.look()
    reply = own.ask("POST", "/v1/models/visits:predict", token=token, json={"instances": [ROW]})
    assert (reply.status_code, reply.json()["error"]["what"]) == (403, "the key is not for this model")
    assert own.ask("GET", "/v1/models", token=token).json() == {"models": []}
    assert not [path for path in own.ask("GET", "/openapi.json", token=token).json()["paths"] if "visits" in path]


def test_nothing_of_a_key_is_kept_but_its_digest(own: Served) -> None:
    assert len(own.token) == len("ponte_") + 43
    rows = own.world.rows("SELECT to_jsonb(k)::text FROM ponte.api_key k")
    assert all(own.token.removeprefix("ponte_") not in row for (row,) in rows)


@pytest.mark.parametrize("table", ["api_key", "api_key_revoked"])
def test_what_became_of_a_key_is_changed_by_nobody(served: Served, table: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=f"ponte.{table} is append-only"):
        served.world.execute(f"DELETE FROM ponte.{table}")


def test_a_key_that_asks_too_much_has_to_wait(own: Served) -> None:
    _, token = own.key(per_minute=5)
    own.look()
    body = {"instances": [ROW] * 3}
    replies = [own.ask("POST", "/v1/models/visits:predict", token=token, json=body) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 429]
    assert 1 <= int(replies[1].headers["Retry-After"]) <= 13


BUCKETS: dict[str, tuple[list[tuple[float, int]], list[float]]] = {
    "what is there": ([(0, 60), (0, 1), (1, 1)], [0, 1, 0]),
    "fills to its size": ([(0, 60), (1000, 60), (1000, 1)], [0, 0, 1]),
    "more than its size, on credit": ([(0, 600), (0, 1), (541, 1)], [0, 541, 0]),
}


@pytest.mark.parametrize("name", BUCKETS)
def test_a_bucket_gives_what_has_run_into_it(name: str) -> None:
    asked, expected = BUCKETS[name]
    bucket = Bucket(60, 0, 60)
    assert [bucket.take(cost, now) for now, cost in asked] == expected


# ---------------------------------------------------------------- the database


def test_it_goes_on_while_the_database_is_away_and_what_was_answered_is_kept_when_it_is_back(
    own: Served, server: Cluster
) -> None:
    own.service.champions.start()
    own.service.journal.start()
    server.crash_and_restart()  # cuts every connection
    name = own.world.db.url.database
    server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        seen = own.service.champions.seen_at
        replies = [own.predict([ROW] * 2) for _ in range(20)]
        assert {reply.status_code for reply in replies} == {200}
        assert own.ask("GET", "/health/ready", token=None).status_code == 200
        reply = own.ask("GET", f"/v1/requests/{replies[0].json()['predictions'][0]['request_id']}")
        assert (reply.status_code, reply.json()["error"]["what"]) == (503, "the database is away")
    finally:
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    wait_for(lambda: own.service.champions.seen_at > seen)
    wait_for(lambda: own.service.journal.flush() and not own.service.journal.waiting)
    assert own.world.ask("SELECT count(*) FROM predictions.visits_live") == 40


def test_what_was_answered_is_kept_with_key_and_number_and_found_again(own: Served) -> None:
    rows = own.predict([ROW, ROW], keys=[{"visit_id": 7}, None]).json()["predictions"]
    own.service.journal.flush()
    kept = own.world.rows(
        "SELECT request_id::text, visit_id, prediction, score, source, model_version FROM predictions.visits_live"
    )
    assert sorted(kept, key=str) == sorted(
        [
            (row["request_id"], key, row["prediction"], row["score"], "api", 1)
            for row, key in zip(rows, (7, None), strict=True)
        ],
        key=str,
    )
    reply = own.ask(
        "POST", "/v1/feedback", json={"request_id": rows[0]["request_id"], "verdict": "right", "comment": "good"}
    )
    assert reply.status_code == 201, reply.text
    assert own.world.rows("SELECT verdict, given_by FROM ponte.live_feedback") == [("right", "test")]


NOBODY = "019aca5c-0000-7000-8000-000000000000"
FEEDBACK: dict[str, tuple[dict[str, Any], int, str]] = {
    "no request": ({"verdict": "right"}, 422, "the body is not what is expected"),
    "no such request": ({"request_id": NOBODY, "verdict": "right"}, 404, "no answer to"),
    "of 1582": ({"request_id": NOBODY.replace("7", "1"), "verdict": "right"}, 404, "no answer"),
    "another verdict": ({"request_id": NOBODY, "verdict": "yes"}, 422, "unknown verdict"),
    "NUL": ({"request_id": NOBODY, "verdict": "right", "comment": "\0"}, 422, "a text has"),
    "too long": ({"request_id": NOBODY, "verdict": "right", "comment": "x" * 5000}, 422, "the body"),
}  # fmt: skip


@pytest.mark.parametrize("name", FEEDBACK)
def test_feedback_that_cannot_be_kept_is_told_why(served: Served, name: str) -> None:
    body, status, what = FEEDBACK[name]
    reply = served.ask("POST", "/v1/feedback", json=body)
    assert (reply.status_code, reply.json()["error"]["what"][: len(what)]) == (status, what)


# ---------------------------------------------------------------- batches


def test_what_comes_at_once_is_one_batch_and_each_gets_its_own(served: Served) -> None:
    rows = [{**ROW, "items": items} for items in range(2 * BATCH_ROWS)]
    sizes = served.service.metrics.batch_rows.labels("visits")
    before = [bucket.get() for bucket in sizes._buckets]
    wrong = {**ROW, "items": "none"}
    bodies = [{"instances": [wrong if place == 5 else row]} for place, row in enumerate(rows)]
    replies = served.at_once([served.request("POST", "/v1/models/visits:predict", json=body) for body in bodies])
    assert [reply.status_code for reply in replies] == [422 if place == 5 else 200 for place in range(len(rows))]
    assert replies[5].json()["problems"][0]["instance"] == 0
    alone = served.predict([row for place, row in enumerate(rows) if place != 5]).json()["predictions"]
    together = [reply.json()["predictions"][0]["score"] for place, reply in enumerate(replies) if place != 5]
    assert together == pytest.approx([row["score"] for row in alone], rel=1e-12)
    assert sum(bucket.get() for bucket in sizes._buckets) - sum(before) < len(rows) / 8


@pytest.mark.parametrize("ends", ["later", "meanwhile"])
def test_who_asked_is_written_to_before_his_row_is_kept(
    served: Served, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Also when the loop ends between the two."""
    order: list[str] = []
    monkeypatch.setattr(served.service, "keep", lambda _: order.append("kept"))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"instances": [ROW]}).encode()}

    async def send(message: MutableMapping[str, Any]) -> None:
        order.append(message["type"])

    async def ask() -> None:
        headers = [(b"authorization", f"Bearer {served.token}".encode())]
        path = "/v1/models/visits:predict"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "root_path": "",
            "headers": headers,
            "query_string": b"",
        }
        await served.app(scope, receive, send)
        for _ in range(3 * (ends == "later")):
            await asyncio.sleep(0)

    asyncio.run(ask())
    assert order == ["http.response.start", "http.response.body", "kept"]


def test_who_would_wait_too_long_is_told_when_to_come_back(own: Served) -> None:
    pace = own.service.champions.get("visits").pace
    pace.wait = lambda rows: 0.1 * rows  # type: ignore[method-assign]
    replies = own.at_once([
        own.request("POST", "/v1/models/visits:predict", json={"instances": [ROW] * 4}) for _ in range(6)
    ])  # fmt: skip
    statuses = Counter(reply.status_code for reply in replies)
    assert statuses == {200: 2, 503: 4}
    late = next(reply for reply in replies if reply.status_code == 503)
    assert late.headers["Retry-After"] == "2"
    assert late.json()["error"]["what"] == "too many requests wait"


SOME_FAIL = """
from sklearn.base import BaseEstimator, ClassifierMixin
import numpy as np

class Picky(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
    def predict_proba(self, X):
        if (X["items"] == 7777).any():
            raise ValueError(f"the secret {X['price'].tolist()}")
        p = np.full(len(X), 0.25)
        return np.column_stack([1 - p, p])
    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

def build_estimator():
    return Picky()
"""


def with_estimator(world: World, text: str) -> Served:
    """Return the API of a world whose champion is made by this file."""
    world = world.with_model(
        files={ESTIMATOR_FILE: text}, gate='champion_indistinguishable = "promote"', bound="minimum = 0.01"
    )
    trained = world.train(run_id="other", promote=False)
    world.set_champion(trained.version.version)
    return Served(world)


def test_a_row_that_cannot_be_scored_has_an_error_of_its_own_and_the_others_are_answered(trained: World) -> None:
    own = with_estimator(trained, SOME_FAIL)
    bad = {**ROW, "items": 7777, "price": 4321.25}
    rows = own.predict([ROW, bad, ROW], keys=[None, {"visit_id": 5}, None]).json()["predictions"]
    assert [row.get("score") for row in rows] == [0.25, None, 0.25]
    assert rows[1]["error"] == {"what": "the model cannot score this row", "kind": "ValueError"}
    own.service.journal.flush()
    assert not own.service.journal.dropped
    assert own.world.ask("SELECT count(*) FROM predictions.visits_live") == 2
    query = "SELECT request_id::text, kind, why, key FROM ponte.live_unscored"
    assert own.world.rows(query) == [
        (rows[1]["request_id"], "ValueError", "ValueError: the secret [4321.25]", {"visit_id": 5})
    ]
    own.stop()


def test_a_slow_version_is_computed_in_a_process_of_its_own_which_may_die(
    own: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.serving import champions

    second = second_version(own)
    monkeypatch.setattr(champions, "INLINE_SECONDS", 0.0)
    own.world.set_champion(second)
    own.look()
    serving = own.service.champions.get("visits")
    assert isinstance(serving.worker, InProcess)
    assert serving.loaded.estimator is None
    replies = own.at_once([
        own.request("POST", "/v1/models/visits:predict", json={"instances": [{**ROW, "items": n}]}) for n in range(20)
    ])  # fmt: skip
    assert {reply.json()["model_version"] for reply in replies} == {second}
    told = own.ask("GET", "/v1/models/visits").json()["computed"]
    assert told["in"] == "a process of its own"

    serving.worker._process.kill()
    serving.worker._process.join()
    assert own.predict([ROW]).status_code == 503
    own.look()  # starts it anew
    reply = own.predict([ROW])
    assert (reply.status_code, reply.json()["model_version"]) == (200, second)
