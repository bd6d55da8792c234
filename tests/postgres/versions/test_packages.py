"""What a folder's requirements.txt names is recorded with the version, and compared before it is loaded."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from tests.sample_model import World

from ponte.errors import ArtifactRefused, ModelFolderError
from ponte.packages import libraries
from ponte.versions import loading

TEXT = "markupsafe>=2  # never imported by its name\n"


def test_a_version_keeps_what_its_folder_names_and_refuses_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = world.folder.path / "requirements.txt"
    before = world.folder.digest()
    file.write_text(TEXT)
    assert world.folder.digest() != before, "a version's folder is known by it"
    trained = world.train(run_id="t").version
    assert trained.libraries["MarkupSafe"] == version("markupsafe")
    assert loading.read_files(world.store, trained)["requirements.txt"].decode() == TEXT
    loading.load_version(world.store, trained)
    monkeypatch.setattr(libraries, "version", lambda name: "1.0" if name == "MarkupSafe" else version(name))
    with pytest.raises(ArtifactRefused, match=r"other libraries(.|\n)*MarkupSafe 1\.0 \(trained with"):
        loading.load_version(world.store, trained)


def test_training_refuses_a_folder_that_needs_what_the_lock_lacks(world: World) -> None:
    (world.folder.path / "requirements.txt").write_text("nonsuch-trees==1\n")
    with pytest.raises(ModelFolderError, match="nonsuch-trees==1: is not in the lock → run `make lock`"):
        world.train(run_id="t")
    estimator = world.folder.path / "estimator.py"
    (world.folder.path / "requirements.txt").unlink()
    estimator.write_text(f"import narwhals\n{estimator.read_text()}")
    with pytest.raises(ModelFolderError, match="narwhals, which neither Ponte nor the folder names → add narwhals to"):
        world.train(run_id="u")
