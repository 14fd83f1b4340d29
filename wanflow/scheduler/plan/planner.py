"""The planner: a pure function from footprints, a machine and budgets to a plan. No torch.

One search over the knobs, over what is spilled, and over how much of the budget goes to segments
that stay and how much to loads that are issued ahead, each candidate played on the machine's
queues. The fastest that fits wins; among equally fast ones the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from wanflow.scheduler.footprint.costs import Footprint, Rounding
from wanflow.scheduler.machine.call_times import Timing, by_rates
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.plan.arenas import Packed, pack
from wanflow.scheduler.plan.candidate import (
    Candidate,
    basis_of,
    candidate,
    with_less_cached,
    work_of,
)
from wanflow.scheduler.plan.carrying import carrying, first_seconds
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.plan.schedule import Alternative, Plan
from wanflow.scheduler.plan.search import largest, search, shallow, smallest
from wanflow.scheduler.plan.spill import Gaps, spill_levels
from wanflow.scheduler.plan.turns import stage_plans, turns_of
from wanflow.units import format_bytes

_ALTERNATIVES = 12
_WORTH = 0.99  # of the seconds of a run: what a higher peak has to save
Carrying = Callable[[Candidate, int, Collection[str]], Candidate]


@held_off()
def plan(
    variants: Sequence[Footprint],
    machine: Machine,
    budget_bytes: int | None,
    pinned: Mapping[str, str] | None = None,
    ram_bytes: int | None = None,
    spilled: Mapping[str, str] | None = None,
    timing: Timing = by_rates,
    *,
    keep_rounding: bool = False,
    spare_disk: bool = False,
    repeated: bool = False,
) -> Plan:
    """Return the fastest plan that fits *budget_bytes* on the device and *ram_bytes* on the host.

    None stands for as much as it takes. *variants* are footprints of the same graph at different
    knobs, the plain one first. *pinned* maps a stage to `resident` or `stream`, *spilled* one to
    `none` or `all`. *timing* says what the calls take. With *keep_rounding* the plan rounds as the
    first variant does where that fits, else as the next: no time decides it. With *spare_disk* all
    of *ram_bytes* may be taken if nothing is then read from the disk twice, else what makes it
    faster. A plan that is run *repeated*ly leaves weights for the next run. Always returns a plan;
    look at `feasible`: an infeasible one is the smallest.
    """
    # Levels first: what is spilled changes what every call needs, so each set of gaps is searched
    # as a work of its own.
    bases = [basis_of(each, machine, pinned or {}, ram_bytes, timing) for each in variants]
    works = [
        work_of(basis, gaps)
        for basis in bases
        for gaps in _levels(basis.footprint, machine, spilled or {})
    ]
    # Ends before the search: the smallest tells whether anything fits at all, the largest is the
    # time that no search of the same work can beat.
    leanest = [smallest(work) for work in works]
    ends = [largest(work, budget_bytes) for work in works]
    least, most = min(leanest, key=_need), _fastest(ends)
    if keep_rounding:
        rounding = _rounding_of_first(leanest, budget_bytes)
        leanest, ends = _that_round(leanest, rounding), _that_round(ends, rounding)
    # Search from the work with the fastest end on, so that most others need not be searched.
    small = min(leanest, key=_need)
    candidates = [*ends, small, *_searched(ends, small, budget_bytes)]
    # Choose: all that was tried is compared once.
    candidates.sort(key=lambda c: (not c.fits(budget_bytes), c.order))
    best = candidates[0] if candidates[0].fits(budget_bytes) else least
    feasible = best.fits(budget_bytes)
    # Arenas after the choice: they cost no time, and room only where the budget has some left.
    room_bytes = budget_bytes if feasible and budget_bytes is not None else best.peak_bytes
    carries = carrying if repeated and feasible else _carrying_nothing
    chosen, packed = _in_arenas(best, room_bytes, carries)
    # The host last: what it caches beyond what makes the plan faster is left to the page cache.
    if not (spare_disk and chosen.spares_disk):
        chosen = with_less_cached(chosen)
    # Say it.
    return Plan(
        feasible=feasible,
        budget_bytes=budget_bytes if budget_bytes is not None else chosen.peak_bytes,
        predicted_peak_bytes=max(packed.bytes_at, default=0),
        slack_bytes=_slack(chosen),
        predicted_seconds=chosen.timeline.seconds,
        first_seconds=first_seconds(chosen),
        bound_seconds=chosen.timeline.bound_seconds,
        minimum_bytes=least.peak_bytes,
        minimum_cause=_cause(least),
        minimum_stage=_stage_of_peak(least),
        resident_bytes=most.peak_bytes,
        depth=chosen.depth,
        host=chosen.host,
        arenas=packed.arenas,
        stages=stage_plans(chosen, packed),
        turns=turns_of(chosen, packed),
        timeline=chosen.timeline,
        alternatives=tuple(
            _alternative(c, budget_bytes) for c in (*candidates[:_ALTERNATIVES], most, least)
        ),
        footprint=chosen.work.footprint,
    )


def _need(smallest: Candidate) -> tuple[int, int, tuple[float, int, int]]:
    """What the host lacks counts first, then what the device needs."""
    host_bytes = 0 if smallest.host_fits else smallest.host.minimum_bytes
    return host_bytes, smallest.peak_bytes, smallest.order


def _fastest(ends: Sequence[Candidate]) -> Candidate:
    """The fastest end, which loads no further ahead than it has to."""
    first = min(end.order[:2] for end in ends)
    return min((shallow(e, None) for e in ends if e.order[:2] == first), key=lambda c: c.order)


def _rounding_of_first(leanest: Sequence[Candidate], budget_bytes: int | None) -> Rounding:
    """How the first variant rounds of which some plan fits; where none does, the first."""
    fitting = [c for c in leanest if c.fits(budget_bytes)] or leanest
    return fitting[0].work.footprint.rounding


def _that_round(candidates: Sequence[Candidate], rounding: Rounding) -> list[Candidate]:
    return [c for c in candidates if c.work.footprint.rounding == rounding]


def _searched(
    ends: Sequence[Candidate], least: Candidate, budget_bytes: int | None
) -> list[Candidate]:
    """Candidates between the ends; a work whose end is no faster than what fits is left out."""
    if budget_bytes is None:
        return []
    fitting = [c for c in (*ends, least) if c.fits(budget_bytes)]
    tried: list[Candidate] = []
    for end in sorted(ends, key=lambda c: c.order):
        if all(end.order < c.order for c in fitting):
            candidates = list(search(end.work, budget_bytes, end.seconds))
            tried += candidates
            fitting += [c for c in candidates if c.fits(budget_bytes)]
    return tried


def _in_arenas(best: Candidate, room_bytes: int, carries: Carrying) -> tuple[Candidate, Packed]:
    """Put the weights into arenas; where they lack room, loads may be issued later at no cost."""
    chosen, packed = _carried(best, room_bytes, room_bytes, carries)
    short = packed.wanted_bytes - room_bytes
    if short > 0:
        later = candidate(best.work, best.kept, room_bytes - short, best.depth)
        other, other_packed = _carried(later, room_bytes - short, room_bytes, carries)
        if later.order[0] <= best.order[0] and len(other_packed.arenas) > len(packed.arenas):
            return other, other_packed
    return chosen, packed


def _carried(
    best: Candidate, carry_bytes: int, room_bytes: int, carries: Carrying
) -> tuple[Candidate, Packed]:
    """Leave weights for the next run, in arenas only where it finds them; each look drops some.

    One run's peak stays what it is, unless more of the budget makes a run a hundredth faster.
    """
    least_bytes = min(best.peak_bytes, carry_bytes)
    if carries(best, carry_bytes, ()).seconds >= _WORTH * carries(best, least_bytes, ()).seconds:
        carry_bytes = least_bytes
    chosen = carries(best, carry_bytes, ())
    packed = _packed(chosen, room_bytes)
    misplaced: frozenset[str] = frozenset()
    while packed.misplaced:
        misplaced |= packed.misplaced
        chosen = carries(best, carry_bytes, misplaced)
        packed = _packed(chosen, room_bytes)
    return chosen, packed


def _carrying_nothing(best: Candidate, _room_bytes: int, _without: Collection[str]) -> Candidate:
    return best


def _packed(chosen: Candidate, room_bytes: int) -> Packed:
    """Arenas where a device's allocator would have to find room for segments of all sizes."""
    if chosen.work.machine.device == "cpu":
        return Packed((), (None,) * len(chosen.visits), tuple(chosen.bytes_at), 0)
    return pack(chosen.visits, chosen.issues, chosen.bytes_at, room_bytes)


