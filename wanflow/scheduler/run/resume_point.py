"""Where a plan can be resumed, and what must be there again at that point. No torch."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.errors import InputError
from wanflow.scheduler.footprint.costs import Made
from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.schedule import Plan, TierMove

_STREAMED = ("decode_frames", "write_video", "write_frames")  # chunks in flight: begun anew


@attrs.frozen
class ResumePoint:
    """The first call to run, the values alive before it by name, the weights on the device.

    `away` are the numbers of the values that are spilled then; one that is on its way back is too,
    and is in `weights`. `arenas` are open.
    """

    call: int
    values: Mapping[str, Made]
    weights: tuple[TierMove, ...]
    away: frozenset[int]
    arenas: tuple[Arena, ...]


def resumable(plan: Plan) -> frozenset[int]:
    """The calls after which a run can be resumed: the last one of each step of a stage.

    A stage of a stream is no such place: its chunks are in flight, and a file is half written.
    """
    ops = {facts.stage: facts.op for facts in plan.footprint.stages}
    ends: dict[tuple[str, int], int] = {}
    for index, step in enumerate(plan.footprint.calls):
        if ops[step.stage] not in _STREAMED:
            ends[step.stage, step.step] = index
    return frozenset(ends.values())


def resume_point(plan: Plan, stage: str, step: int) -> ResumePoint:
    """Find the call after *step* of *stage*; InputError when the plan has no such step."""
    steps = plan.footprint.calls
    found = [i for i, s in enumerate(steps) if (s.stage, s.step) == (stage, step)]
    if not found:
        raise InputError(f"the graph has no step {step} of stage {stage!r}", code="bad-state")
    call = found[-1] + 1
    arenas = tuple(arena for arena in plan.arenas if arena.first < call <= arena.last)
    return ResumePoint(call, _values(plan, call), _weights(plan, call), _away(plan, call), arenas)


def _values(plan: Plan, call: int) -> dict[str, Made]:
    made: dict[int, Made] = {}
    names: dict[str, int] = {}
    for step, turn in zip(plan.footprint.calls[:call], plan.turns[:call], strict=True):
        for each in step.makes:
            made[each.value] = each
            names[each.name] = each.value
        names.update(step.renames)
        for number in turn.frees:
            made.pop(number, None)
    return {name: made[number] for name, number in names.items() if number in made}


def _weights(plan: Plan, call: int) -> tuple[TierMove, ...]:
    there: dict[str, TierMove] = {}
    for step, turn in zip(plan.footprint.calls[:call], plan.turns[:call], strict=True):
        there.update({move.segment: move for move in turn.brings})
        there = {
            name: move for name, move in there.items() if not set(move.values) & set(step.reads)
        }
        for move in turn.drops:
            del there[move.segment]
    return tuple(there.values())


def _away(plan: Plan, call: int) -> frozenset[int]:
    away: set[int] = set()
    for step, turn in zip(plan.footprint.calls[:call], plan.turns[:call], strict=True):
        away -= set(step.reads)
        away |= {number for move in turn.spills for number in move.values}
    return frozenset(away)
