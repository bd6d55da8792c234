"""Which libraries are others than those that an estimator was fitted with, and to which one a module belongs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path


def differing_libraries(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what to tell of each library that was another version then, and of "python" that was of another minor one.

    now : versions that run, by name; those of other distributions are looked up.
    """
    here = {name: now.get(name) or _installed(name) for name in then}
    differ = [f"{n} {here[n]} (trained with {was})" for n, was in then.items() if n != "python" and here[n] != was]
    if then["python"].rpartition(".")[0] != here["python"].rpartition(".")[0]:
        differ.append(f"python {here['python']} (trained with {then['python']})")
    return differ


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "is not installed"


def distributions_of_modules() -> Mapping[str, Sequence[str]]:
    """Return the names of the installed distributions that each top-level module belongs to.

    To read all of them takes a quarter of a second, so they are read again only when a folder of `sys.path` has
    changed: by that the import system, too, sees what was installed meanwhile.
    """
    return _found_in(tuple((folder, _changed(Path(folder))) for folder in sys.path))


@lru_cache(maxsize=1)
def _found_in(_folders: tuple[tuple[str, int], ...]) -> Mapping[str, Sequence[str]]:
    return packages_distributions()


def _changed(folder: Path) -> int:
    """Return when the folder got or lost an entry last, in nanoseconds; 0 if it is not there."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
