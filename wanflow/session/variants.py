"""The footprints that are planned with: every setting of the knobs, or those that are worth it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import attrs

from wanflow.graph import BoundGraph, BoundStage
from wanflow.scheduler import kind_cache
from wanflow.scheduler.choosing import Group, Knobs, joined, setting_of, slice_of
from wanflow.scheduler.conditions import conditions
from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.kind_cache import KindCache
from wanflow.scheduler.plan import Plan
from wanflow.scheduler.planner import plan as plan_footprints
from wanflow.scheduler.profiler import Profiler
from wanflow.scheduler.reserve import Reserve
from wanflow.session.places import expandable_segments
from wanflow.session.prepare import Prepared

_ALL = 2  # so many settings are planned one by one
_STEPS = 4  # of a repeating stage, where settings are compared


class Variants:
    """Profiles a request at settings of its knobs, each once."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        place, elsewhere = prepared.place, prepared.request.machine is not None
        self._device = place.machine.device if elsewhere else place.device.type
        self._whole = Profiled(prepared, self._device)
        self._groups: dict[str, list[Group]] = {}
        self._last: tuple[object, Plan, tuple[Footprint, ...]] | None = None

    def at(self, budget_bytes: int) -> tuple[Footprint, ...]:
        """Give the footprints to plan with at a budget, one that needs least among them."""
        resorts = self.prepared.last_resorts()
        if resorts:
            plain = self._at(budget_bytes, self.prepared.stage_settings(last_resorts=False))
            made = self.plan(plain, budget_bytes)
            if made.feasible and made.minimum_stage not in resorts:
                return plain
        return self._at(budget_bytes, self.prepared.stage_settings())

    def _at(
        self, budget_bytes: int, settings: Mapping[str, Sequence[Knobs]]
    ) -> tuple[Footprint, ...]:
        if math.prod(map(len, settings.values())) <= _ALL:
            combinations = itertools.product(*settings.values())
            found = [{s: dict(k) for each in c for s, k in each.items()} for c in combinations]
        else:
            groups = self._grouped(settings)
            best = [group.at(budget_bytes, self._plan) for group in groups]
            fastest = [group.fastest for group in groups]
            # One group needs most of all: the others need only be no larger than that. What is
            # taken depends on no budget, so that the minimum is the same at each.
            floor = max(group.leanest.least_bytes for group in groups)
            least = [
                quick if quick.least_bytes <= floor else group.leanest
                for group, quick in zip(groups, fastest, strict=True)
            ]
            found = [joined(best), joined(least), joined(fastest)]
        unique = {json.dumps(each, sort_keys=True): each for each in found}
        profiled = tuple(self._whole.footprint(each) for each in unique.values())
        self._whole.keep()
        return profiled

    def plan(self, footprints: Sequence[Footprint], budget_bytes: int | None) -> Plan:
        """Plan *footprints* on the request's machine, with its pins and its RAM."""
        key = (budget_bytes, tuple(map(id, footprints)))
        if self._last is None or self._last[0] != key:
            self._last = (key, self._planned(footprints, budget_bytes), tuple(footprints))
        return self._last[1]

    def _planned(self, footprints: Sequence[Footprint], budget_bytes: int | None) -> Plan:
        prepared = self.prepared
        pins, spills, place = prepared.weight_pins(), prepared.spill_pins(), prepared.place
        ram = place.ram_bytes
        if ram is not None:  # the staging buffer is on the host too, and the planner knows of none
            ram = max(ram - max(f.staging_bytes for f in footprints), 0)
        return plan_footprints(footprints, place.machine, budget_bytes, pins, ram, spills)

    def _plan(self, footprint: Footprint, budget_bytes: int | None) -> Plan:
        return self.plan([footprint], budget_bytes)

    def _grouped(self, settings: Mapping[str, Sequence[Knobs]]) -> list[Group]:
        """Profile a few steps at every setting of each group, the other stages left plain."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self._groups:
            few = Profiled(_few_steps(self.prepared), self._device)
            steps = {p.stage: p.steps for p in self.prepared.programs(None)}
            self._groups[key] = [
                self._group(few, stages, settings, steps) for stages in _streams(self.prepared)
            ]
            few.keep()
        return self._groups[key]

    def _group(
        self,
        few: Profiled,
        stages: Sequence[str],
        settings: Mapping[str, Sequence[Knobs]],
        steps: Mapping[str, int],
    ) -> Group:
        plain = {stage: choices[0][stage] for stage, choices in settings.items()}
        found = []
        for combination in itertools.product(*(settings[s] for s in stages if s in settings)):
            knobs = {stage: chosen for each in combination for stage, chosen in each.items()}
            whole = few.footprint({**plain, **knobs})
            found.append(setting_of(knobs, slice_of(whole, stages), steps, self._plan))
        return Group(found, steps)


class Profiled:
    """The footprints of one graph on one kind of device, by their knobs."""

    def __init__(self, prepared: Prepared, device: str) -> None:
        self._prepared, self._device = prepared, device
        self._kinds = _open_kinds(prepared, device)
        self._profiler = Profiler(device, self._kinds)
        self._programs = prepared.programs(None)
        self._reserve = Reserve(expandable=expandable_segments()) if device == "cuda" else None
        self._found: dict[str, Footprint] = {}

    def footprint(self, knobs: Knobs) -> Footprint:
        """Profile at a setting; on CUDA with what the allocator takes beside."""
        key = json.dumps(knobs, sort_keys=True, default=dict)
        if key not in self._found:
            keeps = keeps_for(self._prepared.graph)
            found = self._profiler.profile(self._programs, knobs, keeps)
            if self._reserve is not None:
                granularity = self._prepared.place.machine.granularity_bytes
                found = self._reserve.charged(found, granularity)
            self._found[key] = found
        return self._found[key]

    def keep(self) -> None:
        """Store the kinds that were profiled."""
        if self._kinds is not None:
            self._kinds.keep()


def _streams(prepared: Prepared) -> list[list[str]]:
    """Stages in groups: those of a stream are in one."""
    groups: dict[str, list[str]] = {}
    of: dict[str, str] = {}
    for program in prepared.programs(None):
        head = of.get(program.consumes, program.consumes) if program.consumes else program.stage
        of[program.stage] = head
        groups.setdefault(head, []).append(program.stage)
    return list(groups.values())


def _few_steps(prepared: Prepared) -> Prepared:
    """The same with a few steps in every stage that repeats."""

    def shorter(stage: BoundStage) -> BoundStage:
        if "steps" not in stage.params:
            return stage
        steps = min(cast("int", stage.params["steps"]), _STEPS)
        return attrs.evolve(stage, params={**stage.params, "steps": steps})

    graph = prepared.graph
    return attrs.evolve(
        prepared, graph=attrs.evolve(graph, stages=tuple(map(shorter, graph.stages)))
    )


def _open_kinds(prepared: Prepared, device: str) -> KindCache | None:
    try:
        folder = kind_cache.folder()
    except RuntimeError:  # no home directory
        return None
    return KindCache(folder, prepared.identities(), conditions(device))


def keeps_for(graph: BoundGraph) -> Callable[[str], bool]:
    """Which values live to the end: the tensors that are outputs of the graph."""
    ports = {f"{ref.stage}.{ref.port}" for ref in graph.outputs.values()}
    return lambda name: name in ports or name.rpartition(".")[0] in ports
