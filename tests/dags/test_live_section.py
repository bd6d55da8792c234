"""The section Live on the page of a model: there for models that answer one by one, and for no others."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.bench import stand
from tests.dags.browsing import pages
from tests.dags.test_pages_queries import names

from ponte.storage.database import Database

if TYPE_CHECKING:
    from tests.conftest import Cluster

FOLDER = Path(__file__).parents[2] / "include" / "models" / "flight_delay"
TODAY = dt.date(2024, 6, 12)
#: Numbers of models of the stand.
SERVED, PLAIN, LIVE = 1, 2, 16


def test_a_model_that_answers_one_by_one_says_so_and_no_other(
    server: Cluster, migrated: str, airflow_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path))
    with server.database(migrated) as (_, url):
        stand.fill(url, models=LIVE, windows=6, today=TODAY)
        by_number = names(url)
        for number in (SERVED, PLAIN):
            shutil.copytree(FOLDER, tmp_path / by_number[number])
        with (tmp_path / by_number[SERVED] / "model.toml").open("a") as file:
            file.write("\n[serving]\napi = true\n")
        with pages(Database(url)) as log_in:
            client = log_in("viewer")

            def section(number: int) -> str:
                text = client.get(f"/ponte/model/{by_number[number]}").text
                found = re.search("<h2>Live</h2>(.*?)<h2>", text, re.DOTALL)
                return " ".join(re.sub("<[^>]+>", " ", found[1]).split()) if found else ""

            assert section(PLAIN) == ""
            assert "[serving] api = true . No worker has opened its queue yet." in section(SERVED)
            assert "Nothing was asked yet." in section(SERVED)
            live = section(LIVE)
    assert "Queue open: 1,500 waiting, the oldest for 25 min" in live
    assert "expected wait of the last 2 min 30 s" in live
    assert "1 worker, 10.00 a second" in live
    [third] = re.findall("2024-05-20 version 1 (.*?) 2024-05-13", live)
    rows, quality, labels, age, drift, unanswered = re.fullmatch(  # type: ignore[union-attr]
        r"([\d,]+) (0\.\d{3}) ([\d,]+) (\d+ d) (\w+) (12 api 8 , queue 4|12 api 8, queue 4) –", third
    ).groups()
    assert (age, drift) == ("7 d", "quiet")
    assert float(quality) > 0.5
    assert int(rows.replace(",", "")) > int(labels.replace(",", "")) > 0
    assert unanswered
