"""How pictures are brought to a size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from wanflow.graph import Size
from wanflow.stages.fit import CROPPED, STRETCHED


def stripes(width: int, height: int) -> Image.Image:
    """A picture of a black, a grey and a white third."""
    levels = np.repeat(np.array([0, 128, 255], np.uint8), width // 3)
    return Image.fromarray(np.tile(levels[None, :, None], (height, 1, 3)))


class TestCropped:
    """The middle, in its own shape."""

    @pytest.mark.parametrize("scale", [1, 2, 3])
    def test_middle(self, scale: int) -> None:
        """Of three thirds side by side the middle one stays, but for its edges."""
        pixels = CROPPED.bring(stripes(96 * scale, 32 * scale), Size(32, 32))
        assert pixels.shape == (3, 32, 32)
        assert (pixels[:, :, 3:-3] == 128).all()

    def test_same_shape(self) -> None:
        """Nothing is cut of a picture that has the shape: it is resized as by the other way."""
        picture = stripes(96, 48)
        size = Size(64, 32)
        assert torch.equal(CROPPED.bring(picture, size), STRETCHED.bring(picture, size))
