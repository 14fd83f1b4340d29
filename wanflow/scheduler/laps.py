"""A forward as laps, one a visit to a segment, and what that costs as a footprint. No torch.

A lap is written as a call: what it allocates and is still there when it ends is a value, read last
by the lap in which it goes.

    laps      |  in  |  block.0  |  block.1  |  head  |
    values    hidden-->     hidden-->   hidden-->   prediction
              rotary tables-------------------->
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from wanflow.scheduler.footprint import Cost, Footprint, Made, SegmentUse, StageFacts, Step

STAGE = "forward"


@attrs.frozen
class Setting:
    """One way to cut the module: the segment that each part belongs to, and the segments' bytes."""

    knobs: Mapping[str, str]
    segment_of: Mapping[str, str]
    nbytes: Mapping[str, int]


@attrs.frozen
class Lap:
    """Ops with one segment: what they cost, and where they begin and end in the requests."""

    segment: str | None
    begin: int
    end: int
    entry_bytes: int
    peak_bytes: int
    flops: Mapping[str, float]
    memory_bytes: int
    kernels: int

    def with_next(self, after: Lap) -> Lap:
        """Both as one."""
        kinds = {*self.flops, *after.flops}
        return attrs.evolve(
            self,
            end=after.end,
            peak_bytes=max(self.peak_bytes, after.peak_bytes),
            flops={kind: self.flops.get(kind, 0) + after.flops.get(kind, 0) for kind in kinds},
            memory_bytes=self.memory_bytes + after.memory_bytes,
            kernels=self.kernels + after.kernels,
        )


@attrs.frozen
class Laps:
    """A whole forward: its laps, the allocator's requests, the numbers of those for its results."""

    laps: Sequence[Lap]
    requests: Sequence[int]
    results: frozenset[int]
    there_bytes: int
    by_dtype: Mapping[str, float]

    def at(self, segment_of: Mapping[str, str]) -> Laps:
        """The same with larger segments: laps in a row with one segment are one."""
        merged: list[Lap] = []
        for lap in self.laps:
            segment = segment_of[lap.segment] if lap.segment is not None else None
            if merged and merged[-1].segment == segment:
                merged[-1] = merged[-1].with_next(lap)
            else:
                merged.append(attrs.evolve(lap, segment=segment))
        return attrs.evolve(self, laps=merged)


def footprint_of(finest: Laps, name: str, repeats: int, setting: Setting) -> Footprint:
    """Write down a forward of the module *name*, run so often, at one setting."""
    laps = finest.at(setting.segment_of)
    used = dict.fromkeys(lap.segment for lap in laps.laps if lap.segment is not None)
    uses = {f"{name}/{s}": SegmentUse(f"{name}/{s}", setting.nbytes[s]) for s in used}
    steps, keeps = _steps(laps, name, repeats)
    weights = sum(use.nbytes for use in uses.values())
    facts = StageFacts(STAGE, "module", name, repeats, weights, dict(setting.knobs), ())
    flops = laps.by_dtype
    dtypes = {STAGE: max(flops, key=lambda dtype: flops[dtype])} if flops else {}
    return Footprint((facts,), steps, uses, frozenset(keeps), dtypes)


@attrs.define
class _Storage:
    """What one request got: its lap and its number there, and the lap in which it goes."""

    nbytes: int
    lap: int
    number: int
    last: int | None = None


def _storages(laps: Laps) -> dict[int, _Storage]:
    """Follow every request; by its number among all."""
    found: dict[int, _Storage] = {}
    for index, lap in enumerate(laps.laps):
        number = 0
        for request in laps.requests[lap.begin : lap.end]:
            if request > 0:
                number += 1
                found[len(found) + 1] = _Storage(request, index, number)
            else:
                found[-request].last = index
    return found


def _steps(laps: Laps, name: str, repeats: int) -> tuple[tuple[Step, ...], set[int]]:
    """Write the laps as calls: what outlives the one that made it is a value."""
    storages = _storages(laps)
    outlive = {
        number: each
        for number, each in storages.items()
        if number in laps.results or each.last is None or each.last > each.lap
    }
    costs = [_cost(laps, index, storages, outlive) for index in range(len(laps.laps))]
    inputs = Made(0, f"{STAGE}.inputs", laps.there_bytes, is_state=False)
    first = Cost(inputs.nbytes, {}, 0, 0, (inputs.nbytes,), (1,))
    steps = [Step(STAGE, "inputs", 0, first, None, 0, (), (inputs,))]
    keeps: set[int] = set()
    for repeat in range(repeats):
        base = repeat * len(storages)
        for index, lap in enumerate(laps.laps):
            makes = tuple(
                Made(base + number, f"{STAGE}.from.{lap.segment}", each.nbytes, is_state=False)
                for number, each in outlive.items()
                if each.lap == index
            )
            reads = [base + n for n, each in outlive.items() if _last(laps, n, each) == index]
            if index == len(laps.laps) - 1:
                reads.append(inputs.value)
            segment = f"{name}/{lap.segment}" if lap.segment is not None else None
            kind = lap.segment or "other"
            step = Step(STAGE, kind, repeat, costs[index], segment, 0, tuple(reads), makes)
            steps.append(step)
        keeps = {base + number for number in laps.results if number in outlive}
    return tuple(steps), keeps


def _last(laps: Laps, number: int, storage: _Storage) -> int | None:
    """The lap that reads a value last: where it goes; None for one that it makes itself."""
    last = storage.last
    if number in laps.results or last is None:
        last = len(laps.laps) - 1
    return last if last > storage.lap else None


def _cost(
    laps: Laps, index: int, storages: Mapping[int, _Storage], outlive: Mapping[int, _Storage]
) -> Cost:
    """What a lap costs; its requests are those of its own, numbered from 1."""
    lap = laps.laps[index]
    requests = []
    for request in laps.requests[lap.begin : lap.end]:
        if request > 0:
            requests.append(request)
        elif storages[-request].lap == index:
            requests.append(-storages[-request].number)
    made = [each for each in outlive.values() if each.lap == index]
    room = max(lap.peak_bytes - lap.entry_bytes, sum(each.nbytes for each in made))
    origins = tuple(each.number for each in made)
    return Cost(room, lap.flops, lap.memory_bytes, lap.kernels, tuple(requests), origins)
