"""Model folders are found, and a broken one never hides the others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ponte.errors import ModelFolderError
from ponte.model.folders import (
    CARD,
    CODE_FILES,
    BrokenFolder,
    ModelFolder,
    find_folders,
    get_folder,
    load_folder,
    name_problems,
)

MakeFolder = Callable[..., Path]


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ModelFolderError) as caught:
        load_folder(path)
    return [str(p) for p in caught.value.problems]


def test_whole_folder_is_loaded_with_spec_card_and_texts(make_folder: MakeFolder) -> None:
    folder = load_folder(make_folder("churn", {CARD: "# Wer kündigt?\n"}))
    assert (folder.name, folder.card, folder.spec.owner) == ("churn", "# Wer kündigt?\n", "retention")
    assert folder.text("labels.sql").startswith("SELECT customer_id")


@pytest.mark.parametrize("file", [*CODE_FILES, CARD])
@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (None, "is missing → add it; see docs/reference/model-folder.md"),
        (" \n\t", "is empty"),
        (b"\xff\xfe", "cannot be read as UTF-8 text: 'utf-8' codec can't decode byte 0xff in position 0"),
    ],
    ids=["missing", "empty", "not UTF-8"],
)
def test_file_that_cannot_be_used_is_named(make_folder: MakeFolder, file: str, content: Any, finding: str) -> None:
    found = problems_of(make_folder("churn", {file: content}))
    assert any(p.startswith(f"{file}: {finding}") for p in found)
    assert all(p.startswith(f"{file}:") for p in found)


@pytest.mark.parametrize(("name", "taken"), [
    ("churn__2026_11", True), ("churn__default", True), ("churn_2026_11", False), ("churn__2026_1", False),
])  # fmt: skip
def test_a_model_takes_no_name_of_a_partition_of_live_rows(name: str, taken: bool) -> None:
    told = [problem.what for problem in name_problems(name)]
    assert told == [f"{name!r} would take the name of a table of another model's live rows"] * taken


@pytest.mark.parametrize("end", ["_latest", "_live", "_outcomes"])
def test_a_name_that_another_models_view_has_is_refused(make_folder: MakeFolder, end: str) -> None:
    [problem] = problems_of(make_folder(f"churn{end}"))
    assert f"view predictions.churn{end} of another model" in problem
    assert f"does not end in {end}; did you mean 'churn'?" in problem


def test_problems_of_files_and_of_model_toml_are_told_together(make_folder: MakeFolder, model_toml: str) -> None:
    path = make_folder("Churn", {"labels.sql": None, "model.toml": model_toml.replace("owner", "ownr")})
    found = problems_of(path)
    assert [p.split(": ")[0] for p in found] == [".", "labels.sql", "model.toml", "model.toml"]
    assert found[0].startswith(".: 'Churn' is no model name → rename it to match ")


@pytest.mark.parametrize(
    "name", ["Churn", "1churn", "churn-rate", "a" * 41, "churn\n", "kündigung", "churn rate"],
    ids=["capital", "digit first", "hyphen", "too long", "line end", "umlaut", "space"],
)  # fmt: skip
def test_folder_whose_name_is_no_model_name_is_broken(make_folder: MakeFolder, name: str) -> None:
    (problem,) = problems_of(make_folder(name))
    assert "is no model name" in problem


@pytest.mark.parametrize("name", ["a", "churn_2", "a" * 40], ids=["one letter", "digit", "longest"])
def test_model_name_of_small_letters_digits_and_underscores_is_accepted(make_folder: MakeFolder, name: str) -> None:
    assert load_folder(make_folder(name)).name == name


def test_broken_folder_does_not_hide_the_others(make_folder: MakeFolder) -> None:
    make_folder("bad", {"estimator.py": None})
    make_folder("churn")
    root = make_folder("zebra", {"model.toml": "= nothing"}).parent
    found = find_folders(root)
    assert [(f.name, type(f)) for f in found] == [
        ("bad", BrokenFolder),
        ("churn", ModelFolder),
        ("zebra", BrokenFolder),
    ]
    assert isinstance(found[0], BrokenFolder)
    assert "estimator.py: is missing" in str(found[0].error)


def test_file_that_is_a_folder_does_not_hide_the_others(make_folder: MakeFolder) -> None:
    path = make_folder("bad", {"labels.sql": None})
    (path / "labels.sql").mkdir()
    make_folder("churn")
    broken, whole = find_folders(path.parent)
    assert (type(broken), type(whole)) == (BrokenFolder, ModelFolder)
    assert "labels.sql: cannot be read as UTF-8 text: [Errno 21] Is a directory" in str(broken.error)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("toml", "said"),
    [("deep = " + "[" * 100_000 + "]" * 100_000, "RecursionError"), ("long = " + "7" * 5_000, "5000 digits")],
    ids=["arrays nested deeply", "integer of 5000 digits"],
)
def test_file_that_makes_the_reader_itself_fail_does_not_hide_the_others(
    make_folder: MakeFolder, model_toml: str, toml: str, said: str
) -> None:
    """Whatever one author writes, the DAGs of the others go on."""
    make_folder("bad", {"model.toml": f"{toml}\n{model_toml}"})
    broken, whole = find_folders(make_folder("churn").parent)
    assert (type(broken), broken.name, type(whole)) == (BrokenFolder, "bad", ModelFolder)
    message = str(broken.error)  # type: ignore[union-attr]
    assert message.startswith("model folder 'bad' has 1 problem:")
    assert said in message
    assert len(message) < 500


def test_fault_of_the_disk_while_one_folder_is_read_does_not_hide_the_others(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder("bad").parent
    make_folder("churn")

    def load(path: Path) -> ModelFolder:
        if path.name == "bad":
            raise MemoryError("x" * 1000)
        return load_folder(path)

    monkeypatch.setattr("ponte.model.folders.load_folder", load)
    broken, whole = find_folders(root)
    assert (type(broken), type(whole)) == (BrokenFolder, ModelFolder)
    assert str(broken.error).splitlines()[1] == f"  1. .: cannot be read: MemoryError: {'x' * 300}"  # type: ignore[union-attr]


def test_files_and_names_that_begin_with_underscore_or_dot_are_no_models(make_folder: MakeFolder) -> None:
    root = make_folder("churn").parent
    (root / "notes.txt").write_text("no model")
    for name in ("_template", ".git", "__pycache__"):
        (root / name).mkdir()
    assert [f.name for f in find_folders(root)] == ["churn"]


def test_unknown_model_is_answered_with_the_nearest_known_one(make_folder: MakeFolder) -> None:
    root = make_folder("churn").parent
    make_folder("broken", {"model.toml": None})
    with pytest.raises(ModelFolderError) as caught:
        get_folder(root, "chrun")
    assert "no such folder → did you mean 'churn'? Known: broken, churn" in str(caught.value)


def test_no_models_folder_at_all_is_no_such_folder_too(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no such folder"):
        get_folder(tmp_path / "nowhere", "churn")


def test_known_model_is_loaded_and_a_broken_one_raises(make_folder: MakeFolder) -> None:
    root = make_folder("churn").parent
    make_folder("broken", {"model.toml": None})
    assert get_folder(root, "churn").name == "churn"
    with pytest.raises(ModelFolderError, match=r"model\.toml: is missing"):
        get_folder(root, "broken")


@pytest.mark.parametrize("file", CODE_FILES)
def test_digest_changes_with_each_byte_of_a_code_file(make_folder: MakeFolder, file: str) -> None:
    path = make_folder()
    before, content = load_folder(path).digest(), (path / file).read_bytes()
    (path / file).write_bytes(content + b"\n")
    after = load_folder(path).digest()
    (path / file).write_bytes(content)
    assert (after == before, load_folder(path).digest() == before) == (False, True)


def test_digest_notices_text_that_moved_from_one_file_to_the_next(make_folder: MakeFolder) -> None:
    one = load_folder(make_folder("one", {"features.sql": "ab", "labels.sql": "c"}))
    two = load_folder(make_folder("two", {"features.sql": "a", "labels.sql": "bc"}))
    assert one.digest() != two.digest()


def test_digest_does_not_depend_on_the_card_or_on_the_place(make_folder: MakeFolder, tmp_path: Path) -> None:
    path = make_folder()
    before = load_folder(path).digest()
    shutil.copytree(path, tmp_path / "elsewhere" / "churn")
    (path / CARD).write_text("# another card\n")
    assert load_folder(path).digest() == load_folder(tmp_path / "elsewhere" / "churn").digest() == before
