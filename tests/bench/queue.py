"""How fast is the queue, does it lose or double anything, and does it bloat? With real workers, `./ponte work`.

- in: COPY of so many requests into `ponte.queue_in`, and `ponte.enqueue` one by one, each a transaction.
- out: requests per second through one worker at takes of 256, answers in the same transaction; from the first take to
  the last, by `scored_at`. CPU seconds of the worker and of the server.
- urgent: requests of priority 9 at 50 per second beside that backlog: milliseconds from before `ponte.enqueue` until
  the id is heard on `ponte_answer`.
- kills: two workers, one of them killed ten times by SIGKILL: are the answers complete and distinct?
- churn: an hour of 100 requests per second, as fast as it goes: sizes and dead rows of the tables.

    PYTHONPATH=plugins:. .venv/bin/python -m tests.bench.queue --rows 100000 --estimator logistic

Not collected by pytest. The server is a private one, with the settings of `make up`, and is gone afterwards.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import psutil
import psycopg2
import sqlalchemy as sa
from tests.bench import scoring_cases as cases
from tests.sample_model import World
from upath import UPath

from ponte.model.folders import get_folder
from ponte.schema import provision, roles
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database

PASSWORD = "bench"  # noqa: S105 - of a server that listens on a private unix socket only
KILLS = 10
PER_SECOND = 50
CHURN = 360_000
PARTS = ("in", "out", "urgent", "kills", "churn")


def main() -> int:
    """Print one line per figure; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--take", type=int, default=256)
    parser.add_argument("--estimator", choices=cases.ESTIMATORS, default="logistic")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    for name in (signal.SIGINT, signal.SIGTERM):  # so that the server is stopped and its data are removed
        signal.signal(name, signal.default_int_handler)
    with cases.private_server() as server, bench_of(server, options) as bench:
        for part in options.part:
            getattr(bench, f"measure_{part}")()
    return 0


@contextmanager
def bench_of(server: cases.Server, options: argparse.Namespace) -> Iterator[Bench]:
    """Yield the bench: a database with a champion, whose queue is open."""
    admin = sa.create_engine(
        sa.make_url(server.url("postgres")).set(drivername="postgresql+psycopg2"),
        isolation_level="AUTOCOMMIT", poolclass=sa.NullPool,
    )  # fmt: skip
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP ROLE {roles.PROMOTER}, {roles.MONITOR}")  # made without a password
        roles.ensure_logins(connection, dict.fromkeys(roles.LOGINS, PASSWORD))
        roles.ensure_memberships(connection)
        roles.ensure_database(connection, "bench", roles.OWNER)
    url = sa.make_url(server.url("bench"))
    db = Database(url.set(username=roles.OWNER, password=PASSWORD))
    provision.upgrade(db.url.render_as_string(hide_password=False))
    with db.begin() as connection:
        cases.create_events(connection, options.rows)
    root = server.folder / "models"
    cases.write_folder(root / options.estimator, options.estimator, shard_rows=1_000_000)
    toml = root / options.estimator / "model.toml"
    toml.write_text(toml.read_text() + "[serving]\napi = true\n")
    world = World(
        db=db, store=ArtifactStore(UPath(server.folder / "artifacts")), folder=get_folder(root, options.estimator)
    )
    if world.train(run_id="bench").alias is None:
        raise RuntimeError("the gate refused the model")
    bench = Bench(server, world, options)
    try:
        yield bench
    finally:
        bench.stop_all()


