"""What people say of predictions: kept as it was said, by whom and when, and nothing else can be done that way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.postgres.schema.test_roles import as_role, opened
from tests.sample_model import WEEK, World

from ponte.schema import roles

if TYPE_CHECKING:
    from tests.conftest import Cluster

GIVE = "SELECT ponte.give_feedback(:model, :window, CAST(:key AS jsonb), :verdict, :label, :comment)"


def give(world: World, **changed: Any) -> int:
    """Give feedback as whoever the world's database connects as, on a row of the published week."""
    said: dict[str, Any] = {
        "model": "visits", "window": WEEK, "key": {"visit_id": 2101}, "verdict": "right",
        "label": None, "comment": None,
    }  # fmt: skip
    said.update(changed)
    said["key"] = said["key"] if said["key"] is None or isinstance(said["key"], str) else json.dumps(said["key"])
    with world.db.begin() as connection:
        return int(connection.execute(sa.text(GIVE), said).scalar_one())


def refused(world: World, **changed: Any) -> str:
    """Return message and hint of the error."""
    with pytest.raises(sa.exc.DBAPIError) as caught:
        give(world, **changed)
    return str(caught.value.orig)


@pytest.fixture
def worked(scored: World) -> World:
    """One published week, in a database as a platform has it."""
    return opened(scored)


@pytest.fixture
def analyst(worked: World) -> World:
    """The same, as an analyst sees it."""
    return as_role(worked, roles.ANALYST)


@pytest.fixture
def ana(worked: World, server: Cluster) -> Iterator[World]:
    """A person with a login of her own, made as the how-to says."""
    server.execute(f"CREATE ROLE ana LOGIN PASSWORD '{worked.db.url.password}' IN ROLE ponte_analyst")
    yield as_role(worked, "ana")
    server.execute("DROP ROLE ana")


def opposite(world: World, visit_id: int = 2101) -> str:
    """Return the label that was not predicted."""
    found = world.ask("SELECT prediction FROM predictions.visits WHERE visit_id = :id", id=visit_id)
    return "0" if found == 1 else "1"


def test_what_was_said_is_kept_with_who_when_and_of_what(worked: World, analyst: World) -> None:
    before = worked.ask("SELECT clock_timestamp()")
    other = opposite(analyst)
    first = give(analyst, verdict="wrong", label=f" {other} ", comment="  came back on Friday ")
    second = give(analyst, key=None, verdict="wrong", comment="the whole week looks odd")
    assert second > first
    with worked.db.begin() as connection:
        [row, batch] = connection.exec_driver_sql("SELECT * FROM ponte.feedback_given ORDER BY feedback_id").all()
    published = worked.ask("SELECT batch_id FROM ponte.published WHERE window_start = :week", week=WEEK)
    assert (row.model, row.window_start, row.batch_id, row.key) == ("visits", WEEK, published, {"visit_id": 2101})
    assert (row.verdict, row.correct_label, row.comment) == ("wrong", other, "came back on Friday")
    assert (row.prediction, row.given_by) == ("1" if other == "0" else "0", "ponte_analyst")
    assert before < row.at < worked.ask("SELECT clock_timestamp()")
    assert (batch.key, batch.prediction, batch.comment) == (None, None, "the whole week looks odd")


def test_the_view_counts_verdicts_and_shows_what_rows_hold_to_their_author_only(
    worked: World, analyst: World, ana: World
) -> None:
    other = opposite(analyst)
    give(ana, verdict="right")
    give(ana, verdict="wrong", label=other, comment="mine")
    give(analyst, verdict="wrong", comment="theirs")
    columns = "given_by, verdict, corrected, counts, key, correct_label, comment"
    counts = f"SELECT {columns} FROM ponte.feedback ORDER BY feedback_id"
    key = {"visit_id": 2101}
    assert [tuple(row) for row in ana.rows(counts)] == [
        ("ana", "right", False, False, key, None, None),
        ("ana", "wrong", True, True, key, other, "mine"),
        ("ponte_analyst", "wrong", False, True, None, None, None),
    ]
    give(ana, verdict="withdrawn")
    standing = "SELECT verdict, count(*) FROM ponte.feedback WHERE counts GROUP BY 1"
    assert analyst.rows(standing) == [("wrong", 1)]
    viewer = "SELECT count(*) FROM ponte.feedback WHERE coalesce(comment, correct_label, key::text) IS NOT NULL"
    assert as_role(worked, roles.VIEWER).ask(viewer) == 0
    # A condition of the reader's own does not see what the view hides.
    with ana.db.begin() as connection:
        sees = connection.exec_driver_sql("SELECT count(*) FROM ponte.feedback WHERE comment = 'theirs'").scalar_one()
    assert sees == 0


