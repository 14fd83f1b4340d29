"""Decode latents to frames, whole or in strips; each chunk goes on once it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import torch

from wanflow.models.wan import vae
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.scheduler.ranks import Exchange, Rank
from wanflow.stages.base import StageProgram
from wanflow.stages.decode_ranks import (
    FIRST,
    SHARE,
    STRIPS,
    SharedStrips,
    decode_share_knob,
    shared_setting,
)
from wanflow.stages.decode_strips import WHOLE, Strips, strips_knobs

_ABOUT = (
    "whole: a latent frame at a time, as diffusers does; the others cut it into strips of so many "
    "latent rows along its longer side. frames: each frame's strips, then the next frame; strips: "
    "each strip of all frames, then the next one, the clip's bytes wait to the end"
)


@attrs.frozen
class DecodeFrames(StageProgram):
    """Streams `frames`: chunks `[1 or 4, 3, H, W]` in [0, 1], uint8 from strips.

    The feature cache and the line buffers are its states.
    """

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """How a frame is cut, and who decodes; a frame of a row or two can't be cut."""
        cuts = strips_knobs(self.setup, _ABOUT)
        if self.setup.around.rank is None:
            return cuts
        return (*decode_share_knob(max(self.setup.around.latent_shape[3:])), *cuts)

    @property
    def steps(self) -> int:
        """Latent frames."""
        return self.setup.around.latent_shape[2]

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield the whole clip's first convolution, then each latent frame's parts."""
        own, latents, module = (
            self.setup.own,
            self.setup.source("latents"),
            self.module,
        )
        latent_frames = shape(latents)[2]

        def open_latents(values: Tensors) -> Tensors:
            return {own("latents"): vae.denormalise(module, values[latents])}

        first = self.bound_model.segment_of("post_quant_conv")
        yield Call("latent", open_latents, (latents,), segment=first)
        setting = knobs.get("strips", WHOLE)
        if setting != WHOLE:
            strips = Strips(self.setup, setting, shape(latents))
            shared = self._shared(strips) if knobs.get(SHARE, FIRST) == STRIPS else None
            yield from (strips if shared is None else shared).calls()
            return
        for frame in range(latent_frames):
            for part in vae.parts(module):
                yield self._part(part, frame)

    def _shared(self, strips: Strips) -> SharedStrips | None:
        rank, exchange = self.setup.around.rank, self.setup.around.exchange
        return None if rank is None or exchange is None else SharedStrips(strips, rank, exchange)

    def shared_setting(self, rank: Rank, exchange: Exchange) -> str:
        """How frames are cut where ranks share the strips, if nothing else is said."""
        return shared_setting(self.setup, rank, exchange)

    def waiting_share(self, rank: Rank, exchange: Exchange, setting: str) -> float:
        """How long ranks wait for strips of each other, as a part of what theirs take them."""
        strips = Strips(self.setup, setting, self.setup.around.latent_shape)
        return SharedStrips(strips, rank, exchange).waiting_share

    def _part(self, part: str, frame: int) -> Call:
        own, module = self.setup.own, self.module
        places = [own(f"state.{part}.{i}") for i in range(vae.cache_places(module, part))]
        features = own("latents") if part == "in" else own("features")
        makes = own("frames") if part == "head" else own("features")

        def run(values: Tensors) -> Tensors:
            x = values[features][:, :, frame : frame + 1] if part == "in" else values[features]
            cache = vae.fill_cache([values.get(name) for name in places], frame)
            out = vae.run(module, part, x, cache, first=frame == 0)
            if part == "head":
                out = vae.to_frames(module, out)
            left = zip(places, cache, strict=True)
            return {makes: out, **{n: t for n, t in left if isinstance(t, torch.Tensor)}}

        return Call(
            f"{part}.{min(frame, 2)}",
            run,
            (features, *places),
            segment=self.bound_model.segment_of(*vae.paths(part)),
            step=frame,
            emits=part == "head",
        )
