"""Attempts in forks of one warm process, each measured and watched: time, memory, what kills it."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import attrs

from scripts.fuzz.attempt import Ended, Kind

MOST_SECONDS = 5.0  # of the processor, for one attempt
MOST_BYTES = 256 << 20  # beyond what the warm process has
_HANGS_SECONDS = 120.0  # of the clock: other work may go on beside this
_HARD_BYTES = 2 << 30  # of address space beyond the warm process's: the machine is not to suffer


@attrs.frozen
class Tried:
    """One attempt: `why` is empty where nothing is wrong."""

    number: int
    label: str
    why: str
    seconds: float
    grown_bytes: int


def chance(seed: str, kind: str, number: int) -> random.Random:
    """What decides attempt *number* of a kind in the campaign *seed*."""
    return random.Random(f"{seed}:{kind}:{number}")


def tried(kind: Kind, seed: str, numbers: range) -> Generator[Tried, None, None]:
    """Attempt each of *numbers* in a fork; a new one goes on behind one that died."""
    at = numbers.start
    while at < numbers.stop:
        for result in _in_a_fork(kind, seed, range(at, numbers.stop)):
            yield result
            at = result.number + 1


def own_folders(scratch: Path) -> None:
    """Have this process keep nothing among the user's files, nor find anything there."""
    for name in ("CONFIG", "CACHE", "DATA"):
        os.environ[f"XDG_{name}_HOME"] = str(scratch / name.lower())
    os.environ["WANFLOW_PROBE"] = "off"


def _in_a_fork(kind: Kind, seed: str, numbers: range) -> Iterator[Tried]:
    read, write = os.pipe()
    scratch = Path(tempfile.mkdtemp(prefix=f"fuzz-{kind.name}-"))
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()  # a decoder that is let go of in a child would wait for threads of its parent
    gc.freeze()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(kind, seed, numbers, scratch, write)
    os.close(write)
    try:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            yield from _watched(pipe, child, numbers)
    except GeneratorExit:  # whoever asked has enough
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise
    finally:
        _end(child)
        shutil.rmtree(scratch, ignore_errors=True)


def _watched(pipe: BinaryIO, child: int, numbers: range) -> Iterator[Tried]:
    at, pending = numbers.start - 1, b""
    while True:
        ready, _, _ = select.select([pipe], [], [], _HANGS_SECONDS)
        block = pipe.read(65536) if ready else b""
        if not block:
            break
        *lines, pending = (pending + block).split(b"\n")
        for line in lines:
            result = Tried(**json.loads(line))
            at = result.number
            yield result
    if at + 1 >= numbers.stop:
        return
    hung = not ready
    if hung:
        os.kill(child, signal.SIGKILL)
    how = f"no end in {_HANGS_SECONDS:.0f} s" if hung else f"died: {_end(child)}"
    yield Tried(at + 1, "hang" if hung else "death", how, _HANGS_SECONDS if hung else 0.0, 0)


def _end(child: int) -> str:
    """Wait for a child; say how it ended."""
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _child(kind: Kind, seed: str, numbers: range, scratch: Path, write: int) -> None:
    """Attempt and tell, then leave without a word."""
    code = 1
    try:
        own_folders(scratch)
        bound()
        for number in numbers:
            rng = chance(seed, kind.name, number)
            _tell(write, attrs.asdict(measured(number, partial(kind.attempt, rng, scratch))))
        code = 0
    except BaseException as error:  # noqa: BLE001 - told by the parent as a death
        os.write(2, f"{kind.name}: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def bound() -> None:
    """Give this process an end to its memory, and no core file."""
    size, hard = _status("VmSize"), resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size + _HARD_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def measured(number: int, attempt: Callable[[], Ended]) -> Tried:
    """Make an attempt and say what it took, and what is wrong."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = _status("VmRSS"), time.process_time()
    try:
        ended = attempt()
        label, why = ended.label, ended.why
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is a failure
        label, why = "exception", f"{type(error).__name__}: {error}"[:500]
    seconds, grown = time.process_time() - began, _status("VmHWM") - before
    if not why and seconds > MOST_SECONDS:
        why = f"took {seconds:.1f} s"
    if not why and grown > MOST_BYTES:
        why = f"took {grown} bytes"
    return Tried(number, label, why, round(seconds, 4), grown)


def _tell(write: int, data: dict[str, object]) -> None:
    line = json.dumps(data).encode() + b"\n"
    while line:
        line = line[os.write(write, line) :]


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
