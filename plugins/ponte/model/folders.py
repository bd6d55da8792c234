"""Find the model folders. One folder is one model; a broken folder never hides the others."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ponte.errors import ModelFolderError, Problem, did_you_mean
from ponte.model.spec import MODEL_NAME, ModelSpec
from ponte.model.toml import parse_spec
from ponte.packages.folder_requirements import REQUIREMENTS

#: The whole contract with an author, but for the REQUIREMENTS that a folder may have. All but the card decide what a
#: version is.
CODE_FILES = ("model.toml", "features.sql", "labels.sql", "estimator.py")
CARD = "README.md"
#: Each model has the views predictions.<model> and predictions.<model><ending>.
VIEW_ENDINGS = ("_latest", "_live", "_outcomes")
#: The live rows of a model lie in partitions that are called ponte_data.live_<model> with such an ending.
_PARTITION = re.compile(r"__(?:default|[0-9]{4}_[0-9]{2})$")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFolder:
    """A model folder that keeps the contract as far as files and `model.toml` can tell."""

    name: str
    path: Path
    spec: ModelSpec
    #: The model card, Markdown.
    card: str

    def text(self, file: str) -> str:
        """Return the text of one of CODE_FILES."""
        return (self.path / file).read_text(encoding="utf-8")

    def digest(self) -> str:
        """Return the SHA-256 (hex) over names and bytes of CODE_FILES and REQUIREMENTS; the card does not count."""
        total = hashlib.sha256()
        files = [*CODE_FILES, REQUIREMENTS] if (self.path / REQUIREMENTS).exists() else CODE_FILES
        for file in files:
            content = (self.path / file).read_bytes()
            total.update(f"{file}\0{len(content)}\0".encode() + content)
        return total.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenFolder:
    """A model folder whose DAGs can only tell what is wrong with it."""

    name: str
    path: Path
    error: ModelFolderError


def folder_paths(root: Path) -> list[Path]:
    """Return where the models of a root are, sorted by name; names starting with `_` or `.` are not models."""
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "_.")


def find_folders(root: Path) -> list[ModelFolder | BrokenFolder]:
    """Return every model folder below `root`, sorted by name; see `folder_paths`."""
    found: list[ModelFolder | BrokenFolder] = []
    for path in folder_paths(root):
        try:
            found.append(load_folder(path))
        except ModelFolderError as error:
            found.append(BrokenFolder(name=path.name, path=path, error=error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one folder, the others go on
            what = f"cannot be read: {type(error).__name__}: {str(error)[:300]}"
            broken = ModelFolderError(path.name, [Problem(file=".", what=what)])
            found.append(BrokenFolder(name=path.name, path=path, error=broken))
    return found


def load_folder(path: Path) -> ModelFolder:
    """Return the folder at `path`; raises ModelFolderError with all problems of its files and `model.toml`."""
    problems = name_problems(path.name)
    texts: dict[str, str] = {}
    for file in (*CODE_FILES, CARD):
        try:
            texts[file] = (path / file).read_text(encoding="utf-8")
        except FileNotFoundError:
            problems.append(Problem(file=file, what="is missing", fix="add it; see docs/reference/model-folder.md"))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(file=file, what=f"cannot be read as UTF-8 text: {error}"))
        else:
            if not texts[file].strip():
                problems.append(Problem(file=file, what="is empty"))
    spec = None
    if "model.toml" in texts:
        try:
            spec = parse_spec(texts["model.toml"], model=path.name)
        except ModelFolderError as error:
            problems.extend(error.problems)
    if problems or spec is None:
        raise ModelFolderError(path.name, problems)
    return ModelFolder(name=path.name, path=path, spec=spec, card=texts[CARD])


def name_problems(name: str) -> list[Problem]:
    """Return why a folder cannot have this name; nothing when it can."""
    problems = []
    if not MODEL_NAME.fullmatch(name):
        fix = f"rename it to match {MODEL_NAME.pattern}"
        problems.append(Problem(file=".", what=f"{name!r} is no model name", fix=fix))
    for end in VIEW_ENDINGS:
        if name.endswith(end):
            what = f"{name!r} would take the name of the view predictions.{name} of another model"
            fix = f"choose a name that does not end in {end}; did you mean {name.removesuffix(end)!r}?"
            problems.append(Problem(file=".", what=what, fix=fix))
    if end_of_part := _PARTITION.search(name):
        what = f"{name!r} would take the name of a table of another model's live rows"
        problems.append(Problem(file=".", what=what, fix=f"choose a name that does not end in {end_of_part[0]}"))
    return problems


def get_folder(root: Path, name: str) -> ModelFolder:
    """Return the folder of model `name`; raises ModelFolderError when it is broken or not there."""
    if not (root / name).is_dir():
        known = [path.name for path in folder_paths(root)] if root.is_dir() else []
        raise ModelFolderError(
            name, [Problem(file=str(root / name), what="no such folder", fix=did_you_mean(name, known))]
        )
    return load_folder(root / name)
