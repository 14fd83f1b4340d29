"""A command run as a child, its memory and processor time read from the kernel as it goes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import attrs

from benchmarks.lib.memory_group import memory_group

_FIELDS = ("VmRSS", "RssAnon", "RssFile")
_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Sample:
    """One look: when, in seconds since the epoch, and what the process had then."""

    at: float
    rss_bytes: int
    anonymous_bytes: int
    file_bytes: int
    processor_seconds: float

    @classmethod
    def of(cls, pid: int) -> Sample | None:
        """Look at a process; None when it has ended."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        found = [re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE) for name in _FIELDS]
        sizes = [int(each[1]) * 1024 if each else 0 for each in found]
        if not sizes[0]:
            return None
        rss, anonymous, mapped = sizes
        spent = (int(fields[11]) + int(fields[12])) / _TICKS
        return cls(time.time(), rss, anonymous, mapped, spent)


def run_sampled(
    command: Sequence[str], samples: Path, *, limit_bytes: int | None = None, every: float = 1.0
) -> int:
    """Run a command to its end; its exit code, minus a signal's number where one ended it.

    A look is added to the file *samples* every so many seconds, a line of JSON each. Ctrl-C goes to
    the command alone, which may want time to save.
    """
    with memory_group(limit_bytes) as group, samples.open("a") as file:
        child = subprocess.Popen(command, start_new_session=True)
        if group is not None:
            group.write_text(str(child.pid))
        with _passing_on(child):
            while child.poll() is None:
                sample = Sample.of(child.pid)
                if sample is not None:
                    file.write(json.dumps(attrs.astuple(sample)) + "\n")
                    file.flush()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(every)
    return child.returncode


@contextmanager
def _passing_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM reach the child, as Ctrl-C."""

    def tell(_number: int, _frame: FrameType | None) -> None:
        child.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def samples_of(path: Path) -> list[Sample]:
    """Read what was seen."""
    return [Sample(*json.loads(line)) for line in path.read_text().splitlines()]
