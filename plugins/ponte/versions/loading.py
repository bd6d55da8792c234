"""Load a version. This is the only place in Ponte that unpickles, and it unpickles only bytes it has verified.

Order: registry row → manifest digest → every file's digest, from bytes read once → library versions → the
`estimator.py` the version was trained with → unpickle those same bytes → re-predict the golden rows. A table of the
demo's data is a pickle too, and read here, by a digest that the code pins. Of 150 single flipped bits in a joblib file
8 % loaded and predicted something else and 7 % crashed the interpreter, so the digests come first; a file of another
scikit-learn may load and fail, or differ, only when it predicts, so the versions and the golden rows come too.

A file from elsewhere is unpickled once, when it is imported: its digest was recorded before, because a person has given
it or has said that the file is to be trusted. What is loaded from then on is what Ponte wrote of it.
"""

from __future__ import annotations

import io
import json
import logging
import lzma
import platform
import re
import types
import warnings
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version as library_version
from typing import TYPE_CHECKING, Any

from ponte.errors import ArtifactRefused, PonteError
from ponte.model.estimator import ESTIMATOR_FILE, line_of, missing_package, run_module
from ponte.packages.libraries import differing_libraries
from ponte.short_way.comparing import Whole, find_way
from ponte.short_way.pipelines import NOT_COMPARED, ShortWay, Way
from ponte.short_way.plain import PlainRows
from ponte.storage.artifacts import ArtifactStore, decompressed, require_digest
from ponte.storage.database import Database
from ponte.versions import marks, registry
from ponte.versions.predicting import Output, Predictions, as_labels, differing, predict, score_column, through
from ponte.versions.registry import Version
from ponte.versions.signature import Signature, frame_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)

