"""Tracks of a Chrome trace: slices on one never overlap, and its times never go back.

A queue works on several things at once (a file is read while the one before is copied up), so each
queue has lanes: what overlaps goes to the next one.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import attrs

PID = 1
_MOST_LANES = 16
_MOST_QUEUES = 128  # a trace is anybody's; a run has eight


@attrs.define
class _Lane:
    tid: int
    free_ns: int = 0


@attrs.define
class Tracks:
    """Writes events of the Trace Event Format as they come; nothing is kept of those written."""

    out: BinaryIO
    count: int = 0
    _queues: dict[str, list[_Lane]] = attrs.field(factory=dict, init=False)
    _points: dict[str, int] = attrs.field(factory=dict, init=False)
    _tids: int = attrs.field(default=0, init=False)

    def emit(self, **fields: Any) -> None:
        """Write one event."""
        comma = ",\n" if self.count else ""
        self.out.write(f"{comma}{json.dumps({**fields, 'pid': PID})}".encode())
        self.count += 1

    def open(self, queue: str) -> None:
        """Give a queue its place on the screen, in the order of these calls."""
        self._lanes(queue)

    def slice(
        self, queue: str, name: str, span: tuple[int, int], args: dict[str, Any]
    ) -> tuple[int, int]:
        """Write a slice on the first lane that is free; return its thread and where it begins."""
        began, ended = span[0], max(span)
        lane = self._lane(queue, began)
        began = max(began, lane.free_ns)
        ended = max(ended, began)
        lane.free_ns = ended
        self.emit(
            ph="X", cat=queue, name=name, tid=lane.tid, ts=micros(began),
            dur=micros(ended) - micros(began), args=args,
        )  # fmt: skip
        return lane.tid, began

    def instant(self, queue: str, name: str, at_ns: int, args: dict[str, Any]) -> None:
        """Write a point in time."""
        lane = self._lanes(queue)[0]
        lane.free_ns = max(at_ns, lane.free_ns)
        self.emit(
            ph="i", s="t", cat=queue, name=name, tid=lane.tid, ts=micros(lane.free_ns), args=args
        )

    def counter(self, name: str, at_ns: int, args: dict[str, Any]) -> None:
        """Write the values of a counter from a time on."""
        if name not in self._points and len(self._points) >= _MOST_QUEUES:
            name = "(more)"
        at_ns = self._points[name] = max(at_ns, self._points.get(name, 0))
        self.emit(ph="C", name=name, ts=micros(at_ns), args=args)

    def arrow(self, ident: int, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Write a flow between two slices, each a thread and a time inside the slice."""
        flow = {"cat": "use", "name": "used by", "id": ident}
        self.emit(ph="s", tid=start[0], ts=micros(start[1]), **flow)
        self.emit(ph="f", bp="e", tid=end[0], ts=micros(end[1]), **flow)

    def _lane(self, queue: str, began_ns: int) -> _Lane:
        lanes = self._lanes(queue)
        for lane in lanes:
            if lane.free_ns <= began_ns:
                return lane
        if len(lanes) >= _MOST_LANES:
            return min(lanes, key=lambda lane: lane.free_ns)
        lanes.append(self._lane_of(f"{queue} ({len(lanes) + 1})"))
        return lanes[-1]

    def _lanes(self, queue: str) -> list[_Lane]:
        if queue not in self._queues:
            queue = queue if len(self._queues) < _MOST_QUEUES else "(more)"
            if queue not in self._queues:
                self._queues[queue] = [self._lane_of(queue)]
        return self._queues[queue]

    def _lane_of(self, name: str) -> _Lane:
        self._tids += 1
        self.emit(ph="M", name="thread_name", tid=self._tids, args={"name": name})
        self.emit(ph="M", name="thread_sort_index", tid=self._tids, args={"sort_index": self._tids})
        return _Lane(self._tids)


def micros(ns: int) -> float:
    """Nanoseconds as the format's microseconds."""
    return ns / 1000
