"""Which values go to the host between two uses, where that lowers the peak. No torch.

    calls   ---[written or read]------gap------[read]---
                               leaves          comes

A value that waits for its next reader takes room at every call of the gap. Spilled, it is copied
to the host after the call before the gap and brought back, like weights, ahead of the call after
it. What is chosen together are all gaps of a *name* (the same cache of every frame; of names that
differ in the place after an `@`, as many strips' do, all). The choice is a chain of sets, each the
one before and the name that lowers the fullest call the most for the bytes that it moves, so that
it depends on no budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from wanflow.scheduler.footprint.costs import Footprint, Made
from wanflow.scheduler.footprint.lifetimes import lifetimes

_LEVELS = 4  # sets that are planned with, beside the empty one
_SHARE = 0.01  # of the peak: a name that takes less is not worth moving


@attrs.frozen
class Gap:
    """A value that may be away: after call *leaves*, back for call *comes*."""

    value: int
    name: str
    stage: str
    nbytes: int
    leaves: int
    comes: int


Gaps = tuple[Gap, ...]


def gaps_of(footprint: Footprint) -> Gaps:
    """Find every gap between two uses of a value that has at least one call in it."""
    values: dict[int, Made] = {}
    used: dict[int, int] = {}
    gaps: list[Gap] = []
    for index, call in enumerate(footprint.calls):
        for number in call.reads:
            name, nbytes = values[number].name, values[number].nbytes
            if index - used[number] > 1:
                gaps.append(Gap(number, name, call.stage, nbytes, used[number], index))
            used[number] = index
        for value in call.makes:
            values[value.value] = value
            used[value.value] = index
    return tuple(gaps)


def spill_levels(footprint: Footprint, pinned: Mapping[str, str]) -> list[Gaps]:
    """Sets of gaps to plan with, the smallest first. *pinned* maps a stage to `none` or `all`."""
    gaps = [gap for gap in gaps_of(footprint) if pinned.get(gap.stage) != "none"]
    always = [gap for gap in gaps if pinned.get(gap.stage) == "all"]
    by_name: dict[str, list[Gap]] = {}
    for gap in gaps:
        if pinned.get(gap.stage) != "all":
            by_name.setdefault(gap.name.partition("@")[0], []).append(gap)
    need = np.array(lifetimes(footprint).without(always).need_bytes, dtype=np.int64)
    chain = _chain(by_name, need)
    counts = sorted({-(-len(chain) * part // _LEVELS) for part in range(_LEVELS + 1)})
    return [
        tuple(always + [gap for name in chain[:count] for gap in by_name[name]]) for count in counts
    ]


def _chain(by_name: Mapping[str, Sequence[Gap]], need: np.ndarray) -> list[str]:
    """Names in the order in which they lower the fullest call, until that can't be lowered.

    First comes the one that lowers it most for the bytes that it moves.
    """
    away_at = {name: _away(gaps, len(need)) for name, gaps in by_name.items()}
    nbytes = {name: sum(gap.nbytes for gap in gaps) for name, gaps in by_name.items()}
    chain: list[str] = []
    while away_at and len(need):
        peak = int(need.max())
        full = need >= peak
        gains = {name: int(away[full].min()) for name, away in away_at.items()}
        gains = {name: gain for name, gain in gains.items() if gain > _SHARE * peak}
        if not gains:
            break
        best = max(gains, key=lambda name: gains[name] / nbytes[name])
        need = need - away_at.pop(best)
        chain.append(best)
    return chain


def _away(gaps: Sequence[Gap], calls: int) -> np.ndarray:
    """The bytes at every call that are gone when *gaps* are spilled."""
    changes = np.zeros(calls + 1, dtype=np.int64)
    for gap in gaps:
        changes[gap.leaves + 1] += gap.nbytes
        changes[gap.comes] -= gap.nbytes
    return np.cumsum(changes[:-1])
