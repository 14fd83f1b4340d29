"""The planner: a pure function from footprints, a machine and budgets to a plan. No torch.

One search over the settings of the knobs, how much of the room goes to segments that stay and how
much to loads that are issued ahead, each candidate played on the machine's queues. The fastest that
fits wins; among equally fast ones the smallest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wanflow.scheduler.draft import Draft, Work
from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.host import share_host
from wanflow.scheduler.lifetimes import lifetimes
from wanflow.scheduler.machine import Machine
from wanflow.scheduler.plan import Alternative, Plan
from wanflow.scheduler.residency import choose_resident, uses_of
from wanflow.scheduler.stage_plan import stage_plans, turns_of
from wanflow.scheduler.timeline import play
from wanflow.scheduler.visits import issue_ahead, visits_of
from wanflow.units import format_bytes

DEPTHS = (0, 1, 2, 3)  # how many loads may be under way ahead of the call that runs


def plan(
    variants: Sequence[Footprint],
    machine: Machine,
    budget_bytes: int | None,
    pinned: Mapping[str, str] | None = None,
    ram_bytes: int | None = None,
) -> Plan:
    """Return the fastest plan that fits *budget_bytes* on the device and *ram_bytes* on the host.

    None stands for as much as it takes. *variants* are footprints of the same graph at different
    knobs, the plain one first. *pinned* maps a stage to `resident` or `stream`. Always returns a
    plan; look at `feasible`: an infeasible one is the smallest.
    """
    pins = pinned or {}
    works = [_work(footprint, machine) for footprint in variants]
    least = min(
        (_draft(w, machine, 0, pins, ram_bytes, 0) for w in works), key=lambda d: d.peak_bytes
    )
    most = min(_drafts(works, machine, None, pins, ram_bytes), key=lambda d: d.order)
    drafts = list(_drafts(works, machine, budget_bytes, pins, ram_bytes))
    fitting = [d for d in drafts if _fits(d, budget_bytes, ram_bytes)]
    best = min(fitting, key=lambda d: d.order) if fitting else least
    return Plan(
        feasible=bool(fitting),
        budget_bytes=budget_bytes if budget_bytes is not None else best.peak_bytes,
        predicted_peak_bytes=best.peak_bytes,
        predicted_seconds=best.timeline.seconds,
        bound_seconds=best.timeline.bound_seconds,
        minimum_bytes=least.peak_bytes,
        minimum_cause=_cause(least),
        resident_bytes=most.peak_bytes,
        depth=best.depth,
        host=best.host,
        stages=stage_plans(best),
        turns=turns_of(best),
        timeline=best.timeline,
        alternatives=tuple(
            _alternative(d, budget_bytes, ram_bytes) for d in (*drafts, most, least)
        ),
        footprint=best.work.footprint,
    )


def _work(footprint: Footprint, machine: Machine) -> Work:
    uses = uses_of(footprint)
    seconds = tuple(
        machine.compute_seconds(
            step.cost.flops,
            step.cost.memory_bytes,
            footprint.dtypes.get(step.stage, "float32"),
            step.cost.kernels,
        )
        for step in footprint.steps
    )
    return Work(footprint, lifetimes(footprint), uses, seconds)


def _drafts(
    works: Sequence[Work],
    machine: Machine,
    budget_bytes: int | None,
    pins: Mapping[str, str],
    ram_bytes: int | None,
) -> Iterator[Draft]:
    for work in works:
        for depth in DEPTHS:
            yield _draft(work, machine, budget_bytes, pins, ram_bytes, depth)


def _draft(
    work: Work,
    machine: Machine,
    budget_bytes: int | None,
    pins: Mapping[str, str],
    ram_bytes: int | None,
    depth: int,
) -> Draft:
    """Fill the room with segments that stay, less *depth* loads ahead unless all of them do."""
    resident, load = choose_resident(
        work.footprint, work.life, work.uses, budget_bytes, pins, depth
    )
    visits = visits_of(work.footprint, work.uses, resident)
    ahead = issue_ahead(visits, load, budget_bytes, depth)
    host = share_host(work.footprint, ahead, machine, ram_bytes)
    on_cpu = machine.device == "cpu"  # there, what was read before is in the page cache
    loads = [
        machine.load(v.nbytes, from_host=v.again and (on_cpu or v.segment in host.cached))
        for v in ahead
    ]
    return Draft(work, depth, resident, ahead, host, load, play(work.compute_seconds, ahead, loads))


def _fits(draft: Draft, budget_bytes: int | None, ram_bytes: int | None) -> bool:
    on_device = budget_bytes is None or draft.peak_bytes <= budget_bytes
    return on_device and (ram_bytes is None or draft.host.nbytes <= ram_bytes)


def _alternative(draft: Draft, budget_bytes: int | None, ram_bytes: int | None) -> Alternative:
    footprint = draft.work.footprint
    return Alternative(
        knobs={facts.stage: facts.knobs for facts in footprint.stages if facts.knobs},
        depth=draft.depth,
        resident_bytes=sum(footprint.segments[name].nbytes for _, name in draft.resident),
        peak_bytes=draft.peak_bytes,
        seconds=draft.timeline.seconds,
        fits=_fits(draft, budget_bytes, ram_bytes),
    )


def _cause(draft: Draft) -> str:
    """Say which call needs the most, and what it is made of."""
    if not draft.load:
        return "nothing"
    index = max(range(len(draft.load)), key=lambda i: draft.load[i])
    footprint, life = draft.work.footprint, draft.work.life
    step = footprint.steps[index]
    weights = footprint.segments[step.segment].nbytes if step.segment is not None else 0
    parts = [
        f"workspace {format_bytes(step.cost.workspace_bytes)}",
        f"weights {format_bytes(weights + step.gathered_bytes)}",
        f"values {format_bytes(life.live_bytes[index])}",
    ]
    stays = draft.load[index] - life.need_bytes[index]
    if stays:
        parts.append(f"pinned weights {format_bytes(stays)}")
    return f"{step.stage} ({step.kind}): {', '.join(parts)}"
