"""A fitted estimator becomes a version: measured on windows that it has not seen, by what measures a training."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as library_version
from typing import Any

from ponte.errors import PonteError, SignatureMismatch, did_you_mean
from ponte.exchange.arriving import Arrived
from ponte.model.estimator import KEEPABLE, imported_libraries, last_estimator
from ponte.model.folders import ModelFolder
from ponte.model.windows import Window, matured_windows
from ponte.packages.folder_requirements import named_versions
from ponte.packages.libraries import distributions_of_modules
from ponte.snapshots.checking import check_snapshot
from ponte.snapshots.freezing import freeze_snapshot
from ponte.snapshots.parquet import read_snapshot, write_snapshot
from ponte.snapshots.parts import Parts, split
from ponte.storage import artifacts
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.columns import Column
from ponte.storage.database import Database
from ponte.storage.receipts import Receipt, recorded
from ponte.storage.runs import Run
from ponte.training import versioning
from ponte.training.candidate import measured_candidate
from ponte.training.fitting import classes_with_positive
from ponte.training.reference import count_windows
from ponte.training.sufficiency import require_enough
from ponte.versions import registry
from ponte.versions.loading import LIBRARIES, Foreign, current_libraries, load_imported
from ponte.versions.predicting import Fitted, Output
from ponte.versions.registry import ImportedFile, Version
from ponte.versions.signature import Signature


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """What a person says of a file."""

    file: Arrived
    #: Last day of which the estimator has seen anything, outcomes too.
    trained_until: dt.date
    accepted_by: str
    #: Text of the `estimator.py` that the version keeps: defines what the file names and no package has.
    source: str
    other_libraries_allowed: bool = False


def import_version(
    db: Database,
    store: ArtifactStore,
    folder: ModelFolder,
    said: Import,
    *,
    as_of: dt.datetime,
    run: Run,
    code_revision: str | None,
) -> Version:
    """Return the version that a file becomes; the same file on the same rows finds the same version.

    Recorded as accepted, then unpickled, then held against the model folder and measured: on all rows of the windows
    after `trained_until` that have matured at `as_of`. Baselines learn from as many windows before that as a training
    would fit on. Raises ArtifactRefused for other bytes than were accepted, PonteError with what the file needs and is
    not here, SignatureMismatch for other columns than those of features.sql, and what a training raises.
    """
    windows, holdout_windows = measuring_windows(folder, said.trained_until, as_of=as_of)
    file = ImportedFile(
        model=folder.name,
        sha256=said.file.sha256,
        byte_count=len(said.file.content),
        format=said.file.format,
        trained_until=said.trained_until,
        accepted_by=said.accepted_by,
        accepted_how=said.file.accepted_how,
    )
    import_id = registry.record_file(db, file)
    foreign = load_imported(db, folder.name, import_id, said.file.content, text=said.source)
    _require_fitted(folder, foreign, other_libraries_allowed=said.other_libraries_allowed)
    frozen = freeze_snapshot(db, folder, windows, as_of=as_of, run=run, holdout_windows=holdout_windows)
    check_snapshot(db, folder, frozen.snapshot_id)
    snapshot = write_snapshot(db, store, frozen.snapshot_id)
    signature = signature_of(foreign.estimator, snapshot.signature, where=f"model {folder.name}, features.sql")
    snapshot = replace(snapshot, columns=signature.as_json())  # in the order that the estimator knows
    libraries = {**named_versions(folder.path), **_libraries(foreign, said.source), **current_libraries()}
    facts = [snapshot.sha256, folder.digest(), said.file.sha256, said.source, libraries, artifacts.FORMAT]
    with recorded(db, Receipt(model=folder.name, step="import", snapshot_id=snapshot.snapshot_id)) as receipt:
        rows = read_snapshot(store, snapshot)
        parts = split(rows, snapshot)
        require_enough(folder, snapshot, parts)
        fitted = Fitted(foreign.estimator, _output(folder, foreign.estimator, parts))
        fix = (
            f'frame("{folder.name}") of ponte.notebook returns such rows: missing values are NaN, texts are categories'
        )
        with _told("the estimator cannot predict the rows of features.sql", where=f"model {folder.name}", fix=fix):
            made = measured_candidate(folder, snapshot, parts, fitted, signature)
        fix = f"{KEEPABLE}; then save it by joblib or pickle: cloudpickle puts code of its own into the file"
        with _told("the estimator cannot be stored", where=f"model {folder.name}", fix=fix):
            files = versioning.files_of(made, folder, said.source)
        version = versioning.register(
            db,
            store,
            folder,
            snapshot,
            made=made,
            files=files,
            counted=count_windows(snapshot, rows, made),
            train_key=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
            code_revision=code_revision,
            libraries=libraries,
            run_id=run.id,
            import_id=import_id,
        )
        receipt.version, receipt.row_count, receipt.byte_count = (
            version.version,
            version.holdout_rows,
            version.byte_count,
        )
    return version


@contextmanager
def _told(what: str, *, where: str, fix: str) -> Iterator[None]:
    """Raise PonteError for whatever the estimator raises; it may be anything."""
    try:
        yield
    except PonteError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise PonteError(what, where=where, got=got, fix=fix) from error


def measuring_windows(folder: ModelFolder, trained_until: dt.date, *, as_of: dt.datetime) -> tuple[list[Window], int]:
    """Return the windows to freeze, oldest first, and how many of them, the last, the estimator has not seen.

    At most as many of these as a training has windows. Raises PonteError when none has matured.
    """
    training = folder.spec.training
    latest = matured_windows(
        folder.spec.window, as_of=as_of, count=training.windows, label_delay_days=training.label_delay_days
    )
    unseen = sum(window.start > trained_until for window in latest)
    if not unseen:
        raise PonteError(
            "no window is left to measure on",
            where=f"model {folder.name}",
            got=f"trained until {trained_until}; the latest window with labels begins on {latest[-1].start}",
            expected="a window that begins later, whose labels have matured",
            fix="fit it on older rows, or import it when newer labels are there",
        )
    before = training.windows - training.holdout_windows - training.calibration_windows
    windows = matured_windows(
        folder.spec.window, as_of=as_of, count=unseen + before, label_delay_days=training.label_delay_days
    )
    return windows, unseen


def signature_of(estimator: Any, signature: Signature, *, where: str) -> Signature:
    """Return the signature with its features in the order that the estimator was fitted on.

    An estimator that knows only how many columns there are gets those of features.sql in their order. No categories
    are kept: which ones it has seen is its own affair, and an estimator that takes the codes of a chunk for its own is
    refused when rows in pieces are held against all rows. Raises SignatureMismatch for other columns.
    """
    features = {c.name: c for c in signature.features}
    known = _feature_names(estimator)
    if known is None:
        count = getattr(estimator, "n_features_in_", len(features))
        if count != len(features):
            got, expected = f"{len(features)} columns: {', '.join(features)}", f"{count} columns"
            raise SignatureMismatch(
                "the estimator was fitted on other columns", where=where, got=got, expected=expected
            )
        return replace(signature, categories={})
    missing = [name for name in known if name not in features]
    spare = [name for name in features if name not in known]
    if missing or spare:
        fixes = [f"{name}: {did_you_mean(name, spare)}" for name in missing[:3] if spare]
        fix = "; ".join(fixes) or "let features.sql return just the columns that it was fitted on"
        found = [f"no {name!r}" for name in missing] + [f"{name!r}, which it does not know" for name in spare]
        raise SignatureMismatch(
            "the estimator was fitted on other columns",
            where=where,
            got="; ".join(found),
            expected=", ".join(known),
            fix=fix,
        )
    ordered: tuple[Column, ...] = tuple(features[name] for name in known)
    return replace(signature, features=ordered, categories={})


def _feature_names(estimator: Any) -> Sequence[str] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _require_fitted(folder: ModelFolder, foreign: Foreign, *, other_libraries_allowed: bool) -> None:
    """Raise PonteError unless the file held a fitted estimator for the model's task, of the libraries that run."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    where, kind = f"model {folder.name}", type(foreign.estimator).__name__
    if not callable(getattr(foreign.estimator, "predict", None)):
        fix = "save the fitted estimator itself, the whole pipeline, not what holds it"
        raise PonteError(
            "the file holds no estimator", where=where, got=kind, expected="an object with predict()", fix=fix
        )
    try:
        check_is_fitted(foreign.estimator)
    except NotFittedError as error:
        raise PonteError("the estimator is not fitted", where=where, got=kind, fix="save it after fit()") from error
    except TypeError:
        pass  # no estimator of scikit-learn's kind: it shows when it predicts
    if foreign.other_libraries and not other_libraries_allowed:
        raise PonteError(
            "the estimator was made with other libraries",
            where=where,
            got=", ".join(foreign.other_libraries),
            expected=f"scikit-learn {current_libraries()['scikit-learn']}",
            fix="fit it again with these, or say --other-libraries: it is then measured as it predicts here",
        )


