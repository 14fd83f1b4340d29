"""Which segments stay on the device between their uses. No torch.

Every segment is placed before a use and freed after it; between two uses it either stays or is read
again. A call's load is its own need plus the segments that stay and that it doesn't use.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.lifetimes import Lifetimes

_TRIES = 8  # segments of another size that may still fit when the next one in order doesn't


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
        runs = 1 + sum(b != a + 1 for a, b in itertools.pairwise(indexes))
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
    uses: Sequence[Uses],
    budget_bytes: int | None,
    pinned: Mapping[str, str],
) -> tuple[Collection[tuple[str, str]], list[int]]:
    """Choose the segments that stay: as many reads saved as the budget allows.

    *pinned* maps a stage to `resident` or `stream`; None as budget keeps everything. Returns the
    chosen (stage, segment) pairs and the load of every call in bytes. The longest run of candidates
    that fits is found by halving, so the work grows with the calls and not with their square.
    """
    forced = [u for u in uses if u.runs > 1 and pinned.get(u.stage) == "resident"]
    free = [u for u in _candidates(uses) if u.stage not in pinned]
    if budget_bytes is None:
        chosen = forced + free
        return _pairs(chosen), _load(footprint, life, chosen)

    def fits(chosen: Sequence[Uses]) -> bool:
        return max(_load(footprint, life, chosen), default=0) <= budget_bytes

    low, high = 0, len(free)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(forced + free[:middle]) else (low, middle - 1)
    chosen = forced + free[:low]
    tried = {footprint.segments[u.segment].nbytes for u in free[low : low + 1]}
    for use in free[low + 1 :]:
        nbytes = footprint.segments[use.segment].nbytes
        if len(tried) > _TRIES:
            break
        if nbytes not in tried:
            tried.add(nbytes)
            if fits([*chosen, use]):
                chosen.append(use)
    return _pairs(chosen), _load(footprint, life, chosen)


def _pairs(chosen: Iterable[Uses]) -> set[tuple[str, str]]:
    return {(use.stage, use.segment) for use in chosen}


def _load(footprint: Footprint, life: Lifetimes, chosen: Iterable[Uses]) -> list[int]:
    """Every call's bytes when *chosen* stay between their first and last use."""
    changes = [0] * (len(life.need_bytes) + 1)
    own = [0] * len(life.need_bytes)
    for use in chosen:
        nbytes = footprint.segments[use.segment].nbytes
        changes[use.calls[0]] += nbytes
        changes[use.calls[-1] + 1] -= nbytes
        for call in use.calls:
            own[call] += nbytes
    load, level = [], 0
    for need, change, mine in zip(life.need_bytes, changes, own, strict=False):
        level += change
        load.append(need + level - mine)
    return load