#: What is given → what the error says of it.
BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"verdict": "wrnog"}, ["unknown verdict", "'wrnog'", "right, wrong or withdrawn"]),
    ({"verdict": None}, ["unknown verdict", "got NULL"]),
    ({"verdict": "Wrong "}, ["Did you mean 'wrong'?"]),
    ({"verdict": "'); DROP TABLE ponte.batch; --"}, ["unknown verdict"]),
    ({"model": "visit"}, ["no model 'visit'", "expected one of: visits"]),
    ({"model": "Visits"}, ["Did you mean 'visits'?"]),
    ({"model": "predictions.visits"}, ["Did you mean 'visits'?"]),
    ({"model": None}, ["no model NULL"]),
    ({"model": "visits'; DROP TABLE ponte.batch; --"}, ["no model 'visits''; DROP"]),
    ({"model": "x" * 1_000_000}, ["no model"]),
    ({"window": "2024-02-14"}, ["no window 2024-02-14", "(the newest five): 2024-02-12", "Did you mean '2024-02-12'"]),
    ({"window": "2031-01-01"}, ["no window 2031-01-01", "named by its first day"]),
    ({"window": None}, ["no window NULL"]),
    ({"window": "infinity"}, ["no window infinity"]),
    ({"key": {"visit_id": 999_999}}, ["has no prediction with the key", "999999", "predictions.visits"]),
    ({"key": {"visit": 1}}, ["the key is not that of the model visits", '{"visit_id": bigint}']),
    ({"key": {"visit_id": 2101, "shop": "mill"}}, ["the key is not that of the model"]),
    ({"key": {}}, ["the key is not that of the model"]),
    ({"key": "2101"}, ["the key is not that of the model", "got 2101"]),
    ({"key": "null"}, ["the key is not that of the model", "got null"]),
    ({"key": "[2101]"}, ["the key is not that of the model"]),
    ({"key": {"visit_id": None}}, ["the key is not that of the model"]),
    ({"key": {"visit_id": [2101]}}, ["the key is not that of the model"]),
    ({"key": {"visit_id": "abc"}}, ["value of another type", "bigint"]),
    ({"key": {"visit_id": "2101 OR true"}}, ["value of another type"]),
    ({"key": {"visit_id": 1e300}}, ["value of another type"]),
    ({"key": {"visit_id": "x" * 20_000}}, ["too long", "a key of 200"]),
    ({"verdict": "wrong", "label": "2"}, ["correct_label is no label", "'2'", "one of: 0, 1"]),
    ({"verdict": "wrong", "label": "yes"}, ["correct_label is no label", "one of: 0, 1"]),
    ({"verdict": "wrong", "label": "1) OR true --"}, ["correct_label is no label"]),
    ({"verdict": "wrong", "label": ""}, ["correct_label is no label"]),
    ({"verdict": "wrong", "label": "x" * 5000}, ["too long", "a correct_label of 5000"]),
    ({"verdict": "right", "label": "1"}, ["goes with the verdict wrong on one row"]),
    ({"verdict": "wrong", "label": "1", "key": None}, ["goes with the verdict wrong on one row", "a whole batch"]),
    ({"comment": "x" * 1_000_000}, ["too long", "a comment of 1000000 characters", "at most 4000"]),
    ({"verdict": "withdrawn"}, ["nothing to take back", "this row"]),
    ({"verdict": "withdrawn", "key": None}, ["nothing to take back", "this batch"]),
]  # fmt: skip


