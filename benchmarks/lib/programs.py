"""Programs and stages that benchmarks profile by themselves, without a graph file around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import torch

from wanflow.graph import PortRef
from wanflow.graph.bound import BoundStage
from wanflow.graph.configs import known_config
from wanflow.graph.ops import OPS
from wanflow.graph.values import Value
from wanflow.models.bound import segmentation_of
from wanflow.models.segments.build import build
from wanflow.models.segments.cut import BoundModule
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, Model, Program, ShapeOf
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program

SPACE = LatentSpace(channels=16, spatial=8, temporal=4)  # Wan 2.1's


@attrs.frozen
class Calls:
    """A program of given calls, with neither segments nor knobs."""

    stage: str
    made: tuple[Call, ...]
    op: str = "given"
    steps: int = 1
    model: Model | None = None
    consumes: str | None = None
    knobs: tuple[Knob, ...] = ()

    def calls(self, _knobs: Mapping[str, str], _shape: ShapeOf) -> Iterator[Call]:
        """Yield them."""
        yield from self.made


def vae_stage(
    name: str,
    op: str,
    inputs: Mapping[str, Value | PortRef],
    latent_shape: tuple[int, ...],
    precision: str,
) -> Program:
    """Make a stage of Wan 2.1's VAE, for latents `[1, C, F, h, w]`, without weights."""
    module = build("vae", known_config("wan2.1-t2v-1.3b", "vae"))
    model = BoundModule("vae", module, segmentation_of("vae", module, {op}), 0, precision)
    cpu = torch.device("cpu")
    around = Surroundings(cpu, SPACE, latent_shape, None, {}, None, wants_negative=False)
    params = {name: spec.default for name, spec in OPS[op].params.items()}
    bound = BoundStage(name, OPS[op], None, inputs, params)
    return make_program(StageSetup(bound, model, around))
