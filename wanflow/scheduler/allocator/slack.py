"""What PyTorch's CUDA allocator reserves beyond what a run asks for: rounding and fragments.

A footprint's calls are played through the allocator in order, each value where it really lies
among the others. What counts is the memory that holds anything: the rest goes back to the driver
when memory is short. With plain segments it matters how often that is, and how often depends on the
budget, so both ends are played: never, and whenever a segment is asked for. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import attrs

from wanflow.scheduler.allocator.expandable import Expandable, is_small
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


@attrs.frozen
class _Own:
    """A pool, and which requests it serves: pools of one allocator know nothing of each other."""

    open: Open
    serves: Callable[[int], bool]


_EXPANDABLE = (
    (
        _Own(partial(Expandable, small=False), lambda nbytes: not is_small(nbytes)),
        _Own(partial(Expandable, small=True), is_small),
    ),
)
_PLAIN = tuple((_Own(partial(Allocator, tight=t), lambda _: True),) for t in (False, True))
_FIRST = -1  # before a call's requests, which are counted from 0


@attrs.frozen(eq=False)
class _Played:
    """A call in a pool: the state after it, where its blocks come from, and what was pinned when.

    `sources` has, for each block in use, its number among those in use before the call, or, for the
    values that the call made, -1 for the first, -2 for the second. `pinned` has the number of a
    request and the bytes after it, where they change.
    """

    state: int
    sources: tuple[int, ...]
    pinned: tuple[tuple[int, int], ...]


class SlackEstimator:
    """Plays footprints through the allocator, plain or with *expandable* segments.

    Footprints at other knobs share most of their costs: they are played by the same one. *cache*
    has what was played by another process.
    """

    def __init__(self, *, expandable: bool, cache: SlackCache | None = None) -> None:
        self._cache = cache
        allocators = _EXPANDABLE if expandable else _PLAIN
        self._players = [_Replayer(pools) for pools in allocators]

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
            calls.append(call.costing(costs[key]))
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
    """Plays footprints through an allocator, pool by pool."""

    def __init__(self, pools: Sequence[_Own]) -> None:
        self._pools = [_PoolReplayer(own) for own in pools]
        self._peaks: dict[tuple[_Played, ...], int] = {}

    def slack(self, footprint: Footprint, life: Lifetimes) -> list[int]:
        """Per call: the peak of what holds anything over the peak of what was asked for."""
        sizes = {value.value: value.nbytes for call in footprint.calls for value in call.makes}
        runs = [_PoolReplay(pool, sizes) for pool in self._pools]
        live_bytes, slack = 0, []
        for call, freed in zip(footprint.calls, life.frees, strict=True):
            played = tuple(run.play(call, freed) for run in runs)
            if played not in self._peaks:
                self._peaks[played] = _peak([each.pinned for each in played])
            requested = live_bytes + call.gathered_bytes + call.cost.workspace_bytes
            slack.append(max(self._peaks[played] - requested, 0))
            live_bytes += sum(value.nbytes for value in call.makes) - sum(sizes[v] for v in freed)
        return slack


def _peak(pinned: Sequence[Sequence[tuple[int, int]]]) -> int:
    """The most that pools pin together: each request is served by one of them."""
    if len(pinned) == 1:
        return max(nbytes for _, nbytes in pinned[0])
    now = [steps[0][1] for steps in pinned]
    peak = total = sum(now)
    later = ((at, n, nbytes) for n, steps in enumerate(pinned) for at, nbytes in steps[1:])
    for _, number, nbytes in sorted(later):
        total += nbytes - now[number]
        now[number] = nbytes
        peak = max(peak, total)
    return peak


class _PoolReplay:
    """A footprint's way through a pool: its state now, and the value in each block in use."""

    def __init__(self, replayer: _PoolReplayer, sizes: Mapping[int, int]) -> None:
        self._replayer = replayer
        self._served = {v for v, nbytes in sizes.items() if nbytes and replayer.serves(nbytes)}
        self._state = 0
        self._order: list[int] = []

    def play(self, call: CallRecord, freed: Sequence[int]) -> _Played:
        """Play the next call."""
        served, order = self._served, self._order
        new = [value.value for value in call.makes if value.value in served]
        gone: tuple[int, ...] = ()
        if freed:
            here = (v for v in freed if v in served)
            gone = tuple(sorted(-1 - new.index(v) if v in new else order.index(v) for v in here))
        played = self._replayer.look_up(self._state, call, gone)
        self._order = [new[-1 - n] if n < 0 else order[n] for n in played.sources]
        self._state = played.state
        return played


