"""Where the time of one shard goes: a sampling profiler of all threads, which needs to know nothing of the code."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections import Counter
from types import FrameType

from tabulate import tabulate
from tests.bench.scoring_ways import Job, import_all, score_one

from ponte.scoring.plan import Shard

_INTERVAL = 0.002
#: Thread, innermost function of Ponte, and what that called: "" for itself, which includes C code that it called.
Place = tuple[str, str, str]


def profile(job: Job, shard: Shard) -> str:
    """Score a shard, in a fresh process, and return a table of seconds per place."""
    import_all()
    seconds: Counter[Place] = Counter()
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(seconds, stop), name="sampler", daemon=True)
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    sampler.start()
    rows = score_one(job, shard)
    stop.set()
    sampler.join()
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
    table = [
        (thread, inside, calls, f"{spent:.2f}", f"{spent / wall:.1%}")
        for (thread, inside, calls), spent in seconds.most_common()
        if spent >= 0.005 * wall
    ]
    headers = ("thread", "in", "calling", "seconds", "of wall")
    return (
        f"One shard of {rows} rows: {wall:.2f} s, of which this process used CPU for "
        f"{after.ru_utime - before.ru_utime:.2f} s (user) + {after.ru_stime - before.ru_stime:.2f} s (system)\n"
        f"Seconds of waiting and of working; threads overlap. Queue.get and Queue.put wait for another thread.\n"
        + str(tabulate(table, headers=headers, disable_numparse=True, colalign=("left",) * 3 + ("right",) * 2))
    )


def _sample(seconds: Counter[Place], stop: threading.Event) -> None:
    """Add the time since the last sample to where each thread is: code that holds the GIL delays samples."""
    last = time.perf_counter()
    while not stop.wait(_INTERVAL):
        now = time.perf_counter()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                place = _place(frame)
                if place is not None:
                    seconds[names.get(ident, "?"), *place] += now - last
        last = now


def _place(frame: FrameType) -> tuple[str, str] | None:
    """Return Ponte's innermost function on the stack and the function it called; None for a thread without any."""
    called, at = "", frame
    while at is not None:
        if "/ponte/" in at.f_code.co_filename:
            module = str(at.f_globals["__name__"]).removeprefix("ponte.")
            return f"{module}.{at.f_code.co_qualname}, line {at.f_lineno}", called
        called = at.f_code.co_qualname
        at = at.f_back  # type: ignore[assignment]
    return None
