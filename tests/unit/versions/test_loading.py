"""A version is used only when everything about it is what was registered, and it predicts as it did."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import platform
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import joblib
import numpy as np
import pyarrow as pa
import pytest
from upath import UPath

from ponte.errors import ArtifactRefused
from ponte.model.estimator import load_estimator
from ponte.model.folders import load_folder
from ponte.model.spec import Task
from ponte.snapshots.parts import Part, Parts
from ponte.storage import artifacts
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.columns import Column
from ponte.training import versioning
from ponte.training.candidate import Candidate
from ponte.training.fitting import fit
from ponte.versions.loading import GOLDEN, MODEL, artifact_facts, current_libraries, golden_rows, load_version
from ponte.versions.predicting import Predictions, predict
from ponte.versions.registry import Version
from ponte.versions.signature import Signature, frame_of, to_frame

SIGNATURE = Signature(
    key=(Column(name="customer_id", family="integer"),),
    features=(Column(name="visits", family="number"), Column(name="plan", family="text")),
    label="integer",
)
ESTIMATOR = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import {regressor}
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

def squares(frame):
    return frame ** 2

def build_estimator():
    columns = make_column_transformer(
        (FunctionTransformer(squares), ["visits"]), (OneHotEncoder(handle_unknown="ignore"), ["plan"])
    )
    return make_pipeline(columns, {regressor}())
"""
ROWS = pa.table(
    {
        "window_start": [dt.date(2026, 11, 2 + 7 * (n % 3)) for n in range(60)],
        "customer_id": list(range(60)),
        "visits": [float(n % 11) for n in range(60)],
        "plan": [("basic", "gold")[n % 2] for n in range(60)],
        "label": [int(n % 11 > 5) for n in range(60)],
    }
)

MakeFolder = Callable[..., Path]


@dataclasses.dataclass
class Stored:
    """A version as training leaves it, without a registry."""

    store: ArtifactStore
    version: Version
    files: dict[str, bytes]

    @property
    def folder(self) -> Any:
        return self.store.root / self.version.path

    def written_anew(self, **files: bytes) -> Stored:
        """Return the same version registered with other files."""
        changed = {**self.files, **{name.replace("_", "."): content for name, content in files.items()}}
        v = self.version
        facts = artifact_facts(v.model, v.version, v.libraries, v.signature, v.output)
        path = f"{self.version.path}-{uuid.uuid4().hex[:8]}"  # a folder is never written over
        digest = self.store.write_folder(path, changed, facts).manifest_sha256
        return Stored(self.store, dataclasses.replace(self.version, path=path, manifest_sha256=digest), changed)


@pytest.fixture
def make_stored(make_folder: MakeFolder, tmp_path: Path, model_toml: str) -> Callable[..., Stored]:
    """Return a function that trains a version of a small model and stores it."""

    def make(task: Task = "binary") -> Stored:
        toml, regressor = model_toml, "LogisticRegression"
        if task == "regression":
            toml = toml.replace('"binary"', '"regression"').replace('"roc_auc"', '"r2"')
            regressor = "LinearRegression"
        text = ESTIMATOR.format(regressor=regressor)
        folder = load_folder(make_folder(f"churn_{task}", {"model.toml": toml, "estimator.py": text}))
        part = Part(
            rows=ROWS, features=to_frame(ROWS, SIGNATURE.features), labels=ROWS.column("label").to_pandas().to_numpy()
        )
        parts = Parts(fitting=part, calibration=part, holdout=part, purged_rows=0)
        fitted = fit(folder.spec, load_estimator(text, model=folder.name, task=task), parts)
        predictions = predict(fitted.estimator, part.rows, SIGNATURE, fitted.output)
        made = Candidate(parts=parts, fitted=fitted, signature=SIGNATURE, figures=[], predictions=predictions)
        files = versioning.files_of(made, folder)
        libraries = current_libraries()
        path = f"{folder.name}/versions/1"
        store = ArtifactStore(UPath(tmp_path / "artifacts"))
        stored = store.write_folder(path, files, artifact_facts(folder.name, 1, libraries, SIGNATURE, fitted.output))
        version = Version(
            model=folder.name, version=1, snapshot_id=1, train_key="k", task=task, path=path,
            manifest_sha256=stored.manifest_sha256, signature=SIGNATURE, classes=fitted.output.classes,
            threshold=fitted.output.threshold, spec_digest=folder.digest(), code_revision=None, libraries=libraries,
            train_cutoff=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
            train_rows=60, calibration_rows=0, holdout_rows=60, purged_rows=0, byte_count=stored.byte_count, run_id="r",
        )  # fmt: skip
        return Stored(store, version, files)

    return make


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_stored_version_is_loaded_and_predicts_as_the_trained_estimator_did(
    make_stored: Callable[..., Stored], task: Task
) -> None:
    stored = make_stored(task)
    loaded = load_version(stored.store, stored.version)
    got = loaded.predictions(ROWS)
    assert got.prediction.shape == (60,)
    if task == "binary":
        assert got.score is not None
        assert set(got.prediction) == {0, 1}
        assert got.score[5] != got.score[6]
        assert 0 <= got.score.min() < got.score.max() <= 1
    else:
        assert got.score is None
        assert got.prediction.dtype == np.float64