def _libraries(foreign: Foreign, source: str) -> dict[str, str]:
    """Return the versions of the packages that the file and the source name."""
    of = distributions_of_modules()
    named = {distribution for package in foreign.packages for distribution in of.get(package, ())}
    return {**imported_libraries(source, known=LIBRARIES), **{name: library_version(name) for name in sorted(named)}}


def _output(folder: ModelFolder, estimator: Any, parts: Parts) -> Output:
    """Return how its probabilities become labels; raises PonteError unless its classes are the labels of labels.sql.

    The positive class is that of `model.toml`, as in a training. A threshold that a training would look for in the
    calibration part is the estimator's own affair here.
    """
    task, threshold = folder.spec.task, folder.spec.training.threshold
    if task == "regression":
        return Output(task=task)
    labels = classes_with_positive(folder.spec, parts.holdout.labels)
    last = last_estimator(estimator)
    classes = getattr(last, "classes_", getattr(estimator, "classes_", None))
    # Of several outputs there is an array for each.
    known = labels if classes is None else [c.tolist() if hasattr(c, "tolist") else c for c in classes]
    if len(known) != len(labels) or not all(label in known for label in labels):
        raise PonteError(
            "the estimator knows other classes than labels.sql returns",
            where=f"model {folder.name}",
            got=f"classes {', '.join(map(repr, known))}",
            expected=", ".join(map(repr, labels)),
            fix="let labels.sql return the labels that it was fitted on",
        )
    return Output(task=task, classes=labels, threshold=threshold if isinstance(threshold, float) else None)
