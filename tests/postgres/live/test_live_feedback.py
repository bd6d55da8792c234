"""What people say of a live row: kept as it was said, and nothing else can be done that way."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.postgres.live.conftest import add_model
from tests.postgres.live.test_live_tables import HOSTILE, NOW, write
from tests.postgres.schema.test_roles import as_role

from ponte.live.tables import LiveTable, prepare
from ponte.schema import roles

if TYPE_CHECKING:
    from tests.sample_model import World

GIVE = "SELECT ponte.give_live_feedback(CAST(:request AS uuid), :verdict, :label, :comment, :by)"


def give(world: World, request: str | None, **changed: Any) -> int:
    """Give feedback as the API does."""
    said = {"request": request, "verdict": "right", "label": None, "comment": None, "by": "website", **changed}
    with as_role(world, roles.API).db.begin() as connection:
        return int(connection.execute(sa.text(GIVE), said).scalar_one())


def refused(world: World, request: str | None, **changed: Any) -> sa.exc.DBAPIError:
    with pytest.raises(sa.exc.DBAPIError) as caught:
        give(world, request, **changed)
    return caught.value


@pytest.fixture
def request_id(live: World, table: LiveTable) -> str:
    """One row that was answered with 1."""
    return write(live, table, [NOW], visit_id=[7])[0]


def test_it_is_kept_with_the_row_and_shown_beside_that_on_batches(live: World, request_id: str) -> None:
    first = give(live, request_id, verdict="wrong", label=" 0 ", comment=f" {HOSTILE} ")
    second = give(live, request_id, by="form")
    assert second > first
    with live.db.begin() as connection:
        [row, _] = connection.exec_driver_sql("SELECT * FROM ponte.live_feedback ORDER BY feedback_id").all()
    assert (str(row.request_id), row.asked_at, row.model, row.model_version) == (request_id, NOW, "visits", 1)
    assert (row.verdict, row.prediction, row.correct_label, row.comment) == ("wrong", "1", "0", HOSTILE)
    shown = as_role(live, roles.ANALYST).rows(
        "SELECT feedback_id, about, model, version, verdict, corrected, given_by, counts, window_start, key, "
        "correct_label, comment, CAST(request_id AS text) FROM ponte.feedback ORDER BY feedback_id"
    )  # fmt: skip
    assert [tuple(row) for row in shown] == [
        (first, "request", "visits", 1, "wrong", True, "website", True, None, None, None, None, request_id),
        (second, "request", "visits", 1, "right", False, "form", True, None, None, None, None, request_id),
    ]


def test_the_newest_of_a_giver_counts(live: World, request_id: str) -> None:
    for verdict in ("right", "wrong"):
        give(live, request_id, verdict=verdict)
    give(live, request_id, verdict="wrong", by="other")
    counts = "SELECT given_by, verdict FROM ponte.feedback WHERE counts ORDER BY 1"
    assert live.rows(counts) == [("other", "wrong"), ("website", "wrong")]
    give(live, request_id, verdict="withdrawn")
    assert live.rows(counts) == [("other", "wrong")]
    assert "nothing to take back" in str(refused(live, request_id, verdict="withdrawn").orig)


def test_feedback_on_rows_and_batches_has_one_row_of_numbers(scored: World) -> None:
    from tests.postgres.schema.test_feedback import give as give_on_batch
    from tests.postgres.schema.test_roles import opened

    world = opened(scored)
    prepare(world.db, "visits")
    [request] = write(world, LiveTable.of(world.champion()), [NOW])
    numbers = [
        give_on_batch(as_role(world, roles.ANALYST)),
        give(world, request),
        give_on_batch(as_role(world, roles.ANALYST)),
    ]
    assert numbers == sorted(set(numbers))
    assert [about for (about,) in world.rows("SELECT about FROM ponte.feedback ORDER BY feedback_id")] == [
        "row",
        "request",
        "row",
    ]


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"verdict": "wrnog"}, ["unknown verdict", "'wrnog'"]),
    ({"verdict": None}, ["unknown verdict", "got NULL"]),
    ({"verdict": "right", "label": "0"}, ["goes with the verdict wrong"]),
    ({"verdict": "wrong", "label": "2"}, ["is no label", "'2'", "one of: 0, 1"]),
    ({"verdict": "wrong", "label": "0) OR true --"}, ["is no label"]),
    ({"verdict": "wrong", "label": "1"}, ["is what was predicted"]),
    ({"verdict": "wrong", "label": "x" * 5000}, ["too long", "a correct_label of 5000"]),
    ({"comment": "x" * 1_000_000}, ["too long", "a comment of 1000000"]),
    ({"verdict": "withdrawn"}, ["nothing to take back"]),
]


def test_what_cannot_be_meant_is_refused_in_words(live: World, request_id: str) -> None:
    for given, expected in BAD:
        said = str(refused(live, request_id, **given).orig)
        assert not [words for words in expected if words not in said], (given, said[:600])
        assert len(said) < 1500
    assert live.ask("SELECT count(*) FROM ponte.live_feedback") == 0


@pytest.mark.parametrize(
    "request_id_given",
    [None, "7b1f1e8d-e491-475c-8f36-b196700eb11e", "00000000-0000-0000-0000-000000000000", "version 7"],
)
def test_a_request_that_nobody_answered_is_not_found(
    live: World, request_id: str, request_id_given: str | None
) -> None:
    given = (
        request_id[:-1] + ("0" if request_id[-1] != "0" else "1")
        if request_id_given == "version 7"
        else request_id_given
    )
    error = refused(live, given)
    assert getattr(error.orig, "pgcode", None) == "P0002"
    assert "no answer to the request" in str(error.orig)


def test_a_row_is_found_among_many_models_and_by_any_number(live: World, table: LiveTable) -> None:
    for name in ("aaa", "zzz"):
        add_model(live, name, task="regression", label="number")
        prepare(live.db, name)
    add_model(live, "never_answered")
    regression = replace(
        LiveTable.of(add_model(live, "zzz", task="regression", label="number", version=2)), model="zzz"
    )
    [number] = write(live, regression, [NOW], prediction=2.5)
    for label in ("NaN", "Infinity", "much"):
        assert "double precision" in str(refused(live, number, verdict="wrong", label=label).orig)
    give(live, number, verdict="wrong", label="1e1")
    random = str(uuid.uuid4())
    with as_role(live, roles.API).db.begin() as connection:
        values = {
            "request_id": [random],
            "asked_at": NOW,
            "source": "api",
            "prediction": 0,
            "scored_at": NOW,
            "model_version": 1,
        }
        table.copy(connection, table.lines(values))
    give(live, random)
    assert live.rows("SELECT model, model_version, correct_label FROM ponte.live_feedback ORDER BY feedback_id") == [
        ("zzz", 1, "10"), ("visits", 1, None),
    ]  # fmt: skip


def test_nobody_can_fill_the_table(live: World, request_id: str) -> None:
    for _ in range(20):
        give(live, request_id, by="x" * 500)
    assert "too much feedback" in str(refused(live, request_id, by="somebody else").orig)
    assert live.ask("SELECT max(length(given_by)) FROM ponte.live_feedback") == 200


def test_what_others_put_there_is_not_asked(live: World, request_id: str) -> None:
    add_model(live, "trap")
    scorer = as_role(live, roles.SCORER)
    scorer.execute(
        "CREATE TABLE ponte_data.live_trap (request_id uuid, asked_at timestamptz, prediction text, model_version int)"
    )
    scorer.execute(
        "INSERT INTO ponte_data.live_trap VALUES (CAST(:id AS uuid), now(), 'x', 1)", id=str(uuid.UUID(int=7 << 76))
    )
    assert "no answer" in str(refused(live, str(uuid.UUID(int=7 << 76))).orig)
