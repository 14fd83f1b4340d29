"""The planner: a pure function from footprints, a machine and a budget to a plan. No torch.

It is simple on purpose: for every setting of the knobs it keeps as many segments as fit, reads the
rest when they are used, predicts the time, and takes the fastest setting that fits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from wanflow.scheduler.footprint import Footprint, StageFacts
from wanflow.scheduler.lifetimes import Lifetimes, lifetimes
from wanflow.scheduler.machine import Machine
from wanflow.scheduler.plan import Plan, StagePlan, Turn, WeightMove
from wanflow.scheduler.residency import Uses, choose_resident, uses_of
from wanflow.trace.events import Verb
from wanflow.units import format_bytes


@attrs.frozen
class _Draft:
    """One setting of the knobs inside the budget, not yet compared with the others."""

    footprint: Footprint
    life: Lifetimes
    uses: tuple[Uses, ...]
    resident: Collection[tuple[str, str]]
    load: list[int]  # as if every visit read its segment: what the choice was made by
    peaks: list[int]  # a segment that stays is read once
    seconds: float

    @property
    def load_bytes(self) -> int:
        return max(self.load, default=0)

    @property
    def peak_bytes(self) -> int:
        return max(self.peaks, default=0)


def plan(
    variants: Sequence[Footprint],
    machine: Machine,
    budget_bytes: int | None,
    pinned: Mapping[str, str] | None = None,
) -> Plan:
    """Return the fastest plan that fits *budget_bytes* (None: as much as it takes).

    *variants* are footprints of the same graph at different knobs, the plain one first. *pinned*
    maps a stage to `resident` or `stream`. Always returns a plan; look at `feasible`.
    """
    pins = pinned or {}
    drafts = [_draft(f, machine, budget_bytes, pins) for f in variants]
    free = [_draft(f, machine, None, pins) for f in variants]
    fitting = [d for d in drafts if budget_bytes is None or d.load_bytes <= budget_bytes]
    smallest = min(drafts, key=lambda d: d.load_bytes)
    best = min(fitting, key=lambda d: d.seconds) if fitting else smallest
    # A stage pinned to stay resident raises the minimum: it is part of what was asked for.
    at_least = min((_draft(f, machine, 0, pins) for f in variants), key=lambda d: d.load_bytes)
    return Plan(
        feasible=bool(fitting),
        budget_bytes=budget_bytes if budget_bytes is not None else best.load_bytes,
        predicted_peak_bytes=best.peak_bytes,
        predicted_seconds=best.seconds,
        minimum_bytes=at_least.load_bytes,
        minimum_cause=_cause(at_least),
        resident_bytes=min(free, key=lambda d: d.seconds).load_bytes,
        stages=tuple(_stage_plan(best, machine, facts) for facts in best.footprint.stages),
        turns=_turns(best),
        footprint=best.footprint,
    )


def _draft(
    footprint: Footprint, machine: Machine, budget_bytes: int | None, pins: Mapping[str, str]
) -> _Draft:
    life, uses = lifetimes(footprint), uses_of(footprint)
    resident, load = choose_resident(footprint, life, uses, budget_bytes, pins)
    seconds = sum(_compute_seconds(footprint, machine, i) for i in range(len(footprint.steps)))
    seconds += sum(machine.load_seconds(_read_bytes(footprint, u, resident)) for u in uses)
    peaks = _peaks(life, uses, resident, load)
    return _Draft(footprint, life, uses, resident, load, peaks, seconds)


def _peaks(
    life: Lifetimes,
    uses: tuple[Uses, ...],
    resident: Collection[tuple[str, str]],
    load: Sequence[int],
) -> list[int]:
    """What each call holds at most: a segment that stays needs its read staging only once."""
    peaks = list(load)
    for use in uses:
        if (use.stage, use.segment) in resident:
            for index in use.calls[1:]:
                peaks[index] -= life.need_bytes[index] - life.held_bytes[index]
    return peaks


def _read_bytes(footprint: Footprint, use: Uses, resident: Collection[tuple[str, str]]) -> int:
    times = 1 if (use.stage, use.segment) in resident else use.runs
    return times * footprint.segments[use.segment].nbytes


def _compute_seconds(footprint: Footprint, machine: Machine, index: int) -> float:
    step = footprint.steps[index]
    dtype = footprint.dtypes.get(step.stage, "float32")
    return machine.compute_seconds(step.cost.flops, step.cost.memory_bytes, dtype)


def _cause(draft: _Draft) -> str:
    """Say which call needs the most, and what it is made of."""
    if not draft.load:
        return "nothing"
    index = max(range(len(draft.load)), key=lambda i: draft.load[i])
    step = draft.footprint.steps[index]
    weights = draft.footprint.segments[step.segment].nbytes if step.segment is not None else 0
    parts = [
        f"workspace {format_bytes(step.cost.workspace_bytes)}",
        f"weights {format_bytes(weights + step.gathered_bytes)}",
        f"values {format_bytes(draft.life.live_bytes[index])}",
    ]
    stays = draft.load[index] - draft.life.need_bytes[index]
    if stays:
        parts.append(f"pinned weights {format_bytes(stays)}")
    return f"{step.stage} ({step.kind}): {', '.join(parts)}"


def _turns(draft: _Draft) -> tuple[Turn, ...]:
    brings: list[list[WeightMove]] = [[] for _ in draft.footprint.steps]
    drops: list[list[WeightMove]] = [[] for _ in draft.footprint.steps]
    for use in draft.uses:
        nbytes = draft.footprint.segments[use.segment].nbytes
        stays = (use.stage, use.segment) in draft.resident or use.runs == 1
        for first, last in _visits(use, stays=stays):
            if stays:
                cause = f"used {len(use.calls)} times, stays" if use.runs > 1 else "used once"
                brings[first].append(WeightMove(Verb.PLACE, use.segment, nbytes, cause))
            else:
                cause = "no room to stay"
                brings[first].append(WeightMove(Verb.STREAM, use.segment, nbytes, cause))
            drops[last].append(WeightMove(Verb.FREE, use.segment, nbytes, "last use"))
    frees = draft.life.frees
    return tuple(Turn(tuple(b), tuple(d), f) for b, d, f in zip(brings, drops, frees, strict=True))


def _visits(use: Uses, *, stays: bool) -> list[tuple[int, int]]:
    """First and last call of every time the segment is on the device."""
    if stays:
        return [(use.calls[0], use.calls[-1])]
    visits = [(use.calls[0], use.calls[0])]
    for call in use.calls[1:]:
        first, last = visits[-1]
        if call == last + 1:
            visits[-1] = (first, call)
        else:
            visits.append((call, call))
    return visits


def _stage_plan(draft: _Draft, machine: Machine, facts: StageFacts) -> StagePlan:
    footprint = draft.footprint
    calls = [i for i, step in enumerate(footprint.steps) if step.stage == facts.stage]
    uses = [u for u in draft.uses if u.stage == facts.stage]
    staying = [u for u in uses if (u.stage, u.segment) in draft.resident]
    reads = sum(_read_bytes(footprint, u, draft.resident) for u in uses)
    once = sum(footprint.segments[u.segment].nbytes for u in uses)
    seconds = sum(_compute_seconds(footprint, machine, i) for i in calls)
    seconds += sum(machine.load_seconds(_read_bytes(footprint, u, draft.resident)) for u in uses)
    return StagePlan(
        stage=facts.stage,
        op=facts.op,
        model=facts.model,
        steps=facts.steps,
        peak_bytes=max((draft.peaks[i] for i in calls), default=0),
        seconds=seconds,
        weights_bytes=once,
        resident_weights_bytes=sum(footprint.segments[u.segment].nbytes for u in staying),
        streamed_bytes=reads - once,
        workspace_bytes=max((footprint.steps[i].cost.workspace_bytes for i in calls), default=0),
        segments=len(uses),
        resident_segments=len(staying),
        knobs=facts.knobs,
        why=_why(uses, staying, reads - once),
    )


def _why(uses: Sequence[Uses], staying: Sequence[Uses], again_bytes: int) -> str:
    if not uses:
        return "no weights"
    repeated = [u for u in uses if u.runs > 1]
    if not repeated:
        return "each segment is used once: read, used, freed"
    if len(staying) == len(repeated):
        return "all weights stay: they fit"
    again = format_bytes(again_bytes)
    return f"{len(staying)} of {len(repeated)} segments stay; {again} are read again"
