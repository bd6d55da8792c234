"""requirements.txt of a model folder: what is wrong with it, what is missing, and who has to do what."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from ponte.errors import ModelFolderError, PonteError
from ponte.packages.folder_requirements import (
    INSTALL,
    Surroundings,
    named_versions,
    needs,
    of_checkout,
    package_problems,
)

LOCKED = {"quick-boost": "4.6.0", "scikit-learn": "1.9.1", "lean": "2.0"}


def _installed(name: str) -> str:
    found = {"quick-boost": "4.6.0", "Quick_Boost": "4.6.0", "lean": "1.0"}
    if name not in found:
        raise PackageNotFoundError(name)
    return found[name]


AROUND = Surroundings(own={"pandas"}, locked=LOCKED, installed=_installed)


def folder(tmp_path: Path, text: str | None) -> Path:
    path = tmp_path / "churn"
    path.mkdir()
    if text is not None:
        (path / "requirements.txt").write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "imports", "said"),
    [
        (None, ["pandas", "json", "os", "not_installed_at_all"], []),
        ("# nothing yet\n\n", [], []),
        ("quick-boost==4.6.0  # trees\n", [], []),
        ("Quick_Boost>=4,<5\n", [], []),
        ("windows-only==1 ; sys_platform == 'win32'\n", [], []),
        ("gone==1\n", [], [("gone==1", "is not in the lock", "run `make lock`")]),
        ("quick-boost>=5\n", [], [("quick-boost>=5", "the lock has 4.6.0", "run `make lock`")]),
        ("scikit-learn\n", [], [("scikit-learn", "is not installed", INSTALL)]),
        ("lean>1\n", [], [("lean>1", "1.0 is installed", INSTALL)]),
        ("\nquick boost\n", [], [("quick boost", "is no requirement (line 2)", None)]),
        ("-r other.txt\n", [], [("-r other.txt", "is no requirement (line 1)", None)]),
        ("lean @ https://example.org/lean.whl\n", [], [(None, "is no requirement (line 1)", None)]),
        (
            None,
            ["cloudpickle"],
            [
                (
                    "",
                    "imports cloudpickle, of the package cloudpickle, which neither Ponte nor the folder names",
                    "add cloudpickle to churn/requirements.txt and run `make lock`",
                )
            ],
        ),
    ],
)
def test_what_a_folder_cannot_count_on_is_told(
    tmp_path: Path, text: str | None, imports: list[str], said: list[tuple[str | None, str, str | None]]
) -> None:
    found = package_problems(folder(tmp_path, text), imports, AROUND)
    assert len(found) == len(said), found
    for problem, (field, what, fix) in zip(found, said, strict=True):
        assert problem.what == what
        assert field is None or problem.field == field
        assert fix is None or problem.fix == fix


def test_an_import_is_allowed_by_the_folders_own_line(tmp_path: Path) -> None:
    around = Surroundings(own=(), locked={"cloudpickle": version("cloudpickle")})
    assert package_problems(folder(tmp_path, "CloudPickle"), ["cloudpickle"], around) == []


def test_what_an_extra_asks_for_has_to_be_installed_too(tmp_path: Path) -> None:
    info = tmp_path / "quick_boost-4.6.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: quick-boost\nVersion: 4.6.0\nProvides-Extra: plots\n"
        "Requires-Dist: nonsuch-plots>1; extra == 'plots'\nRequires-Dist: nonsuch-other; extra == 'other'\n"
    )
    around = Surroundings(own=(), locked=LOCKED)
    sys.path.insert(0, str(tmp_path))
    try:
        [problem] = package_problems(folder(tmp_path, "quick-boost[plots]"), [], around)
        (tmp_path / "churn/requirements.txt").write_text("quick_boost")
        assert package_problems(tmp_path / "churn", [], around) == []
        assert named_versions(tmp_path / "churn") == {"quick-boost": "4.6.0"}, "the name that it has itself"
    finally:
        sys.path.remove(str(tmp_path))
    assert problem.what == "needs nonsuch-plots: is not installed"
    with pytest.raises(ModelFolderError, match="quick_boost: is not installed"):
        named_versions(tmp_path / "churn")


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError) as caught:
        needs(folder(tmp_path, "-e .\nlean\nlean==\n"))
    assert [problem.field for problem in caught.value.problems] == ["-e .", "lean=="]
    (tmp_path / "churn/requirements.txt").write_bytes(b"\xff")
    with pytest.raises(ModelFolderError, match="cannot be read as UTF-8"):
        needs(tmp_path / "churn")


def test_the_checkout_says_what_is_its_own_and_what_is_locked_for_this_python(tmp_path: Path) -> None:
    around = of_checkout()
    assert {"scikit-learn", "numpy", "great-expectations"} <= set(around.own)
    assert around.locked["numpy"] == version("numpy"), "of two lines the one whose marker holds"
    assert len(around.locked) > len(around.own)
    with pytest.raises(PonteError, match=r"requirements\.in"):
        of_checkout(tmp_path)
