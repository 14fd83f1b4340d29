"""Which sizes and frame counts a pair of models can make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import cast

import attrs

from wanflow.graph.values import LARGEST_SIDE, SMALLEST_SIDE, Size


@attrs.frozen
class VideoRules:
    """Sides are multiples of `size_multiple`; frames are `frame_multiple` * n + 1."""

    size_multiple: int = 16
    frame_multiple: int = 4

    @classmethod
    def of(cls, transformer: Mapping[str, object], vae: Mapping[str, object]) -> VideoRules:
        """Compute the rules from the configurations of a transformer and a VAE."""
        patch = cast("list[int]", transformer["patch_size"])
        spatial = cast("int", vae["scale_factor_spatial"])
        temporal = cast("int", vae["scale_factor_temporal"])
        return cls(math.lcm(spatial * patch[1], spatial * patch[2]), temporal)

    @classmethod
    def all_of(cls, rules: Iterable[VideoRules]) -> VideoRules | None:
        """Give the rules that satisfy every one of them; None for none."""
        listed = list(rules)
        if not listed:
            return None
        sizes = math.lcm(*(rule.size_multiple for rule in listed))
        return cls(sizes, math.lcm(*(rule.frame_multiple for rule in listed)))

    def latent_frames(self, frames: int) -> int:
        """Count the latent frames of a clip: the first frame stands alone."""
        return (frames - 1) // self.frame_multiple + 1

    def allows_frames(self, frames: int) -> bool:
        """Say whether a clip may have so many frames."""
        return frames >= 1 and (frames - 1) % self.frame_multiple == 0

    def nearest_frames(self, frames: int) -> list[int]:
        """Give the allowed counts just below and above."""
        low = max(frames - 1, 0) // self.frame_multiple * self.frame_multiple + 1
        return [low, low + self.frame_multiple] if low <= frames else [low]

    def allows_size(self, size: Size) -> bool:
        """Say whether both sides are multiples."""
        return size.width % self.size_multiple == 0 and size.height % self.size_multiple == 0

    def in_shape(self, area: Size, width: int, height: int) -> Size:
        """Give the size of a picture's shape, nearly, and at most of an area, as Wan's code does.

        A picture so thin that a side would vanish gets the smallest one.
        """
        pixels = area.width * area.height
        sides = (math.sqrt(pixels * width / height), math.sqrt(pixels * height / width))
        return Size(*(self._round(int(side), 0) for side in sides))

    def in_crop(self, area: Size, width: int, height: int) -> Size:
        """Give the size that a picture is cropped to: the nearest of its shape, at most of an area.

        The rule is `best_output_size` of Wan2.2's `wan/utils/utils.py`.
        """
        pixels, ratio = area.width * area.height, width / height
        wide = self._round(int(math.sqrt(pixels * ratio)), 0)
        high = self._round(int(pixels / math.sqrt(pixels * ratio)), 0)
        sizes = (
            Size(self._round(pixels // high, 0), high),
            Size(wide, self._round(pixels // wide, 0)),
        )
        fitting = [size for size in sizes if size.width * size.height <= pixels] or sizes
        return min(fitting, key=lambda size: abs(math.log(ratio * size.height / size.width)))

    def in_video(
        self, area: Size, frames: int, video: tuple[int, int], count: int, most: int
    ) -> tuple[Size, int] | None:
        """Give size and frames of a clip like a video of a width and height and *count* frames.

        It is of the video's shape, no larger, and has the tokens of a clip of an *area* and so many
        *frames*, but no more than *most* frames; None for a video without room for a token. The
        rule is `_get_frameid_bbox_adjust_last` of Wan2.1's `wan/utils/vace_processor.py`.
        """
        multiple, (width, height) = self.size_multiple, video
        cut = (area.width * area.height) // multiple**2
        tokens = cut * self.latent_frames(frames)
        cut = min(cut, (width // multiple) * (height // multiple))
        if cut == 0:
            return None
        latent_frames = min(*map(self.latent_frames, (count, most)), tokens // cut)
        rows = min(max(round(math.sqrt(cut * height / width)), 1), cut)
        size = Size(cut // rows * multiple, rows * multiple)
        return size, (latent_frames - 1) * self.frame_multiple + 1

    def nearest_sizes(self, size: Size) -> list[Size]:
        """Give the nearest allowed sizes with both sides rounded down, then up."""
        down = Size(self._round(size.width, 0), self._round(size.height, 0))
        up = Size(self._round(size.width, 1), self._round(size.height, 1))
        return [down] if down == up else [down, up]

    def _round(self, side: int, up: int) -> int:
        multiple = self.size_multiple
        rounded = (side + (multiple - 1) * up) // multiple * multiple
        least = -(-SMALLEST_SIDE // multiple) * multiple
        return min(max(rounded, least), LARGEST_SIDE // multiple * multiple)
