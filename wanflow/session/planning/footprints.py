"""The footprints that are planned with: at every knob setting, or at those that may win."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import attrs

from wanflow.graph import BoundGraph, BoundStage, PortRef
from wanflow.scheduler.allocator.slack import SlackEstimator
from wanflow.scheduler.allocator.slack_cache import SlackCache
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.knobs import Knobs, StageSettings
from wanflow.scheduler.machine.datasheets import as_on_paper
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.machine_json import as_data
from wanflow.scheduler.plan.knob_search import Group, KnobSetting, joined, setting_of, slice_of
from wanflow.scheduler.plan.planner import plan as plan_footprints
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.profile import kind_cache
from wanflow.scheduler.profile.cache_key import conditions
from wanflow.scheduler.profile.kind_cache import CallKindCache
from wanflow.session.preparing.place import overhead_of
from wanflow.session.preparing.prepared import Prepared

if TYPE_CHECKING:
    from wanflow.scheduler.profile.profiler import Profiler

_ALL = 2  # so many knob settings are planned one by one
_STEPS = 4  # of a repeating stage, where knob settings are compared
_CLEARLY = 0.9


class KnobSearch:
    """Chooses the knob settings of a request that are planned with, and plans with them.

    What rounds is chosen by the machine's figures on paper, so that the same request gives the same
    bits whatever was measured, learned or is free at the moment; the rest by what is known.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        place, elsewhere = prepared.place, prepared.request.machine is not None
        self._paper = as_on_paper(place.machine)
        self._device = place.machine.device if elsewhere else place.kind
        self._profiler = KnobProfiler(prepared, self._device)
        self._few_steps = KnobProfiler(_few_steps(prepared), self._device, self._profiler)
        self._groups: list[Group] = []
        self._known: dict[int, KnobSetting] = {}  # by id of the setting on paper
        self._last: tuple[object, Plan, tuple[Footprint, ...]] | None = None

    def at(self, budget_bytes: int) -> tuple[Footprint, ...]:
        """Give the footprints to plan with at a budget, one that needs least among them."""
        chosen = self._chosen(budget_bytes)
        unique = {json.dumps(knobs, sort_keys=True): knobs for knobs in chosen}
        footprints = tuple(self._profiler.footprint(knobs) for knobs in unique.values())
        self._few_steps.keep()
        self._profiler.keep()
        return footprints

    def _chosen(self, budget_bytes: int) -> Sequence[Knobs]:
        """Look up which knob settings were chosen at a budget, else choose them."""
        store = self.prepared.profile
        key = self._choice_key(budget_bytes)
        chosen: Sequence[Knobs] | None = store.choice(key)
        if chosen is None:
            chosen = self._choose(budget_bytes)
            store.add_choice(key, chosen)
        return chosen

    def _choice_key(self, budget_bytes: int) -> object:
        """All that decides a choice but what a profile is named by."""
        ready, place = self.prepared, self.prepared.place
        settings = ready.knob_settings()
        machines = [as_data(place.rates), as_data(self._paper)]
        pins = [ready.weight_pins(), ready.spill_pins(), ready.rounds_one_way]
        ram = [place.ram_bytes, place.ram_is_stated]
        knobs = {
            name: [[*map(_plainly, s.all)], [*map(_plainly, s.always)]]
            for name, s in settings.items()
        }
        return [
            budget_bytes,
            place.overhead_bytes,
            machines,
            pins,
            ram,
            knobs,
            graph_steps(ready.graph),
        ]

    def _choose(self, budget_bytes: int) -> Sequence[Knobs]:
        knob_settings = self.prepared.knob_settings()
        few = math.prod(len(stage.all) for stage in knob_settings.values()) <= _ALL
        if few and self.prepared.rounds_one_way:
            return self.prepared.knobs()
        groups = self._grouped(knob_settings)
        best = [group.at(self._on_paper(budget_bytes), self._plan_paper) for group in groups]
        if self._paper.figures != self.prepared.place.rates.figures:
            best = [
                group.rounding_as(setting, self._timed).at(budget_bytes, self._plan)
                for group, setting in zip(groups, best, strict=True)
            ]
        fastest = [group.fastest for group in groups]
        # One group needs most of all: the others need only be smaller than that, clearly, since a
        # few steps leave an allocator with fewer gaps than all do. What is taken depends on no
        # budget, so that the minimum is the same at each.
        floor = max(group.leanest.least_bytes for group in groups) * _CLEARLY
        least = [
            quick if quick.least_bytes <= floor else group.leanest
            for group, quick in zip(groups, fastest, strict=True)
        ]
        return [joined(best), joined(least), joined(fastest)]

    def plan(
        self,
        footprints: Sequence[Footprint],
        budget_bytes: int | None,
        ram_bytes: int | None = None,
    ) -> Plan:
        """Plan *footprints* on the request's machine, with its pins; its RAM, or less."""
        place = self.prepared.place
        ram_bytes = place.ram_bytes if ram_bytes is None else ram_bytes
        key = (budget_bytes, ram_bytes, tuple(map(id, footprints)))
        if self._last is None or self._last[0] != key:
            made = self._plan_on(place.rates, ram_bytes, footprints, budget_bytes)
            self._last = (key, made, tuple(footprints))
        return self._last[1]

    def _plan(self, footprint: Footprint, budget_bytes: int | None) -> Plan:
        return self.plan([footprint], budget_bytes)

    def _plan_paper(self, footprint: Footprint, budget_bytes: int | None) -> Plan:
        place = self.prepared.place
        ram_bytes = place.ram_bytes if place.ram_is_stated else None
        return self._plan_on(self._paper, ram_bytes, [footprint], budget_bytes)

    def _plan_on(
        self,
        machine: Machine,
        ram_bytes: int | None,
        footprints: Sequence[Footprint],
        budget_bytes: int | None,
    ) -> Plan:
        pins, spills = self.prepared.weight_pins(), self.prepared.spill_pins()
        ram = ram_for(footprints, ram_bytes)
        return plan_footprints(
            footprints, machine, budget_bytes, pins, ram, spills, keep_rounding=True,
            spare_disk=self.prepared.place.ram_is_stated, repeated=self.prepared.repeated,
        )  # fmt: skip

    def _on_paper(self, budget_bytes: int) -> int:
        """The room there would be on paper: what libraries take of it is measured too."""
        place = self.prepared.place
        return budget_bytes + place.overhead_bytes - overhead_of(self._paper)

    def _timed(self, setting: KnobSetting) -> KnobSetting:
        """A setting on paper with its two ends on the machine as it is known, once."""
        if id(setting) not in self._known:
            steps = self._steps
            self._known[id(setting)] = setting_of(
                setting.knobs, setting.footprint, steps, self._plan
            )
        return self._known[id(setting)]

    @functools.cached_property
    def _steps(self) -> dict[str, int]:
        return {outline.stage: outline.steps for outline in self.prepared.outlines}

    def _grouped(self, knob_settings: Mapping[str, StageSettings]) -> list[Group]:
        """Make the groups of stages; each is profiled with the other stages left plain."""
        if not self._groups:
            plain = {s: k for stage in knob_settings.values() for s, k in stage.all[0].items()}
            for stages in _streams(self.prepared):
                own = [knob_settings[stage] for stage in stages if stage in knob_settings]
                self._groups.append(self._group(own, stages, plain))
        return self._groups

    def _group(
        self,
        knob_settings: Sequence[StageSettings],
        stages: Sequence[str],
        plain: Knobs,
    ) -> Group:
        def compared(combination: Sequence[Knobs]) -> KnobSetting:
            knobs = {stage: values for part in combination for stage, values in part.items()}
            footprint = self._few_steps.slice({**plain, **knobs}, stages)
            return setting_of(knobs, footprint, self._steps, self._plan_paper)

        def between() -> list[KnobSetting]:
            combinations = itertools.product(*(stage.all for stage in knob_settings))
            return [
                compared(combination) for combination in combinations if combination not in always
            ]

        always = [*itertools.product(*(stage.always for stage in knob_settings))]
        return Group([*map(compared, always)], self._steps, functools.cache(between))


