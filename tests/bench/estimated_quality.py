"""How near is the quality that is estimated without labels to what is realised? On the car loans, week by week.

- scores of the set: the scores that come with the set, calibrated on its first half, estimate each week of the second.
- trees, logistic: the whole way through Ponte. Trained on 43 weeks, calibrated on the last 8 of them, the holdout.

    PONTE_BENCH_DATA=/tmp PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.estimated_quality

Not collected by pytest. The server is a private one in the temporary folder and is gone afterwards.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import argparse
import datetime as dt
import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics
from tabulate import tabulate
from tests.bench import car_loan
from tests.bench.scoring_cases import private_server
from tests.sample_model import World

from ponte.demo.fetching import fetch
from ponte.estimation.calibration import calibrate
from ponte.estimation.sums import figures_of
from ponte.model.windows import midnight
from ponte.schema import migrations
from ponte.storage.database import Database
from ponte.versions.predicting import Output, Predictions

_ESTIMATES = (
    "SELECT metric, estimated_value, estimated_low, estimated_high FROM ponte.estimated_quality WHERE published"
)
_TRUTH = """SELECT v.repaid, p.prediction, p.score FROM predictions.car_loan p JOIN source.loan v USING (loan_id)
    WHERE p.window_start = :week"""
_METRICS = ("accuracy", "roc_auc", "brier")
#: Metric → (estimated, low, high, realised) of a week.
Week = dict[str, tuple[float, float, float, float]]


def main() -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--estimator", nargs="*", choices=car_loan.ESTIMATORS, default=car_loan.ESTIMATORS)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    lines = _lines("scores of the set", list(_of_the_set()))
    for estimator in options.estimator:
        lines += _lines(estimator, list(_through_ponte(estimator)))
    headers = (
        "scores",
        "metric",
        "weeks",
        "realised, 1st → 2nd half",
        "estimated",
        "mean error",
        "bias, 2nd half",
        "in",
    )
    print(tabulate(lines, headers=headers, disable_numparse=True))
    return 0


def _lines(name: str, weeks: list[Week]) -> list[tuple[str, ...]]:
    lines = []
    for metric in _METRICS:
        estimated, low, high, real = np.array([week[metric] for week in weeks]).T
        half = len(weeks) // 2
        moves = [f"{of[:half].mean():.3f} → {of[half:].mean():.3f}" for of in (real, estimated)]
        error = estimated - real
        inside = f"{np.mean((low <= real) & (real <= high)):.0%}"
        errors = (f"{abs(error).mean():.4f}", f"{error[half:].mean():+.4f}")
        lines.append((name, metric, str(len(weeks)), *moves, *errors, inside))
    return lines


def _of_the_set() -> Iterator[Week]:
    kept = Path(os.environ.get("PONTE_BENCH_DATA", "/nowhere")) / car_loan.WHEEL.filename
    content = kept.read_bytes() if kept.exists() else fetch(car_loan.WHEEL, os.environ)
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        folder = "nannyml/datasets/data/synthetic_car_loan_"
        before, after = (pd.read_csv(wheel.open(f"{folder}{half}.csv")) for half in ("reference", "analysis"))
        after = after.merge(pd.read_csv(wheel.open(f"{folder}analysis_target.csv")), on="id")
    output, weeks = Output(task="binary", classes=(0, 1)), pd.to_datetime(before["timestamp"]).dt.to_period("W")
    known = calibrate(
        output,
        before["repaid"].to_numpy().astype(int),
        Predictions(before["y_pred"].to_numpy().astype(int), before["y_pred_proba"].to_numpy()),
        weeks.factorize()[0],
        calibrated_on="calibration",
    )
    assert known is not None
    for _, week in after.groupby(pd.to_datetime(after["timestamp"]).dt.to_period("W")):
        if len(week) > 300:  # the first and the last one are not whole
            label, said, score = (week[c].to_numpy() for c in ("repaid", "y_pred", "y_pred_proba"))
            figures = figures_of("binary", known.sums(score, said.astype(int)))
            ends = {
                metric: (value, *(value + side * 1.96 * (var + known.spread[metric] ** 2) ** 0.5 for side in (-1, 1)))
                for metric, (value, var) in figures.items()
            }
            yield {metric: (*ends[metric], real) for metric, real in _realised(label, said, score).items()}


def _through_ponte(estimator: str) -> Iterator[Week]:
    loans = car_loan.read_loans()
    start = car_loan.first_monday(loans) + dt.timedelta(days=7 * car_loan.TRAINING_WEEKS)
    with private_server() as server, tempfile.TemporaryDirectory() as folder:
        server.execute("CREATE DATABASE loans")
        db = Database(server.url("loans"))
        migrations.upgrade(server.url("loans"))
        car_loan.load(db, loans)
        # The second half differs as much as a broken source does, which the guards would stop.
        world = car_loan.world(db, Path(folder), estimator, more='[guard]\ncolumns = "warn"\n')
        world.train(run_id="bench", as_of=midnight(start), promote=False)
        world.set_champion(1)
        for n in range(car_loan.SCORED_WEEKS):
            week = start + dt.timedelta(days=7 * n)
            world.run(run_id=f"week {n}", week=week)
            yield _week(world, week)


def _week(world: World, week: dt.date) -> Week:
    label, said, score = (np.array(of) for of in zip(*world.rows(_TRUTH, week=week), strict=True))
    real = _realised(label, said, score)
    rows = world.rows(f"{_ESTIMATES} AND window_start = :week", week=week)
    return {metric: (value, low, high, real[metric]) for metric, value, low, high in rows if metric in real}


def _realised(label: np.ndarray, said: np.ndarray, score: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": float(metrics.accuracy_score(label, said)),
        "roc_auc": float(metrics.roc_auc_score(label, score)),
        "brier": float(metrics.brier_score_loss(label, score)),
    }


if __name__ == "__main__":
    raise SystemExit(main())
