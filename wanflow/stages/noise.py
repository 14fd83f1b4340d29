"""Draw the starting noise on the CPU, so that a seed means the same picture on every device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import attrs
import torch

from wanflow.graph import Size
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageProgram


@attrs.frozen
class Noise(StageProgram):
    """Makes `latents`: `[1, C, F, h, w]` fp32, standard normal; a frame more for each reference."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of what is made."""
        size = cast("Size", self.setup.value("size"))
        frames, space = cast("int", self.setup.value("frames")), self.setup.around.latent_space
        frames += len(self.setup.paths("reference_images")) * space.temporal
        return space.shape(size.width, size.height, frames)

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield the one call."""
        del knobs, shape
        around, seed, latent_shape = self.setup.around, self.setup.value("seed"), self.latent_shape

        def run(_values: Tensors) -> Tensors:
            generator = torch.Generator("cpu").manual_seed(cast("int", seed))
            drawn = torch.randn(latent_shape, generator=generator, dtype=torch.float32)
            return {self.setup.own("latents"): drawn.to(around.device)}

        def stand_in(_values: Tensors) -> Tensors:
            return {self.setup.own("latents"): torch.empty(latent_shape, dtype=torch.float32)}

        yield Call("noise", run, stand_in=stand_in)
