"""Labels 0 to 12 weeks late, in shuffled order, some corrected or taken back: is `ponte.quality` what pandas computes?

    PYTHONPATH=plugins:. .venv/bin/python tests/bench/late_labels.py --weeks 24 --seeds 5

Plays the shop of the tests: one window, whose labels reach the source in shuffled order over twelve weeks. The monitor
runs daily, and in a second world only now and then. At three moments all figures of each maturity, with those of the
slices, are held against scikit-learn on the events themselves. Prints one line per seed; ends with status 1 when
anything differs.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from tests.sample_model import WEEK, World

from ponte.model.windows import midnight

END = midnight(WEEK) + dt.timedelta(days=7)
MATURITIES = (7, 28, 84)
SLICE_ROWS = 30
BOTH = [0, 1]
SETTINGS = f'slices = ["shop", "items"]\nslice_rows = {SLICE_ROWS}\n'
#: Labels are read until after the last look.
MONITORING = "[monitoring]\ncorrections_days = 365\n"
#: Share of the visits whose label is corrected, taken back, known to the source without its moment, never there.
CORRECTED, TAKEN_BACK, WITHOUT_MOMENT, NEVER = 0.15, 0.1, 0.1, 0.05
#: Figure → how scikit-learn computes it, and of which column.
FIGURES: dict[str, tuple[Callable[[pd.Series, pd.Series], float], str]] = {
    "roc_auc": (lambda y, s: metrics.roc_auc_score(y, s) if y.nunique() == len(BOTH) else np.nan, "score"),
    "average_precision": (lambda y, s: metrics.average_precision_score(y, s) if y.any() else np.nan, "score"),
    "brier": (metrics.brier_score_loss, "score"),
    "log_loss": (lambda y, s: metrics.log_loss(y, s, labels=BOTH), "score"),
    "accuracy": (metrics.accuracy_score, "prediction"),
    "precision": (lambda y, p: metrics.precision_score(y, p, zero_division=0), "prediction"),
    "recall": (lambda y, p: metrics.recall_score(y, p, zero_division=0), "prediction"),
    "f1": (lambda y, p: metrics.f1_score(y, p, zero_division=0), "prediction"),
}

# The source is what has arrived by the clock; it keeps the newest state of each visit only.
_SOURCE = """
ALTER TABLE shop.visit RENAME TO visits;
CREATE TABLE shop.clock (at timestamptz NOT NULL);
INSERT INTO shop.clock VALUES ('2024-01-01');
CREATE TABLE shop.event (visit_id bigint, label boolean, labelled_at timestamptz, arrived_at timestamptz);
CREATE VIEW shop.visit AS
    SELECT v.visit_id, v.day, v.shop, v.items, v.price, v.distance, v.member, e.label AS returned, v.spent,
           e.labelled_at AS known_at
    FROM shop.visits v JOIN LATERAL (
        SELECT label, labelled_at FROM shop.event e, shop.clock
        WHERE e.visit_id = v.visit_id AND arrived_at <= clock.at ORDER BY arrived_at DESC LIMIT 1
    ) e ON true
