"""87 weeks of car loans, of which the last 22 have drifted: the set `synthetic_car_loan` of nannyml, as files.

Its wheel is fetched by its digest and read as an archive; nothing of it is imported. The set's two halves are one
series: the half named reference ends, and the one named analysis begins, within a week.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import zipfile
from pathlib import Path

import pandas as pd
from tests.sample_model import World
from upath import UPath

from ponte.demo.fetching import PinnedFile, fetch
from ponte.model.folders import get_folder
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database

WHEEL = PinnedFile(
    project="nannyml",
    filename="nannyml-0.13.1-py3-none-any.whl",
    sha256="cf5f4a33489834ae6773cb1baa33a0f98c0a3ee6ed9b43049478b25ce22fe869",
    size=23_023_247,
)
_DATA = "nannyml/datasets/data/synthetic_car_loan_"
NUMBERS = ("car_value", "debt_to_income_ratio", "loan_length", "driver_tenure")
CATEGORIES = ("salary_range", "repaid_loan_on_prev_car", "size_of_downpayment")
FEATURES = (*NUMBERS, *CATEGORIES)
#: Full weeks before the set's analysis period begins; then those of it, the first of which begins in the other half.
TRAINING_WEEKS, SCORED_WEEKS = 43, 43
MODEL = "car_loan"

_TABLE = """CREATE SCHEMA source;
CREATE TABLE source.loan (
    loan_id bigint PRIMARY KEY, applied_at timestamptz NOT NULL, car_value float8, salary_range text,
    debt_to_income_ratio float8, loan_length float8, repaid_loan_on_prev_car boolean, size_of_downpayment text,
    driver_tenure float8, repaid bigint NOT NULL
);
CREATE INDEX ON source.loan (applied_at);"""

_FEATURES_SQL = f"""\
SELECT loan_id, {", ".join(FEATURES)} FROM source.loan
WHERE applied_at >= CAST(:window_start AS date) AND applied_at < CAST(:window_end AS date)
"""
_LABELS_SQL = """\
SELECT loan_id, repaid AS label FROM source.loan
WHERE applied_at >= CAST(:window_start AS date) AND applied_at < CAST(:window_end AS date)
"""
_MODEL_TOML = """\
description = "Will the loan be repaid?"
owner = "bench"
task = "binary"
key = ["loan_id"]
[training]
windows = TRAINING_WEEKS
holdout_windows = 8
[evaluation]
resamples = 100
[gate]
metric = "roc_auc"
minimum = 0.6
MORE"""

_ESTIMATORS = {
    "trees": '''\
"""Boosted trees; they read NULL as it is."""

from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def build_estimator():
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, ["salary_range", "size_of_downpayment"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=100, random_state=0))
''',
    "logistic": '''\
"""A linear model behind the usual preparation."""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

CATEGORIES = ["salary_range", "size_of_downpayment", "repaid_loan_on_prev_car"]


def build_estimator():
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="float64")),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))
''',
}
ESTIMATORS = tuple(_ESTIMATORS)


def read_loans() -> pd.DataFrame:
    """Return all loans in the order of time, shape (100000, 10), with `repaid` and `applied_at` (UTC).

    The wheel is kept in `$PONTE_BENCH_DATA`, if that is set.
    """
    kept = Path(os.environ["PONTE_BENCH_DATA"]) / WHEEL.filename if "PONTE_BENCH_DATA" in os.environ else None
    if kept is not None and kept.exists():
        content = kept.read_bytes()
    else:
        content = fetch(WHEEL, os.environ)
        if kept is not None:
            kept.write_bytes(content)
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        halves = [pd.read_csv(wheel.open(f"{_DATA}{half}.csv")) for half in ("reference", "analysis")]
        outcomes = pd.read_csv(wheel.open(f"{_DATA}analysis_target.csv"))
    halves[1] = halves[1].merge(outcomes, on="id")
    loans = pd.concat(halves, ignore_index=True).rename(columns={"id": "loan_id"})
    loans["applied_at"] = pd.to_datetime(loans["timestamp"], utc=True)
    loans["repaid"] = loans["repaid"].astype(int)
    return loans[["loan_id", "applied_at", *FEATURES, "repaid"]]


def first_monday(loans: pd.DataFrame) -> dt.date:
    """Return the first day of the series' first week."""
    first: dt.date = loans["applied_at"].min().date()
    return first - dt.timedelta(days=first.weekday())


def load(db: Database, loans: pd.DataFrame) -> None:
    """Make `source.loan` of the loans."""
    import pyarrow as pa

    with db.begin() as connection:
        connection.exec_driver_sql(_TABLE)
    with db.adbc() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(
            "loan", pa.Table.from_pandas(loans, preserve_index=False), mode="append", db_schema_name="source"
        )
        connection.commit()


def world(db: Database, folder: Path, estimator: str, *, windows: int = TRAINING_WEEKS, more: str = "") -> World:
    """Return a model folder `car_loan` with what runs it.

    estimator : one of ESTIMATORS; windows : those of a training; more : further lines of model.toml.
    """
    root = folder / estimator
    (root / MODEL).mkdir(parents=True)
    toml = _MODEL_TOML.replace("TRAINING_WEEKS", str(windows)).replace("MORE", more)
    files = {"features.sql": _FEATURES_SQL, "labels.sql": _LABELS_SQL, "model.toml": toml}
    for name, text in {**files, "estimator.py": _ESTIMATORS[estimator], "README.md": "Car loans.\n"}.items():
        (root / MODEL / name).write_text(text)
    return World(db=db, store=ArtifactStore(UPath(folder / f"{estimator}-artifacts")), folder=get_folder(root, MODEL))
