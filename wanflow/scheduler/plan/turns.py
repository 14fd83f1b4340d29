"""Say a candidate as a plan: the turns of its calls, the figures of its stages. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from wanflow.scheduler.footprint.costs import StageFacts
from wanflow.scheduler.plan.arenas import Packed
from wanflow.scheduler.plan.candidate import Candidate
from wanflow.scheduler.plan.prefetch import Visit
from wanflow.scheduler.plan.schedule import StagePlan, TierMove, Turn
from wanflow.trace.events import Verb
from wanflow.units import format_bytes, format_seconds

_HIDDEN = 0.005  # seconds of waiting that are not worth a word


def turns_of(chosen: Candidate, packed: Packed) -> tuple[Turn, ...]:
    """What is brought before each call and dropped after it."""
    calls = chosen.work.footprint.calls
    brings: list[list[TierMove]] = [[] for _ in calls]
    drops: list[list[TierMove]] = [[] for _ in calls]
    for visit, issue, offset in zip(chosen.visits, chosen.issues, packed.offsets, strict=True):
        verb = Verb.PLACE if visit.stays else Verb.STREAM
        ahead = f", {visit.first - issue} calls ahead" if issue < visit.first else ""
        if visit.values:
            cause = "comes back" + ahead
            move = (visit.segment, visit.nbytes, visit.stage, calls[visit.first].step, cause)
            brings[issue].append(TierMove(Verb.PLACE, *move, visit.values))
            continue
        cause = ("stays" if visit.stays else "for this use") + ahead
        end = "last use"
        if visit.carry.ahead:
            verb, cause = Verb.STREAM, "for the next run"
        if visit.carry.comes:
            cause = "is there from the run before"
        if visit.carry.stays:
            end = "stays for the next run"
        place = (visit.segment, visit.nbytes, visit.stage)
        first, last = calls[visit.first].step, calls[visit.last].step
        rest = ((), offset, visit.carry)
        brings[issue].append(TierMove(verb, *place, first, cause, *rest))
        drops[visit.last].append(TierMove(Verb.FREE, *place, last, end, *rest))
    spills: list[list[TierMove]] = [[] for _ in calls]
    for gap in chosen.work.gaps:
        cause = f"not used for {gap.comes - gap.leaves - 1} calls"
        call = calls[gap.leaves]
        move = (gap.name, gap.nbytes, call.stage, call.step, cause)
        spills[gap.leaves].append(TierMove(Verb.OFFLOAD, *move, (gap.value,)))
    frees = chosen.work.life.frees
    turns = [
        Turn(tuple(b), tuple(d), f, tuple(s))
        for b, d, f, s in zip(brings, drops, frees, spills, strict=True)
    ]
    for arena in packed.arenas:
        before = turns[arena.first]
        turns[arena.first] = attrs.evolve(before, opens=(*before.opens, arena))
        after = turns[arena.last]
        turns[arena.last] = attrs.evolve(after, closes=(*after.closes, arena))
    return tuple(turns)


def stage_plans(chosen: Candidate, packed: Packed) -> tuple[StagePlan, ...]:
    """The figures of every stage."""
    calls: dict[str, list[int]] = {}
    for index, call in enumerate(chosen.work.footprint.calls):
        calls.setdefault(call.stage, []).append(index)
    return tuple(
        _stage_plan(chosen, packed.bytes_at, facts, calls.get(facts.stage, []))
        for facts in chosen.work.footprint.stages
    )


def _stage_plan(
    chosen: Candidate, bytes_at: Sequence[int], facts: StageFacts, calls: Sequence[int]
) -> StagePlan:
    footprint, timeline, uses = chosen.work.footprint, chosen.timeline, chosen.work.uses
    sizes = {run.segment: run.nbytes for run in uses.runs if run.stage == facts.stage}
    inside = [n for n, h in enumerate(uses.holds) if not h.bridges and h.stage == facts.stage]
    staying = [uses.holds[n] for n in inside if n in chosen.kept]
    of_stage = [v for v in chosen.visits if v.stage == facts.stage]
    visits = [v for v in of_stage if v.again and not v.carry.comes]
    again = sum(v.nbytes for v in visits if not v.values)
    from_disk = sum(v.nbytes for v in visits if chosen.from_disk_again(v))
    source = _source(again, from_disk) if chosen.work.machine.device == "cuda" else ""
    spilled = sum(v.nbytes for v in visits if v.values)
    waits = sum(timeline.waits[i] + timeline.leaving[i] for i in calls)
    return StagePlan(
        stage=facts.stage,
        op=facts.op,
        model=facts.model,
        steps=facts.steps,
        peak_bytes=max((bytes_at[i] for i in calls), default=0),
        seconds=sum(timeline.compute[i] for i in calls) + waits,
        waiting_seconds=waits,
        weights_bytes=sum(sizes.values()),
        resident_weights_bytes=sum(hold.nbytes for hold in staying),
        streamed_bytes=again,
        spilled_bytes=spilled,
        workspace_bytes=max((footprint.calls[i].cost.workspace_bytes for i in calls), default=0),
        segments=len(sizes),
        resident_segments=len(staying),
        knobs=facts.knobs,
        why=_why(len(sizes), len(inside), len(staying), again, source, waits)
        + _spills(spilled)
        + _stays(of_stage),
    )


def _spills(nbytes: int) -> str:
    return f"; {format_bytes(nbytes)} of values wait on the host" if nbytes else ""


def _stays(visits: Sequence[Visit]) -> str:
    """Say what of a stage is there when the next run begins."""
    ready = [v for v in visits if v.carry.stays]
    if not ready:
        return ""
    ahead = sum(v.carry.ahead for v in ready)
    loaded = f", {ahead} of them loaded ahead" if ahead else ""
    return f"; {len(ready)} segments are there for the next run{loaded}"


def _source(again_bytes: int, disk_bytes: int) -> str:
    """Say where what comes again is read."""
    if not disk_bytes:
        return " from RAM, none from the disk"
    return (
        " from the disk"
        if disk_bytes == again_bytes
        else (f", {format_bytes(disk_bytes)} of it from the disk")
    )


def _why(
    segments: int, repeated: int, staying: int, again_bytes: int, source: str, waits: float
) -> str:
    if not segments:
        return "no weights"
    if not repeated:
        return "each segment is used once: read, used, freed"
    if staying == repeated == segments:
        return "all weights stay: they fit"
    if staying == repeated:
        once = segments - repeated
        return f"all {repeated} segments that are used again stay; {once} used once are freed"
    hidden = "hidden behind compute" if waits < _HIDDEN else f"{format_seconds(waits)} not hidden"
    again = format_bytes(again_bytes)
    return f"{staying} of {repeated} segments stay; {again} are read again{source}, {hidden}"
