"""Explain the plan of a stage: what was considered, what was chosen, what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import attrs

from wanflow.errors import BudgetError
from wanflow.scheduler.footprint.costs import CallRecord
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.plan.schedule import Alternative, Plan, StagePlan
from wanflow.scheduler.run.walk import Contents, begin_turn, end_turn
from wanflow.session.planning.caches import step_rows
from wanflow.session.planning.planned import Planned, plan_prepared, replanned, stage_report
from wanflow.session.preparing.prepare import prepare
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.request import Request

_FINENESS = 16  # the budget for one more segment is found to this share of a segment


@attrs.frozen
class Explained:
    """Why a stage is planned as it is. `report` is what `explain --json` prints."""

    report: dict[str, object]
    problem: BudgetError | None


@held_off()
def explain(request: Request, stage: str) -> Explained:
    """Explain *stage* in the plan of *request*; InputError when the graph has no such stage."""
    prepared = prepare(request, probed_place(request), to_run=False)
    prepared.graph.stage(stage)  # a typo is told before anything is planned
    planned = plan_prepared(prepared)
    plan, overhead = planned.plan, prepared.place.overhead_bytes
    stage_plan = next(s for s in plan.stages if s.stage == stage)
    rows = _considered(plan, overhead)
    same = ("graph", "device", "machine", "estimates", "feasible", "budget_bytes", "ram_bytes")
    report: dict[str, object] = {
        **{name: planned.report[name] for name in same},
        "stage": {**stage_report(stage_plan, overhead), **_cached(planned, stage)},
        "depth": plan.depth,
        "considered": rows,
        "why": _why(plan, rows),
        "at_peak": _at_peak(plan, stage, overhead),
        "loading": _loading(plan, stage_plan),
        "would_change": {
            "minimum_bytes": plan.minimum_bytes + overhead,
            "minimum_cause": plan.minimum_cause,
            "everything_stays_bytes": plan.resident_bytes + overhead,
            "next_segment_bytes": _next_segment(planned, stage_plan),
        },
    }
    return Explained(report, planned.problem)


def _cached(planned: Planned, stage: str) -> dict[str, object]:
    """What the plan says of a stage's previews, and of each of its steps with a step cache."""
    rows = cast("list[dict[str, object]]", planned.report["stages"])
    cache = next(row.get("cache") for row in rows if row["stage"] == stage)
    previews = next(row.get("previews") for row in rows if row["stage"] == stage)
    said = {"previews": previews} if previews else {}
    return said | ({"cache": cache, "each_step": step_rows(planned.plan, stage)} if cache else {})


def _considered(plan: Plan, overhead: int) -> list[dict[str, object]]:
    """Every candidate once: those that fit by time, then the others by what they need."""

    def order(option: Alternative) -> tuple[bool, float, int]:
        return (not option.fits, option.seconds if option.fits else option.peak_bytes, option.depth)

    options: list[Alternative] = []
    for option in sorted(plan.alternatives, key=order):
        if option not in options:
            options.append(option)
    chosen = next((option for option in options if _is_plan(plan, option)), None)
    return [
        {
            **attrs.asdict(option),
            "knobs": {stage: dict(knobs) for stage, knobs in option.knobs.items()},
            "peak_bytes": option.peak_bytes + overhead,
            "chosen": option is chosen,
        }
        for option in options
    ]


def _is_plan(plan: Plan, option: Alternative) -> bool:
    knobs = {stage: knobs for stage, knobs in plan.knobs.items() if knobs}
    decisions = (option.knobs, option.depth, option.peak_bytes, option.seconds)
    return decisions == (knobs, plan.depth, plan.predicted_peak_bytes, plan.predicted_seconds)


def _why(plan: Plan, rows: list[dict[str, object]]) -> str:
    fitting = [row for row in rows if row["fits"]]
    if not plan.feasible:
        return "nothing fits: this is the smallest plan"
    if len(fitting) == 1:
        return "the only one that fits"
    return f"the fastest of the {len(fitting)} that fit"


