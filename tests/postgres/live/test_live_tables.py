"""The tables of live rows: what makes them, what they hold, who may do what, and how they come and go by the month."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.postgres.live.conftest import add_model
from tests.postgres.schema.test_roles import as_role

from ponte.live.tables import LiveTable, Unscored, copy_unscored, prepare, request_ids
from ponte.schema import roles
from ponte.storage.columns import Column
from ponte.storage.database import quote

if TYPE_CHECKING:
    from tests.sample_model import World

NOW = dt.datetime.now(dt.UTC)
HOSTILE = "say \"hi\"; DROP TABLE ponte.batch; -- %I %s $1 \\ 'x' é"


def column(name: str, family: Any = "integer") -> Column:
    return Column(name=name, family=family)


def write(world: World, table: LiveTable, moments: list[dt.datetime], **columns: Any) -> list[str]:
    """Write rows as the API does; return the numbers of the requests."""
    ids = [request_ids(1, moment)[0] for moment in moments]
    given = {"prediction": 1, "score": 0.75, "scored_at": NOW, "model_version": 1, "source": "api", **columns}
    with as_role(world, roles.API).db.begin() as connection:
        table.copy(connection, table.lines({**given, "request_id": ids, "asked_at": moments}))
    return ids


def parts(world: World, model: str = "visits") -> list[str]:
    found = world.rows(
        "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        "WHERE inhparent = to_regclass('ponte_data.' || quote_ident('live_' || CAST(:model AS text))) ORDER BY 1",
        model=model,
    )  # fmt: skip
    return [name.partition("__")[2] for (name,) in found]


def months_from(first: dt.date, count: int) -> list[str]:
    return [f"{first.year + (first.month - 1 + i) // 12}_{(first.month - 1 + i) % 12 + 1:02}" for i in range(count)]


def test_the_view_shows_what_the_weekly_one_has_and_no_features(live: World, table: LiveTable) -> None:
    [one] = write(live, table, [NOW], visit_id=[7], features=[{"shop": "mill"}])
    [two] = write(live, table, [NOW + dt.timedelta(seconds=1)], source="queue")
    with as_role(live, roles.ANALYST).db.begin() as connection:
        found = connection.exec_driver_sql("SELECT * FROM predictions.visits_live ORDER BY asked_at").mappings().all()
    assert [(str(row["request_id"]), row["source"], row["visit_id"]) for row in found] == [
        (one, "api", 7),
        (two, "queue", None),
    ]
    weekly = {"visit_id", "prediction", "score", "scored_at", "model_version"}
    assert set(found[0]) == weekly | {"request_id", "asked_at", "source"}
    assert found[0]["score"] == 0.75
    assert found[0]["asked_at"] == NOW


def test_months_are_made_three_ahead_and_every_row_lies_in_its_own(live: World, table: LiveTable) -> None:
    ahead = months_from(NOW.date(), 4)
    assert parts(live) == [*ahead, "default"]
    live.ask("SELECT ponte.make_live_months('visits', '2023-12-31 23:59:59.999999+00')")
    made = ["2023_12", "2024_01", "2024_02", "2024_03"]
    assert parts(live) == [*made, *ahead, "default"]
    live.execute("SET TimeZone = 'Asia/Tokyo'")
    ends = [
        dt.datetime(2023, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2024, 2, 29, 23, 59, 59, tzinfo=dt.UTC),
        dt.datetime(2024, 3, 1, 8, tzinfo=dt.timezone(dt.timedelta(hours=9))),
        dt.datetime(2024, 3, 31, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(2024, 4, 1, tzinfo=dt.UTC),
    ]  # fmt: skip
    write(live, table, ends)
    where = live.rows("SELECT right(tableoid::regclass::text, 7) FROM ponte_data.live_visits ORDER BY asked_at")
    assert [name for (name,) in where] == ["2023_12", "2024_01", "2024_02", "2024_02", "2024_03", "default"]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_the_zone_of_the_caller_changes_no_month(live: World, zone: str) -> None:
    add_model(live, "other")
    with as_role(live, roles.STREAM).db.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL TimeZone = '{zone}'")
        connection.exec_driver_sql("SELECT ponte.prepare_live('other')")
    bounds = live.rows(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class "
        "WHERE relname ~ '^live_other__[0-9]' AND relkind = 'r' ORDER BY 1"
    )
    assert len(bounds) == 4
    assert all("-01 00:00:00+00') TO" in text for (text,) in bounds)


def test_rows_that_came_before_their_month_was_made_are_moved(live: World, table: LiveTable) -> None:
    early = dt.datetime(2023, 5, 31, 23, 59, tzinfo=dt.UTC)
    far = NOW + dt.timedelta(days=400)
    ids = write(live, table, [early, early + dt.timedelta(minutes=2), NOW, far])
    prepare(as_role(live, roles.MONITOR).db, "visits")
    assert parts(live)[:2] == ["2023_05", "2023_06"]
    where = dict(live.rows("SELECT CAST(request_id AS text), tableoid::regclass::text FROM ponte_data.live_visits"))
    assert [where[i][-7:] for i in ids] == ["2023_05", "2023_06", NOW.strftime("%Y_%m"), "default"]
    assert live.ask("SELECT count(*) FROM predictions.visits_live") == 4


def test_a_reader_delays_a_new_month_and_nobody_else(live: World, table: LiveTable) -> None:
    with as_role(live, roles.ANALYST).db.begin() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM predictions.visits_live")
        live.ask("SELECT ponte.make_live_months('visits', '2023-12-31')")
        assert "2023_12" not in parts(live)
        write(live, table, [NOW])
    live.ask("SELECT ponte.make_live_months('visits', '2023-12-31')")
    assert parts(live)[:4] == months_from(dt.date(2023, 12, 1), 4)


def test_it_is_made_once_however_many_ask_at_once(live: World) -> None:
    names = [f"model_{i}" for i in range(4)]
    for name in names:
        add_model(live, name)
    errors: list[Exception] = []

    def ask(role: str) -> None:
        try:
            for name in names:
                prepare(as_role(live, role).db, name)
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [
        threading.Thread(target=ask, args=(role,)) for role in (roles.API, roles.STREAM, roles.MONITOR, roles.API)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [len(parts(live, name)) for name in names] == [5, 5, 5, 5]


def test_hostile_names_and_values_are_names_and_values(live: World) -> None:
    key = (column(HOSTILE[:60], "text"), column("select", "timestamp"), column("Über", "date"), column("n"))
    version = add_model(live, "odd", key=key, task="multiclass", label="text")
    prepare(as_role(live, roles.API).db, "odd")
    table = LiveTable.of(version)
    for text in (HOSTILE, "tab\there\nand\\N", "\\.", "", "\u2028\U0001f600", "\r\n"):
        [request] = write(
            live, table, [NOW], prediction=text, score=None, scores=[[0.25, 0.5, 0.25]], features=[{text: text}],
            **{key[0].name: [text], "select": NOW, "Über": dt.date(1999, 12, 31), "n": -(2**63)},
        )  # fmt: skip
        query = sa.text(f"SELECT * FROM predictions.odd_live WHERE CAST(request_id AS text) = :id")  # noqa: F541
        with as_role(live, roles.ANALYST).db.begin() as connection:
            row = connection.execute(query, {"id": request}).mappings().one()
        assert (row[key[0].name], row["prediction"], row["select"], row["Über"], row["n"]) == (
            text, text, NOW, dt.date(1999, 12, 31), -(2**63),
        )  # fmt: skip
        assert row["scores"] == [0.25, 0.5, 0.25]
        kept = live.ask("SELECT features FROM ponte_data.live_odd WHERE CAST(request_id AS text) = :id", id=request)
        assert kept == {text: text}
    assert live.ask("SELECT count(*) FROM ponte.batch") == 0


@pytest.mark.parametrize(
    ("task", "scores"), [("binary", "score"), ("multiclass", "scores"), ("regression", "low, high")]
)
def test_each_task_has_its_columns(live: World, task: str, scores: str) -> None:
    version = add_model(live, "m", task=task, label="number")
    prepare(as_role(live, roles.API).db, "m")
    shown = live.rows(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = 'predictions.m_live'::regclass AND attnum > 0 ORDER BY attnum"
    )
    names = [
        "request_id",
        "asked_at",
        "source",
        "visit_id",
        "prediction",
        *scores.split(", "),
        "scored_at",
        "model_version",
    ]
    assert [name for (name,) in shown] == names
    assert list(LiveTable.of(version).columns) == [*names, "features"]
    bare = live.rows(
        "SELECT attname FROM pg_attribute WHERE attrelid "
        "IN ('predictions.m_live'::regclass, 'ponte_data.live_m'::regclass) "
        "AND attnum > 0 AND col_description(attrelid, attnum) IS NULL"
    )
    assert not bare


def test_a_champion_with_another_key_or_label_is_refused_and_the_rows_stay(live: World, table: LiveTable) -> None:
    write(live, table, [NOW])
    add_model(live, "visits", key=(column("other_id", "text"),), version=2)
    with pytest.raises(sa.exc.DBAPIError, match="no longer that of its earlier live rows") as caught:
        prepare(as_role(live, roles.API).db, "visits")
    assert "other_id text" in str(caught.value)
    assert "visit_id bigint" in str(caught.value)
    assert live.ask("SELECT count(*) FROM predictions.visits_live") == 1


def test_no_version_becomes_champion_whose_answers_could_not_be_kept(live: World) -> None:
    from ponte.errors import PonteError
    from ponte.publishing.tables import require_columns_of_earlier

    with live.db.begin() as connection:
        for task, label in (("binary", "integer"), ("multiclass", "text"), ("regression", "number")):
            version = add_model(live, f"m_{task}", task=task, label=label)
            prepare(live.db, version.model)
            require_columns_of_earlier(connection, version)
    other = replace(live.champion().signature, key=(column("visit_id", "text"),))
    with as_role(live, roles.PROMOTER).db.begin() as connection:
        require_columns_of_earlier(connection, live.champion())
        with pytest.raises(PonteError, match="no longer that of the earlier predictions") as caught:
            require_columns_of_earlier(connection, replace(live.champion(), signature=other))
    assert "visit_id bigint, prediction bigint" in str(caught.value)


def test_what_cannot_be_made_is_refused_in_words(live: World) -> None:
    api = as_role(live, roles.API).db
    for model in ("nobody", "visits'; DROP TABLE ponte.batch; --", "x" * 5000, None):
        with pytest.raises(sa.exc.DBAPIError, match="has a champion"):
            prepare(api, model)  # type: ignore[arg-type]
    add_model(live, "twice", key=(column("request_id"),))
    with pytest.raises(sa.exc.DBAPIError, match="a column that live rows have too"):
        prepare(api, "twice")
    for relation in ("TABLE ponte_data.live_taken (a int)", "VIEW predictions.taken_live AS SELECT 1 AS a"):
        add_model(live, "taken", version=1) if "TABLE" in relation else None
        scorer = as_role(live, roles.SCORER)
        scorer.execute(f"CREATE {relation}")
        with pytest.raises(sa.exc.DBAPIError, match="is somebody else's"):
            prepare(api, "taken")
        scorer.execute(f"DROP {relation.partition(' AS ')[0].partition(' (')[0]}")
    prepare(api, "taken")


def test_the_settings_of_a_caller_change_nothing(live: World) -> None:
    add_model(live, "other")
    live.execute("CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO ponte_api")
    live.execute(
        "CREATE FUNCTION trap.to_char(timestamptz, text) RETURNS text LANGUAGE plpgsql "
        "AS 'BEGIN RAISE ''trapped''; END'"
    )
    live.execute("CREATE TABLE trap.pg_class (relname name, relnamespace oid, relkind char, relowner oid)")
    live.execute("GRANT SELECT ON trap.pg_class TO ponte_api")
    with as_role(live, roles.API).db.begin() as connection:
        for setting in ("search_path = trap, pg_catalog", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'"):
            connection.exec_driver_sql(f"SET LOCAL {setting}")
        connection.exec_driver_sql("SELECT ponte.prepare_live('other')")
    assert parts(live, "other") == parts(live)


def test_months_past_keep_days_are_dropped_and_said(live: World, table: LiveTable) -> None:
    live.ask("SELECT ponte.make_live_months('visits', CAST(:at AS timestamptz))", at=NOW - dt.timedelta(days=420))
    last = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    old = [NOW - dt.timedelta(days=d) for d in (420, 419, 380)]
    write(live, table, [*old, NOW])
    with as_role(live, roles.API).db.begin() as connection:
        rows = [
            Unscored(
                request_id=request_ids(1, at)[0], model="visits", source="api", asked_at=at, why="no", kind="ValueError"
            )
            for at in (old[0], NOW)
        ]  # fmt: skip
        copy_unscored(connection, rows)
    monitor = as_role(live, roles.MONITOR)
    dropped = monitor.ask("SELECT ponte.retire_live('visits', 365)")
    oldest = live.ask("SELECT min(asked_at) FROM predictions.visits_live")
    ends = [dt.datetime.strptime(p, "%Y_%m").replace(tzinfo=dt.UTC) for p in parts(live) if p != "default"]
    assert all(end + dt.timedelta(days=62) > NOW - dt.timedelta(days=365) for end in ends)
    kept = [at for at in [*old, NOW] if at >= min(ends)]
    assert oldest == min(kept)
    assert live.ask("SELECT sum(rows) FROM ponte.live_retired") == 4 - len(kept)
    assert dropped == live.ask("SELECT count(*) FROM ponte.live_retired") > 0
    assert live.rows("SELECT count(*), min(asked_at) FROM ponte.live_unscored") == [(1, NOW)]
    assert monitor.ask("SELECT ponte.retire_live('visits', 365)") == 0
    assert last
    for days in (0, -5, None):
        with pytest.raises(sa.exc.DBAPIError, match="a month at least"):
            monitor.ask("SELECT ponte.retire_live('visits', CAST(:days AS integer))", days=days)


#: Role → statements that it may not run on live rows, of those below.
STATEMENTS = {
    "read": "SELECT * FROM ponte_data.live_visits",
    "features": "SELECT features FROM ponte_data.live_visits",
    "write": "INSERT INTO ponte_data.live_visits (request_id) VALUES (NULL)",
    "part": "INSERT INTO ponte_data.live_visits__default (request_id) VALUES (NULL)",
    "change": "UPDATE ponte_data.live_visits SET score = 0",
    "delete": "DELETE FROM ponte_data.live_visits",
    "drop": "DROP TABLE ponte_data.live_visits",
    "view": "SELECT * FROM predictions.visits_live",
    "prepare": "SELECT ponte.prepare_live('visits')",
    "months": "SELECT ponte.make_live_months('visits', '2001-01-01')",
    "retire": "SELECT ponte.retire_live('visits', 3660)",
    "feedback": "SELECT ponte.give_live_feedback(NULL, 'right', NULL, NULL, 'me')",
    "unscored": "SELECT why, key, features FROM ponte.live_unscored",
    "comments": "SELECT comment FROM ponte.live_feedback",
}
ALLOWED = {
    roles.API: {"write", "prepare", "feedback"},
    roles.STREAM: {"write", "prepare"},
    roles.SCORER: {"write", "prepare"},
    roles.MONITOR: {"read", "features", "view", "prepare", "retire"},
    roles.ANALYST: {"view"},
    roles.TRAINER: set(),
    roles.PROMOTER: set(),
    roles.VIEWER: set(),
}


@pytest.mark.parametrize("role", list(ALLOWED))
def test_each_role_may_do_this_and_no_more(live: World, role: str) -> None:
    allowed = set()
    for name, statement in STATEMENTS.items():
        try:
            as_role(live, role).execute(statement)
            allowed.add(name)
        except sa.exc.DBAPIError as error:
            if "permission denied" not in str(error) and "must be owner" not in str(error):
                allowed.add(name)  # refused for another reason
    assert allowed == ALLOWED[role]


def test_rights_are_the_same_after_the_next_upgrade(live: World, table: LiveTable) -> None:
    names = ("ponte_data.live_visits", "predictions.visits_live", "ponte_data.live_visits__default")
    facts = "SELECT relowner::regrole::text, relacl::text FROM pg_class WHERE oid = CAST(:name AS regclass)"
    before = [live.rows(facts, name=name) for name in names]
    roles.grant(live.db)
    assert [live.rows(facts, name=name) for name in names] == before
    for name in names:
        live.execute(f"REVOKE ALL ON {name} FROM ponte_api, ponte_stream, ponte_scorer, ponte_monitor, ponte_analyst")
    roles.grant(live.db)  # as after a restore
    write(live, table, [NOW])
    assert as_role(live, roles.ANALYST).ask("SELECT count(*) FROM predictions.visits_live") == 1
    assert as_role(live, roles.MONITOR).ask("SELECT count(*) FROM ponte_data.live_visits") == 1
    assert quote("a")


@pytest.mark.parametrize("table_name", ["live_dropped", "live_feedback", "live_retired"])
@pytest.mark.parametrize("statement", ["UPDATE ponte.{0} SET at = at", "DELETE FROM ponte.{0}", "TRUNCATE ponte.{0}"])
def test_what_was_written_stays(live: World, table_name: str, statement: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        live.execute(statement.format(table_name))
