"""What a call really allocates, by torch.profiler's memory events."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

CPU = (ProfilerActivity.CPU,)


def allocations(run: Callable[[], object]) -> list[int]:
    """Give the sizes of all allocations of *run* in order, frees negative; it runs twice."""
    with torch.no_grad():
        run()
        with profile(activities=CPU, profile_memory=True) as prof:
            kept = run()
    del kept
    found = []
    nodes = list(prof.profiler.kineto_results.experimental_event_tree())
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.tag == _EventType.Allocation:
            found.append((node.start_time_ns, node.extra_fields.alloc_size))
    return [size for _, size in sorted(found, key=lambda pair: pair[0])]


def peak_bytes(run: Callable[[], object]) -> int:
    """Give the most that *run* has at once over what was there before."""
    level = peak = 0
    for size in allocations(run):
        level += size
        peak = max(peak, level)
    return peak
