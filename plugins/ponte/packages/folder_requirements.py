"""`requirements.txt` of a model folder: what its estimator needs, held against what is installed and what is locked."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from ponte.errors import ModelFolderError, PonteError, Problem
from ponte.packages.libraries import distributions_of_modules

if TYPE_CHECKING:
    from packaging.requirements import Requirement

REQUIREMENTS = "requirements.txt"
#: What Ponte itself uses, and the lock of that and of all folders; both lie in the root of the checkout.
OWN = "requirements.in"
LOCK = "requirements.txt"
MAKE_LOCK = "run `make lock`"
#: What brings a package that the lock has. An extra may have been added to a package that was locked without it.
INSTALL = (
    f"any `./ponte` command installs what is locked, docker compose with --build; if that does not help, {MAKE_LOCK}"
)
CHECKOUT = Path(__file__).parents[3]


def needs(folder: Path) -> list[Requirement]:
    """Return the requirements of a model folder that hold on this Python; [] of a folder without the file.

    Raises ModelFolderError that names every line that is none.
    """
    found, problems = parse(text_of(folder) or "")
    if problems:
        raise ModelFolderError(folder.name, problems)
    return [requirement for requirement in found if requirement.marker is None or requirement.marker.evaluate()]


def text_of(folder: Path) -> str | None:
    """Return the text of the folder's requirements.txt, None without one; raises ModelFolderError if it is no text."""
    try:
        return (folder / REQUIREMENTS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(file=REQUIREMENTS, what=f"cannot be read as UTF-8 text: {error}")
        raise ModelFolderError(folder.name, [problem]) from error


def parse(text: str) -> tuple[list[Requirement], list[Problem]]:
    """Return the requirements of a text, one a line, and a problem of each line that is none. `#` begins a comment."""
    from packaging.requirements import InvalidRequirement, Requirement

    found, problems = [], []
    for number, line in enumerate(text.splitlines(), 1):
        written = re.sub(r"(^|\s)#.*", "", line).strip()
        if not written:
            continue
        try:
            requirement = Requirement(written)
        except InvalidRequirement:
            requirement = None
        if requirement is None or requirement.url:
            fix = "one distribution a line, as lightgbm==4.6.0; options, files and URLs belong to nobody's lock"
            problems.append(
                Problem(file=REQUIREMENTS, field=written, what=f"is no requirement (line {number})", fix=fix)
            )
        else:
            found.append(requirement)
    return found, problems


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a folder is held against."""

    #: Distributions that Ponte names itself, normalised.
    own: Collection[str]
    #: Normalised name -> version, as locked for this Python.
    locked: Mapping[str, str]
    #: Returns the version of an installed distribution; raises PackageNotFoundError.
    installed: Callable[[str], str] = installed_version


def of_checkout(root: Path = CHECKOUT) -> Surroundings:
    """Return what the checkout at `root` names and locks, and this Python has; raises PonteError without its files."""
    texts = {}
    for name in (OWN, LOCK):
        try:
            texts[name] = (root / name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            fix = "deploy it beside plugins/, as the Dockerfile does"
            raise PonteError("what Ponte is installed from is missing", where=str(root / name), fix=fix) from error
    return Surroundings(own={name for name, _ in _pinned(texts[OWN])}, locked=dict(_pinned(texts[LOCK])))


def _pinned(text: str) -> Iterable[tuple[str, str]]:
    """Yield (normalised name, version) of the lines `name==version ; marker \\` whose marker holds here."""
    from packaging.markers import Marker
    from packaging.utils import canonicalize_name

    for found in re.finditer(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\\n]+))?", text, re.MULTILINE):
        if not found[3] or Marker(found[3].strip()).evaluate():
            yield canonicalize_name(found[1]), found[2]


def unlocked(needed: Iterable[Requirement], locked: Mapping[str, str]) -> list[Problem]:
    """Return a problem of each requirement that the lock lacks, or has in a version that does not satisfy it."""
    from packaging.utils import canonicalize_name

    found = []
    for requirement in needed:
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            what = "is not in the lock" if version is None else f"the lock has {version}"
            found.append(Problem(file=REQUIREMENTS, field=str(requirement), what=what, fix=MAKE_LOCK))
    return found


def package_problems(folder: Path, imports: Collection[str], around: Surroundings) -> list[Problem]:
    """Return every package that the folder needs and cannot count on.

    imports : names of the modules that its estimator.py imports, without what follows the first dot.
    """
    try:
        needed = needs(folder)
    except ModelFolderError as error:
        return list(error.problems)
    missing = unlocked(needed, around.locked)
    told = {problem.field for problem in missing}
    missing += [
        Problem(file=REQUIREMENTS, field=str(requirement), what=what, fix=INSTALL)
        for requirement in needed
        if str(requirement) not in told and (what := _not_installed(requirement, around.installed))
    ]
    return missing + _unnamed(folder, imports, needed, around)


def _not_installed(requirement: Requirement, installed: Callable[[str], str]) -> str | None:
    """Return what is wrong with what is installed, what its extras ask for included; None when nothing is."""
    from packaging.requirements import Requirement

    try:
        version = installed(requirement.name)
    except PackageNotFoundError:
        return "is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{version} is installed"
    if not requirement.extras:
        return None
    for further in map(Requirement, requires(requirement.name) or ()):
        if further.marker and any(further.marker.evaluate({"extra": extra}) for extra in requirement.extras):
            wrong = _not_installed(further, installed)
            if wrong:
                return f"needs {further.name}: {wrong}"
    return None


def _unnamed(
    folder: Path, imports: Collection[str], needed: Collection[Requirement], around: Surroundings
) -> list[Problem]:
    """Return the imports of distributions that happen to be installed: with the next lock they may be gone."""
    from packaging.utils import canonicalize_name

    of = distributions_of_modules()
    allowed = {*around.own, *(canonicalize_name(requirement.name) for requirement in needed)}
    found = []
    for module in sorted(set(imports) - sys.stdlib_module_names):
        names = sorted({canonicalize_name(name) for name in of.get(module, ())})
        if names and not allowed & set(names):
            what = f"imports {module}, of the package {' or '.join(names)}, which neither Ponte nor the folder names"
            fix = f"add {names[0]} to {folder.name}/{REQUIREMENTS} and {MAKE_LOCK}"
            found.append(Problem(file="estimator.py", what=what, fix=fix))
    return found


def named_versions(folder: Path) -> dict[str, str]:
    """Return the installed version of each distribution that the folder names, by the name that it has itself.

    Raises ModelFolderError when one is not installed where this runs.
    """
    try:
        found = [distribution(requirement.name) for requirement in needs(folder)]
    except PackageNotFoundError as error:
        problem = Problem(file=REQUIREMENTS, field=error.name, what="is not installed", fix=INSTALL)
        raise ModelFolderError(folder.name, [problem]) from error
    return {one.metadata["Name"]: one.version for one in found}
