"""The champion of each model, loaded by the one verified way; another one as soon as a take is asked for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ponte.errors import PonteError
from ponte.live.counting import counted
from ponte.live.tables import prepare
from ponte.model.spec import WindowRule
from ponte.storage.database import Database, is_transient
from ponte.storage.withholding import said_of
from ponte.stream.answers import Answering
from ponte.stream.taking import Head
from ponte.versions import registry
from ponte.versions.loading import LoadedVersion

log = logging.getLogger(__name__)

#: Seconds until a version that could not be loaded is tried again.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a version cannot answer, without a value of a row, and until when it is not tried again (monotonic)."""

    head: Head
    why: str
    until: float


class Champions:
    """The versions that this worker has loaded, one per model."""

    def __init__(self, db: Database, load: Callable[[registry.Version], LoadedVersion]) -> None:
        """load : returns a version, verified."""
        self._db = db
        self._load = load
        self._serving: dict[str, Answering] = {}
        self._broken: dict[str, Broken] = {}

    def why_not(self, model: str) -> str | None:
        """Return why the model answers nothing at the moment; None when it does, or was not asked."""
        found = self._broken.get(model)
        return found.why if found else None

    def answering(self, head: Head, window: WindowRule) -> Answering | None:
        """Return the version that answers now; None when it cannot, which is logged, and tried again later.

        window : by which its answers are counted. A champion that is marked bad answers nothing: what waits goes on
        waiting, until another one is champion.
        """
        broken = self._broken.get(head.model)
        if broken is not None and broken.head == head and time.monotonic() < broken.until:
            return None
        now = self._serving.get(head.model)
        if now is not None and now.version.version == head.version and not head.bad:
            self._broken.pop(head.model, None)
            return now
        if head.version is None or head.bad:
            what = "has no champion" if head.version is None else f"version {head.version}, its champion, is marked bad"
            self.cannot(head, what)
            return None
        try:
            found = self._loaded(head.model, head.version, window)
        except Exception as error:
            if is_transient(error) or isinstance(error, MemoryError):
                raise
            why = error.what if isinstance(error, PonteError) else said_of(error)
            self.cannot(head, f"version {head.version} cannot be loaded: {why}")
            return None
        self._serving[head.model] = found
        self._broken.pop(head.model, None)
        log.info("version %d of %s answers", head.version, head.model)
        return found

    def cannot(self, head: Head, why: str) -> None:
        """Answer nothing of the model for a while, or until it has another champion."""
        log.warning("what waits for %s goes on waiting: %s", head.model, why)
        self._broken[head.model] = Broken(head, why, time.monotonic() + PATIENCE)

    def _loaded(self, model: str, version: int, window: WindowRule) -> Answering:
        loaded = self._load(registry.get_version(self._db, model, version))
        prepare(self._db, model)
        with self._db.begin() as connection:
            return Answering(loaded, counted(connection, model, version, window))
