"""Encode pictures or a video to latents, a chunk of frames at a time, whole or in strips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, ShapeOf
from wanflow.stages.base import StageProgram
from wanflow.stages.clip import Clip
from wanflow.stages.encode_clip import ClipCalls, encoder_knobs


@attrs.frozen
class EncodeFrames(StageProgram):
    """Makes `latents` `[1, z, F, h, w]`, fp32 and normalised, and `mask`: which frames are given.

    What is not given, before, after or between pictures, is zeros. The feature cache and the line
    buffers are its states.
    """

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """How a frame is cut; a frame of a row or two can't be."""
        return encoder_knobs(self.setup)

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield each chunk's parts, then the latents of all."""
        del shape
        own, clip = self.setup.own, Clip.of(self.setup)
        yield from ClipCalls(self.setup, clip, knobs).calls(own("latents"), own("mask"))
