"""Frames become bytes as diffusers rounds them."""

import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from wanflow.stages.frames import to_bytes


class TestToBytes:
    """`[n, 3, H, W]` in [0, 1] to uint8 `[n, H, W, 3]`."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_same_as_diffusers(self, dtype):
        """The levels that `numpy_to_pil` rounds to, for every multiple of an eighth of a level."""
        levels = (torch.arange(3 * 32 * 24).remainder(2041) / 2040).reshape(1, 3, 32, 24).to(dtype)
        images = VaeImageProcessor.pt_to_numpy(levels)
        expected = torch.from_numpy((images * 255).round().astype("uint8"))
        assert torch.equal(to_bytes(levels), expected)

    def test_contiguous(self):
        """Writers get whole rows of pixels."""
        assert to_bytes(torch.rand(2, 3, 4, 6)).is_contiguous()
