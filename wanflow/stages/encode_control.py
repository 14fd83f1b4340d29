"""Encode what a VACE model is told: a video, what of it is made anew, pictures of what to show.

    channels   kept | anew | mask          of every latent frame
      z, z     the video where the mask is black, and where it is white, encoded by themselves
      8 * 8    the mask's own pixels, of one frame for each latent frame
    frames     references, then the video  a reference is a frame: its latents, zeros, zeros

The order of operations is `WanVace.vace_encode_frames` and `vace_encode_masks` (Wan2.1,
`wan/vace.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import attrs
import torch

from wanflow.graph import Size
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageProgram
from wanflow.stages.clip import Clip, rate, to_share
from wanflow.stages.encode_clip import ClipCalls, encoder_knobs
from wanflow.stages.fit import COVERING, LETTERBOXED

_KEPT, _ANEW, _SEEN = "kept", "anew", "reference"


@attrs.frozen
class EncodeControl(StageProgram):
    """Makes `control` `[1, 2 z + s * s, references + F, h, w]`, fp32; a latent is *s* pixels wide.

    Without a video all is grey and made anew; without a mask all of the video is.
    """

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """How a frame is cut."""
        return encoder_knobs(self.setup)

    @property
    def _size(self) -> Size:
        return cast("Size", self.setup.value("size"))

    @property
    def _frames(self) -> int:
        return cast("int", self.setup.value("frames"))

    @property
    def _mask(self) -> str:
        return str(self.setup.bound.inputs.get("mask") or "")

    @property
    def _references(self) -> tuple[str, ...]:
        return self.setup.paths("reference_images")

    @property
    def _clips(self) -> dict[str, Clip]:
        """What is encoded, by the place of its latents' name."""
        video = str(self.setup.bound.inputs.get("video") or "")
        temporal = self.setup.around.latent_space.temporal
        grey = Clip(self._size, self._frames, temporal)
        shown = attrs.evolve(grey, video=video, mask=self._mask, fit=COVERING, fps=rate(self.setup))
        clips = {_KEPT: shown if self._mask else grey}
        if video:
            clips[_ANEW] = attrs.evolve(shown, anew=True)
        for number, path in enumerate(self._references):
            clips[f"{_SEEN}{number}"] = Clip(self._size, 1, temporal, first=path, fit=LETTERBOXED)
        return clips

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield the calls of each clip, then the mask's frames, then what puts all together."""
        del shape
        clips, levels = self._clips, []
        for place, clip in clips.items():
            yield from ClipCalls(self.setup, clip, knobs).calls(self.setup.own(f"latents@{place}"))
        if self._mask:
            levels = [self.setup.own(f"levels@{n}") for n in range(clips[_KEPT].chunks)]
            yield from self._levels(levels)
        yield self._control(tuple(clips), levels)

    def _levels(self, names: list[str]) -> Iterator[Call]:
        """Read the mask, a frame for each latent frame: uint8 `[s * s, h, w]`."""
        around, size, side = self.setup.around, self._size, self.setup.around.latent_space.spatial
        pictures = enumerate(self._clips[_KEPT].pictures(around, self._mask))

        def make(name: str, wanted: int) -> Call:
            def run(_values: Tensors) -> Tensors:
                picture = next(picture for number, picture in pictures if number == wanted)
                return {name: _unshuffled(COVERING.bring(picture, size)[0], side).to(around.device)}

            def stand_in(_values: Tensors) -> Tensors:
                rows, columns = size.height // side, size.width // side
                return {name: torch.empty(side * side, rows, columns, dtype=torch.uint8)}

            return Call("levels", run, stand_in=stand_in, places=(name.partition("@")[2],))

        for number, name in enumerate(names):
            yield make(name, frame_of_mask(number, len(names), self._frames))

    def _control(self, places: tuple[str, ...], levels: list[str]) -> Call:
        own, side = self.setup.own, self.setup.around.latent_space.spatial
        names = {place: own(f"latents@{place}") for place in places}
        first = len(self._references)

        def run(values: Tensors) -> Tensors:
            kept = values[names[_KEPT]]
            _, z, frames, *sides = kept.shape
            made = kept.new_zeros(1, 2 * z + side * side, first + frames, *sides)
            made[:, :z, first:] = kept
            made[:, z : 2 * z, first:] = values[names.get(_ANEW, names[_KEPT])]
            for number in range(first):
                made[:, :z, number] = values[names[f"{_SEEN}{number}"]][:, :, 0]
            mask = made[:, 2 * z :, first:].fill_(1)
            for number, name in enumerate(levels):
                mask[:, :, number] = to_share(values[name])
            return {own("control"): made}

        reads = (*names.values(), *levels)
        at = tuple(dict.fromkeys(name.partition("@")[2] for name in reads))
        return Call(f"control.{first}.{len(levels)}", run, reads, places=at)


def frame_of_mask(number: int, latent_frames: int, frames: int) -> int:
    """Which frame of a mask a latent frame is told by: torch's `nearest-exact`."""
    return (2 * number + 1) * frames // (2 * latent_frames)


def _unshuffled(levels: torch.Tensor, side: int) -> torch.Tensor:
    """Put the pixels `[H, W]` of each latent into channels: `[side * side, h, w]`."""
    height, width = levels.shape
    squares = levels.reshape(height // side, side, width // side, side)
    return squares.permute(1, 3, 0, 2).flatten(0, 1).contiguous()
