"""Have freed tensors leave the process at once, not lie about in glibc's heap. No torch."""

from __future__ import annotations

import contextlib
import ctypes
import sys

from wanflow.units import MIB

_M_MMAP_THRESHOLD = -3  # malloc.h
THRESHOLD_BYTES = MIB


def return_freed_memory() -> None:
    """Map each allocation of a mebibyte or more by itself, so that a free gives it back.

    glibc raises that limit to 32 MiB by itself. Aligned blocks below it then hardly ever fit where
    one of their own size was freed, and the heap grows to several times what is alive.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another libc without mallopt
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, THRESHOLD_BYTES)
