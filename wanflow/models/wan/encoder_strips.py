"""Wan's VAE encoder down to the latents' size, in strips of a frame, without halo.

    strip  s-1 | s      as in the decoder a convolution keeps its last two rows. One that halves
      ....ab|xxxx       makes row r of rows 2r, 2r + 1 and 2r + 2: it keeps what its next row
          `- kept       begins with, one row or two, and has a border at the frame's end only

What a part keeps goes in and out by name, as `vae_lines.Strip` has it: *lines* to the next strip of
the same frames, *cache* to the next frames of the same strip.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from wanflow.models.wan.strip_by_name import NamedStrip, resnet
from wanflow.models.wan.vae_encoder import resampler, strip_parts

_TIME = 2


def rows_out(module: Any, rows: int) -> int:
    """How many rows are made of the first *rows* of a frame that goes on, of patches if any."""
    rows -= 1  # the first convolution
    for block in _blocks(module):
        rows -= 2 * len(_resnets(block))
        if resampler(block) is not None:
            rows = (rows - 1) // 2
    return max(rows, 0)


def kept_names(module: Any) -> tuple[str, ...]:
    """Names of all that may be kept, in lines or in a cache."""
    names = ["in"]
    for i, block in enumerate(_blocks(module)):
        for j in range(len(_resnets(block))):
            names += [f"{i}.{j}.{name}" for name in ("conv1", "conv2", "short")]
        if resampler(block) is not None:
            names += [f"{i}.{name}" for name in ("down", "time")]
        if _shortcut(block) is not None:
            names += [f"{i}.{name}" for name in ("odd", "short")]
    return tuple(names)


def run(module: Any, x: torch.Tensor, strip: NamedStrip) -> torch.Tensor:
    """Run everything down to the latents' size on the next rows; what is made may have no rows."""
    x = strip.conv("in", module.encoder.conv_in, x)
    for i, block in enumerate(_blocks(module)):
        if x.shape[strip.axis] == 0:
            break
        x = _block(block, x, strip, str(i))
    return x


def _blocks(module: Any) -> Iterator[Any]:
    return iter(module.encoder.down_blocks[: len(strip_parts(module)) - 1])


def _resnets(block: Any) -> Any:
    """A block of Wan 2.1 is one residual block or halves; one of Wan 2.2 has a list of them."""
    if hasattr(block, "resnets"):
        return block.resnets
    return () if resampler(block) is not None else (block,)


def _shortcut(block: Any) -> Any:
    return getattr(block, "avg_shortcut", None)


def _block(block: Any, x: torch.Tensor, strip: NamedStrip, name: str) -> torch.Tensor:
    late = _shortened(block, x, strip, name)
    for j, layer in enumerate(_resnets(block)):
        x = resnet(layer, x, strip, f"{name}.{j}")
    if resampler(block) is not None and x.shape[strip.axis]:
        x = _resample(resampler(block), x, strip, name)
    if late is None:
        return x
    late = strip.delayed(f"{name}.short", late, x.shape[strip.axis])
    return x + late if x.shape[strip.axis] else x


def _shortened(block: Any, x: torch.Tensor, strip: NamedStrip, name: str) -> torch.Tensor | None:
    """Average pairs of rows for the shortcut of a Wan 2.2 block; an odd row waits for its other."""
    shortcut = _shortcut(block)
    if shortcut is None:
        return None
    odd = strip.lines.get(f"{name}.odd")
    count = x.shape[strip.axis] + (0 if odd is None else odd.shape[strip.axis])
    factor = shortcut.factor_s
    pairs = strip.delayed(f"{name}.odd", x, count // factor * factor)
    if pairs.shape[strip.axis]:
        return torch.as_tensor(shortcut(pairs.contiguous()))
    frames = -(-x.shape[_TIME] // shortcut.factor_t)
    shape = [1, shortcut.out_channels, frames, x.shape[3] // factor, x.shape[4] // factor]
    shape[strip.axis] = 0
    return x.new_empty(shape)


def _resample(layer: Any, x: torch.Tensor, strip: NamedStrip, name: str) -> torch.Tensor:
    """Halve the rows, then the frames but the clip's first, as `WanResample.forward` does."""
    x = _halved(layer.resample[1], x, strip, f"{name}.down")
    if layer.mode != "downsample3d" or not x.shape[strip.axis]:
        return x
    place = f"{name}.time"
    strip.made_cache[place] = x[:, :, -1:].clone()
    if strip.first:
        return x
    frames = torch.cat([strip.cache[place], x], _TIME)
    conv = layer.time_conv
    return F.conv3d(frames, conv.weight, conv.bias, stride=conv.stride)


def _halved(conv: Any, x: torch.Tensor, strip: NamedStrip, name: str) -> torch.Tensor:
    """Run the convolution that halves on every frame, as far as its rows are whole."""
    axis, line = strip.axis - 1, strip.lines.get(name)  # of `[frames, C, h, w]`
    x = x[0].transpose(0, 1)
    before, count = (0 if line is None else line.shape[axis]), x.shape[axis]
    shape = [side + 1 for side in x.shape[2:]]  # the border at the far side
    shape[axis - 2] = before + count + int(strip.bottom)
    rows = x.new_zeros(*x.shape[:2], *shape)
    inner = rows.narrow(5 - axis, 0, x.shape[5 - axis])
    if line is not None:
        inner.narrow(axis, 0, before).copy_(line)
    inner.narrow(axis, before, count).copy_(x)
    half = (shape[axis - 2] - 1) // 2
    if not strip.bottom:
        strip.made_lines[name] = inner.narrow(axis, 2 * half, before + count - 2 * half).clone()
    if half == 0:
        out = list(x.shape)
        out[axis], out[5 - axis] = 0, x.shape[5 - axis] // 2
        return x.new_empty(out).transpose(0, 1).unsqueeze(0)
    halved = F.conv2d(rows.narrow(axis, 0, 2 * half + 1), conv.weight, conv.bias, stride=2)
    return halved.transpose(0, 1).unsqueeze(0)
