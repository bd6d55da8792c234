"""One lock for Ponte and all model folders: `make lock`.

Resolves requirements.in and the requirements.txt of every model folder into requirements.txt. When they do not go
together, each folder is resolved alone with requirements.in, then each pair of folders, and those that conflict are
named.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ponte.errors import ModelFolderError, PonteError, Problem
from ponte.packages import folder_requirements
from ponte.packages.folder_requirements import LOCK, OWN, REQUIREMENTS, Surroundings

#: What uv ends with when there is no solution; anything else that is not 0 says nothing about the packages.
_UNSOLVABLE = 1
_OLDEST_PYTHON = "3.11"

#: Resolves requirement files together: None when they go together, else what the resolver says. Raises PonteError when
#: it cannot tell.
Resolve = Callable[[Sequence[Path]], str | None]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Files that cannot be resolved together, though each smaller set of them can."""

    files: tuple[Path, ...]
    said: str


def requirement_files(models: Path) -> list[Path]:
    """Return the requirements.txt of every model folder below `models` that has one, by name."""
    return sorted(path for path in models.glob(f"*/{REQUIREMENTS}") if path.parent.name[0] not in "_.")


def lock(root: Path, models: Path, options: Sequence[str] = ()) -> None:
    """Resolve requirements.in and the folders' files into the requirements.txt of the checkout at `root`.

    options : further ones for uv. Raises PonteError that names who conflicts; the lock is then as it was.
    """
    files = requirement_files(models)
    for file in files:
        folder_requirements.needs(file.parent)  # what is no requirement is told by line
    output = ["--generate-hashes", "--custom-compile-command", "make lock", "--output-file", LOCK]
    said = _uv(root, [root / OWN, *files], [*options, *output])
    if said is None:
        return
    found = conflicts(root / OWN, files, lambda some: _uv(root, some, options))
    lines = [f"  {' + '.join(_name(file) for file in one.files)}:\n{_indented(one.said)}" for one in found]
    raise PonteError(
        "\n".join([f"the packages cannot be resolved together; {LOCK} is as it was", *lines]),
        fix="loosen or change a version in one of them, then `make lock`; see docs/how-to/use-other-packages.md",
    )


def conflicts(own: Path, files: Sequence[Path], resolve: Resolve) -> list[Conflict]:
    """Return who does not go together, of files that do not go together with `own`.

    `own` alone is asked first, then each file with it, then each pair of those that passed; when all of that goes
    together it takes three or more, and these are one conflict of all.
    """
    said = resolve([own])
    if said is not None:
        return [Conflict((own,), said)]
    alone = {file: resolve([own, file]) for file in files}
    found = [Conflict((own, file), said) for file, said in alone.items() if said is not None]
    passed = [file for file, said in alone.items() if said is None]
    for pair in itertools.combinations(passed, 2):
        said = resolve([own, *pair])
        if said is not None:
            found.append(Conflict(pair, said))
    return found or [Conflict((own, *files), "each pair of them can be resolved, all together cannot")]


def _uv(root: Path, files: Sequence[Path], options: Sequence[str]) -> str | None:
    """Resolve with uv, for every Python from 3.11 on."""
    names = [str(file) for file in files]  # uv itself writes paths below its folder without that folder
    command = [
        *(str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--no-config", "--universal"),
        *("--python-version", _OLDEST_PYTHON, "--no-emit-index-url", "--no-emit-find-links", *options, *names),
    ]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError as error:
        fix = "`make lock` in the checkout; an image has no resolver, and is built of the lock"
        raise PonteError("uv is not installed here", where=command[0], fix=fix) from error
    if result.returncode not in (0, _UNSOLVABLE):
        raise PonteError("uv cannot resolve the packages", where=", ".join(names), got=result.stderr.strip())
    # Its hints are about settings of a pyproject.toml, which there is not.
    return result.stderr.partition("\nhint:")[0].strip() if result.returncode else None


def _name(file: Path) -> str:
    return file.name if file.name == OWN else file.parent.name


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def what_is_not_locked(models: Path, around: Surroundings) -> list[str]:
    """Return a line for each package that a folder needs and the lock lacks, and each line that is no requirement."""
    found = []
    for file in requirement_files(models):
        try:
            problems: Sequence[Problem] = folder_requirements.unlocked(
                folder_requirements.needs(file.parent), around.locked
            )
        except ModelFolderError as error:
            problems = error.problems
        found += [f"{file.parent.name}: {problem}" for problem in problems]
    return found