MODEL = "model.joblib"
SIGNATURE = "signature.json"
GOLDEN = "golden.parquet"
METRICS_FILE = "metrics.json"
REPORT = "report.html"
#: What estimates of quality are made with: what is known of them, and of a regression the model of its errors.
ESTIMATION, ERRORS = "estimation.json", "errors.joblib"
#: What decides, of every version, whether a pickled estimator predicts the same again; versions name, beside these,
#: what their `estimator.py` imports and their folder's requirements.txt names.
LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "joblib")


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A verified version, ready to predict."""

    version: Version
    estimator: Any
    #: That of the version, with the categories of its folder.
    signature: Signature
    #: What `ponte.estimation.calibration.Calibration.from_json` reads; None when its quality is not estimated.
    estimation: Mapping[str, Any] | None = None
    #: Of a regression: predicts the absolute error of a row.
    error_model: Any = None
    #: Past the transformers of its pipeline, where that was found to give the same bits.
    short: ShortWay | None = None
    way: Way = NOT_COMPARED

    def predictions(self, rows: pa.Table | pa.RecordBatch | PlainRows) -> Predictions:
        """Return the predictions of `rows`, which hold at least the feature columns, in any order."""
        return predict(self.estimator, rows, self.signature, self.version.output, self.short)


def artifact_facts(
    model: str, version: int, libraries: dict[str, str], signature: Signature, output: Output
) -> dict[str, Any]:
    """Return what the manifest binds the files to, and what loading compares with the registry row."""
    facts = {"model": model, "version": version, "libraries": libraries, "signature": signature.as_json()}
    # None stands for "not in the manifest" too: older ones know no interval, those of format 1 none of these.
    numbers = {name: getattr(output, name) for name in ("threshold", "interval", "half_width")}
    return {**facts, "classes": list(output.classes) or None, **numbers}


def read_files(store: ArtifactStore, version: Version) -> dict[str, bytes]:
    """Return the verified files of a version by name; nothing is unpickled. Raises ArtifactRefused."""
    facts = artifact_facts(version.model, version.version, version.libraries, version.signature, version.output)
    return store.read_folder(version.path, version.manifest_sha256, facts)


def read_file(store: ArtifactStore, version: Version, name: str) -> bytes | None:
    """Return one verified file of a version, None when it has no such file; raises ArtifactRefused. Reads no other."""
    facts = artifact_facts(version.model, version.version, version.libraries, version.signature, version.output)
    return store.read_file(version.path, version.manifest_sha256, facts, name)


def current_libraries() -> dict[str, str]:
    """Return the exact versions of Python and of LIBRARIES that run now."""
    return {"python": platform.python_version(), **{name: library_version(name) for name in LIBRARIES}}


def load_registered(db: Database, store: ArtifactStore, version: Version) -> LoadedVersion:
    """Return the version ready to predict, with other libraries than those that trained it if a person has allowed it.

    Raises what `load_version` raises.
    """
    allowed = marks.allows_other_libraries(db, version)
    return load_version(store, version, other_libraries_allowed=allowed)


def load_version(store: ArtifactStore, version: Version, *, other_libraries_allowed: bool = False) -> LoadedVersion:
    """Return the version ready to predict; raises ArtifactRefused before anything unverified is unpickled.

    See `load_files` for other_libraries_allowed.
    """
    return load_files(version, read_files(store, version), other_libraries_allowed=other_libraries_allowed)


def load_files(version: Version, files: dict[str, bytes], *, other_libraries_allowed: bool) -> LoadedVersion:
    """Return the version of these files, which `read_files` has verified, ready to predict; raises ArtifactRefused.

    other_libraries_allowed : a person has allowed library versions other than those that trained it. It then has to
    predict its golden rows identically, to the last bit.
    """
    import joblib
    import pyarrow.parquet as pq

    differ = differing_libraries(version.libraries, current_libraries())
    if differ and not other_libraries_allowed:
        raise ArtifactRefused(
            "the version was trained with other libraries",
            where=version.place,
            got="; ".join(differ),
            fix=f"install those versions, train {version.model} again, or allow it for this version with the DAG "
            "ponte__mark_version",
        )
    with warnings.catch_warnings(record=bool(differ)) as said:
        run_module(files[ESTIMATOR_FILE].decode(), model=version.model)
        estimator = joblib.load(io.BytesIO(files[MODEL]))
        categories = Signature.from_json(json.loads(files[SIGNATURE])).categories
        loaded = LoadedVersion(version, estimator, replace(version.signature, categories=categories))
        golden = pq.read_table(io.BytesIO(files[GOLDEN]))
        _require_golden(loaded, golden, exactly=bool(differ))
        loaded = _with_way(loaded, golden)
        # Under other libraries nothing says that the model of errors still says what it said.
        if ESTIMATION in files and not (differ and ERRORS in files):
            errors = joblib.load(io.BytesIO(files[ERRORS])) if ERRORS in files else None
            loaded = replace(loaded, estimation=json.loads(files[ESTIMATION]), error_model=errors)
    if differ:
        log.warning("%s is used with other libraries, as a person allowed: %s", version.place, "; ".join(differ))
        for warning in said or ():
            log.warning("%s at %s, line %d", warning.category.__name__, warning.filename, warning.lineno)
    log.info("%s takes %s", version.place, loaded.way)
    return loaded


def _with_way(loaded: LoadedVersion, golden: pa.Table) -> LoadedVersion:
    """Return the version with the short way of its estimator, if it has one that says the same to the last bit."""
    estimator, signature = loaded.estimator, loaded.signature

    def matrix(steps: Sequence[Any], rows: pa.Table) -> Any:
        return through(steps, frame_of(rows, signature))

    def said(rows: pa.Table, short: ShortWay | None) -> tuple[Any, Any]:
        predictions = predict(estimator, rows, signature, loaded.version.output, short)
        return predictions.prediction, predictions.score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strange values are meant to overflow
        whole = Whole(estimator, signature.float_families(), matrix, said)
        short, way = find_way(whole, golden.select([c.name for c in signature.features]), signature.categories)
    return replace(loaded, short=short, way=way)


def read_pinned_table(content: bytes, sha256: str, *, where: str) -> pd.DataFrame:
    """Return the table in an xz-compressed pickle of pandas; raises ArtifactRefused before other bytes are unpickled.

    sha256 : of `content`, a constant of the code that asks. where : what the bytes are, for the message.
    """
    import pandas as pd

    what = "the bytes are not the ones that are pinned; they were not unpickled"
    require_digest(content, sha256, what, where=where, fix="get the file again, from where the pinned one came")
    table: pd.DataFrame = pd.read_pickle(io.BytesIO(content), compression="xz")  # noqa: S301 - verified just above
    return table


@dataclass(frozen=True, slots=True)
class Foreign:
    """A fitted estimator that came from elsewhere."""

    estimator: Any
    #: Packages that its file names.
    packages: Collection[str]
    #: Other versions of scikit-learn that it was made with; () for the one that runs.
    other_libraries: Collection[str]


def load_imported(db: Database, model: str, import_id: int, content: bytes, *, text: str) -> Foreign:
    """Return the estimator of a file; raises ArtifactRefused unless its digest is the one recorded for this import.

    text : defines what the file names and no package has, as functions and classes of a notebook. Raises PonteError
    with what is missing when the file cannot be unpickled.
    """
    sha256, form = registry.accepted_file(db, model, import_id)
    what = "the file is not the one that was accepted; it was not used"
    require_digest(content, sha256, what, where=f"model {model}, import {import_id}", fix="import it again")
    module = _module_of(text, model)
    packages: set[str] = set()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            estimator = _of_skops(content, packages) if form == "skops" else _of_pickle(content, module, packages)
        except (Exception, SystemExit) as error:
            told = _why_not(error, content, where=f"import {import_id}")
            if told is error:
                raise
            raise told from error
    others = {
        f"scikit-learn {w.message.original_sklearn_version}"  # type: ignore[union-attr]
        for w in said
        if type(w.message).__name__ == "InconsistentVersionWarning"
    }
    return Foreign(estimator, packages, sorted(others))


def _why_not(error: BaseException, content: bytes, *, where: str) -> PonteError:
    """Return what to tell of a file that cannot be unpickled: that it is of another scikit-learn, if so, or the error.

    Which one made it stands in the file, and says more than the name of something that has moved since.
    """
    with suppress(OSError, EOFError, zlib.error, lzma.LZMAError):  # else it is not whole
        content = decompressed(content)
    here, of_notebook = library_version("scikit-learn"), isinstance(error, PonteError) and "__main__" in str(error)
    if not of_notebook and (found := _MADE_WITH.search(content)) is not None:
        made_with = found[1].decode()
        if not here.startswith(made_with):
            what = "the file was made with another scikit-learn, and this one cannot read it"
            got, expected = f"scikit-learn {made_with}", f"scikit-learn {here}"
            fix = "fit it again with the one that is here"
            return PonteError(what, where=where, got=got, expected=expected, fix=fix)
    if isinstance(error, PonteError):
        return error
    fix = "load it where it was made; is it joblib (plain, zlib, gzip, bz2, lzma), pickle or skops, of this Python?"
    return PonteError("the file cannot be unpickled", where=where, got=f"{type(error).__name__}: {error}", fix=fix)


def _module_of(text: str, model: str) -> types.ModuleType:
    """Return the module of a person's text; raises PonteError when it does not run."""
    try:
        return run_module(text, model=model)
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {error}{line_of(error, model)}"
        where = f"{ESTIMATOR_FILE} of model {model}, or what --source named"
        raise PonteError("the source does not run", where=where, got=got, fix=missing_package(error)) from error


