"""Convolutions over time on a CPU: PyTorch's sums, for less time in front of them.

For small clips PyTorch writes what each output sees into a column, and multiplies all columns at
once (`ConvolutionMM3d.cpp`, its *slow* kernel). Writing them, a number at a time, is two thirds of
it. Here strided copies write the same columns, in memory of the same size, and the same product
follows: every bit is the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

_LEAST = 1 << 15  # numbers in all columns; with fewer it is not worth the calls
_LEAST_OF_A_STRIP = 1 << 16  # the same, where what is convolved and what comes out are turned too
_ONCE, _NONE, _ONE_ROW = (1, 1, 1), (0, 0, 0), (0, 1, 0)


def conv3d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Give `F.conv3d` of `[B, C, F, H, W]`, without stride and padding, to the bit."""
    channels, frames, height, width = x.shape[1:]
    outputs, _, *taps = weight.shape
    places = (frames - taps[0] + 1, height - taps[1] + 1, width - taps[2] + 1)
    rows, count = channels * taps[0] * taps[1] * taps[2], places[0] * places[1] * places[2]
    if rows * count < _LEAST or not _by_columns(x, weight, bias, _NONE):
        return F.conv3d(x, weight, bias)
    steps = x.stride()[1:]
    windows = x.as_strided((channels, *taps, *places), (*steps, *steps[1:]))
    out = torch.addmm(bias[:, None], weight.reshape(outputs, rows), windows.reshape(rows, count))
    return out.view(1, outputs, *places)


def strip_conv3d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Give `F.conv3d` of a strip `[1, C, F, H, w]`, with a row of zeros before and after H.

    Weights `[O, C, t, 3, v]`. A strip is narrow: columns are written along H, which needs a copy
    that PyTorch makes too where *x* is not contiguous.
    """
    channels, frames, height, width = x.shape[1:]
    outputs, _, t, _, v = weight.shape
    times, across = frames - t + 1, width - v + 1
    rows, count = channels * t * 3 * v, times * across * height
    worth = rows * count >= _LEAST_OF_A_STRIP and not x.is_contiguous()
    if not (worth and weight.shape[3] == 3 and _by_columns(x, weight, bias, _ONE_ROW)):
        return F.conv3d(x, weight, bias, padding=_ONE_ROW)
    turned = x[0].transpose(2, 3).contiguous()  # C, F, w, H
    channel, frame, line, _ = turned.stride()
    columns = x.new_empty(channels, t, 3, v, times, across, height)
    for tap in range(3):
        first, last = max(0, 1 - tap), min(height, height + 1 - tap)
        seen = turned.as_strided(
            (channels, t, v, times, across, last - first),
            (channel, frame, line, frame, line, 1),
            first + tap - 1,
        )
        column = columns[:, :, tap]
        column[..., first:last].copy_(seen)
        if tap != 1:  # it meets the row before, or the one after
            column[..., last % height].zero_()
    flat = columns.view(rows, count)
    out = torch.addmm(bias[:, None], weight.reshape(outputs, rows), flat)
    del turned, seen, columns, column, flat  # `made` is there beside `out` alone
    made = out.view(outputs, times, across, height).transpose(2, 3).contiguous()
    return made.view(-1).view(1, outputs, times, height, across)


def _by_columns(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: tuple[int, ...]
) -> bool:
    """Whether PyTorch would write columns, of one clip; a fake tensor is left to its profiler."""
    if type(x) is not torch.Tensor or x.device.type != "cpu" or len(x) != 1:
        return False
    if weight.shape[2:].numel() == 1:  # there is nothing to write
        return False
    backend = str(
        torch._C._select_conv_backend(  # noqa: SLF001 - the only way to ask which kernel runs
            x, weight, bias, _ONCE, padding, _ONCE, False, _NONE, 1, list(bias.shape)  # noqa: FBT003
        )
    )  # fmt: skip
    return "Slow3d" in backend
