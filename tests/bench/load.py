"""Load over HTTP/1.1 from one process: closed loops of so many connections, and open loops of Poisson arrivals.

An open loop measures from the moment at which a request was due, so whoever is slow cannot slow down the questions. A
thread of its own wakes the loop at that moment: the timers of event loops are late by up to a millisecond. What the
generator itself was late is told beside the figures.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import uvloop

T = TypeVar("T")

#: Told of each answer: number of the request, when it was due or sent (time.time), status, body.
Heard = Callable[[int, float, int, bytes], None]


@dataclass(slots=True)
class Load:
    """What came of one load."""

    seconds: float = 0.0
    #: Milliseconds of each request, in the order of the answers.
    milliseconds: list[float] = field(default_factory=list)
    #: When each was due, or sent: seconds of time.time.
    at: list[float] = field(default_factory=list)
    #: Status → requests; 0: the connection broke.
    statuses: Counter[int] = field(default_factory=Counter)
    #: Milliseconds that the generator was late, of an open loop.
    late: list[float] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """How many were not answered with 200."""
        return self.statuses.total() - self.statuses[200]

    @property
    def rate(self) -> float:
        """Answers of 200 per second."""
        return self.statuses[200] / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency, in milliseconds."""
        return float(np.percentile(self.milliseconds, percent))

    def add(self, at: float, took: float, status: int) -> None:
        """Count an answer."""
        self.milliseconds.append(1e3 * took)
        self.at.append(at)
        self.statuses[status] += 1


class Connection(asyncio.Protocol):
    """One connection, with one request at a time on its way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._buffer = b""

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of its answer; status 0 when the connection breaks."""
        loop = asyncio.get_running_loop()
        try:
            if self._transport is None or self._transport.is_closing():
                self._buffer = b""
                await loop.create_connection(lambda: self, "127.0.0.1", self._port)
            if self._transport is None:  # closed as soon as it was open
                return 0, b""
            self._answer = loop.create_future()
            self._transport.write(request)
            return await self._answer
        except OSError:
            return 0, b""

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """Finish the request when all of its answer has come."""
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        lower = head.lower()
        length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._buffer = b""
        if b"connection: close" in lower and self._transport is not None:
            self._transport.close()
        self._settle((int(head[9:12]), body[:length]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was on its way as broken."""
        del exc
        self._transport = None
        self._settle((0, b""))

    def _settle(self, answer: tuple[int, bytes]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


def request_of(path: str, body: bytes, *, token: str = "") -> bytes:
    """Return a whole request as it goes over the wire."""
    key = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a load to its end."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # the thread that wakes the loop must not wait for it
    gc.disable()  # a quarter of a second through all that the bench has loaded would look like the server's
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.enable()
        sys.setswitchinterval(before)


async def closed(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Ask on so many connections, on each the next as soon as the one before is answered."""
    load, begin = Load(), time.perf_counter()
    numbers = itertools.count()

    async def one() -> None:
        connection = Connection(port)
        while (sent := time.perf_counter()) - begin < seconds:
            status, _ = await connection.call(requests[next(numbers) % len(requests)])
            load.add(time.time(), time.perf_counter() - sent, status)
        connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    load.seconds = time.perf_counter() - begin
    return load


async def opened(
    port: int, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0, heard: Heard | None = None
) -> Load:
    """Ask at random moments, `rate` times a second on average, whether or not anything has been answered."""
    load, loop, free = Load(), asyncio.get_running_loop(), []
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds)))
    begin, wall = time.perf_counter() + 0.05, time.time() + 0.05
    tasks: list[asyncio.Task[None]] = []
    all_asked = asyncio.Event()

    async def one(number: int, at: float) -> None:
        connection = free.pop() if free else Connection(port)
        status, body = await connection.call(requests[number % len(requests)])
        load.add(wall + at, time.perf_counter() - begin - at, status)
        free.append(connection)
        if heard is not None:
            heard(number, wall + at, status, body)

    def ask(number: int, at: float) -> None:
        load.late.append(1e3 * (time.perf_counter() - begin - at))
        tasks.append(loop.create_task(one(number, at)))

    def wake() -> None:
        for number, at in enumerate(due):
            if (wait := begin + at - time.perf_counter()) > 0:
                time.sleep(wait)
            loop.call_soon_threadsafe(ask, number, float(at))
        loop.call_soon_threadsafe(all_asked.set)

    threading.Thread(target=wake, daemon=True).start()
    await all_asked.wait()
    await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - begin
    for connection in free:
        connection.close()
    return load
