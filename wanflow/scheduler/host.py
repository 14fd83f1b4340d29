"""How the host's memory is shared: a ring that loads pass through, segments that stay. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.machine import Machine
from wanflow.scheduler.plan import HostPlan
from wanflow.scheduler.visits import Visit

RING = 2  # buffers: one is read into while the other one is copied from
NOTHING = HostPlan(frozenset(), 0, 0, 0)


def share_host(
    footprint: Footprint, visits: Sequence[Visit], machine: Machine, ram_bytes: int | None
) -> HostPlan:
    """Cache as many of the segments that come again as *ram_bytes* holds beside the ring.

    Segments are taken in the order of their visits; a stage's segments leave the host when it ends,
    but they are charged for the whole run, which a plan of one stage at a time can't exceed.
    """
    if machine.device == "cpu" or not visits:
        return NOTHING
    ring = max(visit.nbytes for visit in visits)
    cached, used = set(), RING * ring
    for visit in visits:
        if not visit.again or visit.segment in cached:
            continue
        nbytes = footprint.segments[visit.segment].nbytes
        if ram_bytes is None or used + nbytes <= ram_bytes:
            cached.add(visit.segment)
            used += nbytes
    return HostPlan(frozenset(cached), ring, used, RING * ring)
