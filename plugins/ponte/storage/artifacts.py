"""Version folders and snapshots ⇄ object storage.

Nothing is read without its SHA-256 being known beforehand, and what is used are the very bytes that were hashed. On a
file system a file or folder appears under its name whole or not at all: temporary name, fsync, rename, fsync of the
parent. On object storage every object appears whole by nature, and the manifest is written last.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ponte.errors import ArtifactRefused

MANIFEST = "manifest.json"
#: Raised when the layout of a version folder changes.
FORMAT = 3
#: Format 1 has no metrics.json and no report.html. Up to 2 no signature.json holds categories: a release that knows
#: only those would make other frames.
READABLE_FORMATS = frozenset({1, 2, FORMAT})
#: First bytes of what joblib compresses with → how they are read.
_COMPRESSED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x78": zlib.decompress,
    b"\x1f\x8b": gzip.decompress,
    b"BZ": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"\x5d\x00": lzma.decompress,
}


def require_digest(content: bytes, sha256: str, what: str, *, where: str, fix: str) -> None:
    """Raise ArtifactRefused, which says `what`, unless the bytes have this SHA-256."""
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        size = f"{len(content)} bytes"
        raise ArtifactRefused(what, where=where, got=f"SHA-256 {got}, {size}", expected=f"SHA-256 {sha256}", fix=fix)


def decompressed(content: bytes) -> bytes:
    """Return what was compressed, when the first bytes say so; else the bytes as they are. Raises what zlib and its
    like raise of bytes that are not whole.
    """
    return next((read(content) for head, read in _COMPRESSED.items() if content.startswith(head)), content)


@dataclass
class ContentFile:
    """A file on its way into the store; `path`, `sha256` and `byte_count` are set when it has arrived."""

    local: str
    path: str = ""
    sha256: str = ""
    byte_count: int = 0


@dataclass(frozen=True, slots=True)
class StoredFolder:
    """What a version folder was written as."""

    manifest_sha256: str
    byte_count: int


class ArtifactStore:
    """Files below one root.

    Parameters
    ----------
    root : UPath
        Any `universal_pathlib.UPath`, Airflow's `ObjectStoragePath` among them: `file://…`, `s3://…`, `gs://…`.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        self._local = Path(root.path) if getattr(root, "protocol", "") in ("", "file", "local") else None

    @contextmanager
    def content_addressed(self, folder: str, suffix: str) -> Iterator[ContentFile]:
        """Yield a local file to fill; at the end it stands in the store as `<folder>/<sha256><suffix>`, read back."""
        with tempfile.TemporaryDirectory(prefix="ponte-") as scratch:
            file = ContentFile(local=str(Path(scratch) / "content"))
            yield file
            content = Path(file.local).read_bytes()
            file.sha256, file.byte_count = hashlib.sha256(content).hexdigest(), len(content)
            file.path = f"{folder}/{file.sha256}{suffix}"
            self._write(file.path, content)
            self.read_verified(file.path, file.sha256)

    def read_verified(self, path: str, sha256: str) -> bytes:
        """Return the bytes of a file, read once; raises ArtifactRefused unless they have this digest."""
        try:
            content: bytes = (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            fix = "restore it from a backup; its digest is in the registry"
            raise ArtifactRefused("a stored file is missing", where=f"{self.root}/{path}", fix=fix) from error
        what = "a stored file is not what was registered; it was not used"
        require_digest(content, sha256, what, where=f"{self.root}/{path}", fix="restore it from a backup")
        return content

    def write_folder(self, path: str, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> StoredFolder:
        """Store `files` and a manifest that binds their digests to `facts`. `path` is new: nothing is ever replaced.

        Law: `read_folder(path, write_folder(path, files, facts).manifest_sha256, facts) == files`.
        """
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
        manifest = json.dumps({"format": FORMAT, **facts, "files": digests}, indent=1, sort_keys=True).encode()
        everything = {**files, MANIFEST: manifest}
        if self._local is not None:
            _write_local_folder(self._local / path, everything)
        else:
            for name, content in everything.items():  # MANIFEST is the last one
                self._write(f"{path}/{name}", content)
        stored = StoredFolder(
            manifest_sha256=hashlib.sha256(manifest).hexdigest(), byte_count=sum(len(c) for c in everything.values())
        )
        self.read_folder(path, stored.manifest_sha256, facts)
        return stored

    def read_folder(self, path: str, manifest_sha256: str, facts: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the files of a folder by name, each read once and verified; the manifest itself is left out.

        Raises ArtifactRefused that names extra, missing and changed files, or each fact (model, version …) in which the
        manifest differs from the registry.
        """
        expected = self._verified_manifest(path, manifest_sha256, facts)
        present = {p.name for p in (self.root / path).iterdir()} - {MANIFEST}
        content = {name: (self.root / path / name).read_bytes() for name in sorted(expected.keys() & present)}
        problems = [f"missing file {name}" for name in sorted(expected.keys() - present)]
        problems += [f"extra file {name}" for name in sorted(present - expected.keys())]
        for name, read in content.items():
            got = hashlib.sha256(read).hexdigest()
            if got != expected[name]:
                problems.append(
                    self._swapped(path, name, got)
                    or f"changed file {name} (SHA-256 {got}, registered {expected[name]})"
                )
        if problems:
            fix = "restore the folder from a backup, or train again; nothing was loaded from it"
            where = f"{self.root}/{path}"
            raise ArtifactRefused(
                "the artifact is not what was registered", where=where, got="; ".join(problems), fix=fix
            )
        return content

    def read_file(self, path: str, manifest_sha256: str, facts: Mapping[str, Any], name: str) -> bytes | None:
        """Return one file of a folder, verified as `read_folder` does; None when the manifest does not name it.

        The other files are not looked at: a page of a few kilobytes must not cost the memory of a forest. Raises
        ArtifactRefused.
        """
        sha256 = self._verified_manifest(path, manifest_sha256, facts).get(name)
        return None if sha256 is None else self.read_verified(f"{path}/{name}", sha256)

    def _verified_manifest(self, path: str, manifest_sha256: str, facts: Mapping[str, Any]) -> dict[str, str]:
        """Return the files that the manifest names, each with its SHA-256; raises ArtifactRefused as `read_folder`."""
        where = f"{self.root}/{path}"
        try:
            manifest = json.loads(self.read_verified(f"{path}/{MANIFEST}", manifest_sha256))
        except ArtifactRefused:
            owner = self._owner_of_manifest(path)
            if owner is None or owner == (facts.get("model"), facts.get("version")):
                raise
            got = f"a manifest that says model {owner[0]}, version {owner[1]}"
            fix = "put the version's own folder back; were two folders swapped?"
            raise ArtifactRefused("the manifest is another version's", where=where, got=got, fix=fix) from None
        wrong = [f"{k} is {manifest.get(k)!r}, registered {v!r}" for k, v in facts.items() if manifest.get(k) != v]
        if wrong:
            raise ArtifactRefused("the manifest is another version's", where=where, got="; ".join(wrong))
        if manifest["format"] not in READABLE_FORMATS:
            raise ArtifactRefused(
                "unknown artifact format",
                where=where,
                got=str(manifest["format"]),
                expected=f"one of {sorted(READABLE_FORMATS)}",
                fix="use the release of Ponte that wrote it",
            )
        files: dict[str, str] = manifest["files"]
        return files

    def _swapped(self, path: str, name: str, sha256: str) -> str | None:
        """Return whose file this is, when a manifest beside this folder claims it: only to say what happened."""
        for folder in (self.root / path).parent.iterdir():
            manifest = _unverified_json(folder / MANIFEST)
            if sha256 in manifest.get("files", {}).values():
                return f"swapped file {name}: it belongs to version {manifest.get('version')}, in {folder.name}"
        return None

    def _owner_of_manifest(self, path: str) -> tuple[Any, Any] | None:
        manifest = _unverified_json(self.root / path / MANIFEST)
        return (manifest["model"], manifest["version"]) if {"model", "version"} <= manifest.keys() else None

    def _write(self, path: str, content: bytes) -> None:
        if self._local is not None:
            target = self._local / path
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            _write_synced(temporary, content)
            temporary.replace(target)
            sync_folder(target.parent)
        else:
            (self.root / path).write_bytes(content)


def _unverified_json(path: Any) -> dict[str, Any]:
    """Return what a file says of itself, {} when it says nothing; for messages only, never to act upon."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_local_folder(target: Path, files: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.mkdir()
    for name, content in files.items():
        _write_synced(temporary / name, content)
    sync_folder(temporary)
    temporary.rename(target)
    sync_folder(target.parent)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make a rename in the folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
