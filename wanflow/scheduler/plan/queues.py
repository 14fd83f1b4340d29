"""Play a schedule on a machine's three queues: disk, copy and compute. No torch.

Loads are served in order. A load starts when the call that issues it starts and the queue is free;
a call waits for the segment it uses. That is how the executor runs, so the last call's end is the
prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from wanflow.scheduler.machine.figures import Load
from wanflow.scheduler.plan.prefetch import Visit


@attrs.frozen
class QueueTimes:
    """How long each call runs and waits, and when each visit's load begins and ends; seconds.

    `leaving` is what each call's spilled values take on their way to the host, which it waits for.
    """

    seconds: float
    compute: tuple[float, ...]
    waits: tuple[float, ...]
    leaving: tuple[float, ...]
    loads: tuple[tuple[float, float], ...]
    disk_seconds: float
    copy_seconds: float
    compute_seconds: float

    @property
    def bound_seconds(self) -> float:
        """No schedule of these loads and calls can be faster than its busiest queue."""
        working = self.compute_seconds + sum(self.leaving)
        return max(self.disk_seconds, self.copy_seconds, working)


def play(
    compute_seconds: Sequence[float],
    visits: Sequence[Visit],
    issues: Sequence[int],
    loads: Sequence[Load],
    leaving: Mapping[int, float] | None = None,
) -> QueueTimes:
    """Play *visits*, issued in their order at the calls *issues*, among calls that take time.

    *leaving* has the seconds that a call's values need to leave the device after it.

    All of it is sums and maxima: a load that is issued earlier, takes less or is not there at all
    never makes another one or a call end later.
    """
    spills = leaving or {}
    waits = [0.0] * len(compute_seconds)
    leaves = [0.0] * len(compute_seconds)
    for call, seconds in spills.items():
        leaves[call] = seconds
    spans: list[tuple[float, float]] = []
    now = disk_free = copy_free = disk_seconds = copy_seconds = 0.0
    ready: dict[int, float] = {}  # by the first call that uses the visit
    following, count, done = 0, len(visits), 0
    issued = issues[0] if count else None  # the call at which the next visit is
    for call in _meetings(visits, issues, spills):
        if call > done:
            now = sum(compute_seconds[done:call], now)  # of calls that only take their time
        while issued == call:
            load, visit = loads[following], visits[following]
            began = max(now, disk_free)
            disk_free = began + load.disk_seconds
            arrived = max(disk_free, copy_free) + load.copy_seconds
            if load.copy_seconds:
                copy_free = arrived
            if not visit.carry.ahead:  # which no call of this run waits for
                ready[visit.first] = max(ready.get(visit.first, 0.0), arrived)
            spans.append((began, arrived))
            disk_seconds += load.disk_seconds
            copy_seconds += load.copy_seconds
            following += 1
            issued = issues[following] if following < count else None
        took = compute_seconds[call]
        if call in ready:
            waits[call] = wait = max(ready.pop(call) - now, 0.0)
            took += wait
        now += took + leaves[call]
        done = call + 1
    return QueueTimes(
        sum(compute_seconds[done:], now), tuple(compute_seconds), tuple(waits), tuple(leaves),
        tuple(spans), disk_seconds, copy_seconds, sum(compute_seconds),
    )  # fmt: skip


def _meetings(
    visits: Sequence[Visit], issues: Sequence[int], spills: Mapping[int, float]
) -> list[int]:
    """The calls that issue a load, wait for one, or have values leave: few where much stays."""
    waiting = (visit.first for visit in visits if not visit.carry.ahead)
    return sorted({*issues, *waiting, *spills})
