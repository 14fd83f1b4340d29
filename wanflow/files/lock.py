"""One process a folder: a lock that the kernel lets go of, however the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import attrs

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


@attrs.define
class HeldLocks:
    """Which files are locked now, as the system lists it: nobody is kept from a lock meanwhile.

    Trying to lock a file would do that for an instant, in which a run could not begin. A file is
    `major:minor:inode` here. None where the system has no list.
    """

    files: frozenset[str] | None
    _inodes: frozenset[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._inodes = frozenset(int(file.rpartition(":")[2]) for file in self.files or ())

    @classmethod
    def now(cls) -> Self:
        """Read the list."""
        try:
            rows = _LIST.read_text("ascii", "replace").splitlines()
        except OSError:
            return cls(None)
        words = (row.split() for row in rows)
        return cls(frozenset(w[5] for w in words if len(w) == 8 and w[1:4:2] == _EXCLUSIVE))

    def may_have(self, inode: int) -> bool:
        """Whether a file with this inode is locked, on any device; True where nothing tells."""
        return self.files is None or inode in self._inodes

    def has(self, handle: int) -> bool:
        """Whether the open file is locked."""
        if self.files is None:
            return _is_refused(handle)
        there = os.fstat(handle)
        major, minor = os.major(there.st_dev), os.minor(there.st_dev)
        if f"{major:02x}:{minor:02x}:{there.st_ino}" in self.files:
            return True
        # Some file systems are listed under another device: then the inode, asked about once more.
        return there.st_ino in self._inodes and _is_refused(handle)


_LIST = Path("/proc/locks")
_EXCLUSIVE = ["FLOCK", "WRITE"]


def _is_refused(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return HeldLocks.now().has(handle)
    finally:
        os.close(handle)
