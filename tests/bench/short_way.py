"""The short way beside the whole one: milliseconds a call, by rows, in one run, with one thread.

PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.short_way

Twelve columns, a twentieth of one number and a fiftieth of one text NULL. Each figure is the fastest of many calls from
an Arrow table to `Predictions`. Checks that both ways say the same, to the last bit, of all rows; and says how long
finding the short way takes, which is done when a version is loaded.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from ponte.short_way.comparing import Whole, find_way
from ponte.short_way.pipelines import ShortWay
from ponte.storage.columns import Column
from ponte.versions.predicting import Output, predict, through
from ponte.versions.signature import Signature, frame_of

SIZES = (1, 8, 64, 1_024, 65_536)
FITTED = 50_000
NUMBERS = [f"f{n}" for n in range(10)]
COLUMNS = (*(Column(name=n, family="number") for n in NUMBERS), *(Column(name=n, family="text") for n in ("c0", "c1")))
OUTPUT = Output(task="binary", classes=(False, True))


def rows(count: int) -> pa.Table:
    """Return rows of the twelve columns."""
    random = np.random.default_rng(0)
    columns = {name: pa.array(random.normal(size=count)) for name in NUMBERS}
    columns["f3"] = pa.array(random.normal(size=count), mask=random.random(count) < 0.05)
    columns["c0"] = pa.array(random.choice([f"r{n}" for n in range(8)], count), pa.string())
    columns["c1"] = pa.array(random.choice([*"abcd"], count), pa.string(), mask=random.random(count) < 0.02)
    return pa.table(columns)


def estimators() -> dict[str, Any]:
    """Return the unfitted estimators by name."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    hot = OneHotEncoder(handle_unknown="ignore")
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    trees = HistGradientBoostingClassifier(max_iter=100, early_stopping=False)
    texts = ["c0", "c1"]
    return {
        "logistic": make_pipeline(make_column_transformer((numbers, NUMBERS), (hot, texts)), LogisticRegression()),
        "boosted trees": make_pipeline(make_column_transformer(("passthrough", NUMBERS), (codes, texts)), trees),
    }


def milliseconds(ask: Callable[[], Any], count: int) -> float:
    """Return the fastest call."""
    found = []
    for _ in range(max(5, min(300, 20_000 // count))):
        start = time.perf_counter()
        ask()
        found.append(time.perf_counter() - start)
    return min(found) * 1_000


def measure(name: str, estimator: Any, table: pa.Table) -> None:
    """Print the figures of one estimator."""
    fitting = table.slice(0, FITTED)
    texts = {c: tuple(sorted(set(fitting[c].drop_null().to_pylist()))) for c in ("c0", "c1")}
    signature = Signature(key=(), features=COLUMNS, label="boolean", types=4, categories=texts)
    label = np.asarray(fitting["f0"]) + np.asarray(fitting["f1"]) > 0.3
    estimator.fit(frame_of(fitting, signature), label)

    def matrix(steps: Any, of: pa.Table) -> Any:
        return through(steps, frame_of(of, signature))

    def said(of: pa.Table, short: ShortWay | None) -> Any:
        predictions = predict(estimator, of, signature, OUTPUT, short)
        return predictions.prediction, predictions.score

    start = time.process_time()
    whole = Whole(estimator, signature.float_families(), matrix, said)
    short, way = find_way(whole, table.slice(FITTED, 200), signature.categories)
    print(f"{name}: {way}, found in {time.process_time() - start:.2f} CPU seconds")
    for count in SIZES:
        of = table.slice(FITTED, count)
        same = all(np.array_equal(*both) for both in zip(said(of, None), said(of, short), strict=True))
        long = milliseconds(lambda of=of: said(of, None), count)
        quick = milliseconds(lambda of=of: said(of, short), count)
        print(
            f"{count:8,d} rows  whole {long:8.2f} ms  short {quick:8.2f} ms  {long / quick:5.1f} x  same bits: {same}"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        for title, unfitted in estimators().items():
            measure(title, unfitted, rows(FITTED + max(SIZES)))
