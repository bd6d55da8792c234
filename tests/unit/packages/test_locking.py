"""One lock for all; who conflicts is named. Real uv, on wheels that are made here: nothing leaves the machine."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.door import ponte

from ponte.errors import ModelFolderError, PonteError
from ponte.packages import locking
from ponte.packages.folder_requirements import Surroundings
from ponte.packages.locking import Conflict, conflicts, lock, requirement_files, what_is_not_locked


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    info = f"{name}-{version}.dist-info"
    metadata = "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose Ponte needs base 1, and an index with trees 1 and 2, of which each needs its own maths."""
    index = tmp_path / "index"
    index.mkdir()
    for name, version, *needs in (
        ("base", "1"),
        ("base", "2"),
        ("maths", "1"),
        ("maths", "2"),
        ("trees", "1", "maths==1"),
        ("forest", "2", "maths==2"),
        ("modern", "1", "base>=2"),
    ):
        wheel(index, name, version, *needs)
    (tmp_path / "requirements.in").write_text("base==1\n")
    (tmp_path / "requirements.txt").write_text("base==1\n")
    (tmp_path / "include/models").mkdir(parents=True)
    return tmp_path


def model(root: Path, name: str, text: str) -> None:
    (root / "include/models" / name).mkdir()
    (root / "include/models" / name / "requirements.txt").write_text(text)


def locked(root: Path) -> str:
    lock(root, root / "include/models", ["--no-index", "--find-links", str(root / "index")])
    return (root / "requirements.txt").read_text()


def test_all_folders_come_into_one_lock_with_hashes(root: Path) -> None:
    (root / "requirements.txt").unlink()
    model(root, "churn", "trees  # of 2020\nmaths==1 ; sys_platform == 'win32'\n")
    model(root, "fraud", "maths>0\n")
    model(root, "_draft", "nonsuch==9\n")
    text = locked(root)
    assert [line.split()[0] for line in text.splitlines() if "==" in line] == ["base==1", "maths==1", "trees==1"]
    assert text.count("--hash=sha256:") == 3
    assert "-r include/models/churn/requirements.txt" in text, "the same lock wherever the checkout lies"
    assert str(root) not in text
    assert "make lock" in text
    assert locked(root) == text


@pytest.mark.parametrize(
    ("models", "named"),
    [
        ({"churn": "trees", "fraud": "forest", "sound": "maths"}, ["churn + fraud"]),
        ({"churn": "modern", "fraud": "maths"}, ["requirements.in + churn"]),
        ({"churn": "modern", "fraud": "trees", "third": "forest"}, ["requirements.in + churn", "fraud + third"]),
        ({"churn": "trees==9"}, ["requirements.in + churn"]),
    ],
)
def test_who_conflicts_is_named_and_the_lock_stays(root: Path, models: dict[str, str], named: list[str]) -> None:
    for name, text in models.items():
        model(root, name, text)
    with pytest.raises(PonteError) as caught:
        locked(root)
    lines = str(caught.value).splitlines()
    assert [line.strip().rstrip(":") for line in lines if line.startswith("  ") and line.endswith(":")] == named
    assert (root / "requirements.txt").read_text() == "base==1\n"


def test_what_uv_says_of_a_conflict_is_shown(root: Path) -> None:
    model(root, "churn", "trees")
    model(root, "fraud", "forest")
    with pytest.raises(PonteError, match=r"maths==1(.|\n)*maths==2|maths==2(.|\n)*maths==1"):
        locked(root)
    model(root, "third", "newer==1 ; python_version >= '3.13'")
    with pytest.raises(PonteError) as caught:
        locked(root)
    assert "hint" not in str(caught.value), "uv's are about the pyproject.toml of somebody else"


def test_what_says_nothing_about_packages_is_no_conflict(root: Path) -> None:
    (root / "requirements.in").write_text("base ===== 1\n")
    with pytest.raises(PonteError, match="uv cannot resolve"):
        locked(root)
    model(root, "churn", "-r ../secret.txt")
    with pytest.raises(ModelFolderError, match="is no requirement"):
        locked(root)


def test_where_there_is_no_uv_as_in_the_image_it_says_where_to_resolve(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking.sys, "executable", str(root / "python"))
    with pytest.raises(PonteError, match=r"uv is not installed here(.|\n)*`make lock` in the checkout"):
        locked(root)


def test_few_questions_are_asked_and_three_can_conflict_together() -> None:
    own, *files = (Path(name) for name in ("requirements.in", "a/r", "b/r", "c/r"))
    asked: list[tuple[Path, ...]] = []

    def resolve(some: Sequence[Path]) -> str | None:
        asked.append(tuple(some))
        return None if len(some) < 4 else "no"

    a, b, c = files
    assert [one.files for one in conflicts(own, files, resolve)] == [(own, a, b, c)]
    assert asked == [(own,), (own, a), (own, b), (own, c), (own, a, b), (own, a, c), (own, b, c)]
    asked.clear()
    assert conflicts(own, files, lambda some: asked.append(tuple(some)) or "no") == [Conflict((own,), "no")]
    assert asked == [(own,)]


def test_what_the_lock_lacks_is_told_without_resolving(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `./ponte up`, and by the build of the image, which ends there."""

    def nothing_is_resolved(*arguments: object, **options: object) -> None:
        pytest.fail("uv was called")

    monkeypatch.setattr(locking.subprocess, "run", nothing_is_resolved)
    models = root / "include/models"
    monkeypatch.setenv("PONTE_MODELS", str(models))
    assert ponte("lock", "--check") == 0
    model(root, "churn", "nonsuch-trees==1")
    model(root, "fraud", "maths\nno requirement")
    found = what_is_not_locked(models, Surroundings(own=(), locked={"maths": "1"}))
    assert [line.partition(" → ")[0] for line in found] == [
        "churn: requirements.txt: nonsuch-trees==1: is not in the lock",
        "fraud: requirements.txt: no requirement: is no requirement (line 2)",
    ]
    capsys.readouterr()
    assert ponte("lock", "--check") == 1
    said = capsys.readouterr().err
    assert "nonsuch-trees==1: is not in the lock → run `make lock`" in said
    assert requirement_files(models) == [models / name / "requirements.txt" for name in ("churn", "fraud")]
