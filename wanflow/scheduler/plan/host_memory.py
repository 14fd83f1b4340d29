"""How the host's memory is shared: a ring that loads pass through, segments that stay. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.plan.holds import Uses
from wanflow.scheduler.plan.keep_orders import spread
from wanflow.scheduler.plan.prefetch import Visit
from wanflow.scheduler.plan.schedule import HostPlan
from wanflow.scheduler.plan.spill import Gap

RING = 2  # buffers: one is read into while the other one is copied from
NOTHING = HostPlan(frozenset(), 0, 0, 0)


def host_order(uses: Uses, *, repeated: bool = False) -> list[tuple[str, int]]:
    """Segments that come again, with their bytes, in the order in which the host takes them.

    The most often read first, then the small ones, as more of them fit; among equals evenly spread.
    Where the plan is run *repeated*ly every segment comes again.
    """
    counts: dict[tuple[str, int], int] = {}
    for run in uses.runs:
        counts[run.segment, run.nbytes] = counts.get((run.segment, run.nbytes), 0) + 1
    again = [key for key, count in counts.items() if count > 1 or repeated]
    even = [again[i] for i in spread(len(again))]
    return sorted(even, key=lambda key: (-counts[key], key[1]))


def share_host(
    order: Sequence[tuple[str, int]],
    visits: Sequence[Visit],
    machine: Machine,
    ram_bytes: int | None,
    gaps: Sequence[Gap] = (),
) -> HostPlan:
    """Cache those of the segments that come again that *ram_bytes* holds beside ring and spills.

    The first in *order* that doesn't fit ends it, so that more RAM, or fewer visits, never drops
    one while plans are compared; the plan that is chosen keeps of them what makes it faster. Cached
    segments are charged for the whole run, which is how long they are there.
    """
    if machine.device == "cpu" or not visits:
        return NOTHING
    ring = max((visit.nbytes for visit in visits if not visit.values), default=0)
    again = {visit.segment for visit in visits if visit.again}
    spills = spill_buffers(gaps)
    least = RING * ring + sum(nbytes * count for nbytes, count in spills.items())
    cached, used = [], least
    for segment, nbytes in order:
        if segment not in again:
            continue
        if ram_bytes is not None and used + nbytes > ram_bytes:
            break
        cached.append(segment)
        used += nbytes
    return HostPlan(frozenset(cached), ring, used, least, spills)


def spill_buffers(gaps: Sequence[Gap]) -> dict[int, int]:
    """Count the buffers that spilled values need at once, by their bytes.

    A buffer is taken again by a value of the same size, so that what is there never fragments.
    """
    events = [(gap.leaves, 1, gap.nbytes) for gap in gaps]
    events += [(gap.comes, -1, gap.nbytes) for gap in gaps]
    now: dict[int, int] = {}
    most: dict[int, int] = {}
    for _, change, nbytes in sorted(events):  # what comes back at a call is gone before others go
        now[nbytes] = now.get(nbytes, 0) + change
        most[nbytes] = max(most.get(nbytes, 0), now[nbytes])
    return most
