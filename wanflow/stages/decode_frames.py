"""Decode latents to frames, one latent frame at a time; each chunk goes on once it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import torch

from wanflow.models import vae
from wanflow.models.segments import BoundModule
from wanflow.scheduler.program import Call, Knob, ShapeOf, Tensors
from wanflow.stages.base import StageSetup


@attrs.frozen
class DecodeFrames:
    """Streams `frames`: chunks `[1 or 4, 3, H, W]` in [0, 1]. The feature cache is its state."""

    setup: StageSetup
    stage: str = attrs.field(init=False)
    op: str = "decode_frames"
    consumes: str | None = None
    knobs: tuple[Knob, ...] = ()

    @stage.default
    def _stage(self) -> str:
        return self.setup.bound.name

    @property
    def model(self) -> BoundModule:
        """The VAE."""
        return self.setup.module()

    @property
    def steps(self) -> int:
        """Latent frames."""
        return self.setup.around.latent_shape[2]

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield the whole clip's first convolution, then each latent frame's parts."""
        del knobs
        own, latents, module = self.setup.own, self.setup.source("latents"), self.model.module
        latent_frames = shape(latents)[2]

        def open_latents(values: Tensors) -> Tensors:
            return {own("latents"): vae.denormalise(module, values[latents])}

        yield Call("latent", open_latents, (latents,), segment="latent")
        for frame in range(latent_frames):
            for part in vae.parts(module):
                yield self._part(part, frame)

    def _part(self, part: str, frame: int) -> Call:
        own, module = self.setup.own, self.model.module
        places = [own(f"state.{part}.{i}") for i in range(vae.cache_places(module, part))]
        features = own("latents") if part == "in" else own("features")
        made = own("frames") if part == "head" else own("features")

        def run(values: Tensors) -> Tensors:
            x = values[features][:, :, frame : frame + 1] if part == "in" else values[features]
            cache = vae.fill_cache([values.get(name) for name in places], frame)
            out = vae.run(module, part, x, cache, first=frame == 0)
            if part == "head":
                out = vae.to_frames(module, out)
            kept = zip(places, cache, strict=True)
            return {made: out, **{n: t for n, t in kept if isinstance(t, torch.Tensor)}}

        return Call(
            f"{part}.{min(frame, 2)}",
            run,
            (features, *places),
            segment=part,
            step=frame,
            emits=part == "head",
        )
