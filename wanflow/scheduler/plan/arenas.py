"""Where weights lie inside one block of memory a model, so that they can't fragment. No torch.

The visits of a model are known before the run, so each gets its offset in the plan. Those that
stay lie at the bottom, the others above them, each in the lowest gap that is free when its load is
issued:

    bytes   |  s  t  r  e  a  m  e  d  |
            |  stays (whole stage)     |
    calls   first issue ........ last use

An arena is there from its model's first load to its last use, all of it, also where little of it is
used. A model whose arena the budget can't hold keeps a slab a segment.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from wanflow.scheduler.plan.prefetch import Visit

_CROWD = 256  # of more segments at once no gaps are looked for
_LONG = 8  # calls: a segment that is there for more of them is one that stays


@attrs.frozen
class Arena:
    """One block of memory for a model's weights, from before call `first` to after call `last`."""

    model: str
    nbytes: int
    first: int
    last: int


@attrs.frozen
class Packed:
    """The arenas; each visit's offset in its model's (None: a slab of its own); each call's bytes.

    `wanted_bytes` is the peak that all arenas would have had. `misplaced` are segments that can't
    lie at the end of a run where the next one finds them.
    """

    arenas: tuple[Arena, ...]
    offsets: tuple[int | None, ...]
    bytes_at: tuple[int, ...]
    wanted_bytes: int
    misplaced: frozenset[str] = frozenset()


def pack(
    visits: Sequence[Visit], issues: Sequence[int], bytes_at: Sequence[int], budget_bytes: int
) -> Packed:
    """Give every model an arena that the budget holds; *bytes_at* is what calls need without."""
    offsets: list[int | None] = [None] * len(visits)
    level = np.array(bytes_at, dtype=np.int64)
    arenas: list[Arena] = []
    wanted = 0
    misplaced: set[str] = set()
    for model, numbers in _by_model(visits).items():
        inside = _place(visits, issues, [n for n in numbers if not visits[n].carry.ahead])
        misplaced |= _put_back(visits, issues, numbers, inside)
        first = min(issues[n] for n in numbers)
        last = max(visits[n].last for n in numbers)
        arena = Arena(model, _height(visits, inside), first, last)
        more = level.copy()
        more[first : last + 1] += (
            arena.nbytes - _used(visits, issues, numbers, len(level))[first : last + 1]
        )
        wanted = max(wanted, int(more.max()))
        if int(more.max()) <= budget_bytes:
            level = more
            arenas.append(arena)
            for number, offset in inside.items():
                offsets[number] = offset
    return Packed(
        tuple(arenas), tuple(offsets), tuple(map(int, level)), wanted, frozenset(misplaced)
    )


def _by_model(visits: Sequence[Visit]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, visit in enumerate(visits):
        if not visit.values:
            numbers.setdefault(visit.segment.partition("/")[0], []).append(number)
    return numbers


def _place(
    visits: Sequence[Visit], issues: Sequence[int], numbers: Sequence[int]
) -> dict[int, int]:
    """Find an offset for each visit: the lower of two ways to fit them.

    In the order of their issues loses nothing where all are of a size. Where they are not, those
    that stay are better kept below the others.
    """
    stays = [n for n in numbers if visits[n].last > visits[n].first + _LONG]
    bottom = _first_fit(visits, issues, stays)
    floor = _height(visits, bottom)
    above = _first_fit(visits, issues, [n for n in numbers if n not in bottom])
    apart = bottom | {n: floor + at for n, at in above.items()}
    mixed = _first_fit(visits, issues, numbers)
    return min(mixed, apart, key=lambda offsets: _height(visits, offsets))


def _put_back(
    visits: Sequence[Visit], issues: Sequence[int], numbers: Sequence[int], offsets: dict[int, int]
) -> set[str]:
    """Have what stays for the next run lie where that finds it; give the segments that can't."""
    begins = {visits[n].segment: offsets[n] for n in numbers if visits[n].carry.comes}
    misplaced: set[str] = set()
    for number in numbers:
        visit = visits[number]
        if not visit.carry.stays or visit.carry.comes:
            continue
        at = begins[visit.segment]
        offsets.pop(number, None)
        if any(
            visits[n].last >= issues[number] and issues[n] <= visit.last
            and there < at + visit.nbytes and at < there + visits[n].nbytes
            for n, there in offsets.items()
        ):  # fmt: skip
            misplaced.add(visit.segment)
        offsets[number] = at
    return misplaced


def _height(visits: Sequence[Visit], offsets: Mapping[int, int]) -> int:
    return max((at + visits[n].nbytes for n, at in offsets.items()), default=0)


def _first_fit(
    visits: Sequence[Visit], issues: Sequence[int], numbers: Sequence[int]
) -> dict[int, int]:
    """Give each visit, in the order of their issues, the lowest gap that is free from then on."""
    offsets: dict[int, int] = {}
    blocks: list[tuple[int, int, int]] = []  # offset, end, last call; by offset
    crowd = _CROWD
    for number in numbers:
        visit = visits[number]
        if len(blocks) <= _CROWD or len(blocks) > crowd:
            blocks = [block for block in blocks if block[2] >= issues[number]]
            crowd = max(_CROWD, 2 * len(blocks))
        offset = 0 if len(blocks) <= _CROWD else blocks[-1][1]  # in a crowd, on top of it
        for begin, end, _ in blocks if not offset else ():
            if offset + visit.nbytes <= begin:
                break
            offset = max(offset, end)
        offsets[number] = offset
        bisect.insort(blocks, (offset, offset + visit.nbytes, visit.last))
    return offsets


def _used(
    visits: Sequence[Visit], issues: Sequence[int], numbers: Sequence[int], calls: int
) -> np.ndarray:
    """The bytes of the visits at every call."""
    changes = np.zeros(calls + 1, dtype=np.int64)
    for number in numbers:
        changes[issues[number]] += visits[number].nbytes
        changes[visits[number].last + 1] -= visits[number].nbytes
    return np.cumsum(changes[:-1])