def _levels(footprint: Footprint, machine: Machine, spilled: Mapping[str, str]) -> list[Gaps]:
    """What may be spilled: nothing where there is no tier below the device."""
    return [()] if machine.device == "cpu" else spill_levels(footprint, spilled)


def _alternative(tried: Candidate, budget_bytes: int | None) -> Alternative:
    footprint = tried.work.footprint
    return Alternative(
        knobs={facts.stage: facts.knobs for facts in footprint.stages if facts.knobs},
        depth=tried.depth,
        resident_bytes=sum(tried.work.uses.holds[n].nbytes for n in tried.kept),
        spilled_bytes=sum(gap.nbytes for gap in tried.work.gaps),
        peak_bytes=tried.peak_bytes,
        seconds=tried.timeline.seconds,
        fits=tried.fits(budget_bytes),
    )


def _fullest(of: Candidate) -> int:
    """The call that needs the most."""
    return max(range(len(of.bytes_at)), key=of.bytes_at.__getitem__)


def _slack(chosen: Candidate) -> int:
    """The allocator's slack at the fullest call."""
    calls = chosen.work.footprint.calls
    return calls[_fullest(chosen)].cost.slack_bytes if calls else 0


def _stage_of_peak(least: Candidate) -> str:
    calls = least.work.footprint.calls
    return calls[_fullest(least)].stage if calls else ""


def _cause(least: Candidate) -> str:
    """Say which call needs the most, and what it is made of."""
    footprint, life = least.work.footprint, least.work.life
    if not footprint.calls:
        return "nothing"
    index = _fullest(least)
    call = footprint.calls[index]
    weights = footprint.segments[call.segment].nbytes if call.segment is not None else 0
    parts = [
        f"workspace {format_bytes(call.cost.workspace_bytes)}",
        f"weights {format_bytes(weights + call.gathered_bytes)}",
        f"values {format_bytes(life.live_bytes[index])}",
    ]
    stays = least.bytes_at[index] - life.need_bytes[index]
    if call.cost.slack_bytes:
        parts.append(f"allocator slack {format_bytes(call.cost.slack_bytes)}")
    if stays:
        parts.append(f"pinned weights {format_bytes(stays)}")
    return f"{call.stage} ({call.kind}): {', '.join(parts)}"
