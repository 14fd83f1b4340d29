"""Say a draft as a plan: the turns of its calls, the figures of its stages. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from wanflow.scheduler.draft import Draft
from wanflow.scheduler.footprint import StageFacts
from wanflow.scheduler.plan import StagePlan, Turn, WeightMove
from wanflow.scheduler.residency import Uses
from wanflow.trace.events import Verb
from wanflow.units import format_bytes, format_seconds

_HIDDEN = 0.005  # seconds of waiting that are not worth a word


def turns_of(draft: Draft) -> tuple[Turn, ...]:
    """What is brought before each call and dropped after it."""
    steps = draft.work.footprint.steps
    brings: list[list[WeightMove]] = [[] for _ in steps]
    drops: list[list[WeightMove]] = [[] for _ in steps]
    for visit in draft.visits:
        verb = Verb.PLACE if visit.stays else Verb.STREAM
        ahead = f", {visit.first - visit.issue} calls ahead" if visit.issue < visit.first else ""
        cause = ("stays" if visit.stays else "for this use") + ahead
        place = (visit.segment, visit.nbytes, visit.stage)
        first, last = steps[visit.first].step, steps[visit.last].step
        brings[visit.issue].append(WeightMove(verb, *place, first, cause))
        drops[visit.last].append(WeightMove(Verb.FREE, *place, last, "last use"))
    frees = draft.work.life.frees
    return tuple(Turn(tuple(b), tuple(d), f) for b, d, f in zip(brings, drops, frees, strict=True))


def stage_plans(draft: Draft) -> tuple[StagePlan, ...]:
    """The figures of every stage."""
    return tuple(_stage_plan(draft, facts) for facts in draft.work.footprint.stages)


def _stage_plan(draft: Draft, facts: StageFacts) -> StagePlan:
    footprint, timeline = draft.work.footprint, draft.timeline
    calls = [i for i, step in enumerate(footprint.steps) if step.stage == facts.stage]
    uses = [u for u in draft.work.uses if u.stage == facts.stage]
    staying = [u for u in uses if (u.stage, u.segment) in draft.resident]
    read = sum(v.nbytes for v in draft.visits if v.stage == facts.stage)
    once = sum(footprint.segments[u.segment].nbytes for u in uses)
    waits = sum(timeline.waits[i] for i in calls)
    compute = sum(draft.work.compute_seconds[i] for i in calls)
    return StagePlan(
        stage=facts.stage,
        op=facts.op,
        model=facts.model,
        steps=facts.steps,
        peak_bytes=max((draft.load[i] for i in calls), default=0),
        seconds=compute + waits,
        waiting_seconds=waits,
        weights_bytes=once,
        resident_weights_bytes=sum(footprint.segments[u.segment].nbytes for u in staying),
        streamed_bytes=read - once,
        workspace_bytes=max((footprint.steps[i].cost.workspace_bytes for i in calls), default=0),
        segments=len(uses),
        resident_segments=len(staying),
        knobs=facts.knobs,
        why=_why(uses, staying, read - once, waits),
    )


def _why(uses: Sequence[Uses], staying: Sequence[Uses], again_bytes: int, waits: float) -> str:
    if not uses:
        return "no weights"
    repeated = [u for u in uses if u.runs > 1]
    if not repeated:
        return "each segment is used once: read, used, freed"
    if len(staying) == len(repeated):
        return "all weights stay: they fit"
    hidden = "hidden behind compute" if waits < _HIDDEN else f"{format_seconds(waits)} not hidden"
    again = format_bytes(again_bytes)
    return f"{len(staying)} of {len(repeated)} segments stay; {again} are read again, {hidden}"
