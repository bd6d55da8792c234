"""The folder of a version holds exactly what was registered, or nothing of it is used; each damage has its own text."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from tests.conftest import Cluster, Template
from tests.sample_model import FEATURES_SQL, World

from ponte.errors import ArtifactRefused
from ponte.quality.figures import from_json
from ponte.storage.artifacts import ArtifactStore
from ponte.versions import loading, marks, registry
from ponte.versions.loading import load_version
from ponte.versions.predicting import Predictions
from ponte.versions.registry import Version

FILES = ["README.md", "estimation.json", "estimator.py", "golden.parquet", "manifest.json", "metrics.json",
         "model.joblib", "model.toml", "report.html", "signature.json"]  # fmt: skip


def folder_of(world: World, version: Version) -> Path:
    return Path(world.store.root.path) / version.path


def test_a_version_is_exactly_these_files_and_they_say_what_the_registry_says(trained: World) -> None:
    import pyarrow.parquet as pq

    version = trained.champion()
    folder = folder_of(trained, version)

    assert sorted(p.name for p in folder.iterdir()) == FILES
    kept = {(m.subject, m.slice, m.name, m.figure.value, m.figure.low, m.figure.high, m.row_count)
            for m in from_json((folder / "metrics.json").read_bytes())}  # fmt: skip
    stored = "SELECT subject, slice, name, value, low, high, row_count FROM ponte.metric WHERE version = 1"
    assert kept == set(trained.rows(stored))
    assert len(kept) > 50
    golden = pq.read_table(folder / "golden.parquet")
    assert (golden.num_rows, golden.column_names[-2:]) == (200, ["prediction", "score"])
    assert b"visits" in (folder / "report.html").read_bytes()
    assert sum(p.stat().st_size for p in folder.iterdir()) == version.byte_count


# ---------------------------------------------------------------- damage


@dataclass(frozen=True)
class Pair:
    """Two versions of a model in a store that a test may damage."""

    store: ArtifactStore
    one: Version
    two: Version

    def folder(self, version: Version) -> Path:
        return Path(self.store.root.path) / version.path


@pytest.fixture(scope="module")
def two_versions(server: Cluster, trained_template: Template, tmp_path_factory: Any) -> Iterator[Pair]:
    """Versions 1 and 2 of `visits`, trained once."""
    from tests.sample_model import write_model
    from upath import UPath

    from ponte.storage.database import Database

    root = tmp_path_factory.mktemp("two")
    shutil.copytree(trained_template.artifacts, root / "artifacts")
    (root / "models").mkdir()
    folder = write_model(root / "models", files={"features.sql": FEATURES_SQL + "-- again\n"}, resamples=100)
    with server.database(trained_template.database) as (_, url):
        world = World(db=Database(url), store=ArtifactStore(UPath(root / "artifacts")), folder=folder)
        written = world.snapshot(run_id="second")
        second = world.fit(written.snapshot_id, run_id="second")
        yield Pair(world.store, registry.get_version(world.db, "visits", 1), second)


@pytest.fixture
def pair(two_versions: Pair, tmp_path: Path) -> Pair:
    """A private copy of both folders."""
    from upath import UPath

    shutil.copytree(two_versions.store.root.path, tmp_path / "artifacts")
    return Pair(ArtifactStore(UPath(tmp_path / "artifacts")), two_versions.one, two_versions.two)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(bytes(content))


def edit_manifest(pair: Pair) -> None:
    """Make the manifest agree with a file that was replaced, which leaves only the registry to tell."""
    folder = pair.folder(pair.one)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "estimator.py").write_text("import os\n")
    import hashlib

    manifest["files"]["estimator.py"] = hashlib.sha256(b"import os\n").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))


def swap_folders(pair: Pair) -> None:
    one, two, aside = pair.folder(pair.one), pair.folder(pair.two), pair.folder(pair.one).with_name("aside")
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


def swap_files(pair: Pair) -> None:
    one, two = (pair.folder(v) / "golden.parquet" for v in (pair.one, pair.two))
    first, second = one.read_bytes(), two.read_bytes()
    assert first != second, "the same file in both places is no swap"
    one.write_bytes(second)
    two.write_bytes(first)


DAMAGE: dict[str, tuple[Callable[[Pair], object], str]] = {
    "flipped bit": (
        lambda p: flip(p.folder(p.one) / "model.joblib", 4000),
        r"the artifact is not what was registered\n.*\n  got: changed file model\.joblib \(SHA-256 \w{64}, reg",
    ),
    "missing file": (
        lambda p: (p.folder(p.one) / "report.html").unlink(),
        r"the artifact is not what was registered\n.*\n  got: missing file report\.html\n",
    ),
    "extra file": (
        lambda p: (p.folder(p.one) / "sitecustomize.py").write_text("import os"),
        r"the artifact is not what was registered\n.*\n  got: extra file sitecustomize\.py\n",
    ),
    "file swapped": (
        swap_files,
        r"the artifact is not what was registered\n.*\n  got: swapped file golden\.parquet: it belongs to version 2, ",
    ),
    "folder swapped": (
        swap_folders,
        r"the manifest is another version's\n.*\n  got: a manifest that says model visits, version 2\n  .*swapped",
    ),
    "manifest edited": (
        edit_manifest,
        r"a stored file is not what was registered; it was not used\n  where: .*manifest\.json\n  got: SHA-256 \w{64}",
    ),
    "manifest missing": (
        lambda p: (p.folder(p.one) / "manifest.json").unlink(),
        r"a stored file is missing\n  where: .*manifest\.json\n",
    ),
    "folder missing": (lambda p: shutil.rmtree(p.folder(p.one)), r"a stored file is missing\n"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_every_damage_is_refused_with_a_text_of_its_own_before_anything_runs(
    pair: Pair, damage: Callable[[Pair], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_version(pair.store, pair.one)
    damage(pair)
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr(loading, "run_module", lambda *_, **__: pytest.fail("ran"))

    with pytest.raises(ArtifactRefused, match=said):
        load_version(pair.store, pair.one)


class Canary:
    """Its bytes make a file when they are unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_canary_in_the_place_of_the_model_stays_silent(pair: Pair, tmp_path: Path) -> None:
    content, sung = io.BytesIO(), tmp_path / "sung"
    joblib.dump(Canary(sung), content)
    (pair.folder(pair.one) / "model.joblib").write_bytes(content.getvalue())

    with pytest.raises(ArtifactRefused, match="changed file model"):
        load_version(pair.store, pair.one)
    assert not sung.exists()
    v, path = pair.one, f"{pair.one.path}-registered"
    files = {**loading.read_files(pair.store, pair.two), "model.joblib": content.getvalue()}
    facts = loading.artifact_facts(v.model, v.version, v.libraries, v.signature, v.output)
    digest = pair.store.write_folder(path, files, facts).manifest_sha256
    with pytest.raises(AttributeError):
        load_version(pair.store, replace(v, path=path, manifest_sha256=digest))
    assert sung.exists(), "it sings when it is what was registered"


