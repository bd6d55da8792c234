"""A folder with a version in it that predicts elsewhere, without Ponte and without a database."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from ponte.errors import PonteError
from ponte.exchange.mlflow import mlflow_files
from ponte.model.estimator import ESTIMATOR_FILE
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.columns import Column
from ponte.storage.database import Database
from ponte.versions import marks
from ponte.versions.loading import GOLDEN, MODEL, REPORT, LoadedVersion, load_files, read_files
from ponte.versions.registry import Version

#: Rules of frames that predict.py knows.
_PORTABLE = (2, 3, 4)
#: The program that goes along; it imports nothing of Ponte.
_PROGRAM = Path(__file__).parent / "templates" / "predict.py.txt"
PROGRAM, FACTS, GOLDEN_JSON, CARD, REQUIREMENTS = (
    "predict.py",
    "version.json",
    "golden.json",
    "README.md",
    "requirements.txt",
)


def export_version(db: Database, store: ArtifactStore, version: Version, folder: Path, *, mlflow: bool) -> list[str]:
    """Write a version into a new folder, which appears whole; return the names of its files.

    The version is loaded first, as scoring loads it, so only what works is exported. Raises ArtifactRefused, and
    PonteError for a folder that is there or a version of a rule that is too old.
    """
    if folder.exists():
        raise PonteError("the folder is there already", where=str(folder), fix="name a new one")
    if version.signature.types not in _PORTABLE:
        fix = f"train {version.model} again"
        raise PonteError("a version of so old a rule cannot leave", where=version.place, fix=fix)
    stored = read_files(store, version)
    loaded = load_files(version, stored, other_libraries_allowed=marks.allows_other_libraries(db, version))
    files: dict[str, bytes] = {
        MODEL: stored[MODEL],
        ESTIMATOR_FILE: stored[ESTIMATOR_FILE],
        GOLDEN_JSON: _golden(stored[GOLDEN], loaded),
        PROGRAM: _PROGRAM.read_bytes(),
        REQUIREMENTS: requirements(version).encode(),
        CARD: card(version, mlflow=mlflow).encode(),
    }
    if REPORT in stored:
        files[REPORT] = stored[REPORT]
    if mlflow:
        files |= mlflow_files(loaded, stored[ESTIMATOR_FILE].decode(), files[REQUIREMENTS].decode())
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    files[FACTS] = json.dumps({**_facts(loaded, stored[ESTIMATOR_FILE].decode()), "files": digests}, indent=1).encode()
    _write(folder, files)
    return sorted(files)


def requirements(version: Version) -> str:
    """Return the packages of the version, each pinned; `predict.py` needs no other."""
    needed = {name: found for name, found in version.libraries.items() if name != "python"}
    needed.setdefault("threadpoolctl", library_version("threadpoolctl"))
    return "".join(f"{name}=={found}\n" for name, found in sorted(needed.items()))


def card(version: Version, *, mlflow: bool) -> str:
    """Return what the folder is and how to use it."""
    features = "\n".join(f"| `{c.name}` | {c.family} |" for c in version.signature.features)
    python = version.libraries["python"].rpartition(".")[0]
    decides = "as the estimator decides" if version.threshold is None else f"at the threshold {version.threshold:g}"
    labels = f" Labels: {', '.join(map(str, version.classes))}, {decides}." if version.classes else ""
    if version.task == "binary" and version.classes:
        labels += f" The score is the probability of {version.classes[-1]}."
    if version.interval is not None:
        labels += (
            f" Between `low` and `high`, {version.half_width:g} below and above the prediction, lies the outcome of "
            f"{version.interval:.4g} of rows: on average over rows like those it was measured on, not of each row."
        )
    when = f"{version.train_cutoff:%Y-%m-%d %H:%M} UTC"
    made = f"{version.origin}; nothing of after {when} was seen"
    if version.import_id:
        made = f"fitted elsewhere and imported; measured by what was known at {when}"
    with_mlflow = (
        "\n## With MLflow\n\n`mlflow.sklearn.load_model(FOLDER)` and `mlflow.pyfunc.load_model(FOLDER)` load it. "
        "They predict as the estimator itself does: give a frame as `predict.py` makes it (`frame`), and apply a "
        "threshold to `predict_proba` yourself; `low` and `high` are the prediction less and plus the `half_width` of "
        f"`{FACTS}`, and not among what they return.\n"
        if mlflow
        else ""
    )
    return (
        f"# {version.model}, version {version.version}\n\n"
        f"A {version.task} model, {made}. `{REPORT}` says how good it is.{labels}\n\n"
        f"## Use it\n\nWith Python {python}:\n\n```sh\npython -m pip install -r {REQUIREMENTS}\n"
        f"python {PROGRAM} --verify\npython {PROGRAM} rows.csv > predictions.csv\n```\n\n"
        f"`--verify` predicts the golden rows again: they have to be equal to the last bit. In Python: "
        "`import predict; model = predict.load(); model.predict(frame)`.\n\n"
        "Loading runs what is in `model.joblib` and `estimator.py`; both are held against the digests of "
        "`version.json` before that.\n"
        f"{with_mlflow}\n## It reads\n\n| column | type |\n|---|---|\n{features}\n\n"
        "An empty value is NULL. Key columns, and any others, are passed on.\n"
    )


def _facts(loaded: LoadedVersion, text: str) -> dict[str, Any]:
    version = loaded.version
    return {
        "model": version.model,
        "version": version.version,
        "task": version.task,
        "classes": list(version.classes),
        "threshold": version.threshold,
        "interval": version.interval,
        "half_width": version.half_width,
        "features": [c.as_json() for c in version.signature.features],
        "types": version.signature.types,
        "nullable_integers": version.signature.nullable_integers or version.signature.types == 3,  # noqa: PLR2004
        "categories": {name: list(values) for name, values in loaded.signature.categories.items()},
        "module": module_name(version.model, text),
        "libraries": version.libraries,
        "manifest_sha256": version.manifest_sha256,
        "exported_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def module_name(model: str, text: str) -> str:
    """Return the name of the module that the pickle refers to."""
    from ponte.model.estimator import run_module

    return run_module(text, model=model).__name__


def _golden(content: bytes, loaded: LoadedVersion) -> bytes:
    """Return the golden rows with what the version says of them here and now, to the last bit."""
    import pyarrow.parquet as pq

    from ponte.versions.predicting import as_labels

    version = loaded.version
    rows = pq.read_table(io.BytesIO(content))
    said = loaded.predictions(rows)
    columns = {c.name: _plain(rows.column(c.name).to_pylist(), c) for c in version.signature.features}
    labels = as_labels(said.prediction, version.signature, version.task).to_pylist()
    score = None if said.score is None else said.score.tolist()
    return json.dumps({"columns": columns, "prediction": labels, "score": score}).encode()


def _plain(values: list[Any], column: Column) -> list[Any]:
    return [str(v) if v is not None and column.family in ("date", "timestamp") else v for v in values]


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    temporary = folder.absolute().with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        for name, content in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        os.rename(temporary, folder)  # noqa: PTH104
    except OSError as error:
        got = error.strerror or str(error)
        raise PonteError("the folder cannot be written", where=str(folder), got=got) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
