"""Vector clocks over streams, events and threads: which access to memory was not ordered.

Each thread and each stream is an *actor* with a clock: of each other actor, up to which of its
epochs everything happened before. Epochs end where others may see them: at an event, a launch, a
future's result. An access is a race if a conflicting one of another actor did not happen before
(FastTrack, Flanagan and Freund 2009, without its shortcut for reads).
"""

from __future__ import annotations

import bisect
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs

Clock = dict[int, int]
_MOST_RACES = 20  # of different places that are told


@attrs.frozen
class Access:
    """Who, in which epoch, and where in the code."""

    actor: int
    epoch: int
    who: str
    where: str

    def __str__(self) -> str:
        return f"{self.who} at {self.where}"


@attrs.define(eq=False)
class Actor:
    """A thread or a stream. `version` changes whenever others would learn something new."""

    number: int
    name: str
    clock: Clock
    version: int = 0
    seen: dict[int, int] = attrs.field(factory=dict)  # versions of threads that launched here

    def join(self, clock: Clock) -> None:
        """Everything in *clock* happened before what comes."""
        mine = self.clock
        for actor, epoch in clock.items():
            if epoch > mine.get(actor, -1):
                mine[actor] = epoch
        self.version += 1

    def release(self) -> Clock:
        """Give the clock to somebody, and begin a new epoch."""
        given = dict(self.clock)
        self.clock[self.number] += 1
        self.version += 1
        return given


@attrs.define
class _Stretch:
    """Bytes with the same history: who wrote them last, who read them since."""

    end: int
    written: Access | None
    read: dict[int, Access]


class Clocks:
    """The actors, the memory, and the races that were seen."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.races: Counter[str] = Counter()
        self.accesses = 0
        self._count = 0
        self._threads = threading.local()
        self._starts: list[int] = []
        self._stretches: dict[int, _Stretch] = {}

    def actor(self, name: str) -> Actor:
        """Make an actor."""
        with self.lock:
            self._count += 1
            return Actor(self._count, name, {self._count: 0})

    def thread(self) -> Actor:
        """This thread's actor; what started it happened before."""
        mine: Actor | None = getattr(self._threads, "actor", None)
        if mine is None:
            current = threading.current_thread()
            mine = self._threads.actor = self.actor(f"thread {current.name}")
            self._given_to(current, mine)
        return mine

    def give(self, holder: Any) -> None:
        """What this thread did happened before what those do who `take` from *holder*."""
        with self.lock:
            holder.emulator_clock = self, self.thread().release()

    def take(self, holder: Any) -> None:
        """What was given to *holder* happened before what this thread does."""
        with self.lock:
            self._given_to(holder, self.thread())

    def _given_to(self, holder: Any, actor: Actor) -> None:
        owner, clock = getattr(holder, "emulator_clock", (None, {}))
        if owner is self:  # not what an emulator before left there
            actor.join(clock)

    def launch(self, stream: Actor, name: str, ranges: Iterable[tuple[int, int, bool]]) -> None:
        """This thread has *stream* do something with ranges of (address, bytes, is written)."""
        with self.lock:
            thread = self.thread()
            if stream.seen.get(thread.number) != thread.version:
                stream.join(thread.release())
                stream.seen[thread.number] = thread.version
            self._access(stream, name, ranges)

    def host(self, name: str, address: int, nbytes: int, *, written: bool) -> None:
        """This thread itself reads or writes."""
        with self.lock:
            thread = self.thread()
            thread.version += 1
            self._access(thread, name, ((address, nbytes, written),))

    def _access(self, actor: Actor, name: str, ranges: Iterable[tuple[int, int, bool]]) -> None:
        access = Access(
            actor.number, actor.clock[actor.number], f"{name} by {actor.name}", _where()
        )
        for address, nbytes, written in ranges:
            if nbytes > 0:
                self.accesses += 1
                self._touch(actor, access, address, address + nbytes, written=written)

    def _touch(self, actor: Actor, access: Access, start: int, end: int, *, written: bool) -> None:
        """Compare with what was done to these bytes, and note this."""
        self._cut(start)
        self._cut(end)
        first = bisect.bisect_left(self._starts, start)
        last = bisect.bisect_left(self._starts, end)
        covered = [self._stretches[at] for at in self._starts[first:last]]
        for stretch in covered:
            self._compare(actor, access, stretch, written=written)
        if written:
            for at in self._starts[first:last]:
                del self._stretches[at]
            self._starts[first:last] = [start]
            self._stretches[start] = _Stretch(end, access, {})
            return
        at = start
        for stretch in covered:
            stretch.read[access.actor] = access
        holes: list[tuple[int, int]] = []
        for begin in self._starts[first:last]:
            if begin > at:
                holes.append((at, begin))
            at = self._stretches[begin].end
        if at < end:
            holes.append((at, end))
        for begin, stop in holes:
            bisect.insort(self._starts, begin)
            self._stretches[begin] = _Stretch(stop, None, {access.actor: access})

    def _cut(self, address: int) -> None:
        """Have a stretch begin at *address*, if one lies across it."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return
        start = self._starts[index]
        stretch = self._stretches[start]
        if start < address < stretch.end:
            self._starts.insert(index + 1, address)
            self._stretches[address] = _Stretch(stretch.end, stretch.written, dict(stretch.read))
            stretch.end = address

    def _compare(self, actor: Actor, access: Access, stretch: _Stretch, *, written: bool) -> None:
        before = [stretch.written] if stretch.written is not None else []
        if written:
            before += stretch.read.values()
        for other in before:
            if other.actor != actor.number and actor.clock.get(other.actor, -1) < other.epoch:
                verb = "writes" if written else "reads"
                text = f"{access} {verb} what is not ordered after {other}"
                if text in self.races or len(self.races) < _MOST_RACES:
                    self.races[text] += 1


def _where() -> str:
    """The innermost line of wanflow's, else of a test's, that led here."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if "/wanflow/" in path or ("/tests/" in path and "/cuda_emulator/" not in path):
            return f"{path.rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"
