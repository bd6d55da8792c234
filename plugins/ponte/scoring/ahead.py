"""Stages that overlap: each in a thread of its own, at most a few items ahead of the next."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a stage that waits looks whether the other one has given up, in seconds.
_LOOK = 0.1
#: How long a stream that ends early waits for a stage that is at work, in seconds.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


class _End:
    pass


class Ahead(Generic[T]):
    """Iterate over `items`, which a thread of its own produces, at most `depth` ahead of the reader.

    What the thread raises is raised here. Use it as a context manager: leaving it, by an error too, ends the thread
    before anything that the items come from is closed, or gives up waiting for it after PATIENCE seconds: the error
    that ends a task must not wait for an estimator that hangs.

    stop : the same event for all stages of one stream; none of them waits for another once it is set.
    cancel : called when the thread is still at work on leaving, to make what it waits for end.

    >>> with Ahead(range(3), depth=1) as ahead:
    ...     list(ahead)
    [0, 1, 2]
    """

    def __init__(
        self,
        items: Iterable[T],
        *,
        depth: int,
        stop: threading.Event | None = None,
        cancel: Callable[[], object] = lambda: None,
    ) -> None:
        self._queue: queue.Queue[T | _Raised | _End] = queue.Queue(depth)
        self._stop = threading.Event() if stop is None else stop
        self._cancel = cancel
        # Settings of numpy and others hold for a context, and a thread begins with a new one.
        produce = contextvars.copy_context().run
        self._thread = threading.Thread(target=produce, args=(self._produce, items), daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._received()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_LOOK)
        if self._thread.is_alive():
            self._cancel()
            self._thread.join(PATIENCE)
        if self._thread.is_alive():
            log.warning("a stage is still at work %g seconds after the stream has ended", PATIENCE)

    def _produce(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are read
            self._put(_Raised(error))
        else:
            self._put(_End())

    def _put(self, item: T | _Raised | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_LOOK)
            except queue.Full:
                continue
            return True
        return False

    def _received(self) -> Iterator[T]:
        while not self._stop.is_set():
            # With a time-out, so that a signal to the main thread is handled while it waits.
            try:
                item = self._queue.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if isinstance(item, _Raised):
                raise item.error
            if isinstance(item, _End):
                return
            yield item
