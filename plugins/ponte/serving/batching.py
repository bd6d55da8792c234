"""Natural batches: what has come while one batch was computed is the next one. Nobody waits for company.

Sixty-four rows cost little more than one, so nothing is gained by waiting, and at high load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ponte.computing.pace import BATCH_ROWS, Pace
from ponte.computing.workers import NotServed, Worker
from ponte.errors import PonteError
from ponte.live.counting import Counted
from ponte.live.records import Parsed, Problem, Reader
from ponte.live.tables import LiveTable, Source
from ponte.scoring.answering import Answers, Unanswered
from ponte.short_way.plain import PlainRows
from ponte.versions.loading import LoadedVersion
from ponte.versions.registry import Version

_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


class Overloaded(PonteError):
    """An answer would come later than anybody should wait; `seconds` says when to ask again."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A champion that answers."""

    loaded: LoadedVersion
    #: When it became champion.
    since: dt.datetime
    #: Computes its answers.
    worker: Worker
    #: How long that takes.
    pace: Pace
    #: Reads its rows.
    reader: Reader
    #: Where its answers are kept, and by which bins they are counted.
    table: LiveTable
    counted: Counted

    @property
    def version(self) -> Version:
        """The version."""
        return self.loaded.version


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one request: its part of a batch."""

    serving: Serving
    #: Why the request cannot be understood; then there are no answers.
    problems: Sequence[Problem]
    #: As in `Answers`, of the rows of this request.
    columns: dict[str, list[Any]] = field(default_factory=dict)
    unanswered: dict[int, Unanswered] = field(default_factory=dict)
    request_ids: Sequence[str] = ()


@dataclass(slots=True)
class _Asked:
    instances: list[Any]
    keys: list[Any] | None
    source: Source
    answer: asyncio.Future[Answered]


@dataclass(frozen=True, slots=True)
class Batch:
    """What was answered at once."""

    serving: Serving
    #: Key and features.
    rows: PlainRows
    answers: Answers
    #: Of each row its number, and where it came from.
    request_ids: list[str]
    sources: list[Source]
    #: That of the numbers, to the millisecond.
    asked_at: dt.datetime


class Batcher:
    """The requests for one model."""

    def __init__(
        self, model: str, current: Callable[[], Serving | None], *, keep: Callable[[Batch], object], patience: float
    ) -> None:
        """keep : told of each batch when its answers are on their way.

        patience : seconds after which an answer would be too late; then it is refused at once, see Overloaded.
        """
        self._model = model
        self._current = current
        self._keep = keep
        self._patience = patience
        self._asked: deque[_Asked] = deque()
        self._task: asyncio.Task[None] | None = None
        #: Told of each batch that was computed: its rows, and its seconds.
        self.on_batch: Callable[[int, float], object] = lambda *_: None
        #: Rows that wait to be computed, or are just being computed.
        self.waiting = 0

    async def ask(self, instances: list[Any], keys: list[Any] | None, source: Source) -> Answered:
        """Return what becomes of instances, whose keys may be given. Raises Overloaded and NotServed.

        source : where the request came from, `api` or `form`.
        """
        serving = self._current()
        if serving is None:
            raise NotServed("no version answers for the model", where=f"model {self._model}")
        late = serving.pace.wait(self.waiting + len(instances))
        if self.waiting and late > self._patience:
            error = Overloaded(
                "too many requests wait",
                where=f"model {self._model}",
                got=f"an answer in {late:.1f} s",
                expected=f"at most {self._patience:g} s",
                fix="ask again later, as Retry-After says; put what may wait into the queue, with :enqueue",
            )
            error.seconds = late
            raise error
        loop = asyncio.get_running_loop()
        asked = _Asked(instances, keys, source, loop.create_future())
        self._asked.append(asked)
        self.waiting += len(instances)
        if self._task is None:
            self._task = loop.create_task(self._drain())
        return await asked.answer

    def _take(self) -> list[_Asked]:
        """Return the requests that come next: at least one, and no more rows than a batch has if there are several."""
        batch = [self._asked.popleft()]
        rows = len(batch[0].instances)
        while self._asked and rows + len(self._asked[0].instances) <= BATCH_ROWS:
            batch.append(self._asked.popleft())
            rows += len(batch[-1].instances)
        return batch

    async def _drain(self) -> None:
        try:
            while self._asked:
                batch = self._take()
                try:
                    await self._compute(batch)
                except Exception as error:  # noqa: BLE001 - whoever asked is told, and the next batch has its turn
                    for asked in batch:
                        if not asked.answer.done():
                            asked.answer.set_exception(error)
                self.waiting -= sum(len(asked.instances) for asked in batch)
                await asyncio.sleep(0)  # answers go out, requests come in
        finally:
            self._task = None

    async def _compute(self, batch: list[_Asked]) -> None:
        serving = self._current()  # once: a batch is of one version, whatever happens meanwhile
        if serving is None:
            raise NotServed("no version answers for the model any more", where=f"model {self._model}")
        batch, rows = _understood(serving, batch)
        if not batch:
            return
        began = time.perf_counter()
        try:
            answers = await serving.worker.answered(rows)
        except NotServed:
            if self._current() in (None, serving):
                raise
            await self._compute(batch)  # it was replaced in this very moment
            return
        seconds = time.perf_counter() - began
        serving.pace.saw(rows.num_rows, seconds)
        asked_at, ids = new_ids(rows.num_rows)
        start = 0
        for asked in batch:
            stop = start + len(asked.instances)
            if not asked.answer.done():  # else who asked has gone
                asked.answer.set_result(_part(serving, answers, ids, start, stop))
            start = stop
        try:  # who asked comes first: a turn of the loop makes the replies, and one sends them
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            self.on_batch(rows.num_rows, seconds)
            sources = [asked.source for asked in batch for _ in asked.instances]
            self._keep(Batch(serving, rows, answers, ids, sources, asked_at))


def _understood(serving: Serving, batch: list[_Asked]) -> tuple[list[_Asked], PlainRows]:
    """Return the requests of a batch that can be understood, and their rows; the others are answered."""
    parsed = _parse(serving, batch)
    if not parsed.bad:
        return batch, parsed.rows
    good: list[_Asked] = []
    chosen: list[int] = []
    start = 0
    for asked in batch:
        places = range(start, start + len(asked.instances))
        start = places.stop
        if parsed.bad.isdisjoint(places):
            good.append(asked)
            chosen.extend(places)
        elif not asked.answer.done():
            # Alone, its places are those that who asked knows, and no other's problems are told.
            asked.answer.set_result(Answered(serving, _parse(serving, [asked]).problems))
    return good, parsed.rows.take(chosen)


def _parse(serving: Serving, batch: list[_Asked]) -> Parsed:
    instances = [instance for asked in batch for instance in asked.instances]
    if all(asked.keys is None for asked in batch):
        return serving.reader.parse(instances)
    keys = [key for asked in batch for key in asked.keys or [None] * len(asked.instances)]
    return serving.reader.parse(instances, keys)


def _part(serving: Serving, answers: Answers, ids: Sequence[str], start: int, stop: int) -> Answered:
    columns = {name: values[start:stop] for name, values in answers.columns.items()}
    unanswered = {place - start: why for place, why in answers.unanswered.items() if start <= place < stop}
    return Answered(serving, (), columns, unanswered, ids[start:stop])


def new_ids(count: int) -> tuple[dt.datetime, list[str]]:
    """Return the time, to the millisecond, and that many UUIDs of version 7, which hold just this time."""
    milliseconds = time.time_ns() // 1_000_000
    head = milliseconds << 80 | 7 << 76 | 2 << 62
    noise = int.from_bytes(os.urandom(10 * count))
    found = []
    for _ in range(count):
        digits = f"{head | (noise >> 62 & 0xFFF) << 64 | noise & 0x3FFF_FFFF_FFFF_FFFF:032x}"
        found.append(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")
        noise >>= 80
    return _EPOCH + dt.timedelta(milliseconds=milliseconds), found
