"""Measure a function's CPU memory with torch.profiler: every allocation, by whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile


def peak_allocated_bytes(function: Callable[[], Any]) -> int:
    """Run *function* and return the most bytes it had allocated at once, kernels' own included.

    What an earlier profile saw being made and is let go of now is none of it, so that a free counts
    only where the allocation did.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    moves = [
        (event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size)
        for event in _every(results.experimental_event_tree())
        if event.tag == _EventType.Allocation
    ]
    there: dict[int, int] = {}
    level = peak = 0
    for _, place, nbytes in sorted(moves, key=lambda move: move[0]):
        if nbytes > 0:
            there[place] = nbytes
            level += nbytes
        else:
            level -= there.pop(place, 0)
        peak = max(peak, level)
    return peak


def _every(events: list[Any]) -> list[Any]:
    found, todo = [], list(events)
    while todo:
        event = todo.pop()
        found.append(event)
        todo += event.children
    return found
