"""A worker: take what is next, answer it, and again; wait when there is nothing; go on when the database is away."""

from __future__ import annotations

import datetime as dt
import logging
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import sqlalchemy as sa

from ponte.errors import PonteError, did_you_mean
from ponte.model.folders import ModelFolder, find_folders
from ponte.model.spec import ModelSpec
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import JITTER, Database, is_transient
from ponte.storage.withholding import said_of
from ponte.stream import taking
from ponte.stream.answers import Answering
from ponte.stream.champions import Champions
from ponte.stream.taking import Head
from ponte.versions.loading import LoadedVersion, load_registered
from ponte.versions.registry import Version

log = logging.getLogger(__name__)

#: Requests per take: of more, each waits longer for the others; of fewer, more time goes into commits.
MOST = 256
#: Seconds until a worker that nobody has woken looks by itself.
POLL = 1.0
#: Seconds between two looks at the model folders, and between two rows of progress.
FOLDERS, PROGRESS = 30.0, 5.0
#: Seconds of the first wait for a database that is away, and of the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0

# A machine that vanished would hold what it took until its connection is given up, hours later.
_PATIENCE = sa.text("SET LOCAL idle_in_transaction_session_timeout = '10min'")

# What is lost of these in a crash of the server counts a death or a rate too few.
_AT_EASE = sa.text("SET synchronous_commit = off")

# In one order, so that two workers wait for one another in turn.
_OPEN = sa.text("""INSERT INTO ponte.queue AS q (model, open)
    SELECT model, true FROM unnest(CAST(:models AS text[])) AS m (model) ORDER BY model
    ON CONFLICT (model) DO UPDATE SET open = true, seen_at = clock_timestamp(),
        changed_at = CASE WHEN q.open THEN q.changed_at ELSE clock_timestamp() END""")

# One checkout without a model says nothing of the others: it closes what nobody has vouched for.
_CLOSE_OTHERS = sa.text("""UPDATE ponte.queue SET open = false, changed_at = clock_timestamp()
    WHERE open AND model <> ALL (CAST(:models AS text[])) AND seen_at < clock_timestamp() - interval '5 minutes'""")

_PROGRESS = sa.text("""INSERT INTO ponte.stream_progress (worker, model, seconds, answered, failed, why)
    VALUES (:worker, :model, :seconds, :answered, :failed, :why)""")

_FORGET_PROGRESS = sa.text("DELETE FROM ponte.stream_progress WHERE at < clock_timestamp() - interval '10 minutes'")


