"""How fast does Ponte score? Beside two ways to do it by hand, and beside the least that any way has to do.

- naive: pandas.read_sql, predict, DataFrame.to_sql, all with their defaults; the first 50 000 rows. SQLAlchemy takes
  psycopg 3 for a plain postgresql:// URL; the same with psycopg2 stands beside it.
- by hand: COPY to CSV, read_csv, predict_proba, to_csv, COPY from CSV; all rows, or the first 5 million.
- Ponte: `scoring.score_shard`, the inner function of the score task, for all shards of a frozen batch, with one worker
  process and with two.
- floor: CPU seconds of binary COPY out to nowhere, of predict_proba on frames in memory, and of COPY in from memory,
  divided by the number of cores; the first 5 million rows.

Process start and imports count nowhere; connections, and for Ponte verifying and loading the version, do.

    PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.scoring --rows 1000000 --estimator logistic

Not collected by pytest. The server is a private one in the temporary folder and is gone afterwards.
"""

from __future__ import annotations

import os

# As in the environment of tasks, before anything loads OpenMP: its threads spin while they wait.
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import argparse
import json
import logging
import multiprocessing
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tests.bench import scoring_cases as cases
from tests.bench import scoring_floor, scoring_profile, scoring_ways
from tests.bench.scoring_ways import CORES, Flow
from tests.sample_model import World

from ponte.scoring.plan import plan_shards

SIZES = (1_000_000, 5_000_000, 20_000_000)
WORKERS = (1, 2)
STEPS = ("freeze", "check", "plan", "score", "guard", "publish")
_BEGIN = time.monotonic()

Result = dict[str, Any]


def main() -> int:
    """Print the tables and write the file; return 0."""
    options = _options()
    logging.disable(logging.WARNING)
    for name in (signal.SIGINT, signal.SIGTERM):  # so that the server is stopped and its data are removed
        signal.signal(name, signal.default_int_handler)
    load, results = os.getloadavg()[0], []
    with cases.private_server() as server:
        for rows in options.rows:
            _say(f"{rows} rows: making the table")
            with cases.events(server, rows) as db:
                for estimator in options.estimator:
                    _say(f"{rows} rows, {estimator}: training")
                    with cases.trained(server, db, estimator, options.shard_rows) as world:
                        if options.profile:
                            print(f"\n{rows} rows, {estimator}\n{_profile(server, world)}", flush=True)
                            continue
                        results.append(_measure(server, world, rows) | {"load_average": load})
                        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if results:
        _report(results)
        print(f"\nAll figures: {options.json}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="rows to score (1, 5 and 20 million)")
    parser.add_argument(
        "--estimator", nargs="+", choices=cases.ESTIMATORS, default=cases.ESTIMATORS, help="which models (all)"
    )
    parser.add_argument("--shard-rows", type=int, default=1_000_000, help="rows per shard (1000000)")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="(bench.json)")
    parser.add_argument("--profile", action="store_true", help="instead: where the time of the first shard goes")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"{time.monotonic() - _BEGIN:7.1f} s  {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- measuring


def _measure(server: cases.Server, world: World, rows: int) -> Result:
    """Return all figures of one case."""
    case = f"{rows} rows, {world.folder.name}"
    flows = []
    for workers in WORKERS:
        _say(f"{case}: Ponte, {workers} worker{'s'[: workers > 1]}")
        flows.append(scoring_ways.run_flow(server, world, rows, workers))
    loaded = scoring_ways.load(world)
    server.execute("CHECKPOINT")
    _say(f"{case}: naive")
    naive = scoring_ways.naive(world, loaded, rows, "postgresql")
    naive_psycopg2 = scoring_ways.naive(world, loaded, rows, "postgresql+psycopg2")
    _say(f"{case}: by hand")
    hand_rows, hand = scoring_ways.handwritten(world, loaded)
    least = scoring_floor.floor(
        world, loaded, min(rows, cases.SAMPLE_ROWS), progress=lambda text: _say(f"{case}: {text}")
    )
    best = max(flows, key=lambda flow: flow.rows_per_s)
    return {
        "rows": rows,
        "estimator": world.folder.name,
        "cores": CORES,
        "naive_rows_per_s": naive,
        "naive_psycopg2_rows_per_s": naive_psycopg2,
        "handwritten_rows_per_s": hand,
        "handwritten_rows": hand_rows,
        "ponte_rows_per_s": best.rows_per_s,
        "ponte_workers": best.workers,
        "floor_rows_per_s": least.rows_per_s,
        "floor_rows": least.rows,
        "floor_cpu_s": {"copy_out": least.copy_out, "predict_proba": least.predict_proba, "copy_in": least.copy_in},
        "ponte_to_naive": best.rows_per_s / naive,
        "ponte_to_handwritten": best.rows_per_s / hand,
        "ponte_to_floor": best.rows_per_s / least.rows_per_s,
        "peak_rss_mib": max(flow.peak_rss for flow in flows) / 1024,
        **{name: value for flow in flows for name, value in _of_flow(flow).items()},
    }


