"""The file of a trace, opened and read: what the system refuses is told with its name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from wanflow.errors import InputError

_BUFFER_BYTES = 256 * 1024


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """InputError for a trace that the system can't read on."""
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"can't read trace {path}: {reason}", code="trace-unreadable")


def open_trace(path: Path) -> BinaryIO:
    """Open a regular file; a pipe must not block us, a device not feed us for ever. InputError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return os.fdopen(fd, "rb", buffering=_BUFFER_BYTES)
    os.close(fd)
    inside = path / "trace.msgpack"
    hint = f"give {inside}" if inside.is_file() else "give a trace.msgpack of a run"
    raise InputError(f"{path} is not a file", hint=hint, code="not-a-trace")