def test_rows_may_be_a_batch_with_columns_in_any_order_and_categories_never_seen(
    make_stored: Callable[..., Stored],
) -> None:
    loaded = load_version(*_pair(make_stored()))
    rows = pa.RecordBatch.from_pydict({"plan": ["gold", "new", None], "other": [1, 2, 3], "visits": [1.0, 2.0, 3.0]})
    assert loaded.predictions(rows).prediction.shape == (3,)


def _pair(stored: Stored) -> tuple[ArtifactStore, Version]:
    return stored.store, stored.version


class Canary:
    """Its bytes write a file when they are unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "was_unpickled"


@pytest.fixture
def trapped(make_stored: Callable[..., Stored], canary: Path) -> Stored:
    """A version whose model and whose estimator.py each write a file as soon as they are run."""
    content = io.BytesIO()
    joblib.dump(Canary(canary), content)
    text = f"from pathlib import Path\nPath({str(canary) + '_text'!r}).touch()\n"
    return make_stored().written_anew(model_joblib=content.getvalue(), estimator_py=text.encode())


def sprung(canary: Path) -> list[str]:
    return sorted(p.name for p in canary.parent.glob("was_unpickled*"))


def test_the_canary_sings_when_nothing_is_wrong(trapped: Stored, canary: Path) -> None:
    """Without this the refusals below would prove nothing."""
    with pytest.raises(AttributeError):
        load_version(trapped.store, trapped.version)
    assert sprung(canary) == ["was_unpickled", "was_unpickled_text"]


def flip(stored: Stored, file: str) -> None:
    content = bytearray((stored.folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (stored.folder / file).write_bytes(bytes(content))


def other_libraries(**changes: str) -> Callable[[Stored], Stored]:
    """Return what stores the version as one that was trained with other libraries."""

    def change(stored: Stored) -> Stored:
        libraries = {**stored.version.libraries, **{k.replace("_", "-"): v for k, v in changes.items()}}
        version = dataclasses.replace(stored.version, libraries=libraries)
        return dataclasses.replace(stored, version=version).written_anew()

    return change


def flipped(file: str) -> Callable[[Stored], Stored]:
    def change(stored: Stored) -> Stored:
        flip(stored, file)
        return stored

    return change


def registered_as(**changes: Any) -> Callable[[Stored], Stored]:
    return lambda stored: dataclasses.replace(stored, version=dataclasses.replace(stored.version, **changes))


MAJOR, MINOR, PATCH = platform.python_version_tuple()
OTHER_SIGNATURE = dataclasses.replace(SIGNATURE, features=SIGNATURE.features[:1])
REFUSED: dict[str, tuple[Callable[[Stored], Stored], str]] = {
    "flipped bit in the model": (flipped(MODEL), "changed file model.joblib"),
    "flipped bit in estimator.py": (flipped("estimator.py"), "changed file estimator.py"),
    "flipped bit in the golden rows": (flipped(GOLDEN), "changed file golden.parquet"),
    "flipped bit in the signature": (flipped("signature.json"), "changed file signature.json"),
    "flipped bit in the manifest": (flipped("manifest.json"), "a stored file is not what was registered"),
    "registered digest of another manifest": (registered_as(manifest_sha256="0" * 64), "not what was registered"),
    "registered as another version": (registered_as(version=2), "version is 1, registered 2"),
    "registered as another model": (registered_as(model="other"), "model is 'churn_binary', registered 'other'"),
    "registered with other classes": (registered_as(classes=(1, 0)), "classes is [0, 1], registered [1, 0]"),
    "registered with a threshold": (registered_as(threshold=0.25), "threshold is None, registered 0.25"),
    "registered with other columns": (registered_as(signature=OTHER_SIGNATURE), "signature is {"),
    "registered with other libraries": (registered_as(libraries={"numpy": "1"}), "libraries is {"),
    "another scikit-learn": (other_libraries(scikit_learn="1.0"), "(trained with 1.0)"),
    "another numpy": (other_libraries(numpy="1.26.4"), "(trained with 1.26.4)"),
    "a library that is gone": (other_libraries(xgboost="3.0"), "xgboost is not installed (trained with 3.0)"),
    "another minor Python": (other_libraries(python=f"{MAJOR}.{int(MINOR) + 1}.{PATCH}"), "python "),
}


@pytest.mark.parametrize(("damage", "said"), REFUSED.values(), ids=REFUSED)
def test_version_that_is_not_what_was_registered_is_refused_before_anything_of_it_runs(
    trapped: Stored, canary: Path, damage: Callable[[Stored], Stored], said: str
) -> None:
    stored = damage(trapped)
    with pytest.raises(ArtifactRefused) as caught:
        load_version(stored.store, stored.version)
    assert said in str(caught.value)
    assert sprung(canary) == []


def test_another_patch_release_of_python_is_no_reason_to_refuse(make_stored: Callable[..., Stored]) -> None:
    stored = other_libraries(python=f"{MAJOR}.{MINOR}.{int(PATCH) + 1}")(make_stored())
    load_version(*_pair(stored))


class Fixed:
    """An estimator that returns what it was told to."""

    def __init__(self, prediction: Any, probability: Any = None) -> None:
        self.prediction, self.probability = prediction, probability

    def predict(self, _: Any) -> Any:
        return np.asarray(self.prediction)

    def predict_proba(self, _: Any) -> Any:
        return np.asarray(self.probability)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_version_that_predicts_its_golden_rows_otherwise_is_refused(
    make_stored: Callable[..., Stored], task: Task
) -> None:
    stored = make_stored(task)
    loaded = load_version(*_pair(stored))
    then = loaded.predictions(ROWS)
    other = Fixed(then.prediction, None)
    if then.score is None:
        other.prediction = then.prediction + 1e-6
    else:
        score = then.score + np.where(then.score > 0.5, -1e-6, 1e-6)
        other.probability = np.column_stack([1 - score, score])
    changed = stored.written_anew(golden_parquet=golden_rows(other, ROWS, SIGNATURE, stored.version.output))
    with pytest.raises(ArtifactRefused, match="predicts its golden rows differently") as caught:
        load_version(*_pair(changed))
    assert f"where: model churn_{task}, version 1, golden.parquet" in str(caught.value)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_last_bits_that_depend_on_the_order_of_additions_are_no_difference(
    make_stored: Callable[..., Stored], task: Task
) -> None:
    stored = make_stored(task)
    then = load_version(*_pair(stored)).predictions(ROWS)
    other = Fixed(then.prediction)
    if then.score is None:
        other.prediction = np.nextafter(then.prediction, np.inf)
    else:
        score = np.nextafter(then.score, 0.5)
        other.probability = np.column_stack([1 - score, score])
    load_version(*_pair(stored.written_anew(golden_parquet=golden_rows(other, ROWS, SIGNATURE, stored.version.output))))


LAST_BIT: dict[str, Callable[[Predictions], tuple[Any, Any]]] = {
    "binary": lambda then: (then.prediction, np.nextafter(then.score, 0.5)),
    "regression": lambda then: (np.nextafter(then.prediction, np.inf), None),
}


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_other_libraries_that_a_person_allowed_must_predict_the_golden_rows_to_the_last_bit(
    make_stored: Callable[..., Stored], task: Task
) -> None:
    stored = other_libraries(scikit_learn="1.0")(make_stored(task))
    allowed = load_version(*_pair(stored), other_libraries_allowed=True)
    prediction, score = LAST_BIT[task](allowed.predictions(ROWS))
    other = Fixed(prediction, None if score is None else np.column_stack([1 - score, score]))
    golden = golden_rows(other, ROWS, SIGNATURE, stored.version.output)

    with pytest.raises(ArtifactRefused, match="predicts its golden rows differently"):
        load_version(*_pair(stored.written_anew(golden_parquet=golden)), other_libraries_allowed=True)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_golden_rows_are_predicted_at_the_threshold_of_the_version(
    make_stored: Callable[..., Stored], share: float
) -> None:
    """Labels that were cut elsewhere are others, though every score is the same."""
    stored = make_stored()
    loaded = load_version(*_pair(stored))
    threshold = float(np.quantile(loaded.predictions(ROWS).score, share))
    version = dataclasses.replace(stored.version, threshold=threshold)
    moved = dataclasses.replace(stored, version=version)

    with pytest.raises(ArtifactRefused, match="predicts its golden rows differently"):
        load_version(*_pair(moved.written_anew()))
    golden = golden_rows(loaded.estimator, ROWS, SIGNATURE, version.output)
    at_threshold = load_version(*_pair(moved.written_anew(golden_parquet=golden))).predictions(ROWS)
    assert at_threshold.score is not None
    assert at_threshold.prediction.tolist() == (at_threshold.score >= threshold).astype(int).tolist()


def test_version_of_before_classes_and_reports_still_loads(
    make_stored: Callable[..., Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Format 1: no metrics.json, and neither classes nor threshold in manifest and registry."""
    stored = make_stored()
    version = dataclasses.replace(stored.version, classes=(), threshold=None, path=f"{stored.version.path}-old")
    files = {name: content for name, content in stored.files.items() if name != "metrics.json"}
    facts = artifact_facts(version.model, version.version, version.libraries, version.signature, version.output)
    facts = {name: value for name, value in facts.items() if name not in ("classes", "threshold")}
    monkeypatch.setattr(artifacts, "FORMAT", 1)
    digest = stored.store.write_folder(version.path, files, facts).manifest_sha256
    monkeypatch.undo()

    loaded = load_version(stored.store, dataclasses.replace(version, manifest_sha256=digest))
    now = load_version(*_pair(stored)).predictions(ROWS)
    assert loaded.predictions(ROWS).prediction.tolist() == now.prediction.tolist()


