"""How often does the gate err? Promotions of a model that is no better, and of one that is, on the real flights.

Each resplit draws fitting rows and a holdout from the snapshot of flight_delay at random, fits, and asks the gate:
`measurement.compare`, then `gate.decide`, with the confidence, resamples and margin of the model's own model.toml.

- Equal: champion and candidate are one estimator, fitted on the same rows, and differ by their seed alone. (The demo's
  estimator ignores its seed; the one here draws features, or rows, by it.)
- Better by g: the champion is the candidate with noise added to its logit, as much as lowers its ROC AUC by g on the
  rows of a pool that is neither fitted on nor in the holdout.

Beside it stands the naive rule, "the higher point estimate wins".

    OMP_WAIT_POLICY=passive PYTHONPATH=plugins .venv/bin/python tests/bench/gate_noise.py --resplits 20

Not collected by pytest. Writes nothing but a temporary folder.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: one thread per process, and none that spins while it waits.
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import datetime as dt
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from tabulate import tabulate

from ponte.decisions.gate import MARGIN_SHARE, Champion, decide, outcome_of
from ponte.demo import flights
from ponte.embedded import postgres
from ponte.model.estimator import load_estimator
from ponte.model.folders import ModelFolder, get_folder
from ponte.model.inspection import inspect_folder
from ponte.model.queries import AuthorQuery, prefixed
from ponte.model.spec import Gate, ModelSpec
from ponte.model.windows import matured_windows, midnight
from ponte.quality.figures import CANDIDATE, Figure, champion_subject, difference_subject
from ponte.quality.measurement import compare
from ponte.runtime import models_root
from ponte.snapshots.parts import Part
from ponte.storage.database import Database
from ponte.versions.predicting import Output, Predictions, as_predictions, predict
from ponte.versions.signature import Signature, to_frame

MODEL = "flight_delay"
AS_OF = midnight(dt.date(2013, 9, 30))
#: Labels in the holdout of the demo's version.
HOLDOUT_ROWS = 25_085
#: Rows, neither fitted on nor in the holdout, on which the noise is tuned and the models differ "in truth".
POOL_ROWS = 30_000
#: Margins that are tried on the equal models; in units of the metric, ROC AUC.
MARGINS = (0.0, 0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005)
EQUAL = 0.0
PASSWORD = "noise"  # noqa: S105 - of a server that listens on a private unix socket only
OUTPUT = Output(task="binary", classes=(0, 1))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every resplit needs."""

    frame: Path
    signature: Signature
    rows: int
    holdout_rows: int
    seed: int
    variant: str
    gaps: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One comparison of candidate and champion."""

    gap: float
    #: Candidate minus champion: on the holdout, with its interval, and on the pool.
    figure: Figure
    on_pool: float
    #: What the gate said.
    outcome: str
    promoted: bool


@dataclass(kw_only=True)
class Tally:
    """All comparisons at one gap."""

    gap: float
    results: list[Result] = field(default_factory=list)

    def share(self, happened: Any) -> float:
        return float(np.mean([happened(r) for r in self.results]))


def main() -> int:
    """Print the tables; return 0."""
    options = _options()
    for name in (signal.SIGINT, signal.SIGTERM):  # also when it was started in the background, where SIGINT is ignored
        signal.signal(name, signal.default_int_handler)
    begin = time.perf_counter()
    folder = _folder()
    with tempfile.TemporaryDirectory(prefix="gn-") as name, _database(options.database, Path(name)) as db:
        frame = Path(name) / "frame.parquet"
        signature = _write_frame(db, folder, frame)
        job = Job(
            frame=frame, signature=signature, rows=options.rows, holdout_rows=options.holdout_rows, seed=options.seed,
            variant=options.variant, gaps=tuple(options.gaps),
        )  # fmt: skip
        loaded = time.perf_counter() - begin
        results = _run(job, options.resplits, options.jobs)
    _report(folder.spec, job, results)
    print(f"\n{loaded:.0f} s to load the flights and compute the features, {time.perf_counter() - begin:.0f} s in all")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--resplits", type=int, default=200, help="how many times to split, fit and ask the gate (200)")
    parser.add_argument("--rows", type=int, default=30_000, help="fitting rows of each resplit (30000)")
    parser.add_argument("--holdout-rows", type=int, default=HOLDOUT_ROWS, help=f"rows that measure ({HOLDOUT_ROWS})")
    parser.add_argument(
        "--gaps", type=float, nargs="*", default=[0.005, 0.01, 0.02], help="how much better (0.005 0.01 0.02)"
    )
    parser.add_argument(
        "--variant", choices=("features", "rows"), default="features",
        help="what two equal models draw by their seed: half of the features at each split, or a bootstrap of the rows",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same resplits (0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (one per core)")
    parser.add_argument("--database", metavar="URL", help="one that has the flights; else one is made")
    return parser.parse_args()


# ---------------------------------------------------------------- data


@contextmanager
def _database(url: str | None, folder: Path) -> Iterator[Database]:
    """Yield a database with the flights: the one at `url`, or an embedded one that is gone afterwards."""
    if url is not None:
        yield Database(url)
        return
    with tempfile.TemporaryDirectory(prefix="gn-pg-") as data:
        Path(data).chmod(0o755)  # as root, PostgreSQL runs as another user
        try:
            server = postgres.start(Path(data) / "data", superuser_password=PASSWORD, options={"fsync": "off"})
            url = server.url("postgres", postgres.SUPERUSER, PASSWORD)
            flights.load(url)
            yield Database(url)
        finally:
            postgres.stop(Path(data) / "data", mode="immediate")


def _write_frame(db: Database, folder: ModelFolder, path: Path) -> Signature:
    """Write the rows of the demo's snapshot, by the model's own queries, each window with its own as_of."""
    found = inspect_folder(db, folder)
    signature = Signature(key=found.key, features=found.features, label=found.label)
    features = AuthorQuery("features.sql", folder.text("features.sql")).sql()
    labels = AuthorQuery("labels.sql", folder.text("labels.sql")).sql("labels_")
    keys = ", ".join(column.name for column in found.key)
    query = f"SELECT * FROM (\n{features}\n) AS f JOIN (\n{labels}\n) AS l USING ({keys}) ORDER BY {keys}"
    spec, frames = folder.spec, []
    with db.begin() as connection:
        for window in matured_windows(spec.window, as_of=AS_OF, count=spec.training.windows):
            of_labels = prefixed({**window.parameters(), "as_of": AS_OF}, "labels_")
            rows = connection.exec_driver_sql(query, {**window.parameters(), **of_labels})
            frames.append(pd.DataFrame(rows.all(), columns=list(rows.keys())))
    pq.write_table(pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False), path)
    return signature


@cache
def _folder() -> ModelFolder:
    return get_folder(models_root(), MODEL)


@cache
def _frame(path: Path) -> pa.Table:
    """Return the rows; read once per process."""
    return pq.read_table(path)


# ---------------------------------------------------------------- one resplit


def _run(job: Job, resplits: int, jobs: int) -> list[Result]:
    """Return the comparisons of all resplits; of those that are done, when interrupted (Ctrl-C)."""
    results: list[Result] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_ignore_interrupts) as pool:
        asked = [pool.submit(resplit, job, number) for number in range(resplits)]
        try:
            for done, one in enumerate(as_completed(asked), start=1):
                results += one.result()
                if done % 10 == 0 or done == resplits:
                    print(f"  {done} of {resplits} resplits", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("Interrupted: the tables hold the resplits that are done.", file=sys.stderr, flush=True)
            for name in (signal.SIGINT, signal.SIGTERM):
                signal.signal(name, signal.SIG_IGN)  # the rest is short
            for one in asked:
                one.cancel()
    return results


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches every process of the terminal, to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def resplit(job: Job, number: int) -> list[Result]:
    """Return the comparisons of resplit `number`: with the equal model, then with one per gap."""
    table, draws = _frame(job.frame), np.random.default_rng([job.seed, number])
    order = draws.permutation(table.num_rows)
    fitting, unseen = order[: job.rows], order[job.rows : job.rows + job.holdout_rows + POOL_ROWS]
    rows, labels = table.take(pa.array(unseen)), table.column("label").to_numpy()
    features = to_frame(table.take(pa.array(fitting)), job.signature.features)
    candidate, other = (
        _fitted(job, features, labels[fitting], seed=int(draws.integers(2**31)), rows=rows) for _ in range(2)
    )
    happened, noise = labels[unseen], draws.standard_normal(len(unseen))
    champions = {EQUAL: other}
    for gap in job.gaps:
        champions[gap] = _worse(candidate, happened, gap, noise, pool=slice(job.holdout_rows, None))
    return _judged(job, rows, happened, candidate, champions)


def _fitted(job: Job, features: pd.DataFrame, labels: np.ndarray, *, seed: int, rows: pa.Table) -> np.ndarray:
    """Return what the model's estimator, made stochastic and fitted with `seed`, says of `rows`: shape (n,)."""
    text = _folder().text("estimator.py")
    estimator = load_estimator(text, model=MODEL, task="binary").set_params(random_state=seed)
    if job.variant == "features":
        estimator.set_params(max_features=0.5)
    else:
        drawn = np.random.default_rng(seed).integers(0, len(labels), len(labels))
        features, labels = features.iloc[drawn], labels[drawn]
    estimator.fit(features, labels)
    score = predict(estimator, rows, job.signature, OUTPUT).score
    assert score is not None
    return score


