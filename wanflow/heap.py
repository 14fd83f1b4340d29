"""How tensors lie in a Linux process: large ones in large pages, freed ones used again. No torch.

Memory that is new to a process is cleared by the kernel, a fault for every page of it: a fifth of a
small run on a CPU. Either it is not given back between calls, or its pages are large.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys

from wanflow.units import MIB

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MADV_HUGEPAGE = 14  # bits/mman-linux.h
_LARGE_BYTES = 2 * MIB  # of such a page on x86-64; what is smaller has no use for them
_ENABLE = "THP_MEM_ALLOC_ENABLE"  # PyTorch's: c10/core/impl/alloc_cpu.cpp reads it once

# From which size on an allocation is mapped by itself, so that a free gives it back; and what the
# heap keeps at its end. PyTorch aligns what it asks large pages for to whole pages, and then freed
# blocks fit the next ones. Without that they hardly ever do where small ones lie between, and the
# heap grows to several times what is alive.
MAPPED_BYTES = 16 * MIB
KEPT_BYTES = 64 * MIB
MAPPED_BYTES_UNALIGNED = MIB


def ask_for_large_pages() -> None:
    """Have PyTorch's allocator ask for large pages; of no effect once torch is loaded."""
    if "torch" not in sys.modules:
        os.environ.setdefault(_ENABLE, "1")


def settle_heap() -> None:
    """Say what is kept of memory that is freed.

    glibc raises its own limit to 32 MiB as it goes, whether freed blocks fit or not.
    """
    aligned = os.environ.get(_ENABLE) == "1"
    _set(_M_MMAP_THRESHOLD, MAPPED_BYTES if aligned else MAPPED_BYTES_UNALIGNED)
    _set(_M_TRIM_THRESHOLD, KEPT_BYTES)


def _set(what: int, nbytes: int) -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another libc without mallopt
        ctypes.CDLL(None).mallopt(what, nbytes)


def give_back() -> None:
    """Let the system have every page of the heap that nothing lies in."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


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
