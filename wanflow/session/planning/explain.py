"""Explain the plan of a stage: what was considered, what was chosen, what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from wanflow.errors import BudgetError
from wanflow.scheduler.footprint.costs import CallRecord
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.plan.schedule import Alternative, Plan, StagePlan
from wanflow.scheduler.run.walk import Contents, begin_turn, end_turn
from wanflow.session.planning.planned import Planned, plan_prepared, replanned
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepared import prepare
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
    prepared = prepare(request, find_place(request), to_run=False)
    prepared.graph.stage(stage)  # a typo is told before anything is planned
    planned = plan_prepared(prepared)
    made = planned.plan
    found = {each.stage: each for each in made.stages}
    overhead = planned.prepared.place.overhead_bytes
    rows = _considered(made, overhead)
    kept = ("graph", "device", "machine", "estimates", "feasible", "budget_bytes", "ram_bytes")
    report: dict[str, object] = {
        **{name: planned.report[name] for name in kept},
        "stage": {
            **attrs.asdict(found[stage]),
            "knobs": dict(found[stage].knobs),
            "peak_bytes": found[stage].peak_bytes + overhead,
        },
        "depth": made.depth,
        "considered": rows,
        "why": _why(made, rows),
        "at_peak": _at_peak(made, stage, overhead),
        "loading": _loading(made, stage),
        "would_change": {
            "minimum_bytes": made.minimum_bytes + overhead,
            "minimum_cause": made.minimum_cause,
            "everything_stays_bytes": made.resident_bytes + overhead,
            "next_segment_bytes": _next_segment(planned, found[stage]),
        },
    }
    return Explained(report, planned.problem)


def _considered(made: Plan, overhead: int) -> list[dict[str, object]]:
    """Every candidate once: those that fit by time, then the others by what they need."""

    def order(each: Alternative) -> tuple[bool, float, int]:
        return (not each.fits, each.seconds if each.fits else each.peak_bytes, each.depth)

    rows: list[dict[str, object]] = []
    seen: list[Alternative] = []
    chosen = False
    for each in sorted(made.alternatives, key=order):
        row = {
            **attrs.asdict(each),
            "knobs": {stage: dict(knobs) for stage, knobs in each.knobs.items()},
            "peak_bytes": each.peak_bytes + overhead,
        }
        if each not in seen:
            seen.append(each)
            row["chosen"] = not chosen and _is(made, each)
            chosen = chosen or bool(row["chosen"])
            rows.append(row)
    return rows


def _is(made: Plan, each: Alternative) -> bool:
    knobs = {stage: knobs for stage, knobs in made.knobs.items() if knobs}
    found = (each.knobs, each.depth, each.peak_bytes, each.seconds)
    return found == (knobs, made.depth, made.predicted_peak_bytes, made.predicted_seconds)


def _why(made: Plan, rows: list[dict[str, object]]) -> str:
    fitting = [row for row in rows if row["fits"]]
    if not made.feasible:
        return "nothing fits: this is the smallest plan"
    if len(fitting) == 1:
        return "the only one that fits"
    return f"the fastest of the {len(fitting)} that fit"


def _at_peak(made: Plan, stage: str, overhead: int) -> dict[str, object]:
    """What lies on the device at the stage's highest call, by kind."""
    highest = max(
        (held for held in _levels(made) if held.stage == stage), key=lambda held: held.nbytes
    )
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


def _loading(made: Plan, stage: str) -> dict[str, object]:
    """How many loads the stage makes, and how much of their time hides behind compute."""
    brings = [move for turn in made.turns for move in turn.brings]
    spans = sorted(
        span for move, span in zip(brings, made.timeline.loads, strict=True) if move.stage == stage
    )
    busy = end = 0.0
    for began, ended in spans:
        busy += max(ended - max(began, end), 0.0)
        end = max(end, ended)
    waits = next(each.waiting_seconds for each in made.stages if each.stage == stage)
    return {
        "loads": len(spans),
        "nbytes": sum(move.nbytes for move in brings if move.stage == stage),
        "busy_seconds": busy,
        "waiting_seconds": waits,
        "hidden_percent": 100 * max(1 - waits / busy, 0.0) if busy else 100.0,
    }


def _next_segment(planned: Planned, stage: StagePlan) -> int | None:
    """The budget from which more of the stage's weights stay; None when nothing is left to gain."""
    made, overhead = planned.plan, planned.prepared.place.overhead_bytes
    sizes = [
        made.footprint.segments[step.segment].nbytes
        for step in made.footprint.calls
        if step.stage == stage.stage and step.segment is not None
    ]
    low, most = max(planned.prepared.place.usable_bytes, made.minimum_bytes), made.resident_bytes

    def kept(budget: int) -> int:
        stages = replanned(planned, budget).stages
        return next(s.resident_weights_bytes for s in stages if s.stage == stage.stage)

    if not sizes or low >= most:
        return None
    now = stage.resident_weights_bytes if made.feasible else kept(low)
    high = min(low + 2 * max(sizes), most)
    if kept(high) <= now:
        high = most
        if kept(high) <= now:
            return None
    while high - low > max(min(sizes) // _FINENESS, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if kept(middle) > now else (middle, high)
    return high + overhead
