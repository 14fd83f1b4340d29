"""A cgroup that bounds what a command takes: tensors, libraries and its page cache together.

Of version 1 or 2, whichever is mounted; making one needs root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@contextmanager
def memory_group(limit_bytes: int | None) -> Iterator[Path | None]:
    """Make a group of at most *limit_bytes*; its file to write a process's number to.

    None for no bound. OSError where no group can be made.
    """
    if limit_bytes is None:
        yield None
        return
    first = (_ROOT / "memory").is_dir()
    folder = (_ROOT / "memory" if first else _ROOT) / f"wanflow-{os.getpid()}"
    folder.mkdir()
    try:
        name = "memory.limit_in_bytes" if first else "memory.max"
        (folder / name).write_text(str(limit_bytes))
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()
