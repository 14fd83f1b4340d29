"""What reads a trace more than once reads one file: that it was replaced meanwhile is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wanflow.errors import TraceError


@contextmanager
def unreplaced(path: Path | str) -> Iterator[None]:
    """TraceError if another file is called *path* at the end of the block, however that ends.

    A file that only grew is the same one: a run goes on.
    """
    before = _which(path)
    try:
        yield
    except Exception:
        if _which(path) == before:
            raise
        raise _replaced(path) from None
    if _which(path) != before:
        raise _replaced(path)


def _which(path: Path | str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a path or a text
    except (OSError, ValueError):  # who opens it will say so
        return None
    return found.st_dev, found.st_ino


def _replaced(path: Path | str) -> TraceError:
    return TraceError(
        f"{path} was replaced by another file while it was read",
        hint="the same command again",
        code="trace-replaced",
    )
