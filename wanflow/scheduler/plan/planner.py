"""The planner: a pure function from footprints, a machine and budgets to a plan. No torch.

One search over the settings of the knobs, how much of the room goes to segments that stay and how
much to loads that are issued ahead, each candidate played on the machine's queues. The fastest that
fits wins; among equally fast ones the smallest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.call_times import Timing, by_rates
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.plan.arenas import Packed, pack
from wanflow.scheduler.plan.candidate import Candidate, candidate, work_of
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.plan.schedule import Alternative, Plan
from wanflow.scheduler.plan.search import largest, search, smallest
from wanflow.scheduler.plan.spill import Gaps, spill_levels
from wanflow.scheduler.plan.turns import stage_plans, turns_of
from wanflow.units import format_bytes

_ALTERNATIVES = 12


@held_off()
def plan(
    variants: Sequence[Footprint],
    machine: Machine,
    budget_bytes: int | None,
    pinned: Mapping[str, str] | None = None,
    ram_bytes: int | None = None,
    spilled: Mapping[str, str] | None = None,
    timing: Timing = by_rates,
) -> Plan:
    """Return the fastest plan that fits *budget_bytes* on the device and *ram_bytes* on the host.

    None stands for as much as it takes. *variants* are footprints of the same graph at different
    knobs, the plain one first. *pinned* maps a stage to `resident` or `stream`, *spilled* one to
    `none` or `all`. *timing* says what the calls take. Always returns a plan; look at `feasible`:
    an infeasible one is the smallest.
    """
    works = [
        work_of(footprint, machine, pinned or {}, ram_bytes, gaps, timing)
        for footprint in variants
        for gaps in _levels(footprint, machine, spilled or {})
    ]
    least = min(
        (smallest(work) for work in works),
        key=lambda d: (0 if d.host_fits else d.host.minimum_bytes, d.peak_bytes, d.order),
    )
    ends = [largest(work) for work in works]
    most = min(ends, key=lambda d: d.order)
    drafts = [*ends, least]
    if budget_bytes is not None:
        for work, end in sorted(zip(works, ends, strict=True), key=lambda pair: pair[1].order):
            if all(end.order < d.order for d in drafts if d.fits(budget_bytes)):
                drafts += search(work, budget_bytes, end.seconds)
    fitting = [d for d in drafts if d.fits(budget_bytes)]
    best = min(fitting, key=lambda d: d.order) if fitting else least
    considered = sorted(drafts, key=lambda d: (not d.fits(budget_bytes), d.order))
    room = budget_bytes if fitting and budget_bytes is not None else best.peak_bytes
    best, packed = _in_arenas(best, room)
    return Plan(
        feasible=bool(fitting),
        budget_bytes=budget_bytes if budget_bytes is not None else best.peak_bytes,
        predicted_peak_bytes=max(packed.bytes_at, default=0),
        slack_bytes=_slack(best),
        predicted_seconds=best.timeline.seconds,
        bound_seconds=best.timeline.bound_seconds,
        minimum_bytes=least.peak_bytes,
        minimum_cause=_cause(least),
        minimum_stage=_stage_of_peak(least),
        resident_bytes=most.peak_bytes,
        depth=best.depth,
        host=best.host,
        arenas=packed.arenas,
        stages=stage_plans(best, packed),
        turns=turns_of(best, packed),
        timeline=best.timeline,
        alternatives=tuple(
            _alternative(d, budget_bytes) for d in (*considered[:_ALTERNATIVES], most, least)
        ),
        footprint=best.work.footprint,
    )


def _in_arenas(best: Candidate, room_bytes: int) -> tuple[Candidate, Packed]:
    """Put the weights into arenas; where they lack room, loads may be issued later at no cost."""
    found = _packed(best, room_bytes)
    short = found.wanted_bytes - room_bytes
    if short > 0:
        later = candidate(best.work, best.kept, room_bytes - short, best.depth)
        other = _packed(later, room_bytes)
        if later.order[0] <= best.order[0] and len(other.arenas) > len(found.arenas):
            return later, other
    return best, found


def _packed(of: Candidate, room_bytes: int) -> Packed:
    """Arenas where a device's allocator would have to find room for segments of all sizes."""
    if of.work.machine.device == "cpu":
        return Packed((), (None,) * len(of.visits), tuple(of.bytes_at), 0)
    return pack(of.visits, of.issues, of.bytes_at, room_bytes)


def _levels(footprint: Footprint, machine: Machine, spilled: Mapping[str, str]) -> list[Gaps]:
    """What may be spilled: nothing where there is no tier below the device."""
    return [()] if machine.device == "cpu" else spill_levels(footprint, spilled)


def _alternative(draft: Candidate, budget_bytes: int | None) -> Alternative:
    footprint = draft.work.footprint
    return Alternative(
        knobs={facts.stage: facts.knobs for facts in footprint.stages if facts.knobs},
        depth=draft.depth,
        resident_bytes=sum(draft.work.uses.holds[n].nbytes for n in draft.kept),
        spilled_bytes=sum(gap.nbytes for gap in draft.work.gaps),
        peak_bytes=draft.peak_bytes,
        seconds=draft.timeline.seconds,
        fits=draft.fits(budget_bytes),
    )


def _slack(draft: Candidate) -> int:
    """The allocator's slack at the highest call."""
    index = max(range(len(draft.bytes_at)), key=lambda i: draft.bytes_at[i], default=None)
    return 0 if index is None else draft.work.footprint.calls[index].cost.slack_bytes


def _stage_of_peak(draft: Candidate) -> str:
    if not draft.bytes_at:
        return ""
    index = max(range(len(draft.bytes_at)), key=lambda i: draft.bytes_at[i])
    return draft.work.footprint.calls[index].stage


def _cause(draft: Candidate) -> str:
    """Say which call needs the most, and what it is made of."""
    if not draft.bytes_at:
        return "nothing"
    index = max(range(len(draft.bytes_at)), key=lambda i: draft.bytes_at[i])
    footprint, life = draft.work.footprint, draft.work.life
    step = footprint.calls[index]
    weights = footprint.segments[step.segment].nbytes if step.segment is not None else 0
    parts = [
        f"workspace {format_bytes(step.cost.workspace_bytes)}",
        f"weights {format_bytes(weights + step.gathered_bytes)}",
        f"values {format_bytes(life.live_bytes[index])}",
    ]
    stays = draft.bytes_at[index] - life.need_bytes[index]
    if step.cost.slack_bytes:
        parts.append(f"allocator slack {format_bytes(step.cost.slack_bytes)}")
    if stays:
        parts.append(f"pinned weights {format_bytes(stays)}")
    return f"{step.stage} ({step.kind}): {', '.join(parts)}"
