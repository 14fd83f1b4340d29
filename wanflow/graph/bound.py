"""A graph with the user's values in it, as a plan takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs

from wanflow.errors import InputError
from wanflow.graph.ops import OpSpec
from wanflow.graph.reuse import Reuse
from wanflow.graph.rules import VideoRules
from wanflow.graph.source import Source
from wanflow.graph.spec import ModelSpec
from wanflow.graph.values import PortRef, Size, Value
from wanflow.graph.wording import did_you_mean, quoted


@attrs.frozen
class BoundStage:
    """A stage with every port fed by a value or another stage's output, and every param set.

    `steps` are those of its schedule that it runs; of a stage without one there is a single one.
    `reuse` says which of them a step cache leaves out; `previews` are those, by their place in the
    schedule, that a preview is made at.
    """

    name: str
    op: OpSpec
    model: str | None
    inputs: Mapping[str, Value | PortRef]
    params: Mapping[str, Value]
    steps: range = range(1)
    reuse: Reuse | None = None
    previews: frozenset[int] = frozenset()


@attrs.frozen
class BoundGraph:
    """A graph ready to plan; `stages` are in running order."""

    name: str
    about: str
    source: Source
    inputs: Mapping[str, Value]
    models: Mapping[str, ModelSpec]
    stages: tuple[BoundStage, ...]
    outputs: Mapping[str, PortRef]
    rules: VideoRules | None

    def plain_inputs(self) -> dict[str, str | int | float]:
        """Give the inputs, sizes as text."""
        return {n: str(v) if isinstance(v, Size) else v for n, v in self.inputs.items()}

    def stage(self, name: str) -> BoundStage:
        """Give a stage by name."""
        bound = next((stage for stage in self.stages if stage.name == name), None)
        if bound is None:
            names = [stage.name for stage in self.stages]
            message = f"graph '{self.name}' has no stage {quoted(name)}"
            raise InputError(message, hint=did_you_mean(name, names), code="unknown-stage")
        return bound

    def noise_of(self, stage: BoundStage) -> BoundStage | None:
        """Find the stage that says the size and frames of the latents of `stage`, or None."""
        while "size" not in stage.op.inputs:
            ref = stage.inputs.get("latents")
            if not isinstance(ref, PortRef):
                return None
            stage = self.stage(ref.stage)
        return stage

    def turns(self, stage: BoundStage) -> int:
        """Count the steps of a stage; 1 when it doesn't repeat."""
        if stage.op.repeats != "latent_frames":
            return len(stage.steps)
        return (self.rules or VideoRules()).latent_frames(self.frames_of(stage))

    def frames_of(self, stage: BoundStage) -> int:
        """Count the frames of a stage that decodes or writes; 1 where nothing says how many."""
        stream = stage.inputs.get("frames")
        noise = self.noise_of(self.stage(stream.stage) if isinstance(stream, PortRef) else stage)
        return cast("int", noise.inputs["frames"]) if noise else 1
