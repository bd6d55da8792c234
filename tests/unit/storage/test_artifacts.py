"""What is read is what was written, byte for byte, or nothing at all."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from ponte.errors import ArtifactRefused
from ponte.storage.artifacts import MANIFEST, ArtifactStore, StoredFolder

FACTS = {"model": "churn", "version": 1}
FILES = {"model.joblib": b"weights", "signature.json": b"{}"}
PLACE = "churn/versions/1"

MakeStore = Callable[[], ArtifactStore]


@pytest.fixture(params=["path", "file", "memory"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Return a function that makes an empty store: a path, a file:// URL, an object storage."""
    roots = {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": "memory://artifacts"}
    return lambda: ArtifactStore(UPath(roots[request.param]) / uuid.uuid4().hex)


@pytest.fixture
def store(make_store: MakeStore) -> ArtifactStore:
    return make_store()


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(UPath(tmp_path / "store"))


def put(store: ArtifactStore) -> StoredFolder:
    return store.write_folder(PLACE, FILES, FACTS)


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12).filter(
    lambda name: name != MANIFEST
)


@given(st.dictionaries(names, st.binary(max_size=60), max_size=4))
def test_folder_is_read_back_as_it_was_written(make_store: MakeStore, files: dict[str, bytes]) -> None:
    store = make_store()
    stored = store.write_folder(PLACE, files, FACTS)
    assert store.read_folder(PLACE, stored.manifest_sha256, FACTS) == files
    assert stored.byte_count == sum(p.stat().st_size for p in (store.root / PLACE).iterdir())


def test_manifest_binds_the_facts_to_the_digest_of_every_file(store: ArtifactStore) -> None:
    stored = put(store)
    content = (store.root / PLACE / MANIFEST).read_bytes()
    assert hashlib.sha256(content).hexdigest() == stored.manifest_sha256
    assert json.loads(content) == {
        "format": 3,
        **FACTS,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()},
    }


def test_second_write_to_a_path_fails_and_leaves_the_first_folder_as_it_was(local: ArtifactStore) -> None:
    """A run that has lost its lock on a number must not write over the version that another run has registered."""
    first = put(local)
    with pytest.raises(OSError, match="not empty"):
        local.write_folder(PLACE, {"model.joblib": b"other weights"}, {"model": "churn", "version": 1, "run": "late"})
    assert local.read_folder(PLACE, first.manifest_sha256, FACTS) == FILES


def change(folder: Any) -> None:
    (folder / "model.joblib").write_bytes(b"Weights")


def truncate(folder: Any) -> None:
    (folder / "model.joblib").write_bytes(b"")


def remove(folder: Any) -> None:
    (folder / "signature.json").unlink()


def add(folder: Any) -> None:
    (folder / "extra.py").write_bytes(b"import os")


def change_fact(folder: Any) -> None:
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes().replace(b'"version": 1', b'"version": 2'))


def change_manifest(folder: Any) -> None:
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes().replace(b'"format": 3', b'"format": 1'))


def break_manifest(folder: Any) -> None:
    (folder / MANIFEST).write_bytes(b"[]")


def remove_manifest(folder: Any) -> None:
    (folder / MANIFEST).unlink()


