"""Rows of `ponte.version`. A version never changes; it is registered last, when its files are there."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.model.spec import Task
from ponte.storage.database import Database, insert_row
from ponte.versions.predicting import Output
from ponte.versions.signature import Signature

_LOCK_OF_NUMBERS = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.version'), hashtext(:model))")
_NEXT_NUMBER = sa.text("SELECT coalesce(max(version), 0) + 1 FROM ponte.version WHERE model = :model")
_NUMBERS = sa.text("SELECT version FROM ponte.version WHERE model = :model ORDER BY version")
_FEATURES_SQL = sa.text("SELECT features_sql FROM ponte.snapshot WHERE snapshot_id = :id")
_RECORD_FILE = sa.text("""INSERT INTO ponte.imported_file
        (model, sha256, byte_count, format, trained_until, accepted_by, accepted_how)
    VALUES (:model, :sha256, :byte_count, :format, :trained_until, :accepted_by, :accepted_how)
    RETURNING import_id""")
_ACCEPTED_FILE = sa.text("SELECT sha256, format FROM ponte.imported_file WHERE import_id = :id AND model = :model")

Origin = Literal["trained", "imported"]


#: Numbers of versions are integers of PostgreSQL.
LARGEST_VERSION = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedFile:
    """A row of `ponte.imported_file`: bytes that a person accepted, of which an estimator will be unpickled."""

    model: str
    sha256: str
    byte_count: int
    format: Literal["pickle", "skops"]
    trained_until: dt.date
    accepted_by: str
    accepted_how: Literal["digest", "trust"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A row of `ponte.version`."""

    model: str
    version: int
    snapshot_id: int
    train_key: str
    task: Task
    #: Artifact folder below the artifact root.
    path: str
    manifest_sha256: str
    signature: Signature
    #: How probabilities become labels; and below, with `half_width`, an interval of a value.
    classes: tuple[Any, ...]
    threshold: float | None
    spec_digest: str
    code_revision: str | None
    #: Exact versions of Python and the libraries that fitted it, by name.
    libraries: dict[str, str]
    #: No label or feature of after this moment was seen, neither in fitting nor in measuring.
    train_cutoff: dt.datetime
    train_rows: int
    calibration_rows: int
    holdout_rows: int
    purged_rows: int
    byte_count: int
    run_id: str
    #: "imported": fitted elsewhere, from the file of `import_id`; None of a trained one.
    origin: Origin = "trained"
    import_id: int | None = None
    #: Of a regression with [training] interval, see `Output`.
    interval: float | None = None
    half_width: float | None = None

    @property
    def output(self) -> Output:
        """What becomes of what its estimator says."""
        return Output(
            task=self.task,
            classes=self.classes,
            threshold=self.threshold,
            interval=self.interval,
            half_width=self.half_width,
        )

    @property
    def place(self) -> str:
        """Where an error happened, for its message."""
        return f"model {self.model}, version {self.version}"


_COLUMNS = ", ".join(Version.__dataclass_fields__)
_BY_NUMBER = sa.text(f"SELECT {_COLUMNS} FROM ponte.version WHERE model = :model AND version = :version")
_BY_TRAIN_KEY = sa.text(f"SELECT {_COLUMNS} FROM ponte.version WHERE model = :model AND train_key = :key")


def get_version(db: Database, model: str, version: int) -> Version:
    """Return the version; raises PonteError naming the versions that exist."""
    with db.begin() as connection:
        return read_version(connection, model, version)


def read_version(connection: sa.Connection, model: str, version: int) -> Version:
    """Return the version as this transaction sees it; raises PonteError naming the versions that exist."""
    found = _select(connection, _BY_NUMBER, {"model": model, "version": version})
    if found is None:
        known = connection.execute(_NUMBERS, {"model": model}).scalars().all()
        raise PonteError("no such version", where=f"model {model}", got=str(version), expected=f"one of {list(known)}")
    return found


def newest(db: Database, model: str) -> int:
    """Return the highest number of a version of the model; raises PonteError before there is one."""
    known = numbers(db, model)
    if not known:
        raise PonteError("there is no version yet", where=f"model {model}", fix=f"trigger the DAG {model}__train")
    return known[-1]


def numbers(db: Database, model: str) -> list[int]:
    """Return the numbers of the model's versions, ascending; [] before there is one."""
    with db.begin() as connection:
        return list(connection.execute(_NUMBERS, {"model": model}).scalars())


def find_by_train_key(db: Database, model: str, train_key: str) -> Version | None:
    """Return the version fitted on exactly these inputs, if there is one."""
    with db.begin() as connection:
        return _select(connection, _BY_TRAIN_KEY, {"model": model, "key": train_key})


def trained_sql(db: Database, version: Version) -> str:
    """Return the features.sql that the version was trained with, as kept with its snapshot."""
    with db.begin() as connection:
        return str(connection.execute(_FEATURES_SQL, {"id": version.snapshot_id}).scalar_one())


def record_file(db: Database, file: ImportedFile) -> int:
    """Record that a person accepted the file; return the number of the import."""
    with db.begin() as connection:
        return int(connection.execute(_RECORD_FILE, asdict(file)).scalar_one())


def accepted_file(db: Database, model: str, import_id: int) -> tuple[str, str]:
    """Return SHA-256 and format of the file that a person accepted for this import; raises PonteError for no import."""
    with db.begin() as connection:
        row = connection.execute(_ACCEPTED_FILE, {"id": import_id, "model": model}).one_or_none()
    if row is None:
        raise PonteError("nobody has accepted this file", where=f"model {model}, import {import_id}")
    return row.sha256, row.format


def register(
    db: Database,
    model: str,
    train_key: str,
    write: Callable[[int], Version],
    beside: Callable[[sa.Connection, Version], object] = lambda *_: None,
) -> Version:
    """Return the version of `train_key`; when it is new, number it, write its artifact, and register it last.

    `write(number)` stores the artifact folder and returns the row, `beside` inserts what belongs to it, in the same
    transaction. They run under a lock of the model, so numbers have
    no gap and two copies of a run register one version. Killed at any instant there is either no row (and perhaps a
    folder that nobody refers to) or a row whose files were read back.
    """
    with db.begin() as connection:
        connection.execute(_LOCK_OF_NUMBERS, {"model": model})
        known = _select(connection, _BY_TRAIN_KEY, {"model": model, "key": train_key})
        if known is not None:
            return known
        new = write(connection.execute(_NEXT_NUMBER, {"model": model}).scalar_one())
        values = {name: getattr(new, name) for name in Version.__dataclass_fields__}
        values |= {"signature": json.dumps(new.signature.as_json()), "libraries": json.dumps(new.libraries)}
        values["classes"] = json.dumps(new.classes) if new.classes else None
        insert_row(connection, "ponte.version", values)
        beside(connection, new)
        return new


def _select(connection: sa.Connection, query: sa.TextClause, parameters: dict[str, Any]) -> Version | None:
    row = connection.execute(query, parameters).mappings().one_or_none()
    if row is None:
        return None
    parsed = {"signature": Signature.from_json(row["signature"]), "classes": tuple(row["classes"] or ())}
    return Version(**{**row, **parsed})