def test_what_cannot_be_meant_is_refused_in_words_that_help_and_nothing_is_kept(worked: World, analyst: World) -> None:
    for given, expected in BAD:
        said = refused(analyst, **given)
        assert not [words for words in expected if words not in said], (given, said[:600])
        assert len(said) < 1500, (given, "an error does not repeat a megabyte")
        assert "plan cache" not in said
    assert worked.ask("SELECT count(*) FROM ponte.feedback_given") == 0
    assert worked.ask("SELECT count(*) FROM ponte.batch") > 0


def test_a_correction_is_another_label_than_the_prediction(analyst: World) -> None:
    predicted = "1" if opposite(analyst) == "0" else "0"
    assert "is what was predicted" in refused(analyst, verdict="wrong", label=predicted)


def test_text_is_kept_as_it_is_and_never_run(worked: World, analyst: World) -> None:
    hostile = "'); DROP TABLE ponte.batch; -- %s %I $1 {} \\' \u202e"
    give(analyst, comment=hostile)
    assert worked.ask("SELECT comment FROM ponte.feedback_given") == hostile


def test_a_label_has_the_type_of_its_model(worked: World, analyst: World) -> None:
    """The same folder as a regression, of which any finite number can be right."""
    worked.execute("ALTER TABLE ponte.version DISABLE TRIGGER append_only")
    worked.execute(
        "UPDATE ponte.version SET task = 'regression', classes = NULL, threshold = NULL, "
        "signature = jsonb_set(signature, '{label}', '\"number\"')"
    )
    give(analyst, verdict="wrong", label="1e1")
    give(analyst, verdict="wrong", label="-2.50")
    assert [label for (label,) in worked.rows("SELECT correct_label FROM ponte.feedback_given ORDER BY 1")] == [
        "-2.5",
        "10",
    ]
    for label in ("NaN", "Infinity", "-inf", "1e999", "much", "0x"):
        assert "expected a value of the type double precision" in refused(analyst, verdict="wrong", label=label)


@pytest.mark.parametrize("role", [role for role in roles.LOGINS if role not in (roles.OWNER, roles.ANALYST)])
def test_no_other_role_gives_feedback(worked: World, role: str) -> None:
    assert "permission denied for function give_feedback" in refused(as_role(worked, role))


def test_an_analyst_can_call_this_function_and_write_nothing_by_itself(analyst: World) -> None:
    give(analyst, comment="hello")
    for statement in (
        "INSERT INTO ponte.feedback_given (given_by) VALUES ('somebody else')",
        "UPDATE ponte.feedback_given SET comment = ''",
        "DELETE FROM ponte.feedback_given",
        "SELECT comment FROM ponte.feedback_given",
        "INSERT INTO ponte.energy_setting DEFAULT VALUES",
        "INSERT INTO ponte.feedback (comment) VALUES ('')",
        "ALTER FUNCTION ponte.give_feedback(text, date, jsonb, text, text, text) RESET ALL",
        "CREATE OR REPLACE FUNCTION ponte.give_feedback() RETURNS int LANGUAGE sql RETURN 1",
    ):
        with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|must be owner|cannot insert into view"):
            analyst.execute(statement)


def test_the_settings_of_a_caller_change_nothing(worked: World, analyst: World) -> None:
    """A search_path with look-alikes first, another zone, other forms of numbers and dates."""
    worked.execute("CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO ponte_analyst")
    for function in ("lower(text) RETURNS text", "length(text) RETURNS int", "left(text, int) RETURNS text"):
        worked.execute(f"CREATE FUNCTION trap.{function} LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'")
    worked.execute("CREATE TABLE trap.pg_class (relname name, relnamespace oid, relkind char)")
    worked.execute("GRANT SELECT ON trap.pg_class TO ponte_analyst")
    with analyst.db.begin() as connection:
        for setting in (
            "search_path = trap, pg_catalog, ponte", "TimeZone = 'Asia/Tokyo'", "DateStyle = 'SQL, DMY'",
            "extra_float_digits = -15", "row_security = off", "plan_cache_mode = force_generic_plan",
        ):  # fmt: skip
            connection.exec_driver_sql(f"SET LOCAL {setting}")
        said = connection.execute(
            sa.text(GIVE),
            {"model": "visits", "window": WEEK.isoformat(), "key": '{"visit_id": "2101"}', "verdict": "right",
             "label": None, "comment": "x"},
        ).scalar_one()  # fmt: skip
    assert worked.rows("SELECT feedback_id, key FROM ponte.feedback_given") == [(said, {"visit_id": 2101})]