def all_at_once(folder: Any) -> None:
    change(folder)
    remove(folder)
    add(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change, ["the artifact is not what was registered", "changed file model.joblib (SHA-256 "]),
        (truncate, ["the artifact is not what was registered", "changed file model.joblib (SHA-256 e3b0c442"]),
        (remove, ["the artifact is not what was registered", "missing file signature.json"]),
        (add, ["the artifact is not what was registered", "extra file extra.py"]),
        (change_fact, ["the manifest is another version's", "a manifest that says model churn, version 2", "swapped?"]),
        (change_manifest, ["a stored file is not what was registered", f"{PLACE}/{MANIFEST}"]),
        (break_manifest, ["a stored file is not what was registered", f"{PLACE}/{MANIFEST}"]),
        (remove_manifest, ["a stored file is missing", f"{PLACE}/{MANIFEST}"]),
        (all_at_once, ["missing file signature.json; extra file extra.py; changed file model.joblib"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damaged_folder_is_refused_and_what_is_wrong_is_named(
    store: ArtifactStore, damage: Callable[[Any], None], said: list[str]
) -> None:
    stored = put(store)
    damage(store.root / PLACE)
    with pytest.raises(ArtifactRefused) as caught:
        store.read_folder(PLACE, stored.manifest_sha256, FACTS)
    for text in [*said, PLACE, "next: "]:
        assert text in str(caught.value)


def test_manifest_of_another_version_is_refused_though_its_files_are_whole(store: ArtifactStore) -> None:
    stored = put(store)
    with pytest.raises(ArtifactRefused, match="the manifest is another version's") as caught:
        store.read_folder(PLACE, stored.manifest_sha256, {"model": "churn", "version": 2})
    assert "version is 1, registered 2" in str(caught.value)
    assert "model is" not in str(caught.value)


def test_folder_of_another_version_in_its_place_is_refused(store: ArtifactStore) -> None:
    stored = put(store)
    store.write_folder("churn/versions/2", FILES, {"model": "churn", "version": 2})
    for file in (store.root / PLACE).iterdir():
        file.write_bytes((store.root / "churn/versions/2" / file.name).read_bytes())
    with pytest.raises(ArtifactRefused, match="the manifest is another version's") as caught:
        store.read_folder(PLACE, stored.manifest_sha256, FACTS)
    said = str(caught.value)
    assert "got: a manifest that says model churn, version 2\n" in said
    assert "next: put the version's own folder back; were two folders swapped?" in said


def test_file_of_another_version_is_refused_and_its_owner_named(store: ArtifactStore) -> None:
    stored = put(store)
    other = {**FILES, "model.joblib": b"other weights"}
    store.write_folder("churn/versions/2", other, {"model": "churn", "version": 2})
    (store.root / PLACE / "model.joblib").write_bytes(b"other weights")
    with pytest.raises(ArtifactRefused) as caught:
        store.read_folder(PLACE, stored.manifest_sha256, FACTS)
    assert "got: swapped file model.joblib: it belongs to version 2, in 2\n" in str(caught.value)


@pytest.mark.parametrize("written", [1, 2, 3])
def test_every_known_format_is_read(store: ArtifactStore, written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ponte.storage.artifacts.FORMAT", written)
    assert store.read_folder(PLACE, put(store).manifest_sha256, FACTS) == FILES


def test_unknown_format_is_refused(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = put(store)
    monkeypatch.setattr("ponte.storage.artifacts.READABLE_FORMATS", frozenset({1, 2}))
    with pytest.raises(ArtifactRefused, match="unknown artifact format") as caught:
        store.read_folder(PLACE, stored.manifest_sha256, FACTS)
    assert "got: 3\n  expected: one of [1, 2]" in str(caught.value)


def test_what_looks_like_a_left_over_is_left_alone_for_its_writer_may_still_be_at_work(local: ArtifactStore) -> None:
    parent = Path(local.root.path) / "churn/versions"
    (parent / ".1.aaaa").mkdir(parents=True)
    (parent / ".1.aaaa" / "model.joblib").write_bytes(b"half")
    put(local)
    assert sorted(p.name for p in parent.iterdir()) == [".1.aaaa", "1"]
    assert (parent / ".1.aaaa" / "model.joblib").read_bytes() == b"half"


class Killed(BaseException):
    """Stands for SIGKILL: nothing in Ponte may catch it."""


def killed_at_sync(monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    calls = iter(range(survived))
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls, None) is None:
            raise Killed
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_writer_killed_at_any_sync_leaves_nothing_or_the_whole_folder(
    local: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files, their folder, rename, the parent: five syncs, of which only the last comes after the name."""
    whole = put(ArtifactStore(local.root / "whole"))
    outcomes = []
    for survived in range(10):
        store = ArtifactStore(local.root / str(survived))
        with monkeypatch.context() as patch:
            killed_at_sync(patch, survived)
            try:
                put(store)
            except Killed:
                exists = (store.root / PLACE).exists()
            else:
                break
        outcomes.append(exists)
        if exists:
            assert store.read_folder(PLACE, whole.manifest_sha256, FACTS) == FILES
        assert store.write_folder(f"{PLACE}-again", FILES, FACTS).manifest_sha256 == whole.manifest_sha256
    assert outcomes == [False, False, False, False, True]


def test_writer_killed_before_the_rename_leaves_nothing_under_the_final_name(
    local: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(Killed):
            put(local)
    assert not (local.root / PLACE).exists()


@given(st.binary(max_size=100))
def test_file_is_named_by_its_content_and_read_back(make_store: MakeStore, content: bytes) -> None:
    store = make_store()
    with store.content_addressed("churn/snapshots", ".parquet") as file:
        Path(file.local).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert (file.path, file.sha256, file.byte_count) == (f"churn/snapshots/{digest}.parquet", digest, len(content))
    assert store.read_verified(file.path, file.sha256) == content


def test_same_content_twice_is_one_file(store: ArtifactStore) -> None:
    paths = set()
    for _ in range(2):
        with store.content_addressed("churn/snapshots", ".parquet") as file:
            Path(file.local).write_bytes(b"rows")
        paths.add(file.path)
    assert [p.name for p in (store.root / "churn/snapshots").iterdir()] == [Path(path).name for path in paths]


def test_writer_that_fails_leaves_neither_a_stored_nor_a_local_file(store: ArtifactStore) -> None:
    def fill() -> None:
        with store.content_addressed("churn/snapshots", ".parquet") as file:
            Path(file.local).write_bytes(b"half")
            locals_.append(Path(file.local))
            raise RuntimeError

    locals_: list[Path] = []
    with pytest.raises(RuntimeError):
        fill()
    assert not (store.root / "churn/snapshots").exists()
    assert not locals_[0].parent.exists()


def test_file_killed_before_its_name_is_not_there_and_can_be_written_again(
    local: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> str:
        with local.content_addressed("churn/snapshots", ".parquet") as file:
            Path(file.local).write_bytes(b"rows")
        return file.path

    with monkeypatch.context() as patch:
        killed_at_sync(patch, 0)
        with pytest.raises(Killed):
            write()
    assert not list((local.root / "churn/snapshots").glob("*.parquet"))
    assert (local.root / write()).exists()


def test_changed_file_is_refused_with_both_digests(store: ArtifactStore) -> None:
    with store.content_addressed("churn/snapshots", ".parquet") as file:
        Path(file.local).write_bytes(b"rows")
    (store.root / file.path).write_bytes(b"Rows")
    with pytest.raises(ArtifactRefused) as caught:
        store.read_verified(file.path, file.sha256)
    got = hashlib.sha256(b"Rows").hexdigest()
    assert f"got: SHA-256 {got}, 4 bytes\n  expected: SHA-256 {file.sha256}" in str(caught.value)
    assert file.path in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.parquet", "churn/nowhere.parquet"])
def test_missing_file_is_refused_by_name(store: ArtifactStore, path: str) -> None:
    with pytest.raises(ArtifactRefused, match="a stored file is missing") as caught:
        store.read_verified(path, "0" * 64)
    assert path in str(caught.value)