@pytest.mark.parametrize(
    ("function", "way"),
    [
        ("", ("short", "past ColumnTransformer; the same bits for")),
        ("squares", ("whole", "FunctionTransformer with a function")),
    ],
)
def test_a_version_takes_the_short_way_where_it_is_known_and_says_so(
    make_stored: Callable[..., Stored], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    function: str, way: tuple[str, str],
) -> None:  # fmt: skip
    kind, why = way
    text = ESTIMATOR.replace("FunctionTransformer(squares)", f"FunctionTransformer({function})")
    monkeypatch.setitem(globals(), "ESTIMATOR", text)
    stored = make_stored()
    with caplog.at_level("INFO"):
        loaded = load_version(stored.store, stored.version)
    assert (loaded.way.kind, loaded.way.why[: len(why)]) == (kind, why)
    assert f"takes the {kind} way: {why}" in caplog.text
    usual = predict(loaded.estimator, ROWS, SIGNATURE, loaded.version.output)
    made = Mock(wraps=frame_of)
    monkeypatch.setattr("ponte.versions.predicting.frame_of", made)
    assert loaded.predictions(ROWS).score.tobytes() == usual.score.tobytes()  # type: ignore[union-attr]
    assert made.called == (kind == "whole"), "no frame is made on the short way"