class Bench:
    """Workers, requests, and what became of them."""

    def __init__(self, server: cases.Server, world: World, options: argparse.Namespace) -> None:
        self.server, self.world, self.rows, self.take = server, world, options.rows, options.take
        self.model = world.folder.name
        self.workers: list[subprocess.Popen[bytes]] = []
        self.started = 0
        features = [n for n in cases.COLUMNS if n != "event_id"]
        inner = f"SELECT {', '.join(cases.COLUMNS)} FROM bench.event WHERE event_id >= {cases.TRAINING_ROWS}"
        shown = ", ".join(f"e.{name}" for name in features)
        query = f"SELECT event_id, to_jsonb(f)::text FROM ({inner} LIMIT {self.rows}) e, LATERAL (SELECT {shown}) f"
        self.requests = world.rows(query)
        # The queue is open once a worker has been there.
        self.start()
        self.wait(self.warm)
        world.execute("UPDATE ponte.queue SET most_waiting = 10000000")
        self.fill(1)
        self.wait(lambda: not self.waiting(1))
        self.stop_all()
        self.empty()

    # ------------------------------------------------------------ the parts

    def measure_in(self) -> None:
        """COPY, and one by one."""
        begin = time.monotonic()
        self.fill()
        say("in", f"COPY of {self.rows:,} requests into ponte.queue_in", f"{time.monotonic() - begin:.2f} s")
        connection = self.connect()
        with connection.cursor() as cursor:
            begin, done = time.monotonic(), 0
            while time.monotonic() < begin + 3:
                cursor.execute("SELECT ponte.enqueue(%s, NULL, %s::jsonb, 0)", (self.model, self.requests[done][1]))
                done += 1
        say("in", "ponte.enqueue one by one, each a transaction", f"{done / 3:,.0f} requests/s")
        connection.close()
        self.empty()

    def measure_out(self) -> None:
        """One worker."""
        self.fill()
        worker = self.start()
        process = psutil.Process(worker.pid)
        self.wait(self.warm)
        cpu, own = self.server.cpu_seconds(), sum(process.cpu_times()[:2])
        self.wait(lambda: not self.waiting(1))
        used, own = self.server.cpu_seconds() - cpu, sum(process.cpu_times()[:2]) - own
        self.stop_all()
        rate = self.rate()
        say("out", f"one worker, {self.model}, takes of {self.take}", f"{rate:,.0f} requests/s")
        say("out", "CPU of the server for each", f"{1e3 * used / self.rows:.3f} ms")
        say("out", "CPU of the worker for each", f"{1e3 * own / self.rows:.3f} ms")
        self.check(self.rows)

    def measure_urgent(self) -> None:
        """Urgent ones beside a backlog."""
        self.start()
        heard: dict[str, float] = {}
        asked: dict[str, float] = {}
        stop = threading.Event()
        threading.Thread(target=self.hear, args=(heard, stop), daemon=True).start()
        self.wait(self.warm)
        self.fill()
        connection, begin, number = self.connect(), time.monotonic(), 0
        with connection.cursor() as cursor:
            while number % 10 or self.waiting(1_000) == 1_000:
                at = time.monotonic()
                cursor.execute(
                    "SELECT ponte.enqueue(%s, NULL, %s::jsonb, 9)::text", (self.model, self.requests[number][1])
                )
                asked[cursor.fetchone()[0]] = at
                number += 1
                time.sleep(max(0, begin + number / PER_SECOND - time.monotonic()))
        self.wait(lambda: not self.waiting(1))
        time.sleep(0.5)
        stop.set()
        took = np.array([heard[name] - at for name, at in asked.items() if name in heard]) * 1e3
        what = f"{len(asked)} at {PER_SECOND}/s beside a backlog of {self.rows:,}, of which {len(took)} were heard"
        p50, p99 = np.percentile(took, 50), np.percentile(took, 99)
        say("urgent", what, f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {took.max():.0f} ms")
        self.stop_all()
        self.empty()

    def measure_kills(self) -> None:
        """Two workers, one killed ten times; the other stands still while a new one starts, or it would be done."""
        other, victim = self.start(), self.start()
        self.wait(self.warm)
        self.fill()
        begin, moments = time.monotonic(), []
        for _ in range(KILLS):
            self.wait(partial(self.busy, victim))
            time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - at no moment in particular
            victim.kill()
            victim.wait()
            moments.append(self.waiting())
            other.send_signal(signal.SIGSTOP)
            victim = self.start()
            self.wait(self.warm)
            other.send_signal(signal.SIGCONT)
        self.wait(lambda: not self.waiting(1))
        what = f"{self.rows:,} requests, two workers, one killed when so many waited"
        say("kills", what, " ".join(f"{m:,}" for m in moments))
        say("kills", "seconds", f"{time.monotonic() - begin:.1f}")
        self.stop_all()
        self.check(self.rows)

    def measure_churn(self) -> None:
        """An hour's worth."""
        self.start()
        for done in range(0, CHURN, 20_000):
            self.fill(20_000)
            self.wait(lambda: self.waiting(5_000) < 5_000)
            if done % 60_000 == 0 or done == CHURN - 20_000:
                self.sizes(f"after {done + 20_000:,}")
        self.wait(lambda: not self.waiting(1))
        time.sleep(65)
        self.sizes("65 s later, when autovacuum has come by")
        self.stop_all()
        self.check(CHURN)

    # ------------------------------------------------------------ what they are made of

    def fill(self, rows: int | None = None) -> None:
        """Put requests of priority 0 to 3 into the queue, by COPY."""
        text = io.StringIO()
        for number in range(rows or self.rows):
            key, features = self.requests[number % len(self.requests)]
            text.write(f'{self.model}\t{{"event_id": {key}}}\t{features}\t{number % 4}\n')
        text.seek(0)
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.copy_expert("COPY ponte.queue_in (model, key, features, priority) FROM STDIN", text)
        connection.close()

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker, as `./ponte work` does."""
        url = self.world.db.url.set(drivername="postgresql", username=roles.STREAM, password=PASSWORD)
        environment = os.environ | {
            "AIRFLOW_CONN_PONTE_STREAM": url.render_as_string(hide_password=False),
            "PONTE_ARTIFACTS": str(self.world.store.root),
            "PONTE_MODELS": str(self.world.folder.path.parent),
            "PYTHONPATH": "plugins",
        }
        command = [sys.executable, "-m", "ponte.cli", "work", "--take", str(self.take)]
        worker = subprocess.Popen(command, env=environment, stderr=(self.server.folder / "work.log").open("ab"))
        self.workers.append(worker)
        self.started += 1
        return worker

    def stop_all(self) -> None:
        """End all workers, as SIGTERM does."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            if worker.wait(30) not in (0, -signal.SIGKILL):
                print((self.server.folder / "work.log").read_text()[-3000:])
        self.workers.clear()
        self.started = self.loaded()

    def connect(self) -> Any:
        """Return a connection in autocommit, as the owner."""
        url = self.world.db.url.set(drivername="postgresql")
        connection = psycopg2.connect(url.render_as_string(hide_password=False))
        connection.autocommit = True
        return connection

    def hear(self, heard: dict[str, float], stop: threading.Event) -> None:
        """Note when each id is heard of."""
        connection = self.connect()
        connection.cursor().execute("LISTEN ponte_answer")
        while not stop.is_set():
            if select.select([connection], [], [], 0.2)[0]:
                connection.poll()
                at = time.monotonic()
                for notice in connection.notifies:
                    heard.update(dict.fromkeys(notice.payload.split(","), at))
                connection.notifies.clear()

    def wait(self, condition: Any, seconds: float = 600) -> None:
        """Wait until it holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                print((self.server.folder / "work.log").read_text()[-3000:])
                raise TimeoutError
            time.sleep(0.02)

    def waiting(self, most: int = 1_000_000) -> int:
        """Return how many wait, up to `most`: counting a backlog costs what its worker lacks."""
        query = "SELECT count(*) FROM (SELECT FROM ponte.request LIMIT :most) r"
        return int(self.world.ask(query, most=most))

    def warm(self) -> bool:
        """Tell whether all workers that were ever started have loaded the version."""
        return self.loaded() >= self.started

    def loaded(self) -> int:
        """Return how many times a worker has loaded the version."""
        log = (self.server.folder / "work.log").read_text(encoding="utf-8")
        return log.count(f"version 1 of {self.model} answers")

    def busy(self, worker: subprocess.Popen[bytes]) -> bool:
        """Tell whether the worker is at a take."""
        return bool(self.world.ask(
            "SELECT count(*) FROM ponte.stream_take WHERE worker LIKE :name", name=f"%:{worker.pid}"))  # fmt: skip

    def rate(self) -> float:
        """Return the requests per second of all takes but the first."""
        query = f"""SELECT sum(n) FILTER (WHERE at > first) / extract(epoch FROM max(at) - min(at))
            FROM (SELECT scored_at AS at, count(*) AS n, min(min(scored_at)) OVER () AS first
                  FROM predictions.{self.model}_live GROUP BY scored_at) t"""
        return float(self.world.ask(query))

    def check(self, expected: int) -> None:
        """Say whether every request was answered once, and empty the tables."""
        count, ids = self.world.rows(f"SELECT count(*), count(DISTINCT request_id) FROM predictions.{self.model}_live")[
            0
        ]
        failed = self.world.ask("SELECT count(*) FROM ponte.live_unscored")
        notes = self.world.ask("SELECT count(*) FROM ponte.stream_take")
        what = f"of {expected:,}: answers, distinct ids, set aside, waiting, notes"
        say("check", what, f"{count:,} {ids:,} {failed} {self.waiting()} {notes}")
        self.empty()

    def empty(self) -> None:
        """Take away what waits and what was answered."""
        self.world.execute(f"TRUNCATE ponte.request, ponte.stream_take, ponte_data.live_{self.model}")
        self.world.execute("DELETE FROM ponte.live_unscored")

    def sizes(self, when: str) -> None:
        """Say how large the tables are, and how many dead rows they have."""
        rows = self.world.rows("""SELECT relname, n_live_tup, n_dead_tup, pg_size_pretty(pg_table_size(relid)),
                pg_size_pretty(pg_indexes_size(relid)), autovacuum_count
            FROM pg_stat_user_tables WHERE relname IN ('request', 'stream_take', 'stream_progress') ORDER BY 1""")
        for name, live, dead, table, indexes, times in rows:
            say("churn", f"{when}: {name}", f"{live:,} live, {dead:,} dead, {table} + {indexes}, {times} autovacuums")


def say(part: str, what: str, figure: str) -> None:
    """Print one figure."""
    print(f"{part:7s} {what}: {figure}   (load {os.getloadavg()[0]:.1f})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
