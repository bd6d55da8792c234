"""What computes answers: the process that is asked, at once, or one behind a pipe.

scikit-learn holds the interpreter's lock, so a batch is computed in the event loop itself where that takes no longer
than INLINE_SECONDS: a thread beside it would only fight it for the lock. A slower version gets a process of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ponte.errors import PonteError
from ponte.scoring.answering import Answers, answer
from ponte.scoring.scorer import Scorer
from ponte.short_way.plain import PlainRows
from ponte.storage.withholding import said_of
from ponte.versions.registry import Version

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: A version whose batch takes longer than this is computed in another process.
INLINE_SECONDS = 0.020
#: Begins what the process of a slow version says instead of answers; no MessagePack of answers begins so.
_FAILED = b"\xc1"


class NotServed(PonteError):
    """Nothing answers for the model at the moment."""


class Worker(Protocol):
    """Computes answers. Rows hold at least the features of the version."""

    @property
    def inline(self) -> bool:
        """Whether it computes in this process, at once."""

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""

    def answer(self, rows: PlainRows) -> Answers:
        """Return the answers; not in the event loop, unless it is `inline`."""

    async def answered(self, rows: PlainRows) -> Answers:
        """Return the answers; the event loop goes on meanwhile, unless it is `inline`."""

    def close(self) -> None:
        """End what belongs to it, when it has done what it was asked."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Computes in the event loop."""

    scorer: Scorer
    inline: bool = True
    alive: bool = True

    def answer(self, rows: PlainRows) -> Answers:
        """Return the answers."""
        return answer(self.scorer, rows)

    async def answered(self, rows: PlainRows) -> Answers:
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

    def answer(self, rows: PlainRows) -> Answers:
        """Return the answers; raises NotServed when the process has ended."""
        import msgspec
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows.table())
        try:
            self._pipe.send_bytes(sink.getvalue())
            said = self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            fix = "ask again in a few seconds: it is started anew"
            raise NotServed("the process that computes the answers has ended", fix=fix) from error
        if said.startswith(_FAILED):
            raise PonteError("the version cannot answer", got=said.removeprefix(_FAILED).decode())
        return msgspec.msgpack.decode(said, type=Answers)

    async def answered(self, rows: PlainRows) -> Answers:
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
