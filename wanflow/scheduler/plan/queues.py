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
    now = disk_free = copy_free = 0.0
    spills = leaving or {}
    waits, spans = [0.0] * len(compute_seconds), []
    ready: dict[int, float] = {}  # by the first call that uses the visit
    following, count = 0, len(visits)
    issued = issues[0] if count else None  # the call at which the next visit is
    for call, seconds in enumerate(compute_seconds):
        while issued == call:
            load = loads[following]
            began = max(now, disk_free)
            disk_free = began + load.disk_seconds
            arrived = max(disk_free, copy_free) + load.copy_seconds
            if load.copy_seconds:
                copy_free = arrived
            first = visits[following].first
            if not visits[following].carry.ahead:  # which no call of this run waits for
                ready[first] = max(ready.get(first, 0.0), arrived)
            spans.append((began, arrived))
            following += 1
            issued = issues[following] if following < count else None
        took = seconds  # nothing more, most of the time
        if ready:
            waits[call] = wait = max(ready.pop(call, 0.0) - now, 0.0)
            took += wait
        if spills:
            took += spills.get(call, 0.0)
        now += took
    return QueueTimes(
        now,
        tuple(compute_seconds),
        tuple(waits),
        tuple(spills.get(call, 0.0) for call in range(len(waits)))
        if spills
        else (0.0,) * len(waits),
        tuple(spans),
        sum(load.disk_seconds for load in loads),
        sum(load.copy_seconds for load in loads),
        sum(compute_seconds),
    )
