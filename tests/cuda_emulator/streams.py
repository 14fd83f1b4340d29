"""Streams and events: what is queued, what has to be done before what, and the clocks of both."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch

from tests.cuda_emulator.clocks import Clock, Clocks


@attrs.define
class _Device:
    """What streams and events of one emulator share."""

    clocks: Clocks = attrs.field(factory=Clocks)
    current: Callable[[], int] = lambda: 0
    check: Callable[[], None] = lambda: None  # raises what the card has to say
    lock: Any = attrs.field(factory=threading.RLock)
    defaults: dict[int, Stream] = attrs.field(factory=dict)
    alive: weakref.WeakSet[Stream] = attrs.field(factory=weakref.WeakSet)
    of_thread: threading.local = attrs.field(factory=threading.local)


_device = _Device()


class Stream:
    """Work in order; a copy that is deferred lies in *queue* until somebody waits for it."""

    def __init__(self, device: Any = None, priority: int = 0, **_others: Any) -> None:
        self.device_index = index_of(device)
        self.priority = priority
        self.queue: deque[Callable[[], None]] = deque()
        self.count = 0  # of what was ever queued
        self.actor = _device.clocks.actor(f"stream {len(_device.alive)}")
        _device.alive.add(self)

    @property
    def device(self) -> torch.device:
        """The device it belongs to."""
        return torch.device("cuda", self.device_index)

    @property
    def is_default(self) -> bool:
        """Whether it is where kernels go that say nothing of a stream; they are never deferred."""
        return _device.defaults.get(self.device_index) is self

    @property
    def cuda_stream(self) -> int:
        """A number of its own; 0 is the default stream's."""
        return 0 if self.is_default else id(self)

    def add(self, work: Callable[[], None], *, deferred: bool = True) -> None:
        """Do *work* after what is queued: at once, or when somebody waits for it."""
        with _device.lock:
            self.count += 1
            self.queue.append(work)
            if self.is_default or not deferred:
                self.run_to(self.count)

    def run_to(self, count: int) -> None:
        """Do what was queued up to the *count*-th."""
        with _device.lock:
            while self.queue and self.count - len(self.queue) < count:
                self.queue.popleft()()

    def wait_event(self, event: Event) -> None:
        """Order what is queued here from now on behind *event*."""
        _device.check()
        with _device.clocks.lock:
            self.actor.join(event.clock)
        self.add(event.reach)

    def wait_stream(self, other: Stream) -> None:
        """Order what is queued here from now on behind all that is queued there."""
        self.wait_event(other.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """Mark what is queued so far."""
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Do all that is queued; this thread goes on after it."""
        _device.check()
        self.run_to(self.count)
        self.reached_by_thread()

    def reached_by_thread(self) -> None:
        """What is queued here happened before what this thread does next."""
        with _device.clocks.lock:
            _device.clocks.thread().join(self.actor.release())

    def query(self) -> bool:
        """Whether nothing is left to do."""
        return not self.queue


class Event:
    """A mark in a stream."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ) -> None:
        self.enable_timing, self.blocking, self.interprocess = enable_timing, blocking, interprocess
        self.stream: Stream | None = None
        self.clock: Clock = {}
        self.count = 0
        self.reached_ns = 0

    def record(self, stream: Stream | None = None) -> None:
        """Mark what is queued so far in *stream*."""
        _device.check()
        stream = stream or current_stream()
        clocks = _device.clocks
        with _device.lock, clocks.lock:
            clocks.launch(stream.actor, "event", ())
            self.stream, self.reached_ns, self.clock = stream, 0, stream.actor.release()
            stream.add(self._stamp, deferred=bool(stream.queue))
            self.count = stream.count

    def _stamp(self) -> None:
        self.reached_ns = time.perf_counter_ns()

    def reach(self) -> None:
        """Do what was queued before the mark."""
        if self.stream is not None:
            self.stream.run_to(self.count)

    def synchronize(self) -> None:
        """Return once what was queued before the mark is done."""
        _device.check()
        self.reach()
        with _device.clocks.lock:
            _device.clocks.thread().join(self.clock)

    def wait(self, stream: Stream | None = None) -> None:
        """Order *stream* behind the mark."""
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        """Whether what was queued before the mark is done: no earlier than somebody waited for it.

        A card may always be that slow, and an answer would order this thread behind the mark.
        """
        _device.check()
        stream = self.stream
        if stream is not None and stream.count - len(stream.queue) < self.count:
            return False
        with _device.clocks.lock:
            known = _device.clocks.thread().clock
            return all(epoch <= known.get(actor, -1) for actor, epoch in self.clock.items())

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this mark to *end*; refused as PyTorch refuses it."""
        if not (self.enable_timing and end.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self.stream is None or end.stream is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end.query()):
            raise RuntimeError("CUDA error: device not ready")
        return (end.reached_ns - self.reached_ns) / 1e6


def index_of(device: Any) -> int:
    """Give the number of a device, however it is named; None is the current one."""
    if device is None:
        return _device.current()
    if isinstance(device, int):
        return device if device >= 0 else _device.current()
    index = torch.device(device).index
    return _device.current() if index is None else int(index)


def default_stream(device: Any = None) -> Stream:
    """Give the stream of kernels that say nothing of another."""
    index = index_of(device)
    with _device.lock:
        if index not in _device.defaults:
            _device.defaults[index] = Stream(index)
            _device.defaults[index].actor.name = f"the computing stream of cuda:{index}"
        return _device.defaults[index]


def _chosen() -> dict[int, Stream]:
    streams: dict[int, Stream] = _device.of_thread.__dict__.setdefault("chosen", {})
    return streams


def current_stream(device: Any = None) -> Stream:
    """Give this thread's stream of *device*."""
    index = index_of(device)
    return _chosen().get(index) or default_stream(index)


def set_stream(stream: Stream) -> None:
    """Make it this thread's."""
    _chosen()[stream.device_index] = stream


@contextmanager
def stream(chosen: Stream | None) -> Iterator[None]:
    """Make *chosen* this thread's stream, and its device the current one, within."""
    if chosen is None:
        yield
        return
    before = current_stream(chosen.device_index)
    with torch.cuda.device(chosen.device_index):
        set_stream(chosen)
        try:
            yield
        finally:
            set_stream(before)


def synchronize(_of: Any = None) -> None:
    """Do all that is queued anywhere."""
    _device.check()
    for stream in list(_device.alive):
        stream.synchronize()


def forget() -> int:
    """Leave undone what nobody waited for, and count it: what it would read may be gone."""
    left = sum(len(stream.queue) for stream in _device.alive)
    for stream in list(_device.alive):
        stream.queue.clear()
    return left


def start(clocks: Clocks, current: Callable[[], int], check: Callable[[], None]) -> None:
    """Forget all streams of an emulator before."""
    global _device  # noqa: PLW0603 - `torch.cuda.Stream()` is made without a word of where
    _device = _Device(clocks, current, check)
