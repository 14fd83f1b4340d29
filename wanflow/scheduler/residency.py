"""Which segments stay on the device between their uses. No torch.

Every segment is placed before a use and freed after it; between two uses it either stays or is read
again. A call's load is its own need plus the segments that stay and that it doesn't use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

import attrs

from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.lifetimes import Lifetimes


@attrs.frozen
class Uses:
    """Where a segment is used: its stage, the calls, and how often it is read if it never stays."""

    segment: str
    stage: str
    calls: tuple[int, ...]
    runs: int


def uses_of(footprint: Footprint) -> tuple[Uses, ...]:
    """Collect the uses of every segment, stage by stage, in order of first use."""
    calls: dict[tuple[str, str], list[int]] = {}
    for index, step in enumerate(footprint.steps):
        if step.segment is not None:
            calls.setdefault((step.stage, step.segment), []).append(index)
    found = []
    for (stage, segment), indexes in calls.items():
        runs = 1 + sum(b != a + 1 for a, b in pairwise(indexes))
        found.append(Uses(segment, stage, tuple(indexes), runs))
    return tuple(found)


def _spread(count: int) -> list[int]:
    """Order 0..count-1 so that every prefix is spread evenly (van der Corput's sequence)."""
    bits = max(count - 1, 1).bit_length()
    order = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in order if i < count]


def _candidates(uses: Iterable[Uses]) -> list[Uses]:
    """Most often read first; among equals evenly spread, so that streamed ones lie between."""
    by_runs: dict[tuple[int, str], list[Uses]] = {}
    for use in uses:
        if use.runs > 1:
            by_runs.setdefault((-use.runs, use.stage), []).append(use)
    return [group[i] for _, group in sorted(by_runs.items()) for i in _spread(len(group))]


def choose_resident(
    footprint: Footprint,
    life: Lifetimes,
    uses: tuple[Uses, ...],
    budget_bytes: int | None,
    pinned: Mapping[str, str],
) -> tuple[Collection[tuple[str, str]], list[int]]:
    """Choose the segments that stay: as many reads saved as the budget allows.

    *pinned* maps a stage to `resident` or `stream`; None as budget keeps everything. Returns the
    chosen (stage, segment) pairs and the load of every call in bytes.
    """
    load = list(life.need_bytes)
    chosen: set[tuple[str, str]] = set()
    for use in _candidates(uses):
        pin = pinned.get(use.stage)
        if pin == "stream":
            continue
        nbytes = footprint.segments[use.segment].nbytes
        between = _others(use)
        fits = budget_bytes is None or all(load[i] + nbytes <= budget_bytes for i in between)
        if fits or pin == "resident":
            chosen.add((use.stage, use.segment))
            for index in between:
                load[index] += nbytes
    return chosen, load


def _others(use: Uses) -> list[int]:
    """The calls between a segment's first and last use that don't use it."""
    own = set(use.calls)
    return [i for i in range(use.calls[0], use.calls[-1]) if i not in own]
