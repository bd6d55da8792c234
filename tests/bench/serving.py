"""How fast does the API answer? Beside Flask and gunicorn, in one run, on the same cores as the generator.

- closed: 64 connections, and one: requests per second, CPU milliseconds per request, p50 and p99.
- open: 200 and 1,000 requests per second at random moments; Flask only where it can keep up.
- swap: p99 within two seconds of a change of the champion, beside that of quiet times.
- kept: CPU of the API with and without keeping what it answers, and of PostgreSQL for it.
- memory: of the API with three models.
- storm: a minute of load with a promotion, a rollback and a restart of the database: errors, versions seen, and whether
  rows kept and rows said to be dropped are together what was answered.
- queue: `tests.bench.queue`.

Flask has two workers, one thread of OpenMP each, joblib and a DataFrame of one row; the API one process, keys, metrics
and what it keeps. Each figure is the median of `--rounds`, in turns: Flask, API, Flask, API.

    make bench-serving
    make bench-serving ARGS='--part closed memory --seconds 5'

Not collected by pytest. The server is a private one, with the settings of `make up`, and is gone afterwards.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import argparse
import datetime as dt
import json
import logging
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import joblib
import psutil
from tests.bench import load as loads
from tests.bench import scoring_cases as cases
from tests.bench import serving_table
from tests.bench.serving_table import COMPARED, CONNECTIONS, Figures
from tests.sample_model import World, run_named
from upath import UPath

from ponte.access.keys import create_key
from ponte.decisions import rollback
from ponte.embedded import cluster, postgres
from ponte.model.folders import get_folder
from ponte.schema import provision, roles
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.versions import registry
from ponte.versions.loading import load_registered

PASSWORD = "bench"  # noqa: S105 - of a server that listens on a private unix socket only
#: Name of the model folder → estimator.
MODELS = {"logistic": "logistic", "trees": "hgb", "third": "logistic"}
PARTS = (*serving_table.ROWS, "queue")
GUNICORN = Path(sys.prefix) / "gunicorn"
#: Seconds after a change of the champion that count as during it.
CHANGE = 2.0
STORM_RATE, STORM_SECONDS = 200, 60
_BEGIN = time.monotonic()


def main() -> int:
    """Print the tables and write the file; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (8)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of which the median counts (3)")
    parser.add_argument("--json", type=Path, default=Path("bench-serving.json"), metavar="FILE")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for name in (signal.SIGINT, signal.SIGTERM):  # so that the server is stopped and its data are removed
        signal.signal(name, signal.default_int_handler)
    figures: Figures = {"load_average": os.getloadavg()[0], "cores": os.cpu_count(), "rounds": options.rounds}
    mine = [part for part in options.part if part != "queue"]
    if mine:
        with Bench.prepared(options) as bench:
            for part in mine:
                say(part)
                figures[part] = getattr(bench, f"measure_{part}")()
                options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(serving_table.report(figures), flush=True)
    if "queue" in options.part:
        for estimator in cases.ESTIMATORS:
            say(f"queue, {estimator}")
            command = [
                sys.executable,
                "-m",
                "tests.bench.queue",
                "--estimator",
                estimator,
                "--part",
                "in",
                "out",
                "urgent",
            ]
            subprocess.run(command, check=True)
    print(f"\nAll figures: {options.json}")
    return 0


