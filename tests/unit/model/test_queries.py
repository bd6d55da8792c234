"""Author SQL: which colons are parameters, and that nothing else of the text changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.model.queries import PARAMETERS, AuthorQuery, prefixed


def query(text: str) -> AuthorQuery:
    return AuthorQuery("features.sql", text)


def test_unknown_parameter_is_reported_with_a_hint_and_the_way_to_write_a_colon() -> None:
    (problem,) = query("SELECT 1 WHERE day < :window_strt").problems()
    assert str(problem) == (
        "features.sql: :window_strt: unknown parameter → did you mean 'window_start'? "
        "Known: as_of, window_end, window_start; write \\:window_strt for a colon that starts no parameter"
    )


def test_unknown_parameter_before_a_cast_is_reported_too() -> None:
    (problem,) = query("SELECT :as_off::date").problems()
    assert problem.field == ":as_off"


def test_every_unknown_parameter_is_reported_once_and_in_order() -> None:
    found = query("SELECT :b, :a, :b, :as_of, :window_start, :window_end").problems()
    assert [p.field for p in found] == [":a", ":b"]


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("SELECT :as_of", "SELECT %(as_of)s"),
        ("SELECT :as_of, :as_of", "SELECT %(as_of)s, %(as_of)s"),
        ("SELECT :as_of::date", "SELECT %(as_of)s ::date"),
        ("SELECT day > :as_of::date::text", "SELECT day > %(as_of)s ::date::text"),
        ("SELECT day::date", "SELECT day::date"),
        ("SELECT '12:30'", "SELECT '12:30'"),
        ("SELECT ARRAY[1,2,3][1:2]", "SELECT ARRAY[1,2,3][1:2]"),
        (r"SELECT '\:name'", "SELECT ':name'"),
        ("SELECT 5 % 2", "SELECT 5 %% 2"),
        ("SELECT 1 WHERE a LIKE '10%'", "SELECT 1 WHERE a LIKE '10%%'"),
        ("SELECT 1 -- 50 % of :as_of", "SELECT 1 -- 50 %% of :as_of"),
        ("SELECT 1 /* 12:30, 5 % */", "SELECT 1 /* 12:30, 5 %% */"),
        ("  SELECT 1;\n", "SELECT 1"),
        ("SELECT 1;;", "SELECT 1"),
        ("SELECT 1", "SELECT 1"),
        ("SELECT ';'", "SELECT ';'"),
        ("SELECT 5 # 3", "SELECT 5 # 3"),
        ("SELECT a #>> '{b}' FROM c", "SELECT a #>> '{b}' FROM c"),
    ],
    ids=[
        "parameter", "twice", "parameter then cast", "two casts", "cast", "time of day", "array slice", "escaped colon",
        "modulo", "like", "line comment", "block comment", "trailing semicolon", "two semicolons", "trailing comment",
        "semicolon in text", "exclusive or", "path in JSON",
    ],
)  # fmt: skip
def test_only_parameters_change_and_percent_signs_are_doubled_for_the_driver(text: str, sql: str) -> None:
    assert query(text).problems() == []
    assert query(text).sql() == sql


@given(st.text(st.characters(exclude_characters=":\\;", exclude_categories=["Cs"]), max_size=40))
def test_text_without_colons_reaches_the_database_as_it_was_written(text: str) -> None:
    """Law: what the driver makes of `sql()` with the `%` operator is the author's text."""
    assert query(text).sql() % dict.fromkeys(PARAMETERS, "?") == text.strip()


def test_prefix_keeps_the_parameters_of_two_queries_apart() -> None:
    text = "SELECT :window_start, :window_end, :as_of"
    both = query(text).sql() + " UNION " + query(text).sql("labels_")
    features = {name: f"f {name}" for name in PARAMETERS}
    labels = {name: f"l {name}" for name in PARAMETERS}
    assert both % {**features, **prefixed(labels, "labels_")} == (
        "SELECT f window_start, f window_end, f as_of UNION SELECT l window_start, l window_end, l as_of"
    )


def test_a_query_can_be_asked_twice_with_different_prefixes() -> None:
    asked = query("SELECT :as_of")
    assert (asked.sql("a_"), asked.sql(), asked.sql("b_")) == (
        "SELECT %(a_as_of)s",
        "SELECT %(as_of)s",
        "SELECT %(b_as_of)s",
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SELECT 1 AS a; DROP TABLE b", "holds 2 statements"),
        ("SELECT 1 AS a) AS x; CREATE TABLE evil(); SELECT * FROM (SELECT 1", "closes a parenthesis"),
        ("SELECT ')' AS a -- )", None),
        ("SELECT 1 AS a; -- done", None),
        ("SELECT 1 AS a;\n;", None),
        ("SELECT ';' AS a /* ; */", None),
    ],
)
def test_text_that_would_end_the_wrapping_early_is_a_problem(text: str, what: str | None) -> None:
    found = " ".join(p.what for p in AuthorQuery("features.sql", text).problems())
    assert (what in found) if what else not found


@pytest.mark.parametrize(
    "text", ["""SELECT '{"a":1}'::jsonb ->> 'a' AS a""", "SELECT 1 AS a -- :later", "/* :later */ SELECT 1 AS a"]
)
def test_a_colon_in_quotes_or_comments_starts_no_parameter(text: str) -> None:
    assert AuthorQuery("features.sql", text).problems() == []
