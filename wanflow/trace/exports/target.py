"""The file that an export becomes: it replaces what is there when it is whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from wanflow.errors import InputError, StageFailed
from wanflow.files import whole


@contextmanager
def writing(target: Path, source: Path) -> Iterator[BinaryIO]:
    """Lend a file that replaces *target* once the block ends well; else nothing is left of it.

    Raises InputError for a target that can't be a file or is the *source* itself, StageFailed when
    the disk is full.
    """
    _check(target, source)
    try:
        with whole.writing(target, shared=True, mode=0o644) as part, part.open("wb") as file:
            yield file
    except OSError as error:
        raise _unwritable(target, error) from error


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
    if number in whole.FULL:
        return StageFailed(text, hint="free some space", code="write-failed")
    return InputError(text, hint="name a file in a folder that is there", code="bad-output")
