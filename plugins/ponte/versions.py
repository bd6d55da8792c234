"""Load a version. This is the only place in Ponte that unpickles, and it unpickles only bytes it has verified.

Order: registry row → manifest digest → every file's digest, from bytes read once → library versions → the
`estimator.py` the version was trained with → unpickle those same bytes → re-predict the golden rows.
Of 150 single flipped bits in a joblib file 8 % loaded and predicted something else and 7 % crashed the interpreter,
so the digests come first; a file of another scikit-learn may load and fail, or differ, only when it predicts, so the
library versions and the golden rows come too.
"""

from __future__ import annotations

import io
import platform
from dataclasses import dataclass
from importlib.metadata import version as library_version
from typing import TYPE_CHECKING, Any

from ponte import estimators
from ponte.artifacts import ArtifactStore
from ponte.errors import ArtifactRefused, PonteError
from ponte.registry import Version
from ponte.signature import Signature, to_frame
from ponte.spec import Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MODEL = "model.joblib"
SIGNATURE = "signature.json"
GOLDEN = "golden.parquet"
#: What decides whether a pickled estimator predicts the same again.
LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "joblib")


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of n rows."""

    #: Shape (n,): the predicted label, of the label's type; float64 for a regression.
    prediction: np.ndarray[Any, Any]
    #: Shape (n,), in [0, 1]: probability of the positive class (the greater label); None for a regression.
    score: np.ndarray[Any, Any] | None


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A verified version, ready to predict."""

    version: Version
    estimator: Any

    def predict(self, rows: pa.Table | pa.RecordBatch) -> Predictions:
        """Return the predictions of `rows`, which hold at least the feature columns, in any order."""
        return predict(self.estimator, rows, self.version.signature, self.version.task)


def artifact_facts(model: str, version: int, libraries: dict[str, str], signature: Signature) -> dict[str, Any]:
    """Return what the manifest binds the files to, and what loading compares with the registry row."""
    return {"model": model, "version": version, "libraries": libraries, "signature": signature.as_json()}


def current_libraries() -> dict[str, str]:
    """Return the exact versions of Python and of LIBRARIES that run now."""
    return {"python": platform.python_version(), **{name: library_version(name) for name in LIBRARIES}}


def load_version(store: ArtifactStore, version: Version) -> LoadedVersion:
    """Return the version ready to predict; raises ArtifactRefused before anything unverified is unpickled."""
    import joblib

    facts = artifact_facts(version.model, version.version, version.libraries, version.signature)
    files = store.read_folder(version.path, version.manifest_sha256, facts)
    _require_same_libraries(version)
    estimators.run_module(files[estimators.FILE].decode(), model=version.model)
    estimator = joblib.load(io.BytesIO(files[MODEL]))
    loaded = LoadedVersion(version, estimator)
    _require_golden(loaded, files[GOLDEN])
    return loaded


def predict(estimator: Any, rows: pa.Table | pa.RecordBatch, signature: Signature, task: Task) -> Predictions:
    """Return the estimator's predictions of `rows`.

    Raises PonteError when it does not return one prediction per row, or a score that is no probability.
    """
    import numpy as np

    frame = to_frame(rows, signature.features)
    if task == "regression":
        value = np.asarray(estimator.predict(frame), dtype=np.float64)
        _require_shape(value, (len(frame),), "predict()")
        _require_finite(value, "predict()")
        return Predictions(value, None)
    probabilities = np.asarray(estimator.predict_proba(frame), dtype=np.float64)
    _require_shape(probabilities, (len(frame), 2), "predict_proba()")
    _require_finite(probabilities, "predict_proba()")
    score = probabilities[:, 1]
    if len(score) and not (score.min() >= 0.0 and score.max() <= 1.0):
        raise PonteError("a score is no probability", got=f"{score.min()} to {score.max()}", expected="0 to 1")
    prediction = np.asarray(estimator.predict(frame))
    _require_shape(prediction, (len(frame),), "predict()")
    return Predictions(prediction, score)


def as_labels(values: np.ndarray[Any, Any], signature: Signature, task: Task) -> pa.Array[Any]:
    """Return predictions as the type of the label; raises PonteError when they cannot be, 0.5 as an integer say."""
    import pyarrow as pa

    types = {"integer": pa.int64(), "boolean": pa.bool_(), "text": pa.string(), "number": pa.float64()}
    family = "number" if task == "regression" else signature.label
    try:
        found: pa.Array[Any] = pa.array(values)
        if family == "text" and not (pa.types.is_string(found.type) or pa.types.is_large_string(found.type)):
            raise pa.ArrowTypeError("any value can be written as text, so only text is a text label")
        return found.cast(types[family])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        got = f"values of type {values.dtype}"
        fix = "let the estimator predict the labels it was fitted on"
        raise PonteError("predict() returned no labels", got=f"{got}: {error}", expected=family, fix=fix) from error


def golden_rows(estimator: Any, rows: pa.Table, signature: Signature, task: Task) -> bytes:
    """Return a Parquet file of the rows with the estimator's predictions, to be held against later loads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    predictions = predict(estimator, rows, signature, task)
    table = rows.select([c.name for c in signature.features])
    table = table.append_column("prediction", as_labels(predictions.prediction, signature, task))
    if predictions.score is not None:
        table = table.append_column("score", pa.array(predictions.score))
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def _require_golden(loaded: LoadedVersion, golden: bytes) -> None:
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(golden))
    now = loaded.predict(table)
    then = table.column("prediction").to_numpy(zero_copy_only=False)
    # Figures are equal up to the order of additions, which differs with the number of threads.
    if now.score is None:
        same = np.allclose(then, now.prediction, rtol=1e-9, atol=1e-12)
    else:
        same = np.array_equal(then, now.prediction)
        same = same and np.allclose(table.column("score").to_numpy(), now.score, rtol=1e-9, atol=1e-12)
    if not same:
        raise ArtifactRefused(
            "the version predicts its golden rows differently than when it was trained",
            where=f"model {loaded.version.model}, version {loaded.version.version}, {GOLDEN}",
            fix="train again on this machine; the version is not used",
        )


def _require_same_libraries(version: Version) -> None:
    now = current_libraries()
    differ = [f"{name} {now.get(name)} (trained with {then})" for name, then in version.libraries.items()
              if name != "python" and now.get(name) != then]  # fmt: skip
    if version.libraries["python"].rpartition(".")[0] != now["python"].rpartition(".")[0]:
        differ.append(f"python {now['python']} (trained with {version.libraries['python']})")
    if differ:
        raise ArtifactRefused(
            "the version was trained with other libraries",
            where=f"model {version.model}, version {version.version}",
            got="; ".join(differ),
            fix=f"install those versions, or train {version.model} again",
        )


def _require_shape(values: Any, expected: tuple[int, ...], method: str) -> None:
    if values.shape != expected:
        raise PonteError(f"{method} returned the wrong shape", got=str(values.shape), expected=str(expected))


def _require_finite(values: Any, method: str) -> None:
    import numpy as np

    bad = int((~np.isfinite(values)).sum())
    if bad:
        fix = "handle missing and extreme inputs in the pipeline, or refuse them with a check"
        raise PonteError(f"{method} returned NaN or infinity", got=f"{bad} of {values.size} values", fix=fix)
