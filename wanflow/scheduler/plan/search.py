"""Search what stays: the fastest candidate of one footprint inside a budget. No torch.

A candidate keeps a start of an order of each region's segments (see `keep_orders`): as long as
fits a room that leaves 0 to 3 of the region's largest segments free, for loads ahead. Rooms go down
from the budget only as far as a load ahead can ever need: below that a candidate keeps a subset of
what another one keeps whose loads are already issued as early as can be. That is why more budget is
never slower: each candidate at less room is there still, or a better one is.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from wanflow.scheduler.plan.candidate import Candidate, Work, candidate
from wanflow.scheduler.plan.holds import bytes_with, free_holds, regions
from wanflow.scheduler.plan.keep_orders import orders_of

DEPTH = 3  # how many loads may be under way ahead of the call that runs
_EFFORT_CALLS = 30_000  # an order more for each time that the calls go into this
_LEAST_ORDERS, _MOST_ORDERS = 3, 72
_LEAST_ROOMS = 8  # rooms that are looked at in one order


def smallest(work: Work) -> Candidate:
    """Keep nothing that need not stay, load nothing ahead."""
    return candidate(work, work.pinned_holds, 0, 0)


def largest(work: Work, budget_bytes: int | None) -> Candidate:
    """Keep everything, and load as far ahead as helps: nothing is faster.

    Where what is kept alone is over the budget, no less is loaded ahead: nothing would fit by it.
    """
    free = free_holds(work.uses, work.pinned)
    bridges = [n for n, hold in enumerate(work.uses.holds) if hold.bridges]
    keep = work.pinned_holds.union(free, bridges)
    most = candidate(work, keep, None, DEPTH)
    bytes_at = bytes_with(work.life.need_bytes, [work.uses.holds[n] for n in keep])
    if budget_bytes is not None and max(bytes_at, default=0) > budget_bytes:
        return most
    return shallow(most, None)


def search(work: Work, budget_bytes: int, goal_seconds: float = 0.0) -> Iterator[Candidate]:
    """Try candidates that fit *budget_bytes*, up to one that takes no more than *goal_seconds*."""
    bridges = frozenset(n for n, hold in enumerate(work.uses.holds) if hold.bridges)
    bases = [work.pinned_holds] + ([work.pinned_holds | bridges] if bridges else [])
    best: Candidate | None = None
    for base in bases:
        for tried in _of_base(work, base, budget_bytes):
            yield tried
            if best is None or tried.order < best.order:
                best = tried
            if tried.seconds <= goal_seconds:
                break
    if best is not None:
        yield shallow(best, budget_bytes)


def shallow(best: Candidate, budget_bytes: int | None) -> Candidate:
    """Load less far ahead where that is as fast: it needs less."""
    for depth in reversed(range(DEPTH)):
        less = candidate(best.work, best.kept, budget_bytes, depth)
        if less.seconds > best.seconds:
            break
        best = less
    return best


def _of_base(work: Work, base: frozenset[int], budget_bytes: int) -> Iterator[Candidate]:
    """Candidates that keep *base*, and more where it fits."""
    holds = work.uses.holds
    bytes_at = bytes_with(work.life.need_bytes, [holds[n] for n in base])
    if max(bytes_at, default=0) > budget_bytes:
        return
    effort = _EFFORT_CALLS // max(len(bytes_at), 1)
    limit = min(max(effort, _LEAST_ORDERS), _MOST_ORDERS)
    groups = regions(work.uses, free_holds(work.uses, work.pinned))
    orders = [orders_of(holds, group, limit) for group in groups]
    sizes = {run.nbytes for run in work.uses.runs} | {visit.nbytes for visit in work.returns}
    ahead_bytes = DEPTH * max(sizes, default=0)
    rooms = max(effort, _LEAST_ROOMS)
    seen: dict[frozenset[int], Candidate] = {}
    best = float("inf")
    for number in range(max(map(len, orders), default=1)):
        chains = [
            _chain(work, np.array(bytes_at), order[min(number, len(order) - 1)], ahead_bytes, rooms)
            for order in orders
        ]
        for spare in range(DEPTH + 1):
            for more in _starts(chains, spare, budget_bytes, ahead_bytes):
                keep = base.union(more)
                if keep not in seen:
                    seen[keep] = candidate(work, keep, budget_bytes, DEPTH)
                    yield seen[keep]
                tried = seen[keep]
                best = min(best, tried.timeline.seconds)
                if tried.free or tried.timeline.bound_seconds >= best:
                    break  # one that keeps less of the same reads more and is no freer


def _starts(
    chains: Sequence[_Chain], spare: int, budget_bytes: int, ahead_bytes: int
) -> Iterator[list[int]]:
    """What the chains keep at ever smaller rooms, *spare* of their largest segments left free."""
    room = budget_bytes
    while True:
        counts = [chain.most(room - spare * chain.largest) for chain in chains]
        yield [n for chain, count in zip(chains, counts, strict=True) for n in chain.order[:count]]
        next_rooms = [
            chain.peak(count) + spare * chain.largest - 1
            for chain, count in zip(chains, counts, strict=True)
            if count
        ]
        if not next_rooms or room < budget_bytes - ahead_bytes:
            return
        room = min(max(next_rooms), room - 1)


@attrs.define
class _Chain:
    """An order of one region's holds, and what each start of it needs at its fullest call."""

    order: list[int]
    largest: int
    counts: list[int]  # how many may be kept: where there are very many, not every number
    base: np.ndarray[tuple[int], np.dtype[np.int64]]
    begins: np.ndarray[tuple[int], np.dtype[np.int64]]
    ends: np.ndarray[tuple[int], np.dtype[np.int64]]
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]]
    gaps: list[int]  # of the holds before each one
    peaks: dict[int, int] = attrs.field(factory=dict)

    def most(self, room_bytes: int) -> int:
        """How many fit; 0 where nothing does."""
        at = bisect.bisect_right(self.counts, room_bytes, key=self.peak)
        return self.counts[max(at - 1, 0)]

    def peak(self, count: int) -> int:
        """The bytes at the fullest call when the first *count* stay."""
        if count not in self.peaks:
            cut, length = self.gaps[count], len(self.base) + 1
            levels = np.bincount(self.begins[:cut], self.sizes[:cut], length)
            levels -= np.bincount(self.ends[:cut], self.sizes[:cut], length)
            bytes_at = self.base + np.cumsum(levels[:-1]).astype(np.int64)
            self.peaks[count] = int(bytes_at.max())
        return self.peaks[count]


def _chain(
    work: Work,
    bytes_at: np.ndarray[tuple[int], np.dtype[np.int64]],
    order: list[int],
    ahead_bytes: int,
    rooms: int,
) -> _Chain:
    holds = [work.uses.holds[n] for n in order]
    begin, end = min(h.begin for h in holds), max(h.end for h in holds)
    mean = max(sum(h.nbytes for h in holds) // len(holds), 1)
    stride = max(ahead_bytes // mean // rooms, 1)
    gaps = [gap for hold in holds for gap in hold.gaps]
    before = [0]
    for hold in holds:
        before.append(before[-1] + len(hold.gaps))
    return _Chain(
        order=order,
        largest=max(h.nbytes for h in holds),
        counts=sorted({*range(0, len(order), stride), len(order)}),
        base=bytes_at[begin:end],
        begins=np.array([b - begin for b, _ in gaps]),
        ends=np.array([e - begin for _, e in gaps]),
        sizes=np.array([hold.nbytes for hold in holds for _ in hold.gaps]),
        gaps=before,
    )
