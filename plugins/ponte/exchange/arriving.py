"""What a person brings: a file of a fitted estimator, or an MLflow model; read, hashed and accepted, not yet loaded."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ponte.errors import ArtifactRefused, PonteError

#: Line of an MLmodel file that names the file of a scikit-learn estimator.
_PICKLED = re.compile(r"^\s+pickled_model: ['\"]?([^'\"\s]+)['\"]?\s*$", re.MULTILINE)
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)
#: skops writes a ZIP.
_ZIP = b"PK"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """Bytes that a person has accepted."""

    path: Path
    content: bytes
    sha256: str
    format: Literal["pickle", "skops"]
    accepted_how: Literal["digest", "trust"]


def accept(path: Path, *, sha256: str | None, trusted: bool) -> Arrived:
    """Return the bytes of a file, or of the estimator in an MLflow folder, as the person accepts them.

    sha256 : what the person says that the digest is; trusted : the person says that whatever it is may be unpickled.
    Raises ArtifactRefused, with the digest, when neither is said or the digest is another one; PonteError for what is
    no file, or more than the free memory holds.
    """
    found = _estimator_of(path) if path.is_dir() else path
    content = _read(found)
    got = hashlib.sha256(content).hexdigest()
    if sha256 is not None:
        said = _DIGEST.fullmatch(sha256.strip())
        if said is None or said[1].lower() != got:
            raise ArtifactRefused(
                "the file has another digest than was said; nothing of it was loaded",
                where=str(found),
                got=f"SHA-256 {got}",
                expected=sha256,
            )
    elif not trusted:
        raise ArtifactRefused(
            "nobody has said that this file may be loaded: loading a pickle runs whatever is in it",
            where=str(found),
            got=f"SHA-256 {got}",
            fix="say --sha256 with the digest that its maker tells you, or --i-trust-this-file",
        )
    return Arrived(
        path=found,
        content=content,
        sha256=got,
        format="skops" if content.startswith(_ZIP) else "pickle",
        accepted_how="digest" if sha256 is not None else "trust",
    )


def _read(file: Path) -> bytes:
    import psutil  # type: ignore[import-untyped]

    try:
        size, free = file.stat().st_size, psutil.virtual_memory().available
        if not file.is_file() or not size:
            expected = "a file of joblib, pickle or skops, or the folder of an MLflow model"
            got = "an empty one" if file.is_file() else "something else"
            raise PonteError("no file of an estimator", where=str(file), got=got, expected=expected)
        if size > free:  # the system would end the program, without a word
            fix = "import it on a machine with more memory, or fit a smaller estimator"
            got, expected = f"{size:,} bytes", f"less than the free memory, {free:,} bytes"
            raise PonteError("the file is too large", where=str(file), got=got, expected=expected, fix=fix)
        return file.read_bytes()
    except OSError as error:
        raise PonteError("the file cannot be read", where=str(file), got=error.strerror or str(error)) from error


def _estimator_of(folder: Path) -> Path:
    """Return the file that holds the estimator of an MLflow model; raises PonteError for any other folder."""
    description = folder / "MLmodel"
    if not description.is_file():
        fix = "give a file of joblib, pickle or skops, or the folder of an MLflow model"
        raise PonteError("no MLflow model", where=str(folder), expected="a file MLmodel", fix=fix)
    named = _PICKLED.search(description.read_text(encoding="utf-8", errors="replace"))
    if named is None or Path(named[1]).name != named[1]:
        where = str(description)
        raise PonteError("the MLflow model has no scikit-learn estimator", where=where, expected="pickled_model: FILE")
    return folder / named[1]
