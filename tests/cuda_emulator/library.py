"""The C++ library of the emulator, as Python calls it and is called by it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

GO_ON, FAILS, DEFERRED = 0, 1, 2  # what a hook answers: emulator.h
_KINDS: dict[type[BaseException], int] = {
    torch.OutOfMemoryError: 0,
    torch.AcceleratorError: 1,
    RuntimeError: 2,
}


# The allocator's counters, in the library's order.
_COUNTERS = ("allocated", "allocated_peak", "reserved", "reserved_peak", "retries", "failures")


class Range(ctypes.Structure):
    """Bytes that an operation reads or writes; `device` is below 0 for the host's."""

    _fields_ = (
        ("address", ctypes.c_int64),
        ("nbytes", ctypes.c_int64),
        ("device", ctypes.c_int32),
        ("is_written", ctypes.c_int32),
    )
    address: int
    nbytes: int
    device: int
    is_written: int


class Listener(Protocol):
    """Who is asked before each of these, and answers with one of the words above."""

    def allocating(self, device: int, nbytes: int) -> int:
        """Memory is asked for."""

    def handed_out(self, device: int, address: int, nbytes: int) -> None:
        """Memory was given."""

    def launching(self, name: str, device: int, ranges: Sequence[Range]) -> int:
        """An operation is to run."""

    def copying(self, target: Range, source: Range, *, plain: bool, non_blocking: bool) -> int:
        """Bytes are to be copied; *plain* ones by nothing but their addresses."""


_RangeAt = ctypes.POINTER(Range)
_Allocation = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_HandedOut = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_Launch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, _RangeAt)
_Copy = ctypes.CFUNCTYPE(ctypes.c_int, _RangeAt, _RangeAt, ctypes.c_int, ctypes.c_int)


class _Hooks(ctypes.Structure):
    _fields_ = (
        ("allocation", _Allocation),
        ("handed_out", _HandedOut),
        ("launch", _Launch),
        ("copy", _Copy),
    )


class Library:
    """The library, with *listener* at its hooks while it is started."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self._functions: Any = ctypes.CDLL(str(path))
        self._hooks = _Hooks(
            _Allocation(listener.allocating),
            _HandedOut(listener.handed_out),
            _Launch(
                lambda name, device, count, ranges: listener.launching(
                    name.decode(), device, ranges[:count]
                )
            ),
            _Copy(
                lambda target, source, plain, non_blocking: listener.copying(
                    target.contents,
                    source.contents,
                    plain=bool(plain),
                    non_blocking=bool(non_blocking),
                )
            ),
        )

    def start(self, count: int, total_bytes: int) -> None:
        """Switch on so many devices of this size."""
        totals = (ctypes.c_int64 * count)(*[total_bytes] * count)
        self._functions.emulator_start(count, totals, ctypes.byref(self._hooks))

    def stop(self) -> None:
        """Switch them off; tensors that still live stay readable."""
        self._functions.emulator_stop()

    def driver(
        self,
        version: str,
        cuda: tuple[int, int],
        name: str,
        count: int,
        capability: tuple[int, int],
    ) -> None:
        """Say what NVML answers; without a version there is no driver."""
        self._functions.emulator_driver(
            version.encode(), cuda[0] * 1000 + cuda[1] * 10, name.encode(), count, *capability
        )

    def fail(self, error: BaseException) -> int:
        """Answer a hook: have *error* thrown."""
        self._functions.emulator_fail(_KINDS[type(error)], str(error).encode())
        return FAILS

    def current_device(self) -> int:
        """This thread's."""
        return int(self._functions.emulator_current_device())

    def set_device(self, device: int) -> int:
        """Make *device* this thread's, unless it is below 0, and tell which was."""
        return int(self._functions.emulator_set_device(device))

    def expandable(self, *, is_on: bool) -> None:
        """Have new segments grow, or not."""
        self._functions.emulator_expandable(int(is_on))

    def cap(self, device: int, nbytes: int) -> None:
        """Refuse what passes so many bytes."""
        self._functions.emulator_limit(device, ctypes.c_int64(nbytes))

    def outside(self, device: int, nbytes: int) -> None:
        """Say what the context and other programs use."""
        self._functions.emulator_outside(device, ctypes.c_int64(nbytes))

    def counters(self, device: int) -> dict[str, int]:
        """Read the allocator's counters."""
        values = (ctypes.c_int64 * len(_COUNTERS))()
        self._functions.emulator_counters(device, values)
        return dict(zip(_COUNTERS, values, strict=True))

    def reset_peaks(self, device: int) -> None:
        """Count peaks anew."""
        self._functions.emulator_reset_peaks(device)

    def empty_cache(self) -> None:
        """Give free blocks back to the device."""
        self._functions.emulator_empty_cache()
