"""Measure a function's CPU memory with torch.profiler: every allocation, by whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile


def peak_allocated_bytes(function: Callable[[], Any]) -> int:
    """Run *function* and return the most bytes it had allocated at once, kernels' own included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    moves = [
        (event.start_time_ns, event.extra_fields.alloc_size)
        for event in _every(results.experimental_event_tree())
        if event.tag == _EventType.Allocation
    ]
    level = peak = 0
    for _, nbytes in sorted(moves, key=lambda move: move[0]):
        level += nbytes
        peak = max(peak, level)
    return peak


def _every(events: list[Any]) -> list[Any]:
    found, todo = [], list(events)
    while todo:
        event = todo.pop()
        found.append(event)
        todo += event.children
    return found
