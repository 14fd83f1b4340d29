"""The clip that a stage encodes: pictures at its ends or a video, resized, a chunk at a time.

Nothing is made for a chunk in which nothing is given: upstream's zeros between first and last frame
are there only while a kernel reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import attrs
import numpy as np
import torch

from wanflow.errors import InputError
from wanflow.graph import Size
from wanflow.stages.base import StageSetup


@attrs.frozen
class Clip:
    """What is given of a clip, as paths; the rest of it is zeros. A *video* gives every frame."""

    size: Size
    frames: int
    temporal: int  # frames of a chunk, the first one has one
    first: str = ""
    last: str = ""
    video: str = ""

    @classmethod
    def of(cls, setup: StageSetup) -> Clip:
        """Read the ports of a stage."""
        ports = {"first": "image", "last": "last_image", "video": "video"}
        sources = {name: str(setup.bound.inputs.get(port) or "") for name, port in ports.items()}
        size, frames = cast("Size", setup.value("size")), cast("int", setup.value("frames"))
        return cls(size, frames, setup.around.latent_space.temporal, **sources)

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
        """Shape `[3, n, H, W]` of what is given in a chunk."""
        return (3, self.given(chunk), self.size.height, self.size.width)

    def mask(self, like: torch.Tensor) -> torch.Tensor:
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

    def read(self) -> Iterator[torch.Tensor]:
        """Give what is given, chunk by chunk: uint8 `[3, n, H, W]` on the CPU."""
        if not self.video:
            for path in filter(None, (self.first, self.last)):
                yield _stacked([self._resized(open_image(path))])
            return
        pictures = self._pictures()
        for chunk in range(self.chunks):
            yield _stacked([next(pictures) for _ in range(self.count(chunk))])

    def _pictures(self) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
        """The first frames of the video; InputError when it is too short."""
        import av

        count = 0
        try:
            with av.open(self.video) as container:
                for frame in container.decode(video=0):
                    yield self._resized(cast("Any", frame).to_image())
                    count += 1
        except (av.FFmpegError, IndexError, OSError) as error:
            raise InputError(f"{self.video}: no video: {error}", code="bad-video") from None
        raise InputError(
            f"{self.video}: has {count} frames, {self.frames} are asked for",
            hint=f"ask for at most {max(count - 1, 0) // self.temporal * self.temporal + 1}",
            code="short-video",
        )

    def _resized(self, picture: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Resize as diffusers' `VideoProcessor.preprocess` does."""
        from PIL import Image

        size = (self.size.width, self.size.height)
        return np.asarray(picture.resize(size, resample=Image.Resampling.LANCZOS))


def open_image(path: str) -> Any:
    """Read a picture file as RGB; InputError when it is none."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: no picture: {error}", code="bad-image") from None


def _stacked(pictures: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> torch.Tensor:
    """Put `[H, W, 3]` pictures behind each other as `[3, n, H, W]`."""
    height, width, _ = pictures[0].shape
    stack = torch.empty(3, len(pictures), height, width, dtype=torch.uint8)
    for index, picture in enumerate(pictures):
        stack[:, index] = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    return stack


def to_pixels(
    pictures: torch.Tensor | None, shape: tuple[int, ...], like: torch.Tensor
) -> torch.Tensor:
    """Make a chunk `[1, 3, n, H, W]` in [-1, 1], zeros but for its last frames, the *pictures*.

    The order of operations is `VaeImageProcessor`'s. Without any, dtype and device are
    *like*'s.
    """
    if pictures is None:
        return like.new_zeros(shape)
    pixels = pictures.to(torch.float32).div_(255).mul_(2).sub_(1).unsqueeze(0)
    missing = shape[2] - pixels.shape[2]
    if missing == 0:
        return pixels
    return torch.cat([pixels.new_zeros(1, 3, missing, *shape[3:]), pixels], 2)
