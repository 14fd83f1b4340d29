"""Encode pictures or a video to latents, a chunk of frames at a time, whole or in strips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from wanflow.models.wan import vae_encoder
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageProgram
from wanflow.stages.clip import Clip, to_pixels
from wanflow.stages.decode_strips import WHOLE, strips_knobs
from wanflow.stages.encode_strips import EncodeStrips, chunk_shape, part_call, pixels_calls

_ABOUT = (
    "whole: a chunk of frames at a time, as diffusers does; the others cut it into strips of so "
    "many latent rows along its longer side, down to the latents' size. frames: each chunk's "
    "strips, then the next chunk; strips: each strip of all chunks, then the next one"
)


@attrs.frozen
class EncodeFrames(StageProgram):
    """Makes `latents` `[1, z, F, h, w]`, fp32 and normalised, and `mask`: which frames are given.

    What is not given, before, after or between pictures, is zeros. The feature cache and the line
    buffers are its states.
    """

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """How a frame is cut; a frame of a row or two can't be."""
        return strips_knobs(self.setup, _ABOUT)

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield each chunk's parts, then the latents of all."""
        del shape
        clip, setting = Clip.of(self.setup), knobs.get("strips", WHOLE)
        if setting == WHOLE:
            yield from self._whole(clip)
        else:
            yield from EncodeStrips(self.setup, setting, clip).calls()
        yield self._latents(clip)

    def _whole(self, clip: Clip) -> Iterator[Call]:
        module, pixels = self.module, pixels_calls(self.setup, clip)
        for frame in range(clip.chunks):
            if clip.given(frame):
                yield next(pixels)
            yield self._open(clip, frame)
            for part in vae_encoder.parts(module)[1:]:
                yield part_call(self.setup, part, frame, (self.setup.own("features"),))

    def _open(self, clip: Clip, frame: int) -> Call:
        """Run the first convolution, on the pixels that are given."""
        own, is_given = self.setup.own, bool(clip.given(frame))
        module: Any = self.module
        pixels, state = own(f"pixels@{frame}"), own("state.in.0")

        def run(values: Tensors) -> Tensors:
            weight = module.encoder.conv_in.weight
            shape = chunk_shape(clip, frame)
            x = vae_encoder.opened(module, to_pixels(values.get(pixels), shape, weight))
            cache = [values.get(state)]
            features = vae_encoder.run(module, "in", x, cache)
            return {
                own("features"): features,
                **({state: cache[0]} if cache[0] is not None else {}),
            }

        return Call(
            f"in.{min(frame, 2)}", run, (*((pixels,) if is_given else ()), state),
            segment=self.bound_model.segment_of(*vae_encoder.paths("in"), part=True),
            places=(str(frame),),
        )  # fmt: skip

    def _latents(self, clip: Clip) -> Call:
        own, module = self.setup.own, self.module
        places = tuple(str(frame) for frame in range(clip.chunks))
        moments = tuple(own(f"moments@{place}") for place in places)

        def run(values: Tensors) -> Tensors:
            joined = torch.cat([values[name] for name in moments], 2)
            latents = vae_encoder.to_latents(module, joined)
            return {own("latents"): latents, own("mask"): clip.mask(latents)}

        segment = self.bound_model.segment_of("quant_conv")
        return Call("latents", run, moments, segment=segment, places=places)
