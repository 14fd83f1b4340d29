"""Where the events of a run's ranks lie: a file a rank while they run, then in the one trace.

Who started the ranks reads along and takes their files away once the one trace is closed. Where it
was killed they are still there, and have what it had not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from wanflow.files.run_files import RANKS
from wanflow.watch.tree import open_in

MOST_RANKS = 16  # of a run that are shown; a folder may claim any number
_MOST_ENTRIES = 1024  # looked at; a run has 64 ranks at the most, two entries each
_OWN = re.compile(r"(0|[1-9][0-9]{0,3})\.msgpack")


def own_name(rank: int) -> str:
    """Name a rank's own trace, seen from the run's folder."""
    return f"{RANKS}/{rank}.msgpack"


@contextmanager
def _ranks_folder(folder: int) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(RANKS, flags, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def open_own(folder: int, rank: int) -> int:
    """Open a rank's own trace of an open run folder; OSError where there is none."""
    with _ranks_folder(folder) as inner:
        return open_in(inner, f"{rank}.msgpack")


def count_own(folder: int) -> int:
    """Say how many ranks there are by their own traces: one more than the highest; 0 for none."""
    try:
        with _ranks_folder(folder) as inner, os.scandir(inner) as entries:
            names = [entry.name for entry in islice(entries, _MOST_ENTRIES)]
    except OSError:
        return 0
    return max((int(m[1]) + 1 for name in names if (m := _OWN.fullmatch(name))), default=0)
