"""Explain the plan of a stage: what was considered, what was chosen, what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from wanflow.errors import BudgetError
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.plan.schedule import Alternative, Plan, StagePlan
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
        (held for held in _replay(made) if held.stage == stage), key=lambda held: held.nbytes
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


def _replay(plan_made: Plan) -> Iterator[_DeviceLevel]:
    weights: dict[str, int] = {}
    used: set[str] = set()
    arenas: dict[str, int] = {}
    values: dict[int, tuple[str, int]] = {}
    made: dict[int, tuple[str, int]] = {}
    for step, turn in zip(plan_made.footprint.calls, plan_made.turns, strict=True):
        arenas.update({arena.model: arena.nbytes for arena in turn.opens})
        segments = [move for move in turn.brings if not move.values]
        weights.update({move.segment: move.nbytes for move in segments})
        used -= {move.segment for move in segments}
        values.update({n: made[n] for move in turn.brings for n in move.values})
        used |= {step.segment} if step.segment is not None else set()
        parts = {
            "workspace": step.cost.workspace_bytes,
            "allocator slack": step.cost.slack_bytes,
            "weights in use": weights.get(step.segment or "", 0) + step.gathered_bytes,
            "weights that stay": sum(
                n for name, n in weights.items() if name in used and name != step.segment
            ),
            "weights loaded ahead": sum(n for name, n in weights.items() if name not in used),
            "free in arenas": sum(arenas.values())
            - sum(n for name, n in weights.items() if name.partition("/")[0] in arenas),
            "values": sum(n for kind, n in values.values() if kind == "value"),
            "states": sum(n for kind, n in values.values() if kind == "state"),
            "read staging": plan_made.footprint.staging_bytes,
        }
        yield _DeviceLevel(step.stage, step.kind, step.step, parts)
        for each in step.makes:
            made[each.value] = ("state" if each.is_state else "value", each.nbytes)
            values[each.value] = made[each.value]
        for move in turn.drops:
            del weights[move.segment]
        for arena in turn.closes:
            del arenas[arena.model]
        for number in (*turn.frees, *(n for move in turn.spills for n in move.values)):
            del values[number]


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
