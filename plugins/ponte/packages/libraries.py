"""Which libraries are others than those that an estimator was fitted with."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version


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
