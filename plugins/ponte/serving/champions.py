"""Which version answers for each model: the champion, loaded by the one verified way, and changed while it answers.

Threads of their own look and load, so that nobody waits for it; what answers is one reference, that a batch takes once.
While the database is away, what is loaded goes on answering.
"""

from __future__ import annotations

import datetime as dt
import io
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ponte.access.keys import valid_keys
from ponte.access.limits import KeyRing
from ponte.computing.pace import BATCH_ROWS, Pace
from ponte.computing.workers import INLINE_SECONDS, Inline, InProcess
from ponte.errors import PonteError
from ponte.live.counting import counted
from ponte.live.records import Reader
from ponte.live.tables import LiveTable
from ponte.model.folders import ModelFolder, folder_paths, load_folder
from ponte.scoring.answering import answer
from ponte.scoring.scorer import Scorer
from ponte.serving.batching import Serving
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.withholding import said_of
from ponte.versions import marks, registry
from ponte.versions.loading import GOLDEN, load_registered, read_file
from ponte.versions.registry import Version

#: Seconds between two looks: so late, at most, a change is seen by who hears nothing of it.
LOOK_SECONDS = 1.0
#: Seconds after which a version that could not be loaded is tried again.
RETRY_SECONDS = 30.0
#: What the server, or the way to it, has not answered for so long is given up: the next look makes a new connection.
_PATIENCE = {"connect_timeout": "5", "keepalives_idle": "5", "keepalives_interval": "2", "tcp_user_timeout": "10000"}

_CHAMPIONS = sa.text("SELECT model, version, since, ponte.is_bad(model, version) AS bad FROM ponte.champion")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failed:
    """A champion that could not be loaded."""

    version: int
    why: str
    again_at: float


