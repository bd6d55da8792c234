"""Backup of the database `ponte` together with its artifacts, and the way back: `./ponte backup`, `./ponte restore`.

::

    FOLDER/
    ├── database/       what pg_dump wrote, of one moment
    ├── artifacts/      everything below the artifact root
    └── manifest.json   SHA-256 and size of every other file, rows of every table; written last
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from upath import UPath

from ponte.backup import dumping, restoring
from ponte.backup.dumping import Dump
from ponte.errors import PonteError
from ponte.storage.artifacts import MANIFEST, sync_folder

#: Raised when the layout of a backup changes.
FORMAT = 1
DATABASE, ARTIFACTS = "database", "artifacts"
_CHUNK = 1 << 20
#: More problems than these help nobody.
_MANY = 10


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file must be."""

    sha256: str
    byte_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Content of manifest.json."""

    created_at: str
    dump: Dump
    #: By path below the folder, with slashes.
    files: dict[str, Digest]

    @property
    def summary(self) -> str:
        """One line for people."""
        size, rows = sum(d.byte_count for d in self.files.values()), sum(self.dump.row_counts.values())
        return f"{len(self.files)} files, {size:,} bytes, {rows:,} rows, schema {self.dump.schema_revision}"

    def as_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode()

    @staticmethod
    def from_json(content: bytes, where: str) -> Manifest:
        """Raises PonteError when it is not of a format that this release reads."""
        try:
            found = json.loads(content)
            if found.pop("format") == FORMAT:
                files = {name: Digest(**digest) for name, digest in found.pop("files").items()}
                return Manifest(files=files, dump=Dump(**found.pop("dump")), **found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PonteError(f"{MANIFEST} is damaged", where=where, got=f"{type(error).__name__}: {error}") from error
        fix = "use the release of Ponte that wrote it"
        raise PonteError("unknown format of a backup", where=where, expected=f"format {FORMAT}", fix=fix)


# ---------------------------------------------------------------- create, verify, restore


def create(folder: Path, database: sa.URL, artifacts: str) -> Manifest:
    """Write a backup into the new `folder`, which appears whole or not at all; raises PonteError.

    artifacts : URL of the artifact root, any that fsspec knows, as in PONTE_ARTIFACTS.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PonteError("the folder of a new backup is not empty", where=str(folder), fix="name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    temporary.mkdir(mode=0o700)  # it holds everything
    try:
        with _step("database") as sizes:
            dump = dumping.dump(database, temporary / DATABASE)
            files = {name: digest_of(temporary / name) for name in sorted(_files_below(temporary))}
            sizes += [d.byte_count for d in files.values()]
        # The database comes first: artifacts never change and are written before they are registered, so whatever the
        # dump names is there by now, and stays.
        with _step("artifacts") as sizes:
            for name, stored in list_artifacts(UPath(artifacts)).items():
                with stored.open("rb") as source:
                    copied = write_local(source, temporary / ARTIFACTS / name)
                files[f"{ARTIFACTS}/{name}"] = copied
                sizes.append(copied.byte_count)
        require_artifacts(temporary, dump, files)
        created_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        manifest = Manifest(created_at=created_at, dump=dump, files=files)
        write_local(io.BytesIO(manifest.as_json()), temporary / MANIFEST)
        for path in [temporary, *(p for p in temporary.rglob("*") if p.is_dir())]:
            sync_folder(path)
        temporary.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return manifest


def verify(folder: Path) -> Manifest:
    """Return the manifest if every file is there and as it was written, and no other; raises PonteError."""
    try:
        manifest = Manifest.from_json((folder / MANIFEST).read_bytes(), str(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PonteError("this is no backup", where=str(folder), expected=f"a folder with {MANIFEST}") from error
    present = _files_below(folder) - {MANIFEST}
    problems = [f"missing file {name}" for name in sorted(manifest.files.keys() - present)]
    problems += [f"extra file {name}" for name in sorted(present - manifest.files.keys())]
    with _step("digests") as sizes:
        for name in sorted(manifest.files.keys() & present):
            got = digest_of(folder / name)
            sizes.append(got.byte_count)
            if got != manifest.files[name]:
                problems.append(f"changed file {name}")
    _require_none(problems, "the backup is not what was written", str(folder), "use another backup")
    require_artifacts(folder, manifest.dump, manifest.files)
    return manifest


def restore(folder: Path, database: sa.URL, artifacts: str, *, replace: bool = False) -> tuple[Manifest, str | None]:
    """Put a backup in the place of an empty database; return its manifest, and under which name an old one is kept.

    Until the very end the database that bears the name is left as it is, whatever happens. Artifacts are added; one
    that differs from the backup's is an error.

    replace : the old database may hold rows and have sessions, which end; it is kept under another name. An artifact
    that differs is overwritten.
    """
    manifest = verify(folder)
    restoring.require_room(database, manifest.dump, replace=replace)
    wanted = {n.removeprefix(f"{ARTIFACTS}/"): d for n, d in manifest.files.items() if n.startswith(f"{ARTIFACTS}/")}
    stored = list_artifacts(UPath(artifacts))
    lacking = wanted.keys() - stored.keys()
    with _step("artifacts there"):
        differ = {n for n in wanted.keys() & stored.keys() if digest_of(stored[n]) != wanted[n]}
    if differ and not replace:
        fix = "--replace overwrites them; look first: they are not what the backup's database registered"
        _require_none([f"changed file {n}" for n in sorted(differ)], "stored files differ", artifacts, fix)
    with _step("database"), restoring.restored(database, manifest.dump, folder / DATABASE) as fresh:
        # Before the database is seen, so that whatever it names is there.
        with _step("artifacts") as sizes:
            for name in sorted(lacking | differ):
                sizes.append(wanted[name].byte_count)
                with (folder / ARTIFACTS / name).open("rb") as source:
                    write_stored(source, UPath(artifacts) / name, wanted[name])
        kept = restoring.take_name(database, fresh, replace=replace)
    return manifest, kept


def require_artifacts(folder: Path, dump: Dump, files: Mapping[str, Digest]) -> None:
    """Raise PonteError unless the backup has every file that its database names, and that those name in turn."""
    problems = []
    for name, sha256 in dump.artifacts.items():
        path = f"{ARTIFACTS}/{name}"
        if path not in files or files[path].sha256 != sha256:
            problems.append(f"{'changed' if path in files else 'missing'} file {name}")
        elif name.endswith(f"/{MANIFEST}"):
            content: dict[str, str] = json.loads((folder / path).read_bytes())["files"]
            own = path.removesuffix(MANIFEST)
            problems += [
                f"missing or changed file {own}{part}"
                for part, digest in content.items()
                if own + part not in files or files[own + part].sha256 != digest
            ]
    fix = "artifacts are lost: find them in an earlier backup, or is this another artifact root?"
    _require_none(problems, "the database names artifacts that are not there", f"{folder.name}/{ARTIFACTS}", fix)


def _require_none(problems: Sequence[str], what: str, where: str, fix: str) -> None:
    if problems:
        more = [f"and {len(problems) - _MANY} more"] if len(problems) > _MANY else []
        raise PonteError(what, where=where, got="; ".join([*problems[:_MANY], *more]), fix=fix)


# ---------------------------------------------------------------- files


def list_artifacts(root: UPath) -> dict[str, UPath]:
    """Return the files below the artifact root by their path there; hidden ones are still being written."""
    start = f"{root.path.rstrip('/')}/"
    names = [path.removeprefix(start) for path in sorted(root.fs.find(root.path))]
    return {name: root / name for name in names if not any(part.startswith(".") for part in name.split("/"))}


def write_stored(source: IO[bytes], path: UPath, expected: Digest) -> None:
    """Write an artifact whole; raises PonteError, and leaves nothing, unless these bytes have the digest."""
    if path.protocol in ("", "file", "local"):
        write_local(source, Path(path.path), expected)
        return
    with path.open("wb") as target:
        _copy(source, target)
    if digest_of(path) != expected:
        path.unlink()
        raise PonteError("a file changed while it was copied", where=str(path))


def write_local(source: IO[bytes], path: Path, expected: Digest | None = None) -> Digest:
    """Copy into a file that appears whole or not at all; raises PonteError unless it has the expected digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as target:
            got = _copy(source, target)
            target.flush()
            os.fsync(target.fileno())
        if expected not in (None, got):
            raise PonteError("a file changed while it was copied", where=str(path))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return got


def digest_of(path: Path | UPath) -> Digest:
    """Return the digest of a file, read once."""
    with path.open("rb") as file:
        return _copy(file, None)


def _copy(source: IO[bytes], target: IO[bytes] | None) -> Digest:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
    return Digest(digest.hexdigest(), size)


def _files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


# ---------------------------------------------------------------- command line


@contextmanager
def _step(what: str) -> Iterator[list[int]]:
    """Say on stderr what was done in how many seconds, with the sum of the sizes that the caller appends."""
    sizes: list[int] = []
    started = time.monotonic()
    yield sizes
    bytes_ = f"{sum(sizes):>16,} bytes" if sizes else " " * 22
    print(f"  {what:<18}{bytes_}{time.monotonic() - started:>8.1f} s", file=sys.stderr)