class _PoolReplayer:
    """Plays calls; one that finds the pool as it was once before is not played again."""

    def __init__(self, own: _Own) -> None:
        self._open, self.serves = own.open, own.serves
        empty = own.open().state()
        self._states: list[Hashable] = [empty]
        self._numbers: dict[Hashable, int] = {empty: 0}
        self._played: dict[tuple[object, ...], _Played] = {}
        self._costs: dict[int, Cost] = {}  # keeps every cost whose id is a key
        self._scripts: dict[int, list[tuple[int, int, int]]] = {}
        self._pool, self._at = own.open(), 0  # the one that played last, and its state

    def look_up(self, state: int, call: CallRecord, gone: tuple[int, ...]) -> _Played:
        """Find what a call does in a state of the pool; *gone* are the blocks that are freed."""
        key = (state, id(call.cost), call.gathered_bytes, gone)
        if key not in self._played:
            self._costs[id(call.cost)] = call.cost
            self._played[key] = self._play(state, call, gone)
        return self._played[key]

    def _play(self, before: int, call: CallRecord, gone: Sequence[int]) -> _Played:
        pool = self._pool if self._at == before else self._open(self._states[before])
        before_blocks = pool.used()
        rows = None
        if call.gathered_bytes and self.serves(call.gathered_bytes):
            rows = pool.take(call.gathered_bytes)
        new, pinned = self._requests(pool, call)
        for number in gone:
            pool.give(before_blocks[number] if number >= 0 else new[-1 - number])
        if rows is not None:
            pool.give(rows)
        state = pool.state()
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        self._pool, self._at = pool, number
        numbers = {block: number for number, block in enumerate(before_blocks)}
        numbers |= {block: -1 - number for number, block in enumerate(new)}
        sources = tuple(map(numbers.__getitem__, pool.used()))
        return _Played(self._at, sources, tuple(pinned))

    def _requests(self, pool: Pool, call: CallRecord) -> tuple[list[Any], list[tuple[int, int]]]:
        """Make a call's requests; return the blocks of the values it makes, and what was pinned.

        A value without a request of its own was made where the recorder can't see (a NumPy array).
        """
        cost = call.cost
        if id(cost) not in self._scripts:
            self._scripts[id(cost)] = _script(cost, self.serves)
        taken: dict[int, Any] = {}
        last = pool.pinned_bytes
        pinned = [(_FIRST, last)]
        for at, number, nbytes in self._scripts[id(cost)]:
            if nbytes:
                taken[number] = pool.take(nbytes)
            else:
                pool.give(taken.pop(number))
            if pool.pinned_bytes != last:
                last = pool.pinned_bytes
                pinned.append((at, last))
        blocks = []
        origins = cost.origins or (0,) * len(call.makes)
        for at, (value, origin) in enumerate(
            zip(call.makes, origins, strict=True), len(cost.requests)
        ):
            if not value.nbytes or not self.serves(value.nbytes):
                continue
            block = taken.pop(origin, None)
            blocks.append(pool.take(value.nbytes) if block is None else block)
            if pool.pinned_bytes != last:
                last = pool.pinned_bytes
                pinned.append((at, last))
        for block in taken.values():
            pool.give(block)
        return blocks, pinned


def _script(cost: Cost, serves: Callable[[int], bool]) -> list[tuple[int, int, int]]:
    """The requests that a pool serves: when each is made, its number, and its bytes, 0 to give."""
    script: list[tuple[int, int, int]] = []
    served: set[int] = set()
    count = 0
    for at, request in enumerate(cost.requests):
        if request > 0:
            count += 1
            if serves(request):
                served.add(count)
                script.append((at, count, request))
        elif -request in served:
            script.append((at, -request, 0))
    return script
