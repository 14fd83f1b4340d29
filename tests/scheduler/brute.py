"""The best plan by trying all: every subset of segments that stay, every depth, every knob."""

from __future__ import annotations

import itertools

import attrs

from wanflow.scheduler.footprint.costs import (
    CallRecord,
    Cost,
    Footprint,
    Made,
    SegmentUse,
    StageFacts,
)
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.plan.holds import uses_of
from wanflow.scheduler.plan.host_memory import host_order, share_host
from wanflow.scheduler.plan.prefetch import alone, issue_ahead, visits_of
from wanflow.scheduler.plan.queues import play

DEPTHS = range(4)


def best_seconds(
    variants: list[Footprint], machine: Machine, budget: int, ram: int | None = None
) -> float | None:
    """The least time of all plans that fit; None where none does."""
    times = [
        seconds
        for footprint in variants
        for kept in _subsets(len(uses_of(footprint).holds))
        for depth in DEPTHS
        if (seconds := _seconds(footprint, machine, budget, ram, kept, depth)) is not None
    ]
    return min(times, default=None)


def _subsets(count: int):
    return itertools.chain(
        *(map(frozenset, itertools.combinations(range(count), n)) for n in range(count + 1))
    )


def _seconds(footprint, machine, budget, ram, kept, depth) -> float | None:
    uses = uses_of(footprint)
    staging = footprint.staging_bytes if machine.device == "cpu" else 0
    bytes_at = list(lifetimes(footprint, staging).need_bytes)
    for number in kept:
        for begin, end in uses.holds[number].gaps:
            for call in range(begin, end):
                bytes_at[call] += uses.holds[number].nbytes
    if max(bytes_at) > budget:
        return None
    visits = visits_of(uses, kept, alone(uses))
    issues = issue_ahead(visits, bytes_at, budget, depth).issues
    assert max(bytes_at) <= budget
    host = share_host(host_order(uses), visits, machine, ram)
    if ram is not None and host.nbytes > ram:
        return None
    loads = [
        machine.load(
            v.nbytes,
            from_host=v.again and (machine.device == "cpu" or v.segment in host.cached),
            file_bytes=v.nbytes,
        )
        for v in visits
    ]
    computes = [
        machine.compute_seconds(c.cost.flops, c.cost.memory_bytes, "float32", c.cost.kernels)
        for c in footprint.calls
    ]
    return play(computes, visits, issues, loads).seconds


def machine(like: Machine, device: str, disk: float, link: float) -> Machine:
    """A machine on which a byte takes so many seconds from the disk and over the link."""
    rates = {"disk_rate": 1 / disk, "cached_disk_rate": 1 / link, "upload_rate": 1 / link}
    return attrs.evolve(like, device=device, **rates)


def uneven_chain(
    sizes: list[int], computes: list[float], passes: int, workspaces: list[int] | None = None
) -> Footprint:
    """Blocks of any size and time, one after the other, a few times."""
    segments = {f"dit/{i}": SegmentUse(f"dit/{i}", n) for i, n in enumerate(sizes)}
    workspaces = workspaces or [50] * len(sizes)
    calls, number = [], 0
    for step in range(passes):
        for name, seconds, workspace in zip(segments, computes, workspaces, strict=True):
            reads = (number,) if number else ()
            number += 1
            value = Made(number, "dit.x", 10, is_state=False)
            cost = Cost(workspace, {"gemm": seconds * 1e9}, 0)
            calls.append(CallRecord("dit", "block", step, cost, name, 0, reads, (value,)))
    facts = (StageFacts("dit", "denoise", "dit", passes, sum(sizes), {}, ()),)
    return Footprint(facts, tuple(calls), segments, frozenset({number}), {"dit": "float32"}, 0)