def test_200_flipped_bits_anywhere_are_200_refusals(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("unpickled"))
    draws = random.Random(7)  # noqa: S311 - no secret
    for number in range(200):
        path = pair.folder(pair.one) / FILES[number % len(FILES)]
        bit = draws.randrange(8 * path.stat().st_size)
        flip(path, bit)
        with pytest.raises(ArtifactRefused):
            load_version(pair.store, pair.one)
        flip(path, bit)
    monkeypatch.undo()
    load_version(pair.store, pair.one)


# ---------------------------------------------------------------- other libraries


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    upgraded = {**loading.current_libraries(), "scikit-learn": "99.1"}
    monkeypatch.setattr(loading, "current_libraries", lambda: upgraded)


def test_a_person_can_allow_other_libraries_and_take_it_back(scored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scored.published_checksum()
    upgrade(monkeypatch)
    refused = r"trained with other libraries\n.*\n  got: scikit-learn 99\.1 \(trained with [\d.]+\)\n.*ponte__mark_vers"
    with pytest.raises(ArtifactRefused, match=refused):
        scored.run(run_id="r")
    scored.mark(1, "other libraries allowed", run_id="m")
    batch = scored.run(run_id="r")
    assert scored.ask("SELECT batch_id FROM ponte.published") == batch.batch_id
    assert scored.published_checksum() == seen

    scored.mark(1, "bad", run_id="other")
    scored.mark(1, "not bad", run_id="other")
    assert marks.allows_other_libraries(scored.db, scored.champion()), "marks of another kind change nothing"
    scored.mark(1, "other libraries refused", run_id="m")
    with pytest.raises(ArtifactRefused, match=refused):
        scored.run(run_id="again")


def test_other_libraries_that_predict_in_the_last_bit_otherwise_are_refused(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is within rounding for the libraries of the training is not for others."""
    predict = loading.predict

    def one_bit_off(*arguments: Any) -> Predictions:
        found = predict(*arguments)
        assert found.score is not None
        score = found.score.copy()
        score[17] = np.nextafter(score[17], 0.5)
        return Predictions(found.prediction, score)

    monkeypatch.setattr(loading, "predict", one_bit_off)
    trained.run(run_id="with the libraries of the training")
    upgrade(monkeypatch)
    trained.mark(1, "other libraries allowed", run_id="m")
    with pytest.raises(ArtifactRefused, match=r"predicts its golden rows differently[^$]*version 1, golden\.parquet"):
        trained.run(run_id="r")


# ---------------------------------------------------------------- one file of a version


def test_one_file_is_read_and_verified_without_the_others(trained: World) -> None:
    """A page must not cost the memory of the estimator: the other files are not there at all."""
    version = trained.champion()
    folder = trained.store.root / version.path
    everything = loading.read_files(trained.store, version)
    for name in everything.keys() - {loading.REPORT}:
        (folder / name).unlink()

    assert loading.read_file(trained.store, version, loading.REPORT) == everything[loading.REPORT]
    assert loading.read_file(trained.store, version, "notes.txt") is None
    with pytest.raises(ArtifactRefused, match="a stored file is missing"):
        loading.read_file(trained.store, version, loading.MODEL)
    (folder / loading.REPORT).write_bytes(everything[loading.REPORT] + b" ")
    with pytest.raises(ArtifactRefused, match="not what was registered"):
        loading.read_file(trained.store, version, loading.REPORT)


def test_one_file_is_read_only_below_the_manifest_that_was_registered(pair: Pair) -> None:
    """A manifest that names other bytes, or says that it is another version's, lends nothing."""
    for one, other in ((pair.one, pair.two), (pair.two, pair.one)):
        with pytest.raises(ArtifactRefused, match="the manifest is another version's"):
            loading.read_file(pair.store, replace(one, path=other.path), loading.REPORT)
    with pytest.raises(ArtifactRefused, match="the manifest is another version's"):
        loading.read_file(pair.store, replace(pair.one, version=7), loading.REPORT)
