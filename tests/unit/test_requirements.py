"""What Ponte uses stands in requirements.in, pinned: a package that comes along with others may go with them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ponte.versions.loading import LIBRARIES

ROOT = Path(__file__).parents[2]
FOLDERS = ("plugins", "dags", "include", "config")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def listed() -> dict[str, list[str]]:
    """Return the versions of each distribution in requirements.in."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines():
        if pinned := re.match(r"([\w.-]+)==(\S+)", line):
            found.setdefault(normalised(pinned[1]), []).append(pinned[2])
    return found


def imported() -> Iterator[tuple[str, Path]]:
    """Yield every module of others that Ponte imports, the part before the first dot, and where."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            yield from ((top, path) for name in names if (top := name.partition(".")[0]) not in sys.stdlib_module_names)


DISTRIBUTIONS = packages_distributions()
MODULES = {module: path for module, path in imported() if module != "ponte"}


def test_the_sources_are_where_this_looks() -> None:
    assert {"airflow", "sklearn", "numpy", "sqlalchemy", "markupsafe"} <= MODULES.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_package_that_is_imported_is_listed(module: str) -> None:
    distributions = {normalised(name) for name in DISTRIBUTIONS.get(module, ())}
    where = MODULES[module].relative_to(ROOT)
    assert distributions & listed().keys(), f"{where} imports {module}, of {distributions or 'no package'}"


@pytest.mark.parametrize("distribution", LIBRARIES)
def test_every_library_whose_version_is_recorded_is_listed(distribution: str) -> None:
    """A version refuses to load under other ones, so which one runs is Ponte's own decision."""
    assert distribution in listed()


def test_the_lock_has_the_versions_that_are_listed() -> None:
    locked = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert {(name, version) for name, versions in listed().items() for version in versions} <= set(locked)


def test_what_other_notifiers_need_goes_beside_the_lock() -> None:
    """They are installed into the same environment, without resolving anything again."""
    pinned = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
    lock, own, wanted = (
        dict(pinned.findall((ROOT / name).read_text(encoding="utf-8")))
        for name in ("requirements.txt", "requirements-notifiers.txt", "requirements-notifiers.in")
    )
    assert wanted.items() <= own.items()
    assert not own.keys() & lock.keys()
    text = (ROOT / "requirements-notifiers.txt").read_text(encoding="utf-8")
    hashed = re.findall(r"^[\w.-]+==\S+(?: ; [^\\]+)? \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(hashed) == text.count("==")
