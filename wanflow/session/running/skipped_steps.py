"""Which steps a run left out: those of its plan, and those that EasyCache found."""

from __future__ import annotations

import attrs
import torch

from wanflow.scheduler.run.device_works import Watch
from wanflow.session.planning.caches import left_out
from wanflow.session.planning.planned import Planned
from wanflow.stages.easy_cache import MARKS
from wanflow.stages.step_cache import PASSES


@attrs.define
class SkippedSteps:
    """A watch that hands on what it sees to another, and keeps EasyCache's marks."""

    watch: Watch | None
    _marks: dict[str, list[int]] = attrs.field(factory=dict, init=False)

    def beside(self, planned: Planned) -> Watch | None:
        """Give the watch for a run of a plan: the other one where no step is found by the run."""
        reuses = [stage.reuse for stage in planned.prepared.graph.stages]
        finds = any(reuse is not None and reuse.kind == "easycache" for reuse in reuses)
        return self._see if finds else self.watch

    def _see(self, stage: str, name: str, tensor: torch.Tensor) -> None:
        if name == f"{stage}.{MARKS}":
            marks = tensor.tolist()  # no tensor: what is allocated is measured
            self._marks[stage] = [step for step, mark in enumerate(marks) if mark]
        if self.watch is not None:
            self.watch(stage, name, tensor)

    @property
    def found_any(self) -> bool:
        """Whether the run left out what the plan has: its times say nothing of the plan's then."""
        return any(self._marks.values())

    def report(self, planned: Planned) -> dict[str, dict[str, list[int]]]:
        """By stage and pass of guidance, the first step being 0."""
        found = left_out(planned.plan.footprint)
        for stage, steps in self._marks.items():
            guidance = planned.prepared.graph.stage(stage).params["guidance"]
            names = PASSES if float(str(guidance)) > 1 else PASSES[:1]
            found[stage] = dict.fromkeys(names, steps)
        return found