"""


def day(number: float) -> dt.datetime:
    """Return the moment so many days after the end of the window."""
    return END + dt.timedelta(days=number)


def events(world: World, seed: int) -> pd.DataFrame:
    """Return what happens at the source; no label: it is taken back, no labelled_at: the source does not say when."""
    draws = np.random.default_rng(seed)
    query = "SELECT visit_id, returned FROM shop.visit WHERE day >= :week AND day < :week + 7 ORDER BY visit_id"
    found = []
    for visit, label in world.rows(query, week=WEEK):
        kind = draws.random()
        if kind < NEVER:
            continue
        labelled = day(float(draws.uniform(-7, 84)))
        arrived = labelled + dt.timedelta(days=float(draws.exponential(5)))
        moment = None if draws.random() < WITHOUT_MOMENT else labelled
        found.append((visit, label, moment, arrived))
        if kind < NEVER + CORRECTED:
            later = arrived + dt.timedelta(days=float(draws.uniform(0, 40)))
            found.append((visit, not label, None if moment is None else later, later))
        elif kind < NEVER + CORRECTED + TAKEN_BACK:
            found.append((visit, None, moment, arrived + dt.timedelta(days=float(draws.uniform(0, 40)))))
    frame = pd.DataFrame(found, columns=["visit_id", "label", "labelled_at", "arrived_at"])
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def open_source(world: World, happened: pd.DataFrame) -> None:
    """Let the source be what has happened by a clock."""
    with world.db.begin() as connection:
        connection.exec_driver_sql(_SOURCE)
    for row in happened.astype(object).where(happened.notna(), None).itertuples(index=False):
        world.execute("INSERT INTO shop.event VALUES (:visit_id, :label, :labelled_at, :arrived_at)", **row._asdict())


def monitor(world: World, now: dt.datetime) -> None:
    """Set the clock, read and measure."""
    world.execute("UPDATE shop.clock SET at = :now", now=now)
    world.monitor(now=now)


def truth(
    predictions: pd.DataFrame, happened: pd.DataFrame, runs: Sequence[dt.datetime], at: dt.datetime
) -> Iterator[tuple[tuple[Any, ...], float, int]]:
    """Yield ((maturity, metric, column, value), figure, labelled rows), as known at `at`, one of the runs."""
    arrived = happened[happened.arrived_at <= at].sort_values("arrived_at", kind="stable")
    last = arrived.groupby("visit_id").tail(1).set_index("visit_id")
    # Where the source does not say when, it is the run that first saw this label.
    seen = [min(run for run in runs if run >= moment) for moment in last.arrived_at]
    known = last.labelled_at.where(last.labelled_at.notna(), pd.Series(seen, index=last.index, dtype=object))
    good = last.assign(known=known)[last.label.notna()]
    joined = predictions.join(good[["label", "known"]], how="inner")
    for days in MATURITIES:
        counted = joined[[moment < day(days) for moment in joined.known]]
        groups: list[tuple[str, str, pd.DataFrame]] = [("", "", counted)]
        for column in ("shop", "items"):
            groups += [(column, str(v), g) for v, g in counted.groupby(column) if len(g) >= SLICE_ROWS]
        for column, value, group in groups:
            label = group.label.astype(int)
            for name, (figure, column_of) in FIGURES.items():
                found = figure(label, group[column_of]) if len(group) else np.nan
                yield (days, name, column, value), found, len(group)


def differences(world: World, happened: pd.DataFrame, runs: Sequence[dt.datetime], at: dt.datetime) -> list[str]:
    """Return where `ponte.quality_at` is not the truth at a moment."""
    query = (
        "SELECT p.visit_id, prediction, score, coalesce(v.shop, 'NULL') AS shop, "
        "coalesce(v.items::text, 'NULL') AS items FROM predictions.visits p JOIN shop.visits v USING (visit_id)"
    )
    columns = ["visit_id", "prediction", "score", "shop", "items"]
    predictions = pd.DataFrame(world.rows(query), columns=columns).set_index("visit_id")
    newest = "(SELECT max(batch_id) FROM ponte.batch)"
    figures = world.rows(
        "SELECT maturity_days, metric, slice_column, slice_value, value, labelled_rows, final FROM "
        f"ponte.quality_at('visits', :at) WHERE batch_id = {newest} AND metric = ANY(:names)",
        at=at,
        names=list(FIGURES),
    )
    got = {tuple(row[:4]): row[4:] for row in figures}
    expected = {cell: (value, rows) for cell, value, rows in truth(predictions, happened, runs, at)}
    wrong = [f"{at:%Y-%m-%d} {cell}: only one of both" for cell in got.keys() ^ expected.keys()]
    for cell in got.keys() & expected.keys():
        (value, rows), (found, labelled, final) = expected[cell], got[cell]
        same = found is None if np.isnan(value) else found is not None and abs(found - value) < 1e-12
        if not same or rows != labelled or final != (at >= day(cell[0])):
            wrong.append(f"{at:%Y-%m-%d} {cell}: {found} of {labelled} rows, final {final}; expected {value} of {rows}")
    return wrong


def replay(world: World, seed: int, runs: Sequence[dt.datetime], looks: Sequence[dt.datetime]) -> list[str]:
    """Play the labels of one seed through the monitor; return what differs as of each of `looks`, which are runs."""
    sliced = world.with_model(evaluation=SETTINGS, checks=MONITORING, resamples=100)
    sliced.run(run_id="with slices")
    happened = events(sliced, seed)
    open_source(sliced, happened)
    for now in runs:
        monitor(sliced, now)
    return [text for at in looks for text in differences(sliced, happened, runs, at)]


def main() -> int:
    """Play every seed daily and now and then."""
    from tests.conftest import Cluster
    from tests.sample_model import load_visits, write_model
    from upath import UPath

    from ponte.schema import provision
    from ponte.storage.artifacts import ArtifactStore
    from ponte.storage.database import Database

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=17)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    looks = [day(10), day(40), day(asked.weeks * 7)]
    daily = sorted({*(day(n) for n in range(1, asked.weeks * 7 + 1)), *looks})
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Cluster(folder / "server")
        try:
            for seed in range(asked.seeds):
                for way, runs in (("daily", daily), ("three times", looks)):
                    with server.database() as (_, url):
                        provision.upgrade(url)
                        own = folder / f"{seed} {way}"
                        (own / "models").mkdir(parents=True)
                        load_visits(Database(url))
                        store = ArtifactStore(UPath(own / "artifacts"))
                        world = World(db=Database(url), store=store, folder=write_model(own / "models"))
                        world.train(run_id="first")
                        begin = dt.datetime.now(dt.UTC)
                        wrong = replay(world, seed, runs, looks)
                        cells = world.ask("SELECT count(*) FROM ponte.realised")
                        seconds = (dt.datetime.now(dt.UTC) - begin).total_seconds()
                    print(f"seed {seed}, {way}: {len(wrong)} differences, {cells} figures, {seconds:.0f} s", flush=True)
                    print("\n".join(wrong[:5]), end="\n" * bool(wrong))
                    failed += len(wrong)
        finally:
            server.stop()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
