"""Convolutions over time on a CPU: PyTorch's sums, for less time in front of them.

For small clips PyTorch writes what each output sees into a column, and multiplies all columns at
once (`ConvolutionMM3d.cpp`, its *slow* kernel). Writing them, a number at a time, is two thirds of
it. Here a strided copy writes the same columns, in memory of the same size, and the same product
follows: every bit is the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

_LEAST = 1 << 15  # numbers in all columns; with fewer it is not worth the calls
_ONCE, _NONE = (1, 1, 1), (0, 0, 0)


def conv3d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Give `F.conv3d` of `[B, C, F, H, W]`, without stride and padding, to the bit."""
    channels, frames, height, width = x.shape[1:]
    outputs, _, *taps = weight.shape
    places = (frames - taps[0] + 1, height - taps[1] + 1, width - taps[2] + 1)
    rows, count = channels * taps[0] * taps[1] * taps[2], places[0] * places[1] * places[2]
    if rows * count < _LEAST or not _by_columns(x, weight, bias):
        return F.conv3d(x, weight, bias)
    steps = x.stride()[1:]
    windows = x.as_strided((channels, *taps, *places), (*steps, *steps[1:]))
    out = torch.addmm(bias[:, None], weight.reshape(outputs, rows), windows.reshape(rows, count))
    return out.view(1, outputs, *places)


def _by_columns(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> bool:
    """Whether PyTorch would write columns, of one clip; a fake tensor is left to its profiler."""
    if type(x) is not torch.Tensor or x.device.type != "cpu" or len(x) != 1:
        return False
    if weight.shape[2:].numel() == 1:  # there is nothing to write
        return False
    backend = str(
        torch._C._select_conv_backend(  # noqa: SLF001 - the only way to ask which kernel runs
            x, weight, bias, _ONCE, _NONE, _ONCE, False, _NONE, 1, list(bias.shape)  # noqa: FBT003
        )
    )  # fmt: skip
    return "Slow3d" in backend
