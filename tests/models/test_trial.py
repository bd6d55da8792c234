"""Every model folder, and the one that the tutorial writes, survives what `./ponte check` tries."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ponte.authoring.examining import examine
from ponte.model.folders import find_folders, get_folder
from ponte.runtime import models_root

if TYPE_CHECKING:
    from ponte.storage.database import Database

NOW = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "first-model.md"
FILE = re.compile(r"<!-- file: include/models/(\w+)/([\w.]+) -->\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("folder", find_folders(models_root()), ids=lambda folder: folder.name)
def test_a_folder_of_this_checkout_survives_the_trial(folder, demo_db: Database) -> None:
    found = examine(demo_db, folder, now=NOW)
    if found.problems and all("does not exist" in problem.what for problem in found.problems):
        pytest.skip("its tables are not in the demo data")
    assert not found.problems, found.message
    assert any("tried on 1,000 and 1,000 rows" in note for note in found.notes), found.message


def test_the_folder_of_the_tutorial_survives_the_trial(demo_db: Database, tmp_path: Path) -> None:
    files = FILE.findall(TUTORIAL.read_text(encoding="utf-8"))
    for name, file, text in files:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text(text, encoding="utf-8")
    assert len(files) == 5
    found = examine(demo_db, get_folder(tmp_path, files[0][0]), now=NOW)
    print(found.message)
    assert not found.problems, found.message
