"""One process a folder: a lock that the kernel lets go of, however the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wanflow.errors import InputError
from wanflow.files.whole import unwritable


@contextmanager
def locked(folder: Path, *, option: str = "--out") -> Iterator[None]:
    """Hold a folder's lock; InputError naming the process that has it, and the *option*."""
    path = folder / "lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "another process"
            raise InputError(
                f"{folder}: process {owner} is running there",
                hint=f"wait for it, or choose another {option}",
                code="run-locked",
            ) from None
        with suppress(OSError):  # on a full disk the lock holds without a name on it
            os.pwrite(handle, f"{os.getpid():<20}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)
