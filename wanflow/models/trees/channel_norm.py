"""The length of each pixel's channels on a CPU: PyTorch's sums, a channel of all pixels at a time.

`torch.linalg.vector_norm` sets itself up anew for every pixel whose channels lie apart, which takes
it ten times as long. What it adds up, and in which order, is the same here.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

_LEAST_PIXELS = 4096  # for fewer it is not worth the calls
_EPSILON = 1e-12  # as `F.normalize` has it


def normalize(x: torch.Tensor) -> torch.Tensor:
    """Give `F.normalize` of fp32 `[B, C, ...]` along dimension 1, to the bit."""
    if not _apart(x):
        return F.normalize(x, dim=1, eps=_EPSILON)
    return x / _lengths(x).clamp_min(_EPSILON)


def _apart(x: torch.Tensor) -> bool:
    """Whether the channels of many pixels lie apart; a fake tensor is left to its profiler."""
    if type(x) is not torch.Tensor or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return x.is_contiguous() and x[:, 0].numel() >= _LEAST_PIXELS and not x.requires_grad


def _lengths(x: torch.Tensor) -> torch.Tensor:
    first = x[:, :1]
    total = first * first
    square = torch.empty_like(total)
    for channel in range(1, x.shape[1]):
        part = x[:, channel : channel + 1]
        total.add_(torch.mul(part, part, out=square))
    numbers = total.numpy()
    np.sqrt(numbers, out=numbers)  # rounds once, as the processor does; torch.sqrt may not
    return total