def _of_flow(flow: Flow) -> Result:
    """Return the figures of one run of the flow, each name with the number of workers."""
    figures = {
        "ponte_rows_per_s": flow.rows_per_s,
        "seconds": flow.seconds,
        "share": flow.share,
        "guard_share": flow.seconds["guard"] / flow.seconds["score"],
        "worker_cpu_s": flow.worker_cpu,
        "server_cpu_s": flow.server_cpu,
        "other_cpu_s": flow.other_cpu,
        "start_rss_mib": flow.start_rss / 1024,
        "peak_rss_mib": flow.peak_rss / 1024,
        "shards": flow.shards,
    }
    suffix = f"{flow.workers}_worker{'s'[: flow.workers > 1]}"
    return {f"{name}_{suffix}": value for name, value in figures.items()}


def _profile(server: cases.Server, world: World) -> str:
    """Return where the time of the first shard goes, scored alone in a fresh process."""
    batch = world.freeze(run_id="profile")
    world.check(batch.batch_id)
    shards = plan_shards(world.db, world.folder, batch.batch_id)
    job = scoring_ways.job_of(world, batch, workers=1)
    before = server.cpu_seconds()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        table = pool.submit(scoring_profile.profile, job, shards[0]).result()
    return f"{table}\nThe server used CPU for {server.cpu_seconds() - before:.2f} s"


# ---------------------------------------------------------------- tables


def _report(results: list[Result]) -> None:
    print(f"\nRows per second, {CORES} cores")
    print(tabulate([_speed(r) for r in results], headers="keys", disable_numparse=True, stralign="right"))
    print("* of the first 5 million rows. Ratios are those of the better of 1 and 2 workers. naive: of 50 000 rows.")
    print("\nSeconds per step, and what the others are to scoring")
    rows = [_seconds(r, suffix) for r in results for suffix in ("1_worker", "2_workers")]
    print(tabulate(rows, headers="keys", disable_numparse=True, stralign="right"))
    print("CPU: seconds while scoring. Of others: the rest of the machine; unless it is little, speeds are too low.")
    print("\nCPU seconds of the floor")
    print(tabulate([_floor(r) for r in results], headers="keys", disable_numparse=True, stralign="right"))


def _case(result: Result) -> dict[str, str]:
    return {"rows": f"{result['rows']:,}", "estimator": result["estimator"]}


def _speed(result: Result) -> dict[str, str]:
    def part(rows: str) -> str:
        return "*" if result[rows] < result["rows"] else ""

    return {
        **_case(result),
        "naive": f"{result['naive_rows_per_s']:,.0f}",
        "naive, psycopg2": f"{result['naive_psycopg2_rows_per_s']:,.0f}",
        "by hand": f"{result['handwritten_rows_per_s']:,.0f}{part('handwritten_rows')}",
        "Ponte, 1 worker": f"{result['ponte_rows_per_s_1_worker']:,.0f}",
        "2 workers": f"{result['ponte_rows_per_s_2_workers']:,.0f}",
        "floor": f"{result['floor_rows_per_s']:,.0f}{part('floor_rows')}",
        "Ponte/naive": f"{result['ponte_to_naive']:.1f}",
        "/by hand": f"{result['ponte_to_handwritten']:.2f}",
        "/floor": f"{result['ponte_to_floor']:.2f}",
        "peak RSS, MiB": f"{result['peak_rss_mib']:.0f}",
    }


def _seconds(result: Result, suffix: str) -> dict[str, str]:
    seconds = result[f"seconds_{suffix}"]
    return {
        **_case(result),
        "workers": suffix[0],
        **{step: f"{seconds[step]:.2f}" for step in STEPS},
        "freeze+check+publish": f"{result[f'share_{suffix}']:.0%}",
        "guard/score": f"{result[f'guard_share_{suffix}']:.0%}",
        "CPU workers": f"{result[f'worker_cpu_s_{suffix}']:.2f}",
        "CPU server": f"{result[f'server_cpu_s_{suffix}']:.2f}",
        "CPU others": f"{result[f'other_cpu_s_{suffix}']:.2f}",
        "RSS before → peak": f"{result[f'start_rss_mib_{suffix}']:.0f} → {result[f'peak_rss_mib_{suffix}']:.0f}",
    }


def _floor(result: Result) -> dict[str, str]:
    spent = {name.replace("_", " "): f"{seconds:.2f}" for name, seconds in result["floor_cpu_s"].items()}
    return {**_case(result), "of rows": f"{result['floor_rows']:,}", **spent}


if __name__ == "__main__":
    sys.exit(main())
