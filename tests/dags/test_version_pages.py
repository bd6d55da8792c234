"""Versions beside each other, their list, and what is around a report, as a browser gets them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.dags.browsing import Open, pages, questions
from tests.dags.version_world import two_versions

from ponte.pages.rendering import rule_words
from ponte.versions.loading import REPORT

if TYPE_CHECKING:
    from tests.conftest import Cluster, Template
    from tests.sample_model import World

COMPARE = "/ponte/model/visits/compare?a=1&b=2"
PAGES = (COMPARE, "/ponte/report/visits", "/ponte/report/visits/1", "/ponte/report/visits/2")


@pytest.fixture(scope="module")
def pair(server: Cluster, scored_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with scored_template.copy(server, tmp_path_factory.mktemp("pair")) as world:
        two_versions(world)
        yield world


@pytest.fixture
def client(airflow_db: None, pair: World) -> Iterator[Open]:
    with pages(pair.db, pair.store) as log_in:
        yield log_in


@pytest.mark.parametrize("path", PAGES)
def test_who_may_not_read_the_model_sees_nothing(client: Open, path: str) -> None:
    assert [client(role).get(path).status_code for role in (None, "", "viewer")] == [401, 403, 200]


def test_a_candidate_stands_beside_the_champion_it_was_measured_with(client: Open, pair: World) -> None:
    text = client("viewer").get(COMPARE).text
    rows = pair.rows(
        "SELECT subject, value, low, high FROM ponte.metric WHERE version = 2 AND name = 'roc_auc' AND slice = '' "
        "AND subject IN ('candidate', 'champion:1', 'difference:champion:1')"
    )
    assert len(rows) == 3
    for _, value, _, _ in rows:
        assert f'<data value="{value}">' in text
    assert "Both on the same" in text
    for rule in pair.rows("SELECT DISTINCT rule FROM ponte.gate_rule"):
        assert f'<th scope="row">{rule_words(rule[0])}</th>' in text.replace("&#39;", "'")


def test_the_other_way_round_the_difference_has_the_other_sign(client: Open, pair: World) -> None:
    [(value,)] = pair.rows(
        "SELECT value FROM ponte.metric WHERE version = 2 AND name = 'brier' AND slice = '' "
        "AND subject = 'difference:champion:1'"
    )
    text = client("viewer").get("/ponte/model/visits/compare?a=2&b=1").text
    assert f'<data value="{-value}">' in text


def test_without_a_common_measurement_there_is_no_difference(client: Open) -> None:
    from ponte.viewing.versions import beside

    rows = [
        {"version": v, "snapshot_id": v, "subject": "candidate", "name": "mae", "value": v, "low": None, "high": None,
         "row_count": 9} for v in (1, 2)
    ]  # fmt: skip
    [figure], same_rows, count = beside(rows, 1, 2, 1, 2)
    assert (figure.difference, same_rows, count) == (None, False, None)


def test_what_changed_in_the_folder_is_a_patch_that_is_cut(client: Open) -> None:
    text = client("viewer").get(COMPARE).text
    assert "<code>estimator.py</code>" in text
    assert '<span class="added">+# &lt;script&gt;' in text
    assert "<code>features.sql</code>" not in text
    assert text.count("Cut: the file or its changes are longer.") == 2


def test_a_patch_is_cut_in_lines_in_length_and_in_what_is_read() -> None:
    from ponte.viewing.patches import LARGEST, LONGEST_LINE, MOST_SHOWN, patches

    [many, long, far, half] = patches(
        {"many": "", "long": "a", "far": "x\n" * LARGEST, "half": None, "same": "a", "none": None},
        {"many": "y\n" * 1_000, "long": "W" * LARGEST, "far": "x\n" * LARGEST + "y", "half": "a", "same": "a",
         "none": None},
    )  # fmt: skip
    assert (len(many.lines), many.cut) == (MOST_SHOWN, True)
    assert [len(line) for kind, line in long.lines if kind == "added"] == [1 + LONGEST_LINE + 1]
    assert (far.lines, far.cut, far.why) == ((), True, "differs behind what is compared here")
    assert (half.lines, half.why) == ((), "kept of one of the two versions only")


def test_the_plots_of_both_stand_side_by_side_with_ids_of_their_own(client: Open) -> None:
    text = client("viewer").get(COMPARE).text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert text.count("<svg") >= 4
    assert len(ids) == len(set(ids))
    assert {i.split("-")[0] for i in ids} >= {"v1", "v2"}
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_all_versions_are_listed_with_their_newest_decision(client: Open) -> None:
    text = client("viewer").get("/ponte/report/visits").text
    assert text.index("version 2</a>") < text.index("version 1</a>")
    assert "marked: bad by a person" in text
    assert "marked: not bad" not in text
    assert "became champion by first" in text
    assert 'href="/dags/visits__train/runs/second"' in text
    assert client("viewer").get("/ponte/report/visits?before=1").status_code == 404


def test_any_two_versions_of_the_list_can_be_chosen_to_stand_beside_each_other(client: Open) -> None:
    text = client("viewer").get("/ponte/report/visits").text
    [form] = re.findall(r'<form class="actions beside" method="get" action="/ponte/model/visits/compare">(.*?)</form>',
                        text, flags=re.DOTALL)  # fmt: skip
    lists = dict(re.findall(r'<select id="\w" name="(\w)">(.*?)</select>', form))
    offered = {name: re.findall(r'value="(\d+)"', options) for name, options in lists.items()}
    assert offered == {"a": ["2", "1"], "b": ["2", "1"]}
    assert " selected>1, champion" in lists["a"]
    assert "selected" not in lists["b"], "a browser takes the first, the newest"
    assert client("viewer").get("/ponte/report/visits?before=2").text.count("<select") == 0


def test_a_report_shows_the_champion_and_the_way_while_its_file_stays_as_it_is(client: Open, pair: World) -> None:
    files = {p: hashlib.sha256(p.read_bytes()).digest() for p in Path(pair.store.root.path).rglob(REPORT)}
    first, second = (client("viewer").get(f"/ponte/report/visits/{v}").text for v in (1, 2))
    assert '<th scope="col">Version 1, champion</th><th scope="col">Version 2</th>' in second
    assert "Beside the champion" not in first
    assert 'href="/ponte/report/visits"' in second
    assert 'href="/ponte/model/visits/compare?a=1&amp;b=2"' in second
    assert "/ponte/model/visits/2024-" in first
    assert {p: hashlib.sha256(p.read_bytes()).digest() for p in files} == files
    assert len(files) == 2


def test_a_report_of_an_older_release_is_shown_too() -> None:
    from types import SimpleNamespace

    from ponte.pages.report import DECISIONS, in_place, with_decisions

    beside = SimpleNamespace(figures=(), champion=None, before=None, after=None, windows=(), run_id="r")
    place = SimpleNamespace(base="/ponte", airflow="", user="ada")
    old = f"<html><p>old</p>{DECISIONS}</html>".encode()
    shown = in_place(old, place=place, model="m", version=1, origin="trained", around=beside, words={},
                     higher_is_better={})  # fmt: skip
    assert b"The run that trained it" in shown
    assert b"<p>old</p>" in with_decisions(shown, [], [])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("model/visits/compare?a=1&b=9", 404),
        ("model/visits/compare?a=1", 422),
        ("model/visits/compare?a=2&b=2", 422),
        ("model/visits/compare?a=0&b=1", 422),
        ("model/visits/compare?a=1&b=99999999999", 422),
        ("model/%00/compare?a=1&b=2", 404),
        ("report/%00", 404),
        ("report/other", 404),
    ],
)
def test_what_is_not_there_is_told(client: Open, path: str, status: int) -> None:
    assert client("viewer").get(f"/ponte/{path}").status_code == status


def test_files_that_were_changed_are_not_shown_and_the_rest_is(client: Open, pair: World) -> None:
    [file] = [p for p in Path(pair.store.root.path).rglob("estimator.py") if p.parent.name.startswith("2-")]
    kept = file.read_bytes()
    file.write_bytes(b"evil")
    try:
        text = client("viewer").get(COMPARE).text
    finally:
        file.write_bytes(kept)
    assert "The files of version 2 cannot be read" in text
    assert "evil" not in text
    assert "Both on the same" in text


@pytest.mark.parametrize(("path", "most"), [(PAGES[0], 5), (PAGES[1], 1), (PAGES[3], 6)])
def test_a_page_asks_a_fixed_number_of_questions(client: Open, path: str, most: int) -> None:
    with questions() as asked:
        assert client("viewer").get(path).status_code == 200
    assert len(asked) == most


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("model/no_such", 404, "There is no model"),
        ("model/visits/2024-02-12/more", 404, "There is no such page."),
        ("report/visits/9", 404, "visits"),
        ("docs/no_such.md", 404, "no such page in Ponte"),
        ("act/nothing/visits", 404, "There is no decision"),
        ("model/visits/compare?a=0&b=x", 422, "a: Input should be"),
    ],
)
def test_a_browser_gets_a_page_with_a_way_out_and_a_program_a_sentence(
    client: Open, path: str, status: int, said: str
) -> None:
    page = client("admin").get(f"/ponte/{path}", headers={"accept": "text/html,*/*"})
    plain = client("admin").get(f"/ponte/{path}")
    assert (page.status_code, plain.status_code) == (status, status)
    assert '<a href="/ponte/">All models</a>' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<" not in plain.text
    for answer in (page, plain):
        assert said in answer.text


def test_who_may_not_see_a_model_is_told_what_it_takes_and_nothing_of_the_model(client: Open) -> None:
    answer = client("").get("/ponte/model/visits", headers={"accept": "text/html"})
    assert answer.status_code == 403
    assert "the right to read the training DAG" in answer.text
    assert "visits" not in answer.text


def test_only_who_may_decide_is_led_to_judging_again(client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from ponte.web import versions

    measured = versions.compare
    monkeypatch.setattr(versions, "compare", lambda *a, **more: replace(measured(*a, **more), same_rows=False))
    for role, led in (("viewer", False), ("op", True)):
        text = client(role).get("/ponte/model/visits/compare?a=2&b=1").text
        assert "Neither was measured beside the other" in text
        assert ('href="/ponte/act/judge/visits?version=1"' in text) is led
