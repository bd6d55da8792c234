"""One suite over every model folder. `make test ARGS='-k <model>'` runs it for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ponte.errors import ModelFolderError
from ponte.model.folders import CARD, BrokenFolder, ModelFolder, find_folders
from ponte.runtime import models_root

if TYPE_CHECKING:
    from ponte.storage.database import Database

FOLDERS = find_folders(models_root())
EVERY_FOLDER = pytest.mark.parametrize("folder", [pytest.param(f, id=f.name) for f in FOLDERS])


def test_there_is_a_model() -> None:
    assert FOLDERS


@EVERY_FOLDER
def test_the_folder_keeps_the_contract(folder: ModelFolder | BrokenFolder) -> None:
    if isinstance(folder, BrokenFolder):
        raise folder.error


@EVERY_FOLDER
def test_great_expectations_takes_the_arguments_of_every_check(folder: ModelFolder) -> None:
    from ponte.model.expectations import build_expectations

    assert len(build_expectations(folder)) == len(folder.spec.checks)


@EVERY_FOLDER
def test_the_card_says_what_the_model_is_for(folder: ModelFolder) -> None:
    assert folder.card.startswith("# "), f"{CARD} begins with a title"
    assert len(folder.card.split()) > 50, f"{CARD} tells too little"


@EVERY_FOLDER
def test_the_queries_and_the_estimator_keep_the_contract(folder: ModelFolder, demo_db: Database) -> None:
    from ponte.model.inspection import inspect_folder

    try:
        found = inspect_folder(demo_db, folder)
    except ModelFolderError as error:
        if all("does not exist" in p.what for p in error.problems):
            pytest.skip("its tables are not in the demo data: `./ponte check` holds it against your database")
        raise
    assert found.features


@EVERY_FOLDER
def test_building_the_estimator_twice_gives_two_equal_ones(folder: ModelFolder) -> None:
    from ponte.model.estimator import load_estimator

    text = folder.text("estimator.py")
    first, second = (load_estimator(text, model=folder.name, task=folder.spec.task) for _ in range(2))
    assert first is not second
    assert repr(first) == repr(second)
