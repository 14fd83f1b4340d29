"""Choose the knobs of every stage where they have too many settings to plan them all. No torch.

Stages take turns on the device, so each group of stages (one, or those of a stream) is planned by
itself, on a footprint of a few steps, at every setting of its knobs. The time of the few steps
stands for all of them. What comes out are settings of the whole graph: the fastest at a budget,
the one that needs least, the one that is fastest without a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import attrs

from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint
from wanflow.scheduler.knobs import Knobs
from wanflow.scheduler.plan.schedule import Plan

_CLOSE = 0.001  # a share of the time
Timed = Callable[["KnobSetting"], "KnobSetting"]
PlanAt = Callable[[Footprint, int | None], Plan]


def slice_of(footprint: Footprint, stages: Collection[str]) -> Footprint:
    """Cut out the calls of *stages*, which follow each other; what they find there is given."""
    inside = [i for i, call in enumerate(footprint.calls) if call.stage in stages]
    first, last = inside[0], inside[-1]
    calls = [footprint.calls[i] for i in inside]
    later = {number for call in footprint.calls[first:] for number in call.reads} | footprint.keeps
    values = tuple(
        value for call in footprint.calls[:first] for value in call.makes if value.value in later
    )
    after = {number for call in footprint.calls[last + 1 :] for number in call.reads}
    names = {segment for call in calls if (segment := call.segment) is not None}
    cost = Cost(sum(value.nbytes for value in values), {}, 0)
    start = CallRecord(calls[0].stage, "given", calls[0].step, cost, None, 0, (), values)
    return attrs.evolve(
        footprint,
        stages=tuple(facts for facts in footprint.stages if facts.stage in stages),
        calls=(start, *calls),
        segments={name: use for name, use in footprint.segments.items() if name in names},
        keeps=footprint.keeps | after,
    )


def seconds_of(plan: Plan, steps: Mapping[str, int]) -> float:
    """The time of a plan if each stage had so many *steps*: those after the first are alike."""
    spent: dict[tuple[str, int], float] = {}
    times = plan.timeline
    for call, *parts in zip(
        plan.footprint.calls, times.compute, times.waits, times.leaving, strict=True
    ):
        key = (call.stage, call.step)
        spent[key] = spent.get(key, 0.0) + sum(parts)
    total = 0.0
    for stage in dict.fromkeys(stage for stage, _ in spent):
        first, *rest = (seconds for (name, _), seconds in sorted(spent.items()) if name == stage)
        more = max(steps.get(stage, 1) - 1, len(rest))
        total += first + (sum(rest) / len(rest) * more if rest else 0.0)
    return total


@attrs.frozen
class KnobSetting:
    """One setting of a group's knobs: its footprint of a few steps, and its two ends."""

    knobs: Knobs
    footprint: Footprint
    least_bytes: int
    best_seconds: float  # without a budget
    best_bytes: int


@attrs.frozen
class Group:
    """Stages that are planned together, settings of their knobs, and their true steps.

    `settings` have the plain one, the fastest and the leanest among them; those `between` are made
    where they may win.
    """

    settings: Sequence[KnobSetting]
    steps: Mapping[str, int]
    between: Callable[[], Sequence[KnobSetting]] = tuple

    def rounding_as(self, chosen: KnobSetting, timed: Timed) -> Group:
        """Leave the settings that round as *chosen* does, each *timed* anew."""
        rounding = chosen.footprint.rounding

        def alike(settings: Iterable[KnobSetting]) -> list[KnobSetting]:
            return [timed(s) for s in settings if s.footprint.rounding == rounding]

        return Group(
            alike(self.settings) or [timed(chosen)], self.steps, lambda: alike(self.between())
        )

    @property
    def leanest(self) -> KnobSetting:
        """The one that needs least; among equals the fastest."""
        return min(self.settings, key=lambda s: (s.least_bytes, s.best_seconds))

    @property
    def fastest(self) -> KnobSetting:
        """The one that takes the least time without a budget; among equals the smaller."""
        return min(self.settings, key=lambda s: (s.best_seconds, s.best_bytes))

    def at(self, budget_bytes: int, plan_at: PlanAt) -> KnobSetting:
        """The fastest at a budget; the leanest where none fits."""
        best, seconds = self._best(self.settings, budget_bytes, plan_at)
        if seconds <= self.fastest.best_seconds * (1 + _CLOSE):
            return best  # as fast as any without a budget
        other, less_seconds = self._best(self.between(), budget_bytes, plan_at)
        return other if less_seconds < seconds else best

    def _best(
        self, settings: Sequence[KnobSetting], budget_bytes: int, plan_at: PlanAt
    ) -> tuple[KnobSetting, float]:
        best, least_seconds = self.leanest, float("inf")
        for setting in sorted(settings, key=lambda s: (s.best_seconds, s.best_bytes)):
            if setting.least_bytes > budget_bytes:
                continue
            if setting.best_seconds >= least_seconds:
                break  # the later ones take longer even without a budget
            seconds = seconds_of(plan_at(setting.footprint, budget_bytes), self.steps)
            if seconds < least_seconds:
                best, least_seconds = setting, seconds
        return best, least_seconds


def setting_of(
    knobs: Knobs, footprint: Footprint, steps: Mapping[str, int], plan_at: PlanAt
) -> KnobSetting:
    """Plan a group's footprint without a budget, to know both its ends."""
    ends = plan_at(footprint, None)
    seconds = seconds_of(ends, steps)
    return KnobSetting(knobs, footprint, ends.minimum_bytes, seconds, ends.resident_bytes)


def joined(settings: Sequence[KnobSetting]) -> dict[str, dict[str, str]]:
    """The settings of all groups as one of the graph."""
    return {stage: dict(knobs) for one in settings for stage, knobs in one.knobs.items()}
