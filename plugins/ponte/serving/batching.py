"""Natural batches: what has come while one batch was computed is the next one. Nobody waits for company.

One request costs about what sixty-four cost, and scikit-learn holds the interpreter's lock, so a batch is computed in
the event loop itself where that takes no longer than INLINE_SECONDS: a thread beside it would only fight it for the
lock. A slower version gets a process of its own, behind a pipe.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ponte.errors import PonteError
from ponte.live.records import Parsed, Problem, Reader
from ponte.scoring.answering import Answers, Unanswered, answer
from ponte.scoring.scorer import Scorer
from ponte.storage.withholding import said_of
from ponte.versions.loading import LoadedVersion
from ponte.versions.registry import Version

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import pyarrow as pa

#: Rows in one batch; a request for more is one batch alone.
BATCH_ROWS = 64
#: A version whose batch takes longer than this is computed in another process.
INLINE_SECONDS = 0.020
#: Of what was learned of the pace before a batch, the share that counts after it.
_DECAY = 0.95
#: Begins what the process of a slow version says instead of answers; no MessagePack of answers begins so.
_FAILED = b"\xc1"


class Overloaded(PonteError):
    """An answer would come later than anybody should wait; `seconds` says when to ask again."""

    seconds: float = 1.0


class NotServed(PonteError):
    """Nothing answers for the model at the moment."""


class Pace:
    """How long a batch takes: `per_call + per_row * rows`, by least squares over the latest batches."""

    def __init__(self, seen: Sequence[tuple[int, float]]) -> None:
        """seen : rows and seconds of at least two batches of different sizes; they count for ever, a little."""
        self._first = seen
        self._sums = [0.0] * 5
        self._fit()

    @classmethod
    def of(cls, work: Callable[[int], object]) -> Pace:
        """Return the pace of what does some rows; it is done a few times, and so gets warm."""
        seen = []
        for rows in (1, BATCH_ROWS):
            taken = []
            for _ in range(4):
                began = time.perf_counter()
                work(rows)
                taken.append(time.perf_counter() - began)
            seen.append((rows, min(taken)))
        return cls(seen)

    def saw(self, rows: int, seconds: float) -> None:
        """Learn from a batch."""
        new = (1.0, rows, seconds, rows * rows, rows * seconds)
        self._sums = [_DECAY * old + value for old, value in zip(self._sums, new, strict=True)]
        self._fit()

    def _fit(self) -> None:
        weight, n, t, nn, nt = self._sums
        for rows, seconds in self._first:
            weight, n, t, nn, nt = weight + 1, n + rows, t + seconds, nn + rows * rows, nt + rows * seconds
        self.per_row = max(0.0, (weight * nt - n * t) / (weight * nn - n * n))
        self.per_call = max(0.0, (t - self.per_row * n) / weight)

    def seconds(self, rows: int) -> float:
        """Return how long a batch of so many rows probably takes."""
        return self.per_call + self.per_row * rows

    def wait(self, rows: int) -> float:
        """Return how long it takes until so many rows, in batches, are done."""
        return -(-rows // BATCH_ROWS) * self.per_call + self.per_row * rows

    def __str__(self) -> str:
        """Return it as the log tells it."""
        one, batch = 1e3 * self.seconds(1), 1e3 * self.seconds(BATCH_ROWS)
        return f"one row takes {one:.1f} ms, {BATCH_ROWS} rows {batch:.1f} ms"


class Worker(Protocol):
    """Computes answers. `rows` hold at least the features of the version."""

    #: Whether it computes in this process, at once.
    inline: bool

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""

    def answer(self, rows: pa.Table) -> Answers:
        """Return the answers; not in the event loop, unless it is `inline`."""

    async def answered(self, rows: pa.Table) -> Answers:
        """Return the answers; the event loop goes on meanwhile, unless it is `inline`."""

    def close(self) -> None:
        """End what belongs to it, when it has done what it was asked."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Computes in the event loop."""

    scorer: Scorer
    inline: bool = True
    alive: bool = True

    def answer(self, rows: pa.Table) -> Answers:
        """Return the answers."""
        return answer(self.scorer, rows)

    async def answered(self, rows: pa.Table) -> Answers:
        """Return the answers."""
        return answer(self.scorer, rows)

    def close(self) -> None:
        """Do nothing."""