def _worse(score: np.ndarray, labels: np.ndarray, gap: float, noise: np.ndarray, *, pool: slice) -> np.ndarray:
    """Return the scores with so much noise on their logits that their ROC AUC on the pool is lower by `gap`."""
    sure, wanted = logit(score), roc_auc_score(labels[pool], score[pool]) - gap
    low, high = 0.0, 4.0
    for _ in range(14):
        middle = (low + high) / 2
        enough = roc_auc_score(labels[pool], (sure + middle * noise)[pool]) <= wanted
        low, high = (low, middle) if enough else (middle, high)
    return expit(sure + high * noise)


def _judged(
    job: Job, rows: pa.Table, labels: np.ndarray, candidate: np.ndarray, champions: dict[float, np.ndarray]
) -> list[Result]:
    """Ask the real gate about the candidate beside each champion; all on the same resamples of the holdout."""
    spec, size = _folder().spec, job.holdout_rows
    # Of the rules, only the one that holds the candidate against the champion: that is what is measured here.
    gate = Gate(metric=spec.gate.metric, minimum=0.0, beats_baseline=False, champion_margin=spec.gate.champion_margin)
    spec = spec.model_copy(update={"gate": gate})
    numbers = {gap: number for number, gap in enumerate(champions, start=1)}
    subjects = {champion_subject(numbers[gap]): _said(score[:size]) for gap, score in champions.items()}
    holdout = rows.slice(0, size)
    part = Part(rows=holdout, features=to_frame(holdout, job.signature.features), labels=labels[:size])
    figures = compare(spec, OUTPUT, part, {CANDIDATE: _said(candidate[:size]), **subjects})
    by_name = {(m.subject, m.slice, m.name): m for m in figures}
    results = []
    for gap, score in champions.items():
        champion = Champion(version=numbers[gap], state="measured")
        verdict = decide(spec, model=MODEL, version=len(numbers) + 1, figures=by_name, champion=champion)
        figure = by_name[difference_subject(champion_subject(numbers[gap])), "", gate.metric].figure
        [outcome] = [rule.evidence["outcome"] for rule in verdict.rules if "against champion" in rule.rule]
        on_pool = roc_auc_score(labels[size:], candidate[size:]) - roc_auc_score(labels[size:], score[size:])
        results.append(Result(gap=gap, figure=figure, on_pool=on_pool, outcome=outcome, promoted=verdict.passed))
    return results


