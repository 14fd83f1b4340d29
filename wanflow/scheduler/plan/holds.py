"""What may stay on the device between two uses. No torch.

A segment is used in runs of consecutive calls. Between two runs it either stays or is read again:

    calls   ---[run]------gap------[run]------gap------[run]---

A *hold* is what is decided at once: the gaps of a segment inside one stage (always of a kind, as a
stage goes over its segments again and again), or those between one stage and another.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import attrs

from wanflow.scheduler.footprint.costs import Footprint


@attrs.frozen
class Run:
    """Consecutive calls that use a segment. `hold` is that of the gap before it, None at first."""

    segment: str
    stage: str
    first: int
    last: int
    nbytes: int
    hold: int | None


@attrs.frozen
class Hold:
    """Gaps that a segment may stay through, each by its first call and the one after its last."""

    segment: str
    stage: str
    nbytes: int
    gaps: tuple[tuple[int, int], ...]
    bridges: bool  # from a stage to another

    @property
    def begin(self) -> int:
        """The first call that it takes room at."""
        return self.gaps[0][0]

    @property
    def end(self) -> int:
        """The call after the last one that it takes room at."""
        return self.gaps[-1][1]


@attrs.frozen
class Uses:
    """All runs in the order of the calls, and the holds that their gaps belong to."""

    runs: tuple[Run, ...]
    holds: tuple[Hold, ...]


def uses_of(footprint: Footprint) -> Uses:
    """Find the runs of every segment, and what may stay between them."""
    gaps: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    numbers: dict[tuple[str, str, str], int] = {}
    runs: list[Run] = []
    latest: dict[str, Run] = {}
    for segment, first, last in _stretches(footprint):
        stage = footprint.calls[first].stage
        hold = None
        if segment in latest:
            before = latest[segment]
            key = (segment, footprint.calls[before.last].stage, stage)
            hold = numbers.setdefault(key, len(numbers))
            gaps.setdefault(key, []).append((before.last + 1, first))
        latest[segment] = Run(segment, stage, first, last, footprint.segments[segment].nbytes, hold)
        runs.append(latest[segment])
    holds = (
        Hold(segment, after, footprint.segments[segment].nbytes, tuple(spans), before != after)
        for (segment, before, after), spans in gaps.items()
    )
    return Uses(tuple(runs), tuple(holds))


def _stretches(footprint: Footprint) -> list[tuple[str, int, int]]:
    """Each run of consecutive calls with one segment: the segment, first and last call."""
    stretches: list[tuple[str, int, int]] = []
    for index, call in enumerate(footprint.calls):
        if call.segment is None:
            continue
        if stretches and stretches[-1][0] == call.segment and stretches[-1][2] == index - 1:
            stretches[-1] = (call.segment, stretches[-1][1], index)
        else:
            stretches.append((call.segment, index, index))
    return stretches


def free_holds(uses: Uses, pinned: Mapping[str, str]) -> list[int]:
    """Numbers of the holds inside a stage that are the planner's to decide."""
    return [n for n, h in enumerate(uses.holds) if not h.bridges and h.stage not in pinned]


def regions(uses: Uses, free: Sequence[int]) -> list[list[int]]:
    """Split *free* into groups that never take room at the same call: mostly a group a stage."""
    groups: list[list[int]] = []
    end = 0
    for number in sorted(free, key=lambda n: uses.holds[n].begin):
        hold = uses.holds[number]
        if not groups or hold.begin >= end:
            groups.append([])
        groups[-1].append(number)
        end = max(end, hold.end)
    return groups


def bytes_with(need_bytes: Sequence[int], holds: Sequence[Hold]) -> list[int]:
    """Bytes of every call when *holds* stay."""
    changes = [0] * (len(need_bytes) + 1)
    for hold in holds:
        for begin, end in hold.gaps:
            changes[begin] += hold.nbytes
            changes[end] -= hold.nbytes
    levels = itertools.accumulate(changes)
    return [need + level for need, level in zip(need_bytes, levels, strict=False)]
