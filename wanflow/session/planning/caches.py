"""What a plan says of step caches: the steps that are left out, or how far the time may vary."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.graph import BoundStage
from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint
from wanflow.scheduler.plan.schedule import Plan
from wanflow.session.planning.footprints import KnobSearch
from wanflow.session.preparing.prepared import Prepared
from wanflow.stages.cached_calls import REUSE
from wanflow.stages.step_cache import PASSES


def left_out(footprint: Footprint) -> dict[str, dict[str, list[int]]]:
    """The steps that a plan leaves out, by stage and pass of guidance; the first step is 0."""
    found: dict[str, dict[str, list[int]]] = {}
    for call in footprint.calls:
        if call.kind.startswith(REUSE):
            name = call.kind.rpartition(".")[2]
            found.setdefault(call.stage, {}).setdefault(name, []).append(call.step)
    return found


def least_plan(prepared: Prepared, search: KnobSearch, plan: Plan) -> Plan | None:
    """Plan as if every step were left out that may be; None where the plan knows them.

    TeaCache's steps would be calls of another kind. EasyCache's are the calls of the plan, whose
    weights come as planned and which take no time.
    """
    kinds = {s.reuse.kind for s in prepared.graph.stages if s.reuse is not None and s.reuse.may}
    room, least = prepared.place.usable_bytes, None
    if "teacache" in kinds:
        graph = prepared.graph
        stages = tuple(map(_all_left_out, graph.stages))
        other = attrs.evolve(prepared, graph=attrs.evolve(graph, stages=stages))
        search = KnobSearch(other)
        least = search.plan(search.at(room), room)
    if "easycache" in kinds:
        footprint = _idle((least or plan).footprint, prepared)
        least = search.plan([footprint], room)
    return least


def _all_left_out(stage: BoundStage) -> BoundStage:
    reuse = stage.reuse
    if reuse is None or reuse.kind != "teacache" or not reuse.may:
        return stage
    known = attrs.evolve(reuse, steps=dict.fromkeys(PASSES, reuse.may), may=frozenset())
    return attrs.evolve(stage, reuse=known)


def _idle(footprint: Footprint, prepared: Prepared) -> Footprint:
    """The footprint without the work of the blocks at the steps that EasyCache may leave out."""
    from wanflow.stages.easy_cache import is_left_out

    may = {
        (stage.name, stage.steps.index(index))
        for stage in prepared.graph.stages
        if stage.reuse is not None and stage.reuse.kind == "easycache"
        for index in stage.reuse.may
    }

    def without_work(call: CallRecord) -> CallRecord:
        if (call.stage, call.step) not in may or not is_left_out(call.kind):
            return call
        cost = call.cost
        return attrs.evolve(
            call, cost=Cost(cost.workspace_bytes, {}, 0, slack_bytes=cost.slack_bytes)
        )

    return attrs.evolve(footprint, calls=tuple(map(without_work, footprint.calls)))


def cache_reports(prepared: Prepared, plan: Plan, least: Plan | None) -> dict[str, object]:
    """What the report says of each stage that has a step cache, by its name."""
    skipped = left_out(plan.footprint)
    seconds = {stage.stage: stage.seconds for stage in least.stages} if least is not None else {}
    return {
        stage.name: {
            "kind": stage.reuse.kind,
            "threshold": stage.reuse.threshold,
            "skipped_steps": skipped.get(stage.name, {}),
            "may_skip": sorted(map(stage.steps.index, stage.reuse.may)),
            "least_seconds": seconds.get(stage.name) if stage.reuse.may else None,
        }
        for stage in prepared.graph.stages
        if stage.reuse is not None
    }


def step_rows(plan: Plan, stage: str) -> list[dict[str, object]]:
    """Every step of a stage: its seconds, and the passes that are not computed."""
    seconds: dict[int, float] = {}
    times = plan.timeline
    parts = zip(plan.footprint.calls, times.compute, times.waits, times.leaving, strict=True)
    for call, *spent in parts:
        if call.stage == stage:
            seconds[call.step] = seconds.get(call.step, 0.0) + sum(spent)
    skipped: Mapping[str, list[int]] = left_out(plan.footprint).get(stage, {})
    return [
        {"step": step, "seconds": took, "skipped": [n for n, at in skipped.items() if step in at]}
        for step, took in sorted(seconds.items())
    ]
