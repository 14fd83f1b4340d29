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


def choose_resident(
    footprint: Footprint,
    life: Lifetimes,
    uses: Sequence[Uses],
    budget_bytes: int | None,
    pinned: Mapping[str, str],
    depth: int = 0,
) -> tuple[Collection[tuple[str, str]], list[int]]:
    """Choose the segments that stay: as many reads saved as the budget allows.

    Each stage chooses for itself, since its segments are there only while it runs. Where not all of
    a stage's segments can stay, room for *depth* loads ahead is left. *pinned* maps a stage to
    `resident` or `stream`; None as budget keeps everything. Returns the chosen (stage, segment)
    pairs and the load of every call in bytes.
    """
    chosen: list[Uses] = []
    for stage in dict.fromkeys(use.stage for use in uses):
        again = [use for use in uses if use.stage == stage and use.runs > 1]
        pin = pinned.get(stage)
        if budget_bytes is None or pin == "resident":
            chosen += again if pin != "stream" else []
        elif again and pin is None:
            chosen += _of_stage(_Stage(footprint, life, tuple(again)), budget_bytes, depth)
    return {(use.stage, use.segment) for use in chosen}, _load(footprint, life, chosen)


@attrs.frozen
class _Stage:
    """The segments of one stage that come again."""

    footprint: Footprint
    life: Lifetimes
    uses: tuple[Uses, ...]

    def nbytes(self, use: Uses) -> int:
        return self.footprint.segments[use.segment].nbytes

    def fits(self, chosen: Sequence[Uses], budget_bytes: int) -> bool:
        """Whether no call passes the budget for the sake of *chosen*."""
        needs = self.life.need_bytes
        begin, end = min(u.calls[0] for u in self.uses), max(u.calls[-1] for u in self.uses) + 1
        load = _load(self.footprint, self.life, chosen, begin, end)
        pairs = zip(load, needs[begin:end], strict=True)
        return all(nbytes <= budget_bytes or nbytes == need for nbytes, need in pairs)


def _of_stage(stage: _Stage, budget_bytes: int, depth: int) -> list[Uses]:
    """The longest run of candidates that fits, found by halving, and a few more of other sizes."""
    order = _candidates(stage.uses)
    if stage.fits(order, budget_bytes):
        return order
    room = budget_bytes - depth * max(stage.nbytes(use) for use in order)
    low, high = 0, len(order) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if stage.fits(order[:middle], room) else (low, middle - 1)
    return order[:low] + _stragglers(stage, order, low, room)


def _stragglers(stage: _Stage, order: Sequence[Uses], taken: int, budget_bytes: int) -> list[Uses]:
    """Where the next one in order is too large, one of another size may still fit."""
    found: list[Uses] = []
    tried = {stage.nbytes(use) for use in order[taken : taken + 1]}
    for use in order[taken + 1 :]:
        if len(tried) > _TRIES:
            break
        if stage.nbytes(use) not in tried:
            tried.add(stage.nbytes(use))
            if stage.fits([*order[:taken], *found, use], budget_bytes):
                found.append(use)
    return found


def _candidates(uses: Iterable[Uses]) -> list[Uses]:
    """Most often read first; among equals evenly spread, so that streamed ones lie between."""
    by_runs: dict[int, list[Uses]] = {}
    for use in uses:
        by_runs.setdefault(-use.runs, []).append(use)
    return [group[i] for _, group in sorted(by_runs.items()) for i in _spread(len(group))]


def _load(
    footprint: Footprint,
    life: Lifetimes,
    chosen: Iterable[Uses],
    begin: int = 0,
    end: int | None = None,
) -> list[int]:
    """Bytes of the calls from *begin* to *end* when *chosen* stay between first and last use."""
    needs = life.need_bytes[begin:end]
    changes = [0] * (len(needs) + 1)
    for use in chosen:
        nbytes = footprint.segments[use.segment].nbytes
        changes[use.calls[0] - begin] += nbytes
        changes[use.calls[-1] + 1 - begin] -= nbytes
        for call in use.calls:  # a call's need has its own segment already
            changes[call - begin] -= nbytes
            changes[call + 1 - begin] += nbytes
    return [need + level for need, level in zip(needs, itertools.accumulate(changes), strict=False)]