def _of_pickle(content: bytes, module: types.ModuleType, packages: set[str]) -> Any:
    from joblib.numpy_pickle import NumpyUnpickler

    class Unpickler(NumpyUnpickler):  # type: ignore[misc]
        def find_class(self, of: str, name: str) -> Any:
            if of != "__main__":  # which is another program here
                try:
                    found = super().find_class(of, name)
                except (ImportError, AttributeError):
                    pass
                else:
                    packages.add(of.partition(".")[0])
                    return found
            return _defined(module, of, name)

    return Unpickler("", io.BytesIO(decompressed(content)), ensure_native_byte_order=True).load()


def _of_skops(content: bytes, packages: set[str]) -> Any:
    from skops.io import get_untrusted_types, loads

    untrusted = get_untrusted_types(data=content)
    packages.update({"sklearn", *(name.partition(".")[0] for name in untrusted)} - {"__main__"})
    return loads(content, trusted=untrusted)


#: In a pickle, and in the JSON of skops, which its ZIP does not compress.
_MADE_WITH = re.compile(rb"_sklearn_version.{1,400}?(\d+\.\d+\.\d+)", re.DOTALL)


def _defined(module: types.ModuleType, of: str, name: str) -> Any:
    """Return what the author's file defines under the name; raises PonteError that says where it has to go."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        package = of.partition(".")[0]
        fix = f"put the source of {name} into {ESTIMATOR_FILE} of the model folder, or give its file with --source"
        if of != "__main__":
            fix = f"if {package} is a package, name it in the folder's requirements.txt and install it; else {fix}"
        raise PonteError("the file names something that is not here", got=f"{of}.{name}", fix=fix)
    return found


def golden_rows(estimator: Any, rows: pa.Table, signature: Signature, output: Output) -> bytes:
    """Return a Parquet file of the rows with the estimator's predictions, to be held against later loads."""
    import pyarrow.parquet as pq

    predictions = predict(estimator, rows, signature, output)
    table = rows.select([c.name for c in signature.features])
    table = table.append_column("prediction", as_labels(predictions.prediction, signature, output.task))
    scores = score_column(predictions)
    if scores is not None:
        table = table.append_column(*scores)
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def come_back(content: bytes) -> Any:
    """Return the estimator of bytes that this process has made of one a moment ago, `model.estimator.dump`."""
    import joblib

    return joblib.load(io.BytesIO(content))


def _require_golden(loaded: LoadedVersion, table: pa.Table, *, exactly: bool) -> None:
    import numpy as np

    now = loaded.predictions(table)
    then = table.column("prediction").to_numpy(zero_copy_only=False)
    scores = None
    if now.score is not None:
        name = "score" if now.score.ndim == 1 else "scores"
        scores = np.array(table.column(name).to_pylist(), dtype=float).reshape(now.score.shape)
    if differing(Predictions(then, scores), now, loaded.version.output, exactly=exactly).any():
        raise ArtifactRefused(
            "the version predicts its golden rows differently than when it was trained",
            where=f"{loaded.version.place}, {GOLDEN}",
            fix="train again on this machine; the version is not used",
        )
