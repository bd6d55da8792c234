"""How this process handles its memory."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: The largest threshold that glibc takes.
_MMAP_BYTES = 32 * 2**20
_KEPT_BYTES = 128 * 2**20


def keep_freed_memory() -> None:
    """Let the C library keep freed arrays for the next ones, up to 128 MiB; does nothing without glibc.

    By default every large array goes back to the kernel and is faulted in again, page by page, for the next chunk:
    two thirds of the system time of a scoring task.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
