"""What PyTorch's CUDA allocator reserves beyond what a run asks for: rounding and fragments.

A footprint's calls are played through the allocator in order, each value where it really lies
among the others. What counts is the memory that holds anything: the rest goes back to the driver
when memory is short. With plain segments it matters how often that is, and how often depends on the
budget, so both ends are played: never, and whenever a segment is asked for. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Protocol

import attrs

from wanflow.scheduler.allocator.expandable import Expandable
from wanflow.scheduler.allocator.plain import Allocator
from wanflow.scheduler.allocator.slack_cache import SlackCache, played_key
from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint
from wanflow.scheduler.footprint.lifetimes import Lifetimes, lifetimes


class Pool(Protocol):
    """An allocator whose blocks are of a type of its own."""

    @property
    def pinned_bytes(self) -> int:
        """What holds anything."""

    def take(self, nbytes: int) -> Any:
        """Find a block."""

    def give(self, block: Any, /) -> None:
        """Free a block."""

    def used(self) -> list[Any]:
        """List the blocks in use, in an order that the state decides."""

    def state(self) -> Hashable:
        """Say the whole state."""


Open = Callable[..., Pool]  # of the state to begin with, or of nothing
_EXPANDABLE: tuple[Open, ...] = (Expandable,)
_PLAIN: tuple[Open, ...] = (partial(Allocator, tight=False), partial(Allocator, tight=True))


@attrs.frozen
class _Played:
    """A call in the allocator: the state after it, where its blocks come from, its peak.

    `sources` has, for each block in use, its number among those in use before the call, or, for the
    values that the call made, -1 for the first, -2 for the second.
    """

    state: int
    sources: tuple[int, ...]
    pinned_bytes: int


class SlackEstimator:
    """Plays footprints through the allocator, plain or with *expandable* segments.

    Footprints at other knobs share most of their costs: they are played by the same one. *cache*
    has what was played by another process.
    """

    def __init__(self, *, expandable: bool, cache: SlackCache | None = None) -> None:
        self._cache = cache
        self._players = [_Replayer(open_) for open_ in (_EXPANDABLE if expandable else _PLAIN)]

    def charged(self, footprint: Footprint, granularity_bytes: int) -> Footprint:
        """Return the footprint with its slack, and weights in multiples of *granularity_bytes*."""
        slack = self._slack(footprint)
        costs: dict[tuple[int, int], Cost] = {}
        calls = []
        for call, nbytes in zip(footprint.calls, slack, strict=True):
            if nbytes == call.cost.slack_bytes:
                calls.append(call)
                continue
            key = (id(call.cost), nbytes)
            if key not in costs:
                costs[key] = attrs.evolve(call.cost, slack_bytes=nbytes)
            calls.append(attrs.evolve(call, cost=costs[key]))
        segments = {
            name: attrs.evolve(use, nbytes=-(-use.nbytes // granularity_bytes) * granularity_bytes)
            for name, use in footprint.segments.items()
        }
        return attrs.evolve(footprint, calls=tuple(calls), segments=segments)

    def _slack(self, footprint: Footprint) -> list[int]:
        life = lifetimes(footprint)
        if self._cache is None:
            return self._play(footprint, life)
        key = played_key(footprint, life)
        slack = self._cache.find(key, len(footprint.calls))
        if slack is None:
            slack = self._play(footprint, life)
            self._cache.add(key, slack)
        return slack

    def _play(self, footprint: Footprint, life: Lifetimes) -> list[int]:
        slacks = (player.slack(footprint, life) for player in self._players)
        return [max(both) for both in zip(*slacks, strict=True)]


class _Replayer:
    """Plays calls; one that finds the allocator as it was once before is not played again."""

    def __init__(self, open_: Open) -> None:
        self._open = open_
        empty = open_().state()
        self._states: list[Hashable] = [empty]
        self._numbers: dict[Hashable, int] = {empty: 0}
        self._played: dict[tuple[object, ...], _Played] = {}
        self._costs: dict[int, Cost] = {}  # keeps every cost whose id is a key
        self._pool, self._at = open_(), 0  # the one that played last, and its state

    def slack(self, footprint: Footprint, life: Lifetimes) -> list[int]:
        """Per call: the peak of what holds anything over the peak of what was asked for."""
        sizes = {value.value: value.nbytes for call in footprint.calls for value in call.makes}
        order: list[int] = []  # the value in each block in use
        state = live_bytes = 0
        slack = []
        for call, freed in zip(footprint.calls, life.frees, strict=True):
            new = [value.value for value in call.makes]
            gone = sorted(
                -1 - new.index(v) if v in new else order.index(v) for v in freed if sizes[v]
            )
            played = self._look_up(state, call, tuple(gone))
            requested = live_bytes + call.gathered_bytes + call.cost.workspace_bytes
            slack.append(max(played.pinned_bytes - requested, 0))
            order = [new[-1 - n] if n < 0 else order[n] for n in played.sources]
            state = played.state
            live_bytes += sum(sizes[v] for v in new) - sum(sizes[v] for v in freed)
        return slack

    def _look_up(self, state: int, call: CallRecord, gone: tuple[int, ...]) -> _Played:
        key = (state, id(call.cost), call.gathered_bytes, gone)
        if key not in self._played:
            self._costs[id(call.cost)] = call.cost
            self._played[key] = self._play(state, call, gone)
        return self._played[key]

    def _play(self, before: int, call: CallRecord, gone: Sequence[int]) -> _Played:
        pool = self._pool if self._at == before else self._open(self._states[before])
        before_blocks = pool.used()
        rows = pool.take(call.gathered_bytes) if call.gathered_bytes else None
        new, peak_bytes = _requests(pool, call)
        blocks = {**dict(enumerate(before_blocks)), **{-1 - n: b for n, b in enumerate(new)}}
        for number in gone:
            pool.give(blocks.pop(number))
        if rows is not None:
            pool.give(rows)
        state = pool.state()
        if state not in self._numbers:
            self._numbers[state] = len(self._states)
            self._states.append(state)
        self._pool, self._at = pool, self._numbers[state]
        numbers = {block: number for number, block in blocks.items() if block is not None}
        sources = tuple(map(numbers.__getitem__, pool.used()))
        return _Played(self._numbers[state], sources, peak_bytes)


def _requests(pool: Pool, call: CallRecord) -> tuple[list[Any], int]:
    """Make a call's requests; return the blocks of the values it makes, and the pinned peak.

    A value without a request of its own was made where the recorder can't see (a NumPy array).
    """
    by_request: dict[int, Any] = {}
    count, peak_bytes = 0, pool.pinned_bytes
    for request in call.cost.requests:
        if request > 0:
            count += 1
            by_request[count] = pool.take(request)
            peak_bytes = max(peak_bytes, pool.pinned_bytes)
        else:
            pool.give(by_request.pop(-request))
    blocks = []
    origins = call.cost.origins or (0,) * len(call.makes)
    for value, origin in zip(call.makes, origins, strict=True):
        block = by_request.pop(origin, None)
        if block is None and value.nbytes:
            block = pool.take(value.nbytes)
        blocks.append(block)
    peak_bytes = max(peak_bytes, pool.pinned_bytes)
    for block in by_request.values():
        pool.give(block)
    return blocks, peak_bytes
