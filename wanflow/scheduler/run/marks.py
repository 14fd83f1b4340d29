"""Marks in the order of a device's work: set without waiting, asked later when it came to them."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import attrs


class StreamMark(Protocol):
    """A point in the order of a device's work."""

    @property
    def passed(self) -> bool:
        """Whether the device has come to it."""

    @property
    def at_ns(self) -> int:
        """When it came to it, by `time.perf_counter_ns`; once it has."""

    def wait(self) -> None:
        """Return once it has."""


@attrs.frozen
class CopySpan:
    """A copy on its way: marks before and after it."""

    began: StreamMark
    ended: StreamMark


@attrs.define
class HostMark:
    """A mark of work that the host does itself."""

    _at_ns: int = 0
    _passed: threading.Event = attrs.field(factory=threading.Event)

    @classmethod
    def now(cls) -> HostMark:
        """Mark what has been done so far."""
        mark = cls()
        mark.set()
        return mark

    def set(self) -> None:
        """Say that it is passed."""
        self._at_ns = time.perf_counter_ns()
        self._passed.set()

    @property
    def passed(self) -> bool:
        """Whether it was set."""
        return self._passed.is_set()

    @property
    def at_ns(self) -> int:
        """When it was set."""
        return self._at_ns

    def wait(self) -> None:
        """Return once it was set."""
        self._passed.wait()