class Champions:
    """The champions of the models whose folder says `[serving] api = true`, as they are now."""

    def __init__(self, db: Database, store: ArtifactStore, models_root: Path, keys: KeyRing) -> None:
        self._db = Database(db.url.update_query_dict(_PATIENCE))
        self._store = store
        self._root = models_root
        self._keys = keys
        self._folders: dict[str, tuple[tuple[int, ...], ModelFolder]] = {}
        self._serving: dict[str, Serving] = {}
        self._why_not: dict[str, str] = {}
        self._failed: dict[str, _Failed] = {}
        self._loading: set[str] = set()
        self._loader = ThreadPoolExecutor(1, "ponte-load")
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="ponte-watch", daemon=True)
        #: Told of each version before it begins to answer, in the thread that loaded it.
        self.on_swap: Callable[[Serving], object] = lambda _: None
        #: Seconds of time.monotonic when the database last answered; None before it did.
        self.seen_at: float | None = None

    def start(self) -> None:
        """Begin to look; the first champions are loaded as soon as the database tells them."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking, and end the processes of slow versions."""
        self._stop.send(b"x")
        if self._thread.is_alive():
            self._thread.join(10)
        self._loader.shutdown(wait=True, cancel_futures=True)
        for serving in self._serving.values():
            serving.worker.close()

    @property
    def folders(self) -> Mapping[str, ModelFolder]:
        """The folders of the models that are served, by name."""
        return {name: folder for name, (_, folder) in list(self._folders.items())}

    @property
    def store(self) -> ArtifactStore:
        """Where the files of the versions are."""
        return self._store

    def get(self, model: str) -> Serving | None:
        """Return what answers for the model now; None when nothing does, see `why_not`."""
        return self._serving.get(model)

    def why_not(self, model: str) -> str:
        """Return why nothing answers for a model that is served, or why its newest champion does not; "" if it does."""
        if (failed := self._failed.get(model)) is not None:
            return f"version {failed.version} could not be loaded: {failed.why}"
        return self._why_not.get(model, "" if model in self._serving else "its champion is being loaded")

    def wait(self) -> None:
        """Wait until all that is being loaded is loaded, or has failed."""
        self._loader.submit(lambda: None).result()

    def look(self, connection: sa.Connection) -> None:
        """See which folders, champions and keys there are now; what is new is loaded, in a thread."""
        self._keys.replace(valid_keys(connection))
        self._find_folders()
        champions = {row.model: row for row in connection.execute(_CHAMPIONS)}
        self.seen_at = time.monotonic()
        for model in self._serving.keys() - self._folders.keys():
            self._drop(model, "")
        for model in self._folders:
            row = champions.get(model)
            if row is None:
                self._drop(model, "it has no champion yet: train it first")
            elif row.bad:
                self._drop(model, f"its champion, version {row.version}, is marked bad: roll back to another version")
            elif self._is_due(model, row.version):
                self._why_not.pop(model, None)
                self._loading.add(model)
                self._loader.submit(self._load, model, row.version, row.since)

    def _is_due(self, model: str, version: int) -> bool:
        if model in self._loading:
            return False
        failed, serving = self._failed.get(model), self._serving.get(model)
        if failed is not None:
            if failed.version == version:
                return time.monotonic() >= failed.again_at
            self._failed.pop(model)  # another one is champion now
        return serving is None or serving.version.version != version or not serving.worker.alive

    def _load(self, model: str, version: int, since: dt.datetime) -> None:
        try:
            serving = self._ready(registry.get_version(self._db, model, version), since)
            self.on_swap(serving)
        except Exception as error:  # noqa: BLE001 - what answers now goes on, whatever is wrong with the new one
            # Callers need not know where files are; the log does.
            why = error.what if isinstance(error, PonteError) else said_of(error)
            self._failed[model] = _Failed(version, why, time.monotonic() + RETRY_SECONDS)
            log.error("version %d of %s could not be loaded: %s", version, model, said_of(error))
        else:
            before = self._serving.get(model)
            self._serving[model] = serving
            self._failed.pop(model, None)
            log.info("version %d answers for %s: %s", version, model, serving.pace)
            if before is not None:
                before.worker.close()
        finally:
            self._loading.discard(model)

    def _ready(self, version: Version, since: dt.datetime) -> Serving:
        """Return the version, verified, warm, and with the time that it takes."""
        loaded = load_registered(self._db, self._store, version)
        scorer = Scorer(loaded)
        golden = _golden(self._store, version)
        reader, table = Reader(loaded.signature), LiveTable.of(version)
        with self._db.begin() as connection:
            window = self._folders[version.model][1].spec.window
            count = counted(connection, version.model, version.version, window)
        pace = Pace.of(lambda rows: answer(scorer, _of_length(golden, rows)))
        if pace.seconds(BATCH_ROWS) < INLINE_SECONDS:
            return Serving(loaded, since, Inline(scorer), pace, reader, table, count)
        allowed = marks.allows_other_libraries(self._db, version)
        worker = InProcess(str(self._store.root), version, other_libraries_allowed=allowed)
        # The other process has its own, so this one keeps none.
        lean = replace(loaded, estimator=None, error_model=None)
        return Serving(lean, since, worker, pace, reader, table, count)

    def _drop(self, model: str, why: str) -> None:
        self._why_not[model] = why
        if (serving := self._serving.pop(model, None)) is not None:
            log.warning("nothing answers for %s any more: %s", model, why or "its folder does not say so any more")
            serving.worker.close()

    def _find_folders(self) -> None:
        """Read the folders that have changed. One that is broken now stays what it was."""
        found: dict[str, tuple[tuple[int, ...], ModelFolder]] = {}
        for path in folder_paths(self._root) if self._root.is_dir() else ():
            known = self._folders.get(path.name)
            try:
                changed = tuple(file.stat().st_mtime_ns for file in (path / "model.toml", path / "README.md"))
                if known is None or known[0] != changed:
                    known = (changed, load_folder(path))
            except (OSError, PonteError) as error:
                log.warning("the folder of %s cannot be read: %s", path.name, said_of(error))
            if known is not None and known[1].spec.serving.api:
                found[path.name] = known
        self._folders = found

    def _watch(self) -> None:
        told = False
        while True:
            try:
                with self._db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.exec_driver_sql("LISTEN ponte_alias")
                    while True:
                        self.look(connection)
                        told = False
                        if self._wait(connection.connection.driver_connection):
                            return
            except Exception as error:  # noqa: BLE001 - it goes on with what it has
                if not told:  # once, however long it lasts
                    log.warning("the database does not say which versions are champions: %s", said_of(error))
                told = True
            if self._wait(None):
                return

    def _wait(self, driver: Any) -> bool:
        """Wait until it is time to look, or the database says so; tell whether it is time to stop.

        driver : the connection that listens.
        """
        listening = [self._stopped] if driver is None else [self._stopped, driver]
        # What was heard while it looked has come already, and makes no socket ready.
        heard = driver is not None and bool(driver.notifies)
        ready, _, _ = select.select(listening, [], [], 0 if heard else LOOK_SECONDS)
        if driver is not None:
            if driver in ready:
                driver.poll()
            driver.notifies.clear()
        return self._stopped in ready


def _golden(store: ArtifactStore, version: Version) -> Any:
    """Return the rows that the version was registered with."""
    import pyarrow.parquet as pq

    content = read_file(store, version, GOLDEN)
    assert content is not None  # of every version
    return pq.read_table(io.BytesIO(content)).select([c.name for c in version.signature.features])


def _of_length(table: Any, rows: int) -> Any:
    import numpy as np

    return table.take(np.arange(rows) % table.num_rows)
