"""How fast is `./ponte predict`, and how much memory does it take? Beside pandas and joblib by hand, in one run.

- Ponte: `offline.files.predict_rows`, from CSV to CSV, in a process of its own; loading the version does not count.
- by hand: `pandas.read_csv`, `predict_proba` and `to_csv` of all rows at once; and of chunks of 65,536 rows.

Rows per second of wall time, and the peak resident memory of the process. The version is trained in a private server on
the shop of the tests; the file holds its visits, over and over.

    PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.offline --rows 5000000

Not collected by pytest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLUMNS = ("visit_id", "shop", "items", "price", "distance", "member", "shop_rate")
CHUNK = 65_536


def make(folder: Path, rows: int) -> None:
    """Train a version and write rows.csv, in a process of its own."""
    import numpy as np
    import pandas as pd
    from tests.conftest import Cluster
    from tests.sample_model import World, load_visits, write_model
    from upath import UPath

    from ponte.exchange.exporting import export_version
    from ponte.schema import provision
    from ponte.storage.artifacts import ArtifactStore
    from ponte.storage.database import Database

    cluster = Cluster(folder / "server")
    try:
        with cluster.database() as (_, url):
            provision.upgrade(url)
            db, store = Database(url), ArtifactStore(UPath(folder / "artifacts"))
            load_visits(db)
            (folder / "models").mkdir()
            world = World(db=db, store=store, folder=write_model(folder / "models"))
            version = world.train(run_id="bench").version
            export_version(db, store, version, folder / "version", mlflow=False)
            visits = pd.DataFrame(
                world.rows("SELECT visit_id, shop, items, price::float8, distance, member, 0.5 FROM shop.visit"),
                columns=list(COLUMNS),
            )
            import pickle

            (folder / "row.pickle").write_bytes(pickle.dumps(version))
    finally:
        cluster.stop()
    for first in range(0, rows, len(visits)):
        part = visits.head(rows - first).assign(visit_id=np.arange(first, min(first + len(visits), rows)))
        part.to_csv(folder / "rows.csv", mode="a", header=not first, index=False)


def ponte(folder: Path) -> float:
    """Predict as the command does; return the seconds."""
    import datetime as dt
    import io
    import pickle

    from upath import UPath

    from ponte.offline.files import predict_rows
    from ponte.offline.source import open_source
    from ponte.offline.writing import Output
    from ponte.storage.artifacts import ArtifactStore
    from ponte.versions.loading import load_version

    version = pickle.loads((folder / "row.pickle").read_bytes())  # noqa: S301 - written by `make`
    loaded = load_version(ArtifactStore(UPath(folder / "artifacts")), version)
    began = time.perf_counter()
    with open_source(str(folder / "rows.csv"), io.BytesIO(), delimiter=",") as source:
        counts = predict_rows(
            loaded,
            source,
            Output(folder / "ponte.csv"),
            Output(folder / "rejected.csv"),
            now=dt.datetime.now(dt.UTC),
        )
    assert counts.rejected == 0
    return time.perf_counter() - began


def by_hand(folder: Path, chunk: int | None = None) -> float:
    """Predict as somebody would who has the file and the pickle."""
    import sys

    import pandas as pd

    sys.path.insert(0, str(folder / "version"))
    import predict

    model = predict.load(folder / "version").estimator
    began = time.perf_counter()
    frames = pd.read_csv(folder / "rows.csv", chunksize=chunk) if chunk else [pd.read_csv(folder / "rows.csv")]
    with (folder / "hand.csv").open("w") as target:
        for number, frame in enumerate(frames):
            frame["member"] = frame["member"].astype(float)
            frame["prediction"] = model.predict(frame)
            frame["score"] = model.predict_proba(frame)[:, 1]
            frame[["visit_id", "prediction", "score"]].to_csv(target, header=not number, index=False)
    return time.perf_counter() - began


def in_chunks(folder: Path) -> float:
    """Do it in chunks."""
    return by_hand(folder, CHUNK)


def measured(way: Callable[[Path], float], folder: Path, queue: Any) -> None:
    """Put seconds and peak memory of a way on the queue."""
    seconds = way(folder)
    queue.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    """Print a line of JSON per way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="ponte-bench-") as name:
        folder = Path(name)
        maker = context.Process(target=make, args=(folder, rows))
        maker.start()
        maker.join()
        assert maker.exitcode == 0
        for way in (ponte, by_hand, in_chunks):
            queue = context.Queue()
            worker = context.Process(target=measured, args=(way, folder, queue))
            worker.start()
            seconds, peak = queue.get()
            worker.join()
            said = {"way": way.__name__, "rows": rows, "seconds": round(seconds, 2)}
            print(json.dumps({**said, "rows_per_second": round(rows / seconds), "peak_mb": round(peak)}), flush=True)


if __name__ == "__main__":
    main()
