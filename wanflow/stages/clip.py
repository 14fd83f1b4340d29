"""The clip that a stage encodes: pictures at its ends or a video, resized, a chunk at a time.

Nothing is made for a chunk in which nothing is given: upstream's zeros between first and last frame
are there only while a kernel reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import attrs
import torch

from wanflow.errors import InputError
from wanflow.files.frame_times import FrameTimes
from wanflow.files.videos import Video
from wanflow.graph import Size
from wanflow.stages.base import StageSetup, Surroundings
from wanflow.stages.fit import COVERING, CROPPED, STRETCHED, Fit

_PORTS = ("image", "last_image", "video")
_HALF = 0.5  # of white: what is above is made anew


@attrs.frozen
class Clip:
    """What is given of a clip, as paths; the rest of it is zeros. A *video* gives every frame.

    With a *mask*, a video too, what is white of the video is zeros, or with *anew* all else.
    """

    size: Size
    frames: int
    temporal: int  # frames of a chunk, the first one has one
    first: str = ""
    last: str = ""
    video: str = ""
    mask: str = ""
    anew: bool = False
    fit: Fit = STRETCHED
    fps: float | None = None  # at which a video's frames are taken; None: evenly from all of it

    @classmethod
    def of(cls, setup: StageSetup) -> Clip:
        """Read the ports of a stage."""
        size, frames = cast("Size", setup.value("size")), cast("int", setup.value("frames"))
        first, last, video = (str(setup.bound.inputs.get(port) or "") for port in _PORTS)
        fit = CROPPED if setup.param("fit") == "crop" else STRETCHED
        return cls(
            size, frames, setup.around.latent_space.temporal, first, last, video,
            fit=COVERING if video else fit, fps=rate(setup),
        )  # fmt: skip

    @property
    def chunks(self) -> int:
        """Latent frames."""
        return (self.frames - 1) // self.temporal + 1

    def count(self, chunk: int) -> int:
        """Frames in a chunk."""
        return 1 if chunk == 0 else self.temporal

    def given(self, chunk: int) -> int:
        """How many of a chunk's frames are given: its last ones."""
        if self.video:
            return self.count(chunk)
        is_first = bool(self.first) and chunk == 0
        return int(is_first or (bool(self.last) and chunk == self.chunks - 1))

    def shape(self, chunk: int) -> tuple[int, ...]:
        """Shape `[3, n, H, W]` of what is given in a chunk; with a mask that is a channel more."""
        channels = 4 if self.mask else 3
        return (channels, self.given(chunk), self.size.height, self.size.width)

    def marks(self, like: torch.Tensor) -> torch.Tensor:
        """Say which frames are given: `[1, temporal, F, h, w]` of ones and zeros beside latents.

        The first frame counts for all of its chunk (`WanImageToVideoPipeline.prepare_latents`).
        """
        mask = like.new_zeros(1, self.temporal, *like.shape[2:])
        if self.video:
            return mask.fill_(1)
        if self.first:
            mask[:, :, 0] = 1
        if self.last:
            mask[:, -1, -1] = 1
        return mask

    def read(self, around: Surroundings) -> Iterator[torch.Tensor]:
        """Give what is given, chunk by chunk, on the CPU: `[3, n, H, W]` as the fit has it."""
        if not self.video:
            for path in filter(None, (self.first, self.last)):
                yield self.fit.bring(around.picture(path), self.size).unsqueeze(1)
            return
        frames = self._frames(around)
        for chunk in range(self.chunks):
            yield torch.stack([next(frames) for _ in range(self.count(chunk))], 1)

    def _frames(self, around: Surroundings) -> Iterator[torch.Tensor]:
        """The frames of the video, the mask's beside them."""
        frames = self._brought(around, self.video)
        if not self.mask:
            return frames
        pairs = zip(frames, self._brought(around, self.mask), strict=True)
        return (torch.cat([frame, white[:1]]) for frame, white in pairs)

    def _brought(self, around: Surroundings, path: str) -> Iterator[torch.Tensor]:
        return (self.fit.bring(picture, self.size) for picture in self.pictures(around, path))

    def pictures(self, around: Surroundings, path: str) -> Iterator[Any]:
        """The frames of the video, or of the mask, that make the clip: PIL images; InputError."""
        videos = [around.video(each) for each in (self.video, self.mask) if each]
        times = times_of(videos, self.frames, self.fps, self.temporal)
        yield from around.video(path).frames(times.taken(self.frames, self.fps))

    def to_pixels(
        self, pictures: torch.Tensor | None, shape: tuple[int, ...], like: torch.Tensor
    ) -> torch.Tensor:
        """Make of what was read a chunk, or a strip of one, `[1, 3, n, H, W]` in [-1, 1]."""
        if pictures is None or not self.mask:
            return to_pixels(pictures, shape, like)
        white = to_share(pictures[3:]) > _HALF
        pixels = to_pixels(pictures[:3], shape, like)
        return pixels.masked_fill_(white.logical_not() if self.anew else white, 0)


def rate(setup: StageSetup) -> float | None:
    """The rate at which a stage takes a video's frames, where it says one."""
    return cast("float", setup.value("fps")) if "fps" in setup.bound.inputs else None


def times_of(videos: Sequence[Video], frames: int, fps: float | None, temporal: int) -> FrameTimes:
    """The times of the first video, as far as all go; InputError where a clip has more frames."""
    times = videos[0].times.first(min(video.times.count for video in videos))
    if times.count_at(fps) < frames:
        shortest = min(videos, key=lambda video: video.times.count)
        raise too_short(shortest.path, times.count_at(fps), frames, temporal)
    return times


def too_short(path: str, frames: int, asked: int, temporal: int) -> InputError:
    """Say that a video has fewer frames than are asked for."""
    return InputError(
        f"{path}: has {frames} frames, {asked} are asked for",
        hint=f"ask for at most {max(frames - 1, 0) // temporal * temporal + 1}",
        code="short-video",
    )


def to_pixels(
    pictures: torch.Tensor | None, shape: tuple[int, ...], like: torch.Tensor
) -> torch.Tensor:
    """Make a chunk `[1, 3, n, H, W]` in [-1, 1], zeros but for its last frames, the *pictures*.

    The order of operations is `VaeImageProcessor`'s. Without any, dtype and device are
    *like*'s.
    """
    if pictures is None:
        return like.new_zeros(shape)
    pixels = pictures.unsqueeze(0)
    if not pictures.is_floating_point():
        pixels = _signed(pixels)
    missing = shape[2] - pixels.shape[2]
    if missing == 0:
        return pixels
    return torch.cat([pixels.new_zeros(1, 3, missing, *shape[3:]), pixels], 2)


def _signed(levels: torch.Tensor) -> torch.Tensor:
    """Give uint8 levels in [-1, 1]."""
    return levels.to(torch.float32).div_(255).mul_(2).sub_(1)


def to_share(levels: torch.Tensor) -> torch.Tensor:
    """Give a mask's uint8 levels in [0, 1], as upstream comes by them from [-1, 1]."""
    return _signed(levels).add_(1).div_(2).clamp_(0, 1)