def test_what_the_scorer_puts_in_the_place_of_its_predictions_is_not_run_as_the_owner(
    worked: World, analyst: World
) -> None:
    scorer = as_role(worked, roles.SCORER)
    [[table]] = worked.rows(
        "SELECT prediction_table FROM ponte.batch JOIN ponte.published USING (batch_id) "
        "WHERE ponte.published.window_start = :week", week=WEEK,
    )  # fmt: skip
    scorer.execute(f"ALTER TABLE ponte_data.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    scorer.execute(f"CREATE POLICY mine ON ponte_data.{table} USING (set_config('app.as', current_user, false) <> '')")
    assert "would be affected by row-level security" in refused(analyst)
    scorer.execute(f"ALTER TABLE ponte_data.{table} RENAME TO elsewhere")
    scorer.execute(f"CREATE VIEW ponte_data.{table} AS SELECT * FROM ponte_data.elsewhere")
    assert "are no table" in refused(analyst)


def test_nobody_can_fill_the_table(worked: World, analyst: World) -> None:
    worked.execute(
        "INSERT INTO ponte.feedback_given (model, window_start, batch_id, verdict, given_by, at) "
        "SELECT 'visits', '2024-02-12', max(batch_id), 'right', 'ponte_analyst', clock_timestamp() "
        "- i * interval '8 s' FROM ponte.published, generate_series(1, 9999) i GROUP BY i"
    )
    many = "SELECT ponte.give_feedback('visits', '2024-02-12', NULL, 'right', NULL, NULL) FROM generate_series(1, :n)"
    with pytest.raises(sa.exc.DBAPIError, match="too much feedback: ponte_analyst has given 10000 within a day"):
        analyst.rows(many, n=2)
    analyst.rows(many, n=1)
    assert "too much feedback" in refused(analyst)
    worked.execute("ALTER TABLE ponte.feedback_given DISABLE TRIGGER append_only")
    worked.execute("UPDATE ponte.feedback_given SET at = at - interval '1 day'")
    give(analyst)


def test_a_transaction_that_a_person_leaves_open_keeps_nobody_from_publishing(worked: World, analyst: World) -> None:
    with analyst.db.begin() as connection:
        connection.exec_driver_sql("SELECT ponte.give_feedback('visits', '2024-02-12', NULL, 'wrong')")
        for table in ("batch", "published", "claim", "version"):
            worked.rows(f"SELECT * FROM ponte.{table} FOR UPDATE NOWAIT")


def test_feedback_stays_with_the_batch_that_people_saw(worked: World, analyst: World) -> None:
    give(analyst)
    seen = worked.ask("SELECT batch_id FROM ponte.published WHERE window_start = :week", week=WEEK)
    as_role(worked, roles.SCORER).run(run_id="week again", week=WEEK)
    give(analyst)
    batches = [batch for (batch,) in analyst.rows("SELECT batch_id FROM ponte.feedback ORDER BY feedback_id")]
    assert batches == [seen, worked.ask("SELECT batch_id FROM ponte.published WHERE window_start = :week", week=WEEK)]
    assert batches[0] != batches[1]


@pytest.mark.parametrize("table", ["feedback_given", "energy_setting"])
@pytest.mark.parametrize(
    "statement", ["UPDATE ponte.{0} SET at = at", "DELETE FROM ponte.{0}", "TRUNCATE ponte.{0} CASCADE"]
)
def test_nothing_that_was_said_or_set_is_changed_even_by_the_owner(worked: World, table: str, statement: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=f"ponte.{table} is append-only"):
        worked.execute(statement.format(table))
