"""Where events go: a file that survives a kill and a full disk, a list, or several sinks."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import Protocol, Self

import attrs

from wanflow.errors import InputError, StageFailed
from wanflow.files.whole import FREE_SPACE
from wanflow.trace.codec import FIELDS, encode
from wanflow.trace.events import Event, Move, Transfer, Workspace
from wanflow.trace.framing import FORMAT, MAX_RECORD_BYTES, VERSION, frame, seal, unpack

_MANY = (Move, Transfer, Workspace)  # several a call; all others are written at once
_LONGEST_NS = 20_000_000
_PLAIN_BYTES = 4096  # a payload that is no longer can't hold too long a text or list
_RESERVED = ("format", "version", "fields", "crc32")


class TraceSink(Protocol):
    """Take events in the order in which they happened. `emit` never stops the run."""

    def emit(self, event: Event) -> None:
        """Take one event."""


@attrs.define
class MemorySink:
    """Keep events in a list."""

    events: list[Event] = attrs.field(factory=list)

    def emit(self, event: Event) -> None:
        """Append *event*."""
        self.events.append(event)


@attrs.frozen
class Tee:
    """Give each event to every sink, in order; one that `hears` only some kinds gets those."""

    sinks: tuple[TraceSink, ...]
    _takers: dict[type[Event], list[TraceSink]] = attrs.field(factory=dict, init=False)

    def emit(self, event: Event) -> None:
        """Pass *event* on."""
        kind = type(event)
        takers = self._takers.get(kind)
        if takers is None:
            takers = [s for s in self.sinks if kind in getattr(s, "hears", (kind,))]
            self._takers[kind] = takers
        for sink in takers:
            sink.emit(event)


class TraceWriter:
    """Write a trace file. Any thread may emit; what can't be written never stops the run.

    Records of calls and moves are packed and written together, whole, on an O_APPEND descriptor: at
    the end of each step, and whenever the first of them is older than 20 ms when another comes. So
    a kill loses at most what came since the last step; after `sync` and `close` a power cut loses
    nothing.

    Raises InputError when *path* exists (without *overwrite*), is a link, or can't be created;
    StageFailed when the disk has no room for the file; ValueError for a header that is not plain.
    """

    def __init__(
        self, path: Path | str, header: Mapping[str, object], *, overwrite: bool = False
    ) -> None:
        if taken := [key for key in _RESERVED if key in header]:
            raise ValueError(f"the trace header sets {', '.join(taken)} itself")
        first = seal({"format": FORMAT, "version": VERSION, "fields": FIELDS, **header})
        self.path = Path(path)
        self._lock = threading.Lock()
        self._fd: int | None = _create(self.path, overwrite=overwrite)
        self._good_bytes = 0
        self._records = 0
        self._pending: deque[tuple[Event, int]] = deque()  # any thread adds, one takes out
        self._since_ns = 0
        self._dropped = 0
        self._problem: str | None = None
        self._stopped = False
        self._append([first])

    @property
    def problem(self) -> str | None:
        """The one warning to show, or None: why the trace stopped, or why an event is missing."""
        with self._lock:
            self._flush()
        return self._problem

    @property
    def records(self) -> int:
        """How many events are in the file."""
        with self._lock:
            self._flush()
        return self._records

    def emit(self, event: Event, rank: int = 0) -> None:
        """Write *event* of a rank; does nothing once the trace is closed or was stopped."""
        if self._stopped or self._fd is None:
            return
        now_ns = monotonic_ns()
        if not self._pending:
            self._since_ns = now_ns
        self._pending.append((event, rank))
        if type(event) not in _MANY or now_ns - self._since_ns > _LONGEST_NS:
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        """Write what is pending."""
        pending, records = self._pending, []
        while pending:
            event, rank = pending.popleft()
            try:
                payload = encode(event, rank)
                if len(payload) > _PLAIN_BYTES:
                    _check(payload)
            except (ValueError, TypeError, OverflowError) as error:
                # Written, it would end the trace for every reader: better one event less.
                self._dropped += 1
                self._problem = self._problem or f"trace {self.path}: event left out: {error}"
            else:
                records.append(frame(payload))
        self._records += self._append(records)

    def sync(self) -> None:
        """Bring what was written to the disk itself (fsync)."""
        with self._lock:
            self._flush()
            self._fsync()

    def close(self, status: str, totals: Mapping[str, object]) -> None:
        """End the trace: trailer, fsync, close. *totals* are plain values. Again is no error."""
        with self._lock:
            if self._fd is None:
                return
            self._flush()
            if not self._stopped:
                self._append([self._trailer(status, totals)])
            self._fsync()
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close("done" if kind is None else "failed", {})

    def _trailer(self, status: str, totals: Mapping[str, object]) -> bytes:
        end = {"records": self._records, "dropped": self._dropped, "status": status}
        try:
            return seal({**end, "totals": dict(totals)})
        except (ValueError, TypeError, OverflowError) as error:
            self._problem = self._problem or f"trace {self.path}: totals left out: {error}"
            return seal({**end, "totals": {}})

    def _append(self, records: Sequence[bytes]) -> int:
        """Write *records*, or as many as fit, and then stop tracing; return how many."""
        if self._fd is None or self._stopped or not records:
            return 0
        data = b"".join(records)
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._stop(error.strerror or str(error))
            return 0
        if written == len(data):
            self._good_bytes += written
            return len(records)
        # A full disk shows first as a short write; only the next one would raise ENOSPC.
        ends = list(accumulate(map(len, records)))
        whole = sum(end <= written for end in ends)
        self._good_bytes += ends[whole - 1] if whole else 0
        self._stop("the disk is full", whole)
        return whole

    def _stop(self, reason: str, more: int = 0) -> None:
        self._stopped = True
        count = self._records + more
        self._problem = f"trace {self.path} stops after {count} events: {reason}"
        if self._fd is not None:
            with contextlib.suppress(OSError):  # the reader finds the last whole record by itself
                os.ftruncate(self._fd, self._good_bytes)

    def _fsync(self) -> None:
        if self._fd is None:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            self._problem = self._problem or f"trace {self.path}: fsync: {error.strerror}"


def _check(payload: bytes) -> None:
    """Refuse what a reader would refuse."""
    if len(payload) > MAX_RECORD_BYTES:
        raise ValueError(f"it takes {len(payload)} bytes, the limit is {MAX_RECORD_BYTES}")
    unpack(payload)


def _create(path: Path, *, overwrite: bool) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | (os.O_TRUNC if overwrite else os.O_EXCL), 0o644)
    except FileExistsError as error:
        hint = "write elsewhere, or use --force"
        raise InputError(f"trace {path} exists already", hint=hint, code="trace-exists") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        raise (StageFailed if full else InputError)(
            f"can't write trace {path}: {reason}",
            hint=FREE_SPACE if full else "",
            code="trace-unwritable",
        ) from error
