"""What counting, and estimating quality, add to scoring: seconds, CPU seconds and memory, in turns on the same rows.

Each figure is that of a fresh process that scores the whole batch, with one worker; the least of `--repeat` turns,
since what others do on the machine only adds. Process start and imports count nowhere.

    PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.counting --rows 1000000 5000000

Not collected by pytest. The server is a private one in the temporary folder and is gone afterwards.
"""

from __future__ import annotations

import os

# As in the environment of tasks, before anything loads OpenMP: its threads spin while they wait.
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import argparse
import itertools
import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from unittest.mock import patch

from tabulate import tabulate
from tests.bench import scoring_cases as cases
from tests.bench.scoring_ways import Job, Worked, job_of, work
from tests.sample_model import World

from ponte.counting import reference
from ponte.counting.bins import FAMILIES
from ponte.model.spec import ModelSpec
from ponte.scoring.plan import Shard, plan_shards

_RUNS = itertools.count(1)
MODES = ("without", "counts", "counts and estimates")


def main() -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=(1_000_000, 5_000_000))
    parser.add_argument("--estimator", nargs="+", choices=cases.ESTIMATORS, default=cases.ESTIMATORS)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    lines = []
    with cases.private_server() as server:
        for rows in options.rows:
            with cases.events(server, rows) as db:
                for estimator in options.estimator:
                    with cases.trained(server, db, estimator, 1_000_000) as world:
                        lines += _lines(rows, estimator, _turns(server, world, options.repeat))
    headers = ("rows", "estimator", "", "seconds", "CPU seconds", "more CPU", "of that without", "peak RSS, MiB")
    print(tabulate(lines, headers=headers, disable_numparse=True, colalign=("right", "left", "left") + ("right",) * 5))
    return 0


def _lines(rows: int, estimator: str, turns: dict[str, list[Worked]]) -> list[tuple[str, ...]]:
    cpu = {mode: min(w.cpu for w in turns[mode]) for mode in MODES}
    return [
        (
            f"{rows:,}",
            estimator,
            mode,
            f"{min(w.end - w.begin for w in turns[mode]):.2f}",
            f"{cpu[mode]:.2f}",
            f"{cpu[mode] - cpu['without']:.2f}",
            f"{cpu[mode] / cpu['without'] - 1:.1%}",
            f"{max(w.peak_rss for w in turns[mode]) / 1024:.0f}",
        )
        for mode in MODES
    ]


def _turns(server: cases.Server, world: World, repeat: int) -> dict[str, list[Worked]]:
    """Return what each turn took, the modes one after the other."""
    found: dict[str, list[Worked]] = {mode: [] for mode in MODES}
    for _ in range(repeat):
        for mode in MODES:
            batch = world.freeze(run_id=f"turn {next(_RUNS)}")
            world.check(batch.batch_id)
            shards = plan_shards(world.db, world.folder, batch.batch_id)
            server.execute("CHECKPOINT")
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                job = job_of(world, batch, workers=1)
                found[mode].append(pool.submit(_work, mode, job, shards).result())
            world.guard(batch.batch_id)
            world.publish(batch.batch_id)
            world.clean(batch.batch_id)
    return found


def _work(mode: str, job: Job, shards: Sequence[Shard]) -> Worked:
    if mode == "counts and estimates":
        return work(job, shards)
    with patch.object(ModelSpec, "estimates", new=False):
        if mode == "counts":
            return work(job, shards)
        with patch.object(reference, "read_bins", lambda *_: dict.fromkeys(FAMILIES, ())):
            return work(job, shards)


if __name__ == "__main__":
    raise SystemExit(main())
