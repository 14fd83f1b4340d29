"""Encode a clip to latents: the calls of every stage that does so, one clip after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from wanflow.models.wan import vae_encoder
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.clip import Clip
from wanflow.stages.decode_strips import WHOLE, strips_knobs
from wanflow.stages.encode_strips import EncodeStrips, chunk_shape, part_call, pixels_calls

_ABOUT = (
    "whole: a chunk of frames at a time, as diffusers does; the others cut it into strips of so "
    "many latent rows along its longer side, down to the latents' size. frames: each chunk's "
    "strips, then the next chunk; strips: each strip of all chunks, then the next one"
)


def encoder_knobs(setup: StageSetup) -> tuple[Knob, ...]:
    """How a stage's frames are cut; a frame of a row or two can't be."""
    return strips_knobs(setup, _ABOUT)


@attrs.frozen
class ClipCalls:
    """Makes the calls for one of a stage's clips. The names of what they keep are the next one's.

    A clip begins without a feature cache and line buffers: none of its first calls reads any.
    """

    setup: StageSetup
    clip: Clip
    knobs: Mapping[str, str]

    @property
    def _module(self) -> Any:
        return self.setup.module().module

    def calls(self, latents: str, mask: str = "") -> Iterator[Call]:
        """Yield each chunk's parts, then what makes *latents* `[1, z, F, h, w]` and the *mask*."""
        setting = self.knobs.get("strips", WHOLE)
        if setting == WHOLE:
            yield from self._whole()
        else:
            yield from EncodeStrips(self.setup, setting, self.clip).calls()
        yield self._latents(latents, mask)

    def _whole(self) -> Iterator[Call]:
        pixels = pixels_calls(self.setup, self.clip)
        for frame in range(self.clip.chunks):
            if self.clip.given(frame):
                yield next(pixels)
            yield self._open(frame)
            for part in vae_encoder.parts(self._module)[1:]:
                yield part_call(self.setup, part, frame, (self.setup.own("features"),))

    def _open(self, frame: int) -> Call:
        """Run the first convolution, on the pixels that are given."""
        own, clip, module = self.setup.own, self.clip, self._module
        pixels, state = own(f"pixels@{frame}"), own("state.in.0")

        def run(values: Tensors) -> Tensors:
            weight = module.encoder.conv_in.weight
            shape = chunk_shape(clip, frame)
            x = vae_encoder.opened(module, clip.to_pixels(values.get(pixels), shape, weight))
            cache = [values.get(state)]
            features = vae_encoder.run(module, "in", x, cache)
            return {
                own("features"): features,
                **({state: cache[0]} if cache[0] is not None else {}),
            }

        reads = (*((pixels,) if clip.given(frame) else ()), *((state,) if frame else ()))
        return Call(
            f"in.{min(frame, 2)}", run, reads,
            segment=self.setup.module().segment_of(*vae_encoder.paths("in"), part=True),
            places=(str(frame),),
        )  # fmt: skip

    def _latents(self, latents: str, mask: str) -> Call:
        own, clip, module = self.setup.own, self.clip, self._module
        frames = tuple(map(str, range(clip.chunks)))
        moments = tuple(own(f"moments@{frame}") for frame in frames)

        def run(values: Tensors) -> Tensors:
            joined = torch.cat([values[name] for name in moments], 2)
            made = vae_encoder.to_latents(module, joined)
            return {latents: made, **({mask: clip.marks(made)} if mask else {})}

        places = (*frames, *latents.split("@")[1:])
        segment = self.setup.module().segment_of("quant_conv")
        return Call("latents", run, moments, segment=segment, places=places)
