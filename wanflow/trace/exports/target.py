"""The file that an export becomes: written beside, renamed when it is whole."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from wanflow.errors import InputError, StageFailed

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(target: Path, source: Path) -> Iterator[BinaryIO]:
    """Lend a file that replaces *target* once the block ends well; else nothing is left of it.

    Raises InputError for a target that can't be a file or is the *source* itself, StageFailed when
    the disk is full.
    """
    _check(target, source)
    part = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        with _create(part) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _create(part: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(part, flags, 0o644), "wb")


def _check(target: Path, source: Path) -> None:
    try:
        there = target.stat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _unwritable(target, error) from error
    if not stat.S_ISREG(there.st_mode):
        raise InputError(f"--output {target} is not a file", code="bad-output")
    if os.path.samestat(there, source.stat()):
        raise InputError(
            f"--output {target} is the trace itself", hint="name another file", code="bad-output"
        )


def _unwritable(target: Path, error: OSError | ValueError) -> InputError | StageFailed:
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    text = f"can't write {target}: {reason}"
    if number in _FULL:
        return StageFailed(text, hint="free some space", code="write-failed")
    return InputError(text, hint="name a file in a folder that is there", code="bad-output")