def say(text: str) -> None:
    """Tell the way so far, on stderr."""
    print(f"{time.monotonic() - _BEGIN:7.1f} s  {text}  (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- servers


@dataclass(frozen=True, kw_only=True)
class Web:
    """A server of one way to answer."""

    process: psutil.Popen
    port: int

    def tree(self) -> list[psutil.Process]:
        """Return the process and all below it."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """Return the CPU seconds so far of all its processes."""
        return sum(sum(process.cpu_times()[:2]) for process in self.tree())


@contextmanager
def started(command: list[str], port: int, environment: Mapping[str, str], log: Path) -> Iterator[Web]:
    """Yield a server of this checkout, once it accepts connections; it is ended as SIGTERM does."""
    with log.open("ab") as output:
        process = psutil.Popen(
            command, env={**os.environ, "PYTHONPATH": f"plugins:.:{GUNICORN}", **environment}, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: accepts(port), log)
        yield Web(process=process, port=port)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def until(holds: Callable[[], bool], log: Path, seconds: float = 300) -> None:
    """Wait until it holds; raises TimeoutError with the end of a log."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(log.read_text(errors="replace")[-3000:])
        time.sleep(0.05)


def accepts(port: int) -> bool:
    """Say whether somebody listens at the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------- the bench


class Bench:
    """A database with champions, the API, and Flask."""

    def __init__(
        self, folder: Path, worlds: dict[str, World], server: postgres.Server, options: argparse.Namespace
    ) -> None:
        self.folder, self.worlds, self.server = folder, worlds, server
        self.seconds, self.rounds = options.seconds, options.rounds
        db = worlds["logistic"].db
        owner = Database(server.url(provision.PONTE, roles.OWNER, PASSWORD))
        _, self.token = create_key(owner, "bench", models=(), per_minute=2**31 - 1, created_by="bench")
        columns = ", ".join(cases.COLUMNS[1:])
        query = f"SELECT to_jsonb(e) FROM (SELECT {columns} FROM bench.event ORDER BY event_id LIMIT 500) e"
        self.instances = [row[0] for row in worlds["logistic"].rows(query)]
        self.flask_requests = [loads.request_of("/predict", json.dumps(one).encode()) for one in self.instances]
        self.db = db

    @classmethod
    @contextmanager
    def prepared(cls, options: argparse.Namespace) -> Iterator[Bench]:
        """Yield it, trained; everything is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # as root, PostgreSQL runs as another user
            try:
                server = postgres.start(folder / "data", superuser_password=PASSWORD)
                admin = server.url("postgres", postgres.SUPERUSER, PASSWORD)
                provision.prepare_server(admin, dict.fromkeys((provision.AIRFLOW, *roles.LOGINS), PASSWORD))
                provision.upgrade(server.url(provision.PONTE, roles.OWNER, PASSWORD))
                db = Database(server.url(provision.PONTE, postgres.SUPERUSER, PASSWORD))
                with db.begin() as connection:
                    cases.create_events(connection, 10_000)
                store = ArtifactStore(UPath(folder / "artifacts"))
                worlds = {name: trained(folder, db, store, name) for name in MODELS}
                yield cls(folder, worlds, server, options)
            finally:
                postgres.stop(folder / "data", mode="immediate")

    @contextmanager
    def api(self, *, kept: bool = True) -> Iterator[Web]:
        """Yield the API, once it answers for every model."""
        port = free_port()
        command = (
            ["-m", "ponte.cli", "serve", "--port", str(port)] if kept else ["-m", "tests.bench.unlogged", str(port)]
        )
        environment = {
            "AIRFLOW_CONN_PONTE_API": self.server.url(provision.PONTE, roles.API, PASSWORD),
            "PONTE_ARTIFACTS": (self.folder / "artifacts").as_uri(),
            "PONTE_MODELS": str(self.folder / "models"),
            "PONTE_HOME": str(self.folder),
        }
        log = self.folder / "api.log"
        with started([sys.executable, *command], port, environment, log) as web:
            until(lambda: all(self.answers(web, model) for model in MODELS), log)
            yield web

    def answers(self, web: Web, model: str) -> bool:
        """Say whether the API answers for a model."""
        status, _ = loads.run(loads.Connection(web.port).call(self.requests(model)[0]))
        return status == 200

    @contextmanager
    def flask(self, model: str) -> Iterator[Web]:
        """Yield Flask under gunicorn with the very estimator of the champion."""
        world, port, file = self.worlds[model], free_port(), self.folder / f"{model}.joblib"
        loaded = load_registered(world.db, world.store, registry.get_version(world.db, model, 1))
        joblib.dump(loaded.estimator, file)
        command = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "tests.bench.flask_way:app"]
        with started(command, port, {"MODEL": str(file)}, self.folder / "flask.log") as web:
            loads.run(loads.closed(port, self.flask_requests, connections=8, seconds=2))
            yield web

    def requests(self, model: str) -> list[bytes]:
        """Return requests for the API, of one instance each."""
        path = f"/v1/models/{model}:predict"
        bodies = (json.dumps({"instances": [one]}).encode() for one in self.instances)
        return [loads.request_of(path, body, token=self.token) for body in bodies]

    @contextmanager
    def ways(self) -> Iterator[dict[tuple[str, str], tuple[Web, list[bytes]]]]:
        """Yield (way, model) → its server and requests, all of them at once; those that are not asked sleep."""
        with ExitStack() as stack:
            api = stack.enter_context(self.api())
            found = {}
            for model in COMPARED:
                found["flask", model] = (stack.enter_context(self.flask(model)), self.flask_requests)
                found["ponte", model] = (api, self.requests(model))
            yield found

    def medians(self, measure: Callable[[str, Web, list[bytes]], Figures | None]) -> Figures:
        """Return way → model → figures, each the median of all rounds; the ways take turns."""
        rounds: dict[tuple[str, str], list[Figures]] = {}
        with self.ways() as ways:
            for _ in range(self.rounds):
                for (way, model), (web, requests) in ways.items():
                    if (figures := measure(way, web, requests)) is not None:
                        rounds.setdefault((way, model), []).append(figures)
        out: Figures = {}
        for (way, model), all_of_it in rounds.items():
            figures = {name: median(one[name] for one in all_of_it) for name in all_of_it[0]}
            figures["errors"] = sum(one["errors"] for one in all_of_it)
            out.setdefault(way, {})[model] = figures
        return out

    # ------------------------------------------------------------ the parts

    def measure_closed(self) -> Figures:
        """Return way → model → requests per second and CPU at many connections, latency at one."""

        def measure(_: str, web: Web, requests: list[bytes]) -> Figures:
            cpu = web.cpu()
            many = loads.run(loads.closed(web.port, requests, connections=CONNECTIONS, seconds=self.seconds))
            used = web.cpu() - cpu
            one = loads.run(loads.closed(web.port, requests, connections=1, seconds=self.seconds / 2))
            return {
                "per_second": many.rate, "cpu_ms": 1e3 * used / many.statuses[200], "p99_many": many.percentile(99),
                "p50": one.percentile(50), "p99": one.percentile(99), "errors": many.errors + one.errors,
            }  # fmt: skip

        return self.medians(measure)

    def measure_open(self) -> Figures:
        """Return way → model → latency at 200 and 1,000 requests per second."""

        def measure(way: str, web: Web, requests: list[bytes]) -> Figures:
            figures: Figures = {"errors": 0}
            for rate in (200, 1000) if way == "ponte" else (200,):
                cpu = web.cpu()
                found = loads.run(loads.opened(web.port, requests, rate=rate, seconds=self.seconds))
                figures |= {
                    f"p50_{rate}": found.percentile(50), f"p99_{rate}": found.percentile(99),
                    f"cpu_ms_{rate}": 1e3 * (web.cpu() - cpu) / found.statuses.total(),
                    f"late_p99_{rate}": sorted(found.late)[int(0.99 * len(found.late))],
                }  # fmt: skip
                figures["errors"] += found.errors
            return figures

        return self.medians(measure)

    def measure_swap(self) -> Figures:
        """Return p99 at 200/s in quiet times and within two seconds of changes of the champion, both models."""
        out: Figures = {}
        with self.api() as web:
            for model in COMPARED:
                world, requests = self.worlds[model], self.requests(model)
                world.set_champion(1)
                quiet = loads.run(loads.opened(web.port, requests, rate=200, seconds=3 * self.seconds))
                versions: Counter[int] = Counter()
                changes: list[float] = []

                def heard(_: int, __: float, status: int, body: bytes, versions: Counter[int] = versions) -> None:
                    if status == 200:
                        versions[json.loads(body)["model_version"]] += 1

                seconds = 6 * self.seconds
                with at_times(change_every(world, changes, 2 * CHANGE, seconds)):
                    busy = loads.run(loads.opened(web.port, requests, rate=200, seconds=seconds, heard=heard))
                during = loads.Load(statuses=busy.statuses)
                for at, took in zip(busy.at, busy.milliseconds, strict=True):
                    if any(0 <= at - change < CHANGE for change in changes):
                        during.milliseconds.append(took)
                out[model] = {
                    "p99_quiet": quiet.percentile(99), "p99_change": during.percentile(99),
                    "most_change": max(during.milliseconds), "changes": len(changes), "asked": busy.statuses.total(),
                    "errors": busy.errors, "versions": dict(versions),
                }  # fmt: skip
        return out

    def measure_kept(self) -> Figures:
        """Return CPU milliseconds per request with and without keeping, at many connections, and PostgreSQL's."""
        rounds: list[tuple[float, float, float]] = []
        with self.api() as kept, self.api(kept=False) as unkept:
            requests = self.requests("logistic")
            for _ in range(2 * self.rounds):
                used, servers = [], []
                for web in (kept, unkept):
                    cpu, server = web.cpu(), self.server_cpu()
                    found = loads.run(loads.closed(web.port, requests, connections=CONNECTIONS, seconds=self.seconds))
                    time.sleep(1.5)  # what waits to be kept is kept
                    count = found.statuses[200]
                    used.append(1e3 * (web.cpu() - cpu) / count)
                    servers.append(1e3 * (self.server_cpu() - server) / count)
                rounds.append((used[0], used[1], servers[0]))
        names = ("cpu_ms_kept", "cpu_ms_unkept", "cpu_ms_postgres")
        figures = {name: median(one[place] for one in rounds) for place, name in enumerate(names)}
        return figures | {"share": median(kept / unkept - 1 for kept, unkept, _ in rounds)}

    def measure_memory(self) -> Figures:
        """Return the resident memory of the API with three models, after a load on each, in MiB."""
        with self.api() as web:
            for model in MODELS:
                loads.run(loads.closed(web.port, self.requests(model), connections=CONNECTIONS, seconds=self.seconds))
            return {"rss_mib": sum(process.memory_info().rss for process in web.tree()) / 2**20}

    def measure_storm(self) -> Figures:
        """Return what came of a minute with a promotion, a rollback and a restart of the database."""
        model, world = "logistic", self.worlds["logistic"]
        world.set_champion(1)
        answered: Counter[int] = Counter()
        why: Counter[str] = Counter()
        seen: list[tuple[float, int]] = []

        def heard(_: int, at: float, status: int, body: bytes) -> None:
            if status == 200:
                version = json.loads(body)["model_version"]
                answered[version] += 1
                seen.append((at, version))
            else:
                why[f"{status} {body[:200].decode(errors='replace')}"] += 1

        kept = f"SELECT model_version, count(*) FROM predictions.{model}_live WHERE source = 'api' GROUP BY 1"
        with self.api() as web:
            until(lambda: self.metric(web, "ponte_api_unkept_rows") == 0, self.folder / "api.log")
            before = Counter(dict(world.rows(kept)))
            marks: dict[str, float] = {}
            with at_times(self.storm(world, marks)):
                found = loads.run(
                    loads.opened(web.port, self.requests(model), rate=STORM_RATE, seconds=STORM_SECONDS, heard=heard)
                )
            until(lambda: self.metric(web, "ponte_api_unkept_rows") == 0, self.folder / "api.log")
            dropped = self.metric(web, "ponte_api_dropped_rows")
        rows = Counter(dict(world.rows(kept)))
        rows.subtract(before)
        said = world.ask("SELECT coalesce(sum(rows), 0) FROM ponte.live_dropped")
        reached = {
            what: round(min(at for at, version in seen if at > marks[what] and version == to) - marks[what], 2)
            for what, to in (("promotion", 2), ("rollback", 1))
        }
        return {
            "asked": found.statuses.total(), "errors": found.errors, "why": dict(why), "answered": dict(answered),
            "kept": {version: count for version, count in rows.items() if count}, "dropped": dropped,
            "said_dropped": int(said), "p99": found.percentile(99), "most": max(found.milliseconds),
            "seconds_until": reached, "seconds_database_away": round(marks["back"] - marks["away"], 2),
        }  # fmt: skip

    def storm(self, world: World, marks: dict[str, float]) -> list[tuple[float, Callable[[], object]]]:
        """Return what happens, and at which second."""
        data = self.folder / "data"

        def promote() -> None:
            marks["promotion"] = time.time()
            world.set_champion(2)

        def back() -> None:
            plan = rollback.plan_rollback(
                world.db, world.store, world.folder, 1, windows=[], every_window=False, allow_bad=False,
                allow_hindsight=False, now=dt.datetime.now(dt.UTC),
            )  # fmt: skip
            marks["rollback"] = time.time()
            rollback.roll_back(world.db, plan, run=run_named("storm"), actor="bench", reason="storm")

        def restart() -> None:
            marks["away"] = time.time()
            postgres.stop(data)
            postgres.start(data, superuser_password=PASSWORD)
            marks["back"] = time.time()

        return [(10, promote), (25, back), (40, restart)]

    # ------------------------------------------------------------ what they are made of

    def server_cpu(self) -> float:
        """Return the CPU seconds of all processes of PostgreSQL so far, ended ones included."""
        main = cluster.postmaster(self.server.data_dir)
        assert main is not None
        total = sum(main.cpu_times()[:4])
        for process in main.children():
            try:
                total += sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return float(total)

    def metric(self, web: Web, name: str) -> float:
        """Return a metric of the API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{web.port}/metrics", headers={"Authorization": f"Bearer {self.token}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.split()[-1] for line in lines if line.split(" ")[0] == name))


def trained(folder: Path, db: Database, store: ArtifactStore, name: str) -> World:
    """Return a model that is served, with two versions, the first of them champion."""
    path = folder / "models" / name
    cases.write_folder(path, MODELS[name], shard_rows=1_000_000)
    with (path / "model.toml").open("a", encoding="utf-8") as file:
        file.write("[serving]\napi = true\n")
    world = World(db=db, store=store, folder=get_folder(folder / "models", name))
    if world.train(run_id=f"{name} one").alias is None:
        raise RuntimeError(f"the gate refused {name}")
    with (path / "estimator.py").open("a", encoding="utf-8") as file:
        file.write("# again\n")  # else it would be the same version
    again = World(db=db, store=store, folder=get_folder(folder / "models", name))
    again.train(run_id=f"{name} two")
    again.set_champion(1)
    return again


def change_every(
    world: World, changes: list[float], every: float, seconds: float
) -> list[tuple[float, Callable[[], object]]]:
    """Return changes of the champion between its two versions, at each so many seconds; they note their moments."""

    def change(version: int) -> None:
        changes.append(time.time())
        world.set_champion(version)

    times = [every * number for number in range(1, int(seconds / every))]
    return [(at, lambda version=2 - place % 2: change(version)) for place, at in enumerate(times)]


@contextmanager
def at_times(what: list[tuple[float, Callable[[], object]]]) -> Iterator[None]:
    """Do things at seconds from now, in a thread beside."""
    begin = time.monotonic()

    def work() -> None:
        for at, do in what:
            time.sleep(max(0, begin + at - time.monotonic()))
            do()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join()


if __name__ == "__main__":
    sys.exit(main())
