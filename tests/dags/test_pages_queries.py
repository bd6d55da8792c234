"""How many questions a page asks of Ponte's database: as many of a large installation as of a small one."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.bench import stand
from tests.dags.browsing import pages, questions
from tests.dags.version_world import preview

from ponte.storage.database import Database

if TYPE_CHECKING:
    from starlette.testclient import TestClient
    from tests.conftest import Cluster

ROOT = Path(__file__).parents[2]
TODAY = dt.date(2024, 6, 12)
NEWEST = "2024-06-10"
NOW = dt.datetime.combine(TODAY, dt.time(12), dt.UTC)
#: Models and windows of each: a small installation, and a larger one.
SIZES = ((8, 14), (16, 20))
#: The models that are looked at, by what is special about them; see stand.py.
GUARD, QUALITY, ROLLBACK = 3, 6, 8

#: Address, number of the model, questions; what is typed, for a form that is opened and sent.
PAGES: tuple[tuple[str, int, int, dict[str, str] | None], ...] = (
    ("/", 0, 8, None),
    # The last two are about live rows and the queue.
    ("/model/{}", ROLLBACK, 9, None),
    ("/tab/{}__score", ROLLBACK, 9, None),
    (f"/model/{{}}/{NEWEST}", GUARD, 18, None),
    (f"/model/{{}}/{NEWEST}", ROLLBACK, 18, None),
    ("/model/{}/2999-01-01", ROLLBACK, 2, None),
    ("/docs/how-to/operate.md", 0, 0, None),
    ("/report/{}", ROLLBACK, 1, None),
    ("/model/{}/compare?a=1&b=2", ROLLBACK, 5, None),
    ("/act/score/{}", ROLLBACK, 1, None),
    ("/act/train/{}", ROLLBACK, 0, None),
    ("/act/roll-back/{}", ROLLBACK, 2, None),
    ("/act/publish/{}", GUARD, 1, None),
    ("/act/promote/{}", ROLLBACK, 1, None),
    ("/act/mark/{}", ROLLBACK, 1, None),
    ("/act/judge/{}", ROLLBACK, 1, None),
    ("/act/challenge/{}", ROLLBACK, 1, None),
    ("/act/alarm/{}", QUALITY, 1, None),
    ("/act/score/{}", ROLLBACK, 6, {"window_start": NEWEST}),
    ("/act/roll-back/{}", ROLLBACK, 8, {"version": "1", "windows": NEWEST, "reason": "because", "allow_bad": "on"}),
    ("/act/publish/{}", GUARD, 8, {"batch_id": "*", "reason": "because"}),
    ("/act/promote/{}", ROLLBACK, 5, {"version": "1", "reason": "because"}),
    ("/act/alarm/{}", QUALITY, 3, {"alarm_id": "*", "action": "close", "reason": "because"}),
)


def names(url: str) -> dict[int, str]:
    """Return the names of the models by their numbers."""
    query = sa.text("SELECT snapshot_id / 1000 + 1 AS number, min(model) AS model FROM ponte.version GROUP BY 1")
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        return {row.number: row.model for row in connection.execute(query)}


def count(client: TestClient, address: str, typed: dict[str, str] | None) -> int:
    """Return the number of questions to Ponte's database."""
    with questions() as asked:
        if typed is None:
            answer = client.get(f"/ponte{address}")
            assert answer.status_code == (404 if "2999" in address else 200), f"{address}: {answer.text}"
        else:
            answer = preview(client, address, typed)
            assert "This would follow" in answer.text, f"{address}: {answer.text}"
    return len(asked)


def test_a_page_asks_as_many_questions_of_many_models_and_windows_as_of_few(
    server: Cluster, migrated: str, airflow_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path))
    found = []
    for models, windows in SIZES:
        with server.database(migrated) as (_, url):
            stand.fill(url, models=models, windows=windows, today=TODAY)
            by_number = names(url)
            for name in by_number.values():
                shutil.copytree(ROOT / "include" / "models" / "flight_delay", tmp_path / name, dirs_exist_ok=True)
            stand.register(list(by_number.values()), now=NOW)
            with pages(Database(url)) as log_in:
                client = log_in("admin")
                found.append([count(client, page.format(by_number.get(n)), typed) for page, n, _, typed in PAGES])
    expected = "\n".join(f"{page}: {questions}" for page, _, questions, _ in PAGES)
    for counts in found:
        asked = [f"{page}: {questions}" for (page, *_), questions in zip(PAGES, counts, strict=True)]
        assert "\n".join(asked) == expected, "\n".join(asked)