def ram_for(footprints: Sequence[Footprint], ram_bytes: int | None) -> int | None:
    """What the planner may give out: it knows nothing of the staging buffer, which is there too."""
    if ram_bytes is None:
        return None
    return max(ram_bytes - max(f.staging_bytes for f in footprints), 0)


class KnobProfiler:
    """Profiles one graph on one kind of device at settings of its knobs, each once.

    What calls cost is shared with the same graph *beside* it, at another number of steps.
    """

    def __init__(self, prepared: Prepared, device: str, beside: KnobProfiler | None = None) -> None:
        self._prepared, self._device, self._beside = prepared, device, beside
        self._order = [outline.stage for outline in prepared.outlines]
        self._footprints: dict[str, Footprint] = {}

    @functools.cached_property
    def tools(self) -> _Tools:
        """What profiles, made when something has to be."""
        beside = self._beside
        return _Tools.opened(self._prepared, self._device) if beside is None else beside.tools

    def footprint(self, knobs: Knobs) -> Footprint:
        """Profile at a setting; on CUDA with what the allocator takes beside."""
        key = json.dumps(knobs, sort_keys=True, default=dict)
        if key not in self._footprints:
            self._footprints[key] = self._kept(knobs, (), lambda: self._profile(knobs))
        return self._footprints[key]

    def _kept(
        self, knobs: Knobs, stages: Sequence[str], profile: Callable[[], Footprint]
    ) -> Footprint:
        """Look a footprint up, else profile it; on CUDA with what the allocator takes beside."""
        store, granularity = self._prepared.profile, self._prepared.place.machine.granularity_bytes
        steps = graph_steps(self._prepared.graph)
        plain = {stage: dict(values) for stage, values in knobs.items()}
        key = [plain, list(stages), steps, granularity if self._device == "cuda" else 0]
        footprint = store.footprint(key)
        if footprint is None:
            footprint = profile()
            if self.tools.estimator is not None:
                footprint = self.tools.estimator.charged(footprint, granularity)
            store.add_footprint(key, footprint)
        return footprint

    def slice(self, knobs: Knobs, stages: Sequence[str]) -> Footprint:
        """Profile at a setting, and keep the calls of *stages*: the allocator plays only these.

        What comes after them is not profiled; the values that it reads are kept.
        """
        return self._kept(knobs, stages, lambda: self._sliced(knobs, stages))

    def _sliced(self, knobs: Knobs, stages: Sequence[str]) -> Footprint:
        order = self._order
        end = max(map(order.index, stages)) + 1
        reads = {
            f"{ref.stage}.{ref.port}"
            for stage in self._prepared.graph.stages
            if stage.name in order[end:]
            for ref in stage.inputs.values()
            if isinstance(ref, PortRef)
        }
        keeps = keeps_for(self._prepared.graph)
        footprint = self.tools.profiler.profile(
            self._prepared.programs(None)[:end],
            knobs,
            lambda name: keeps(name) or _is_of(name, reads),
        )
        return slice_of(footprint, stages)

    def _profile(self, knobs: Knobs) -> Footprint:
        keeps = keeps_for(self._prepared.graph)
        return self.tools.profiler.profile(self._prepared.programs(None), knobs, keeps)

    def keep(self) -> None:
        """Store the kinds that were profiled, the slack that was played, and what came of them."""
        if "tools" in vars(self):
            for cache in (self.tools.slack, self.tools.kinds):
                if cache is not None:
                    cache.keep()
        self._prepared.profile.store.keep()