def _at_peak(plan: Plan, stage: str, overhead: int) -> dict[str, object]:
    """What lies on the device at the stage's highest call, by kind."""
    levels = [level for level in _levels(plan) if level.stage == stage]
    highest = max(levels, key=lambda level: level.nbytes)
    parts = {**highest.parts, "context and libraries": overhead}
    return {
        "kind": highest.kind,
        "step": highest.step,
        "nbytes": highest.nbytes + overhead,
        "parts": {name: nbytes for name, nbytes in parts.items() if nbytes},
    }


@attrs.frozen
class _DeviceLevel:
    """What is on the device while a call runs."""

    stage: str
    kind: str
    step: int
    parts: Mapping[str, int]

    @property
    def nbytes(self) -> int:
        return sum(self.parts.values())


def _levels(plan: Plan) -> Iterator[_DeviceLevel]:
    contents = Contents()
    for call, turn in zip(plan.footprint.calls, plan.turns, strict=True):
        begin_turn(call, turn, contents)
        yield _DeviceLevel(call.stage, call.kind, call.step, _parts(plan, call, contents))
        contents.call(call)
        end_turn(turn, contents)


def _parts(plan: Plan, call: CallRecord, contents: Contents) -> dict[str, int]:
    weights = {name: move.nbytes for name, move in contents.weights.items()}
    ahead = sum(nbytes for name, nbytes in weights.items() if name in contents.loading)
    in_use = weights.get(call.segment or "", 0)
    in_arenas = (n for name, n in weights.items() if name.partition("/")[0] in contents.arenas)
    values = [contents.made[number] for number in contents.on_device]
    return {
        "workspace": call.cost.workspace_bytes,
        "allocator slack": call.cost.slack_bytes,
        "weights in use": in_use + call.gathered_bytes,
        "weights that stay": sum(weights.values()) - in_use - ahead,
        "weights loaded ahead": ahead,
        "free in arenas": sum(a.nbytes for a in contents.arenas.values()) - sum(in_arenas),
        "values": sum(value.nbytes for value in values if not value.is_state),
        "states": sum(value.nbytes for value in values if value.is_state),
        "read staging": plan.footprint.staging_bytes - plan.host.staging_bytes,
    }


def _loading(plan: Plan, stage: StagePlan) -> dict[str, object]:
    """How many loads the stage makes, and how much of their time hides behind compute."""
    brings = [move for turn in plan.turns for move in turn.brings]
    loads = [
        (span, move.nbytes)
        for move, span in zip(brings, plan.timeline.loads, strict=True)
        if move.stage == stage.stage
    ]
    busy = end = 0.0
    for (began, ended), _ in sorted(loads):
        busy += max(ended - max(began, end), 0.0)
        end = max(end, ended)
    waits = stage.waiting_seconds
    return {
        "loads": len(loads),
        "nbytes": sum(nbytes for _, nbytes in loads),
        "busy_seconds": busy,
        "waiting_seconds": waits,
        "hidden_percent": 100 * max(1 - waits / busy, 0.0) if busy else 100.0,
    }


def _next_segment(planned: Planned, stage: StagePlan) -> int | None:
    """The budget from which more of the stage's weights stay; None when nothing is left to gain."""
    plan, place = planned.plan, planned.prepared.place
    sizes = [
        plan.footprint.segments[call.segment].nbytes
        for call in plan.footprint.calls
        if call.stage == stage.stage and call.segment is not None
    ]
    low, most = max(place.usable_bytes, plan.minimum_bytes), plan.resident_bytes

    def staying(budget: int) -> int:
        stages = replanned(planned, budget).stages
        return next(s.resident_weights_bytes for s in stages if s.stage == stage.stage)

    if not sizes or low >= most:
        return None
    now = stage.resident_weights_bytes if plan.feasible else staying(low)
    high = min(low + 2 * max(sizes), most)
    if staying(high) <= now:
        high = most
        if staying(high) <= now:
            return None
    while high - low > max(min(sizes) // _FINENESS, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if staying(middle) > now else (middle, high)
    return high + place.overhead_bytes
