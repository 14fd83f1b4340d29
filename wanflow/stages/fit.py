"""How a picture is brought to the size of a clip, as `[3, H, W]`: each way is upstream's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from wanflow.graph import Size


@attrs.frozen
class Fit:
    """A way: *bring* takes a PIL image; what it gives is uint8, or fp32 in [-1, 1]."""

    bring: Callable[[Any, Size], torch.Tensor]
    dtype: torch.dtype


def _stretched(picture: Any, size: Size) -> torch.Tensor:
    """Resize as diffusers' `VideoProcessor.preprocess` does."""
    from PIL import Image

    resized = picture.resize((size.width, size.height), resample=Image.Resampling.LANCZOS)
    return _levels(resized)


def _cropped(picture: Any, size: Size) -> torch.Tensor:
    """Resize until all is covered, and cut the middle out (Wan2.2, `WanTI2V.i2v`)."""
    from PIL import Image

    scale = max(size.width / picture.width, size.height / picture.height)
    sides = round(picture.width * scale), round(picture.height * scale)
    resized = picture.resize(sides, resample=Image.Resampling.LANCZOS)
    left, top = (sides[0] - size.width) // 2, (sides[1] - size.height) // 2
    return _levels(resized.crop((left, top, left + size.width, top + size.height)))


def _covering(picture: Any, size: Size) -> torch.Tensor:
    """Resize until all is covered, and cut the middle out, as `resize_crop` does.

    Of Wan2.1's `wan/utils/vace_processor.py`.
    """
    levels = _levels(picture)
    height, width = levels.shape[1:]
    if (width, height) == (size.width, size.height):
        return levels
    scale = max(size.width / width, size.height / height)
    sides = round(scale * height), round(scale * width)
    resized = F.interpolate(levels.unsqueeze(0), size=sides, mode="bicubic", antialias=True)[0]
    top, left = (sides[0] - size.height) // 2, (sides[1] - size.width) // 2
    return resized[:, top : top + size.height, left : left + size.width]


def _letterboxed(picture: Any, size: Size) -> torch.Tensor:
    """Resize to lie inside, in the middle of white (Wan2.1, `WanVace.prepare_source`)."""
    pixels = _levels(picture).to(torch.float32).div_(255).sub_(0.5).div_(0.5)
    height, width = pixels.shape[1:]
    scale = min(size.height / height, size.width / width)
    sides = max(int(height * scale), 1), max(int(width * scale), 1)
    resized = F.interpolate(pixels.unsqueeze(0), size=sides, mode="bilinear", align_corners=False)[
        0
    ]
    canvas = torch.ones(3, size.height, size.width)
    top, left = (size.height - sides[0]) // 2, (size.width - sides[1]) // 2
    canvas[:, top : top + sides[0], left : left + sides[1]] = resized
    return canvas


def _levels(picture: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


STRETCHED = Fit(_stretched, torch.uint8)
CROPPED = Fit(_cropped, torch.uint8)
COVERING = Fit(_covering, torch.uint8)
LETTERBOXED = Fit(_letterboxed, torch.float32)