@attrs.frozen
class _Tools:
    """What measures kinds of calls, what keeps them, and what the allocator takes beside."""

    profiler: Profiler
    kinds: CallKindCache
    estimator: SlackEstimator | None
    slack: SlackCache | None

    @classmethod
    def opened(cls, prepared: Prepared, device: str) -> Self:
        from wanflow.scheduler.profile.profiler import Profiler

        folder, about = kind_cache.folder(), conditions(device)
        identities, expandable = prepared.identities(), prepared.place.expandable
        kinds = CallKindCache(folder, identities, about)
        if device != "cuda":
            return cls(Profiler(device, kinds), kinds, None, None)
        slack = SlackCache(folder, [identities, about, expandable])
        estimator = SlackEstimator(expandable=expandable, cache=slack)
        return cls(Profiler(device, kinds), kinds, estimator, slack)


def _streams(prepared: Prepared) -> list[list[str]]:
    """Stages in groups: those of a stream are in one."""
    groups: dict[str, list[str]] = {}
    of: dict[str, str] = {}
    for program in prepared.outlines:
        head = of.get(program.consumes, program.consumes) if program.consumes else program.stage
        of[program.stage] = head
        groups.setdefault(head, []).append(program.stage)
    return list(groups.values())


def _few_steps(prepared: Prepared) -> Prepared:
    """The same with a few steps in every stage that repeats, and no previews.

    With or without these the same settings are chosen, so that the result has the same bits.
    """

    def shorter(stage: BoundStage) -> BoundStage:
        steps = stage.steps[:_STEPS]
        reuse = stage.reuse.in_few(stage.steps, steps) if stage.reuse is not None else None
        return attrs.evolve(stage, steps=steps, reuse=reuse, previews=frozenset())

    graph = prepared.graph
    return attrs.evolve(
        prepared, graph=attrs.evolve(graph, stages=tuple(map(shorter, graph.stages)))
    )


def graph_steps(graph: BoundGraph) -> list[list[object]]:
    """The steps of each stage, which of them a cache leaves out and are shown, as plain data."""
    return [
        [
            s.steps.start,
            s.steps.stop,
            s.params.get("steps"),
            s.reuse.key if s.reuse is not None else [],
            sorted(s.previews),
        ]
        for s in graph.stages
    ]


def _plainly(knobs: Knobs) -> dict[str, dict[str, str]]:
    return {stage: dict(values) for stage, values in knobs.items()}


def keeps_for(graph: BoundGraph) -> Callable[[str], bool]:
    """Which values live to the end: the tensors that are outputs of the graph."""
    ports = {f"{ref.stage}.{ref.port}" for ref in graph.outputs.values()}
    return lambda name: _is_of(name, ports)


def _is_of(name: str, ports: Collection[str]) -> bool:
    """Whether a value is what a port gives, or a part of it."""
    return name in ports or name.rpartition(".")[0] in ports