def _said(score: np.ndarray) -> Predictions:
    return as_predictions(OUTPUT, np.column_stack([1 - score, score]))


# ---------------------------------------------------------------- tables


def _report(spec: ModelSpec, job: Job, results: list[Result]) -> None:
    tallies = [Tally(gap=gap, results=[r for r in results if r.gap == gap]) for gap in (EQUAL, *job.gaps)]
    evaluation, margin = spec.evaluation, spec.gate.champion_margin
    named = f"{MARGIN_SHARE:.1%} of the champion's" if margin is None else f"{margin:g}"
    drawn = {"features": "half of the features", "rows": "a bootstrap of the rows"}[job.variant]
    print(
        f"{len(tallies[0].results)} resplits: {job.rows} rows fit, {job.holdout_rows} measure; "
        f"equal models draw {drawn} by their seed;\n"
        f"confidence {evaluation.confidence:g}, {evaluation.resamples} resamples, champion_margin {named}\n"
    )
    print(tabulate([_row(t) for t in tallies], headers="keys", disable_numparse=True))
    _print_equal(tallies[0])


def _row(tally: Tally) -> dict[str, str]:
    told = [r.outcome for r in tally.results]
    widths = [r.figure.high - r.figure.low for r in tally.results if r.figure.low is not None and r.figure.high]
    return {
        "champion": "equal" if tally.gap == EQUAL else f"worse by {tally.gap:g}",
        "gate promotes": _percent(tally.share(lambda r: r.promoted)),
        "naive rule promotes": _percent(tally.share(lambda r: r.figure.value > 0)),
        "better": _percent(told.count("better") / len(told)),
        "indistinguishable": _percent(told.count("indistinguishable") / len(told)),
        "worse": _percent(told.count("worse") / len(told)),
        "mean difference": f"{np.mean([r.figure.value for r in tally.results]):+.4f}",
        "mean interval width": f"{np.mean(widths):.4f}",
    }


def _print_equal(tally: Tally) -> None:
    got, on_pool = (np.array([getattr(r, name) for r in tally.results]) for name in ("figure", "on_pool"))
    got = np.array([figure.value for figure in got])
    # Holdout and pool share no row, so what their differences have in common is that of the models.
    common = float(np.cov(got, on_pool.astype(float))[0, 1]) if len(got) > 1 else 0.0
    print(f"\nEqual models: NOT promoted {_percent(tally.share(lambda r: not r.promoted))}")
    print(
        f"  candidate minus champion: standard deviation {got.std():.5f} on the holdout; "
        f"of which the models really differ {max(common, 0.0) ** 0.5:.5f}"
    )
    rows = []
    for margin in MARGINS:
        told = [outcome_of(r.figure, higher_is_better=True, margin=margin) for r in tally.results]
        rows.append((f"{margin:g}", _percent(1 - told.count("better") / len(told))))
    print(tabulate(rows, headers=["champion_margin", "equal models not promoted"], disable_numparse=True))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