def run(db: Database, store: ArtifactStore, models_root: Path, *, only: Sequence[str] = (), most: int = MOST) -> None:
    """Work until the process gets SIGTERM or SIGINT, and end when the take of then is done; a second one ends it now.

    db : as the role ponte_stream. Raises PonteError when a model of `only` is not served here.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    known = [model for model, spec in specs(models_root).items() if spec is not None and spec.serving.api]
    for name in only:
        if name not in known:
            meant, opens = did_you_mean(name, known), "[serving] api = true in its model.toml opens its queue"
            fix = f"{meant}; {opens}" if meant else opens
            raise PonteError("no queue of this model", where=str(models_root), got=repr(name), fix=fix)
    stop = Event()

    def end(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    load, find = partial(load_registered, db, store), partial(specs, models_root)
    worker = Worker(db, load, find, only=only, most=most)
    log.info("%s answers for %s, at most %d requests at once", worker.name, ", ".join(only or known), most)
    worker.run(stop)
    log.info("ends: what it took is answered")


def specs(models_root: Path) -> dict[str, ModelSpec | None]:
    """Return `model.toml` of each model folder by name; None of a folder that is broken."""
    return {
        folder.name: folder.spec if isinstance(folder, ModelFolder) else None for folder in find_folders(models_root)
    }


class Worker:
    """One process that answers what waits in the queues of its models."""

    def __init__(
        self,
        db: Database,
        load: Callable[[Version], LoadedVersion],
        find_models: Callable[[], Mapping[str, ModelSpec | None]],
        *,
        only: Sequence[str] = (),
        most: int = MOST,
    ) -> None:
        """find_models : as `specs`.

        only : models that this worker answers for; () for all that are served. most : requests per take.
        """
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._db = db
        self._find_models = find_models
        self._only = frozenset(only)
        self._most = most
        self._models: Mapping[str, ModelSpec | None] = {}
        self._champions = Champions(db, load)
        self._done: Counter[tuple[str, str]] = Counter()
        self._looked_at = self._told_at = -float("inf")
        #: For the takes, and for what is noted and heard beside them, which commits by itself.
        self._connection: sa.Connection | None = None
        self._beside: sa.Connection | None = None

    def run(self, stop: Event) -> None:
        """Work until `stop` is set; a take that is at work then is finished. Raises what trying again does not mend."""
        wait = FIRST_WAIT
        try:
            while not stop.is_set():
                try:
                    if not self.step():
                        self._sleep(POLL)
                    wait = FIRST_WAIT
                except Exception as error:
                    if not is_transient(error):
                        raise
                    log.warning("the database failed in passing, next try in %.1f s: %s", wait, said_of(error))
                    self._disconnect()
                    stop.wait(wait * JITTER.uniform(0.8, 1.2))
                    wait = min(2 * wait, LONGEST_WAIT)
        finally:
            self._disconnect()

    def step(self) -> int:
        """Do one take of the model whose turn it is; return how many requests left the queue, 0 when none can."""
        self._connect()
        assert self._beside is not None
        now = time.monotonic()
        if now - self._looked_at >= FOLDERS:
            self._open_queues()
            self._looked_at = now
        if now - self._told_at >= PROGRESS:
            self._tell_progress(now)
        driver: Any = self._beside.connection.driver_connection
        driver.poll()
        driver.notifies.clear()
        heads = taking.heads(self._beside, self._served)
        for head in heads:
            count = self._take(head) if head.waits else 0
            if count:
                return count
        for head in heads:  # so that nobody has to wait until a version is loaded
            self._answering(head)
        return 0

    # ------------------------------------------------------------ one take

    def _take(self, head: Head) -> int:
        spec = self._models[head.model]
        assert spec is not None
        answering = self._answering(head)
        if answering is None:
            return 0
        assert self._connection is not None
        assert self._beside is not None
        note = None
        try:
            with self._connection.begin():
                self._connection.execute(_PATIENCE)
                taken = taking.take(self._connection, head.model, self._most)
                if taken is None:
                    return 0
                note = taking.note(self._beside, self.name, [r.request_id for r in taken.requests])
                counts = answering.settle(
                    self._connection,
                    taken.requests,
                    deaths=taken.deaths,
                    now=dt.datetime.now(dt.UTC),
                    log_features=spec.serving.log_features,
                )
                taking.end_note(self._connection, note)
        except PonteError as error:
            # Not about a row: all would fail, so they wait for another version.
            self._take_back(note)
            self._champions.cannot(head, error.what)
            return 0
        except sa.exc.DBAPIError as error:
            self._take_back(note)
            if is_transient(error):
                raise
            self._champions.cannot(head, said_of(error))
            return 0
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is treated as what kills
            # The note stays: the next takes try these few at a time, until the one that it is about is found.
            log.error("a take of %s has failed: %s", head.model, said_of(error))
            return 0
        except BaseException:
            self._take_back(note)
            raise
        self._done[head.model, "answered"] += counts.answered
        self._done[head.model, "failed"] += counts.failed
        return len(taken.requests)

    def _answering(self, head: Head) -> Answering | None:
        spec = self._models[head.model]
        assert spec is not None
        return self._champions.answering(head, spec.window)

    def _take_back(self, note: int | None) -> None:
        """Take the note of a take away that has failed without killing anybody; it says nothing of its rows."""
        if note is not None and self._beside is not None:
            try:
                taking.end_note(self._beside, note)
            except sa.exc.DBAPIError:
                log.info("the note of a take stays behind: its requests are tried a few at a time")

    # ------------------------------------------------------------ what stands around it

    @property
    def _served(self) -> list[str]:
        return [
            name
            for name, spec in self._models.items()
            if spec is not None and spec.serving.api and (not self._only or name in self._only)
        ]

    def _open_queues(self) -> None:
        """Vouch for the queues of its models, and close what nobody vouches for; a broken folder changes nothing."""
        assert self._beside is not None
        found = dict(self._find_models())
        known = {name: spec for name, spec in found.items() if spec is not None}
        self._models = {**{name: self._models.get(name) for name in found}, **known}
        self._beside.execute(_OPEN, {"models": self._served})
        if not self._only:
            unclear = [name for name, spec in self._models.items() if spec is None]
            self._beside.execute(_CLOSE_OTHERS, {"models": [*self._served, *unclear]})

    def _tell_progress(self, now: float) -> None:
        assert self._beside is not None
        seconds = 0.0 if self._told_at < 0 else now - self._told_at
        rows = [
            {
                "worker": self.name,
                "model": model,
                "seconds": seconds,
                "answered": self._done[model, "answered"],
                "failed": self._done[model, "failed"],
                "why": self._champions.why_not(model),
            }
            for model in self._served
        ]
        if rows:
            self._beside.execute(_PROGRESS, rows)
        self._beside.execute(_FORGET_PROGRESS)
        taking.sweep(self._beside)
        self._done.clear()
        self._told_at = now

    def _sleep(self, seconds: float) -> None:
        """Return when somebody puts a request into a queue or moves a champion, and after so many seconds."""
        assert self._beside is not None
        driver: Any = self._beside.connection.driver_connection
        if not driver.notifies:
            select.select([driver], [], [], seconds)

    def _connect(self) -> None:
        if self._beside is None:
            self._beside = self._db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._beside.execute(_AT_EASE)
            for channel in ("ponte_request", "ponte_alias"):
                self._beside.exec_driver_sql(f"LISTEN {channel}")
        if self._connection is None:
            self._connection = self._db.engine.connect()

    def _disconnect(self) -> None:
        for connection in (self._connection, self._beside):
            if connection is not None:
                connection.invalidate()
                connection.close()
        self._connection = self._beside = None