class InProcess:
    """Computes in a process of its own, behind a pipe; it loads the version by itself, verified as everywhere."""

    inline = False

    def __init__(self, artifacts: str, version: Version, *, other_libraries_allowed: bool) -> None:
        """artifacts : URL of the artifact root. Raises PonteError when the process does not come up."""
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, artifacts, version, other_libraries_allowed)
        self._process = context.Process(target=_serve, args=arguments, name="ponte-scorer", daemon=True)
        self._process.start()
        theirs.close()
        # One thread waits at the pipe, without the interpreter's lock.
        self._thread = ThreadPoolExecutor(1, "ponte-pipe")
        try:
            self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            self.close()
            raise PonteError("the process for a slow version did not come up", where=version.place) from error

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def answer(self, rows: pa.Table) -> Answers:
        """Return the answers; raises NotServed when the process has ended."""
        import msgspec
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        try:
            self._pipe.send_bytes(sink.getvalue())
            said = self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            fix = "ask again in a few seconds: it is started anew"
            raise NotServed("the process that computes the answers has ended", fix=fix) from error
        if said.startswith(_FAILED):
            raise PonteError("the version cannot answer", got=said.removeprefix(_FAILED).decode())
        return msgspec.msgpack.decode(said, type=Answers)

    async def answered(self, rows: pa.Table) -> Answers:
        """Return the answers; raises NotServed when the process has ended, or is being closed."""
        try:
            waiting = asyncio.get_running_loop().run_in_executor(self._thread, self.answer, rows)
        except RuntimeError as error:
            raise NotServed("the version is being replaced", fix="ask again") from error
        return await waiting

    def close(self) -> None:
        """End the process, when it has done what it was asked."""
        self._thread.shutdown(wait=True)
        self._pipe.close()
        self._process.join(5)
        self._process.kill()


def _serve(pipe: Connection, artifacts: str, version: Version, other_libraries_allowed: bool) -> None:
    """Answer what comes through the pipe until it is closed."""
    import signal

    import msgspec
    import pyarrow as pa
    from threadpoolctl import threadpool_limits
    from upath import UPath

    from ponte.storage.artifacts import ArtifactStore
    from ponte.versions.loading import load_version

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the pipe ends this one
    store = ArtifactStore(UPath(artifacts))
    scorer = Scorer(load_version(store, version, other_libraries_allowed=other_libraries_allowed))
    threadpool_limits(1)
    pipe.send_bytes(b"ready")
    while True:
        try:
            rows = pa.ipc.open_stream(pipe.recv_bytes()).read_all()
        except EOFError:
            return
        try:
            said = msgspec.msgpack.encode(answer(scorer, rows))
        except Exception as error:  # noqa: BLE001 - told to who asked
            said = _FAILED + said_of(error).encode()
        pipe.send_bytes(said)


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
    source: str
    answer: asyncio.Future[Answered]


#: Told of each batch, after its answers are on their way: the rows with key and features, their answers, their ids, and
#: of each where it came from.
Keep = Callable[[Serving, "pa.Table", Answers, Sequence[str], Sequence[str]], object]


class Batcher:
    """The requests for one model."""

    def __init__(self, model: str, current: Callable[[], Serving | None], *, keep: Keep, patience: float) -> None:
        """patience : seconds after which an answer would be too late; then it is refused at once, see Overloaded."""
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

    async def ask(self, instances: list[Any], keys: list[Any] | None, source: str) -> Answered:
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
        ids = new_ids(rows.num_rows)
        start = 0
        for asked in batch:
            stop = start + len(asked.instances)
            if not asked.answer.done():  # else who asked has gone
                asked.answer.set_result(_part(serving, answers, ids, start, stop))
            start = stop
        self.on_batch(rows.num_rows, seconds)
        self._keep(serving, rows, answers, ids, [asked.source for asked in batch for _ in asked.instances])


def _understood(serving: Serving, batch: list[_Asked]) -> tuple[list[_Asked], pa.Table]:
    """Return the requests of a batch that can be understood, and their rows; the others are answered."""
    import pyarrow as pa

    parsed = _parse(serving, batch)
    if not parsed.bad:
        return batch, parsed.rows
    good, chosen, start = [], [], 0
    for asked in batch:
        places = range(start, start + len(asked.instances))
        start = places.stop
        if parsed.bad.isdisjoint(places):
            good.append(asked)
            chosen.extend(places)
        elif not asked.answer.done():
            # Alone, its places are those that who asked knows, and no other's problems are told.
            asked.answer.set_result(Answered(serving, _parse(serving, [asked]).problems))
    return good, parsed.rows.take(pa.array(chosen, pa.int64()))


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


def new_ids(count: int) -> list[str]:
    """Return that many UUIDs of version 7: they sort by the time of their making, to the millisecond."""
    head = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | 2 << 62
    noise = int.from_bytes(os.urandom(10 * count))
    found = []
    for _ in range(count):
        digits = f"{head | (noise >> 62 & 0xFFF) << 64 | noise & 0x3FFF_FFFF_FFFF_FFFF:032x}"
        found.append(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")
        noise >>= 80
    return found
