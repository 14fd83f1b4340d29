"""Where a plan can be resumed, and what must be there again at that point. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from wanflow.errors import InputError
from wanflow.scheduler.footprint.costs import Made
from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.schedule import Plan, TierMove
from wanflow.scheduler.run.walk import contents_before


@attrs.frozen
class ResumePoint:
    """The first call to run, the values alive before it by name, the loads begun and not over.

    `away` are the numbers of the values that are spilled then; one that is on its way back is too,
    and is in `loads`. `arenas` are open.
    """

    call: int
    values: Mapping[str, Made]
    loads: tuple[TierMove, ...]
    away: frozenset[int]
    arenas: tuple[Arena, ...]


def resumable(plan: Plan, streamed: Collection[str]) -> frozenset[int]:
    """The calls after which a run can be resumed: the last one of each step of a stage.

    A stage at either end of a stream (*streamed*) is no such place: its chunks are in flight, and a
    file is half written.
    """
    ends = {
        (call.stage, call.step): index
        for index, call in enumerate(plan.footprint.calls)
        if call.stage not in streamed
    }
    return frozenset(ends.values())


def resume_point(plan: Plan, stage: str, step: int) -> ResumePoint:
    """Find the call after *step* of *stage*; InputError when the plan has no such step."""
    step_calls = [
        i for i, call in enumerate(plan.footprint.calls) if (call.stage, call.step) == (stage, step)
    ]
    if not step_calls:
        raise InputError(f"the graph has no step {step} of stage {stage!r}", code="bad-state")
    index = step_calls[-1] + 1
    contents = contents_before(plan, index)
    alive = contents.made
    values = {name: alive[number] for name, number in contents.names.items() if number in alive}
    returning = (move for move in contents.loading.values() if move.values)
    loads = (*contents.weights.values(), *returning)
    away, arenas = frozenset(contents.away), tuple(contents.arenas.values())
    return ResumePoint(index, values, loads, away, arenas)
