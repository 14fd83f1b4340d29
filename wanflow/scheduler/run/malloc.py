"""How large tensors lie in a Linux process: freed at once, in large pages. No torch."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys

from wanflow.units import MIB

_M_MMAP_THRESHOLD = -3  # malloc.h
_MADV_HUGEPAGE = 14  # bits/mman-linux.h
_LARGE_BYTES = 2 * MIB  # of such a page on x86-64; what is smaller has no use for them
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


def prefer_large_pages(address: int, nbytes: int) -> None:
    """Ask for large pages under fresh memory that is about to be filled.

    Reading gigabytes into new memory otherwise spends a third of its time on page faults, one for
    every 4 KiB. Where the kernel has none to give, or won't, small pages are what there is.
    """
    page = mmap.PAGESIZE
    start = -(-address // page) * page
    length = (address + nbytes) // page * page - start
    if sys.platform != "linux" or length < _LARGE_BYTES:
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
