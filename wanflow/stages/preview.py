"""A small picture of the clip while it is denoised: the clean latents, mapped linearly to colours.

The clean latents are what the samplers predict from a step's latents and prediction. A preview is
made right before the sampler's step, which needs more room than it: no plan is larger for it, and
nothing that it reads is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import torch

from wanflow.files.preview_files import write_preview
from wanflow.scheduler.machine.file_work import PREVIEW
from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.conditions import Conditions
from wanflow.stages.samplers import Sampling


@attrs.frozen
class PreviewCalls:
    """Makes the calls of the previews of a stage that denoises; none where none is asked for."""

    setup: StageSetup
    sampling: Sampling
    prediction: str

    def calls(self, step: int, latents: str, latent_shape: Sequence[int]) -> Iterator[Call]:
        """Yield the frames, then the files; *latents* are those that the step begins with."""
        index = self.setup.bound.steps[step]
        if index not in self.setup.bound.previews:
            return
        yield self._frames(step, latents, latent_shape)
        yield self._write(step)

    def _frames(self, step: int, latents: str, latent_shape: Sequence[int]) -> Call:
        """Make `preview`, uint8 `[F, h, w, 3]` on the CPU: the latent frames, references aside."""
        around, name = self.setup.around, self.setup.own("preview")
        colours = around.previewing.colours(around.latent_space.channels)
        sigma = float(self.sampling.sigmas()[self.setup.bound.steps[step]])
        skipped = latent_shape[2] - around.latent_shape[2]
        given = Conditions.of(self.setup)
        condition = given.latents if given.replaces else ""

        def run(values: Tensors) -> Tensors:
            noisy, prediction = values[latents], values[self.prediction]
            known = values[condition][0] if condition else noisy[0, :, :0]
            weights = torch.tensor(colours.weights, device=noisy.device)
            bias = torch.tensor(colours.bias, device=noisy.device)
            _, _, frames, height, width = noisy.shape
            shape = (frames - skipped, height, width, 3)
            made = torch.empty(shape, dtype=torch.uint8, device=noisy.device)
            for frame in range(skipped, frames):
                if frame < known.shape[1]:
                    clean = known[:, frame].float()
                else:
                    clean = prediction[0, :, frame].float() * -sigma
                    clean += noisy[0, :, frame]
                levels = torch.addmm(bias, clean.flatten(1).T, weights)
                levels.mul_(255).round_().clamp_(0, 255)
                made[frame - skipped].copy_(levels.view(height, width, 3))
            return {name: made.cpu()}

        reads = (latents, self.prediction, *((condition,) if condition else ()))
        return Call(f"preview.{skipped}", run, reads, step=step)

    def _write(self, step: int) -> Call:
        around, name = self.setup.around, self.setup.own("preview")
        is_first = around.rank is None or around.rank.index == 0
        out = around.out if is_first else None
        frame_ms = around.previewing.frame_ms

        def run(values: Tensors) -> Tensors:
            if out is not None:
                write_preview(out, values[name].numpy(), frame_ms)
            return {}

        return Call(PREVIEW, run, (name,), step=step, stand_in=lambda _values: {})
