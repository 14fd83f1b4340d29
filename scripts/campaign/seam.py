"""What a process has done to files, counted in C; the n-th operation of some kinds fails there."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs

SOURCE = Path(__file__).with_name("shim.c")
KINDS = ("write", "rename", "fsync", "create", "open", "read", "mmap")
REPLACE, KILL = -1, -signal.SIGKILL
_CPU_CLOCK = 2  # CLOCK_PROCESS_CPUTIME_ID


class _Page(ctypes.Structure):
    _fields_ = [
        ("seen", ctypes.c_long * len(KINDS)),
        ("chosen", ctypes.c_long),
        ("hits", ctypes.c_long),
        ("last", ctypes.c_char * 512),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("how", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    ]


@attrs.frozen
class Fault:
    """The n-th operation of some kinds fails, with *stays* all after it; n of 0: they are counted.

    `action` is an errno, REPLACE (half a file takes the place of what is opened) or KILL.
    """

    kinds: tuple[str, ...]
    action: int
    stays: bool = False


def load_shim(folder: Path) -> None:
    """Start this process again with the shim in it, where it isn't; SystemExit without gcc."""
    if hasattr(ctypes.CDLL(None), "campaign_arm"):
        return
    library = folder / "shim.so"
    words = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    try:
        subprocess.run(words, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{SOURCE}: can't be compiled: {error}") from None
    os.execve(  # noqa: S606 - ourselves
        sys.executable,
        [sys.executable, "-m", "scripts.campaign", *sys.argv[1:]],
        {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
    )


class Shim:
    """The shim of this process, and of the children that it forks."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.campaign_page.restype = ctypes.POINTER(_Page)
        self._page: _Page = self._library.campaign_page().contents

    def reset(self) -> None:
        """Count from the start; asked of the parent."""
        ctypes.memset(ctypes.byref(self._page), 0, ctypes.sizeof(_Page))

    def arm(self, roots: list[Path], fault: Fault, number: int) -> None:
        """Count below *roots* from now on, and fail; asked of a child."""
        mask = sum(1 << KINDS.index(kind) for kind in fault.kinds)
        folders = ":".join(str(root.resolve()) for root in roots).encode()
        self._library.campaign_arm(
            folders, mask, ctypes.c_long(number), fault.action, int(fault.stays)
        )

    @property
    def hits(self) -> int:
        """How many operations failed since `reset`."""
        return int(self._page.hits)

    @property
    def last(self) -> str:
        """The first operation that failed, and its file."""
        return bytes(self._page.last).decode("utf-8", "replace")

    def seen(self) -> dict[str, int]:
        """Count the operations by kind since `reset`."""
        return dict(zip(KINDS, self._page.seen, strict=True))


def kill_after(cpu_seconds: float) -> None:
    """Have the system end this process once it has computed so long, however busy others are."""
    library, timer = ctypes.CDLL(None, use_errno=True), ctypes.c_void_p()
    event = _Event(None, signal.SIGKILL, 0, b"")
    nanoseconds = max(1, int(cpu_seconds * 1e9))
    when = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 10**9))
    failed = library.timer_create(_CPU_CLOCK, ctypes.byref(event), ctypes.byref(timer))
    if failed or library.timer_settime(timer, 0, when, None):
        raise OSError(ctypes.get_errno(), "timer_create")
