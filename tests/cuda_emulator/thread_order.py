"""What orders threads: starts, joins, futures, queues, and events, told to the clocks."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from tests.cuda_emulator.clocks import Clocks


def watch_threads(clocks: Clocks, patch: pytest.MonkeyPatch) -> None:
    """Have the ways in which threads hand something over order their accesses too."""
    _watch(clocks, patch, threading.Event, gives=("set",), takes=("wait",))
    _watch(clocks, patch, Future, gives=("set_result", "set_exception"), takes=("result",))
    patch.setattr(queue, "SimpleQueue", _queue(clocks))
    start, join, run = threading.Thread.start, threading.Thread.join, threading.Thread.run

    def started(thread: threading.Thread) -> None:
        clocks.give(thread)
        start(thread)

    def running(thread: threading.Thread) -> None:
        try:
            run(thread)
        finally:
            clocks.give(thread)

    def joined(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        if not thread.is_alive():
            clocks.take(thread)

    patch.setattr(threading.Thread, "start", started)
    patch.setattr(threading.Thread, "run", running)
    patch.setattr(threading.Thread, "join", joined)


def _watch(clocks: Clocks, patch: pytest.MonkeyPatch, kind: Any, gives: Any, takes: Any) -> None:
    """Who calls one of *gives* of an object happens before who returns from one of *takes*."""
    for name in gives:
        patch.setattr(kind, name, _gives(clocks, getattr(kind, name)))
    for name in takes:
        patch.setattr(kind, name, _takes(clocks, getattr(kind, name)))


def _gives(clocks: Clocks, method: Any) -> Any:
    def give(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A thread that is being started sets an event before it is known by its number.
        if threading.get_ident() in threading._active:  # type: ignore[attr-defined]
            clocks.give(self)
        return method(self, *args, **kwargs)

    return give


def _takes(clocks: Clocks, method: Any) -> Any:
    def take(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        finally:
            clocks.take(self)

    return take


def _queue(clocks: Clocks) -> type:
    plain = queue.SimpleQueue

    class Item:
        """Something put into a queue."""

        def __init__(self, value: Any) -> None:
            self.value = value
            clocks.give(self)

    class ClockedQueue:
        """A queue whose items bring along what happened before they were put."""

        def __init__(self) -> None:
            self._items: Any = plain()

        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            self._items.put(Item(item), block, timeout)

        def put_nowait(self, item: Any) -> None:
            self.put(item)

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            item = self._items.get(block, timeout)
            clocks.take(item)
            return item.value

        def get_nowait(self) -> Any:
            return self.get(block=False)

        def empty(self) -> bool:
            return bool(self._items.empty())

        def qsize(self) -> int:
            return int(self._items.qsize())

    return ClockedQueue
