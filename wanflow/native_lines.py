"""What libraries in C and Rust write to stderr of their own, past Python: before a message of ours.

Rust tells of a panic there, libtiff of a damaged strip, and whoever reads our one line, or the JSON
of `--json`, would find theirs first.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDERR = 2
_MOST_BYTES = 1 << 20
_ONE_AT_A_TIME = threading.RLock()  # else a thread would put back what another had put there


@contextmanager
def held_back() -> Iterator[None]:
    """Hold back what is written to stderr in the block: it comes after it, or never if that fails.

    What fails is told by whoever catches it. Nothing is held where there is no stderr, or nothing
    to hold it in.
    """
    with _ONE_AT_A_TIME:
        handles = _handles()
        if handles is None:
            yield
            return
        stderr, room = handles
        try:
            _flush()
            os.dup2(room, _STDERR)
            try:
                yield
            finally:
                _flush()
                os.dup2(stderr, _STDERR)
            with suppress(OSError):
                os.write(_STDERR, os.pread(room, _MOST_BYTES, 0))
        finally:
            os.close(stderr)
            os.close(room)


def _handles() -> tuple[int, int] | None:
    """A second handle of stderr, and one of a file without a name to hold it in."""
    if sys.platform != "linux":
        return None
    try:
        stderr = os.dup(_STDERR)
    except OSError:
        return None
    try:
        return stderr, os.memfd_create("stderr")
    except OSError:
        os.close(stderr)
        return None


def _flush() -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
