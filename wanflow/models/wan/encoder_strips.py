"""Wan's VAE encoder down to the latents' size, in strips of a frame, without halo.

    strip  s-1 | s      as in the decoder a convolution keeps its last two rows. One that halves
      ....ab|xxxx       makes row r of rows 2r, 2r + 1 and 2r + 2: it keeps what its next row
          `- kept       begins with, one row or two, and has a border at the frame's end only

Drives the submodules of `diffusers.AutoencoderKLWan` (0.42) by `strip.py`. Rows are those of the
frame's longer side, of patches if there are any.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from wanflow.models.wan.strip import (
    ROWS,
    BufferSizes,
    Strip,
    StripPlace,
    resnet,
    rows_halved,
    turn,
)
from wanflow.models.wan.vae_encoder import resampler, strip_parts


def rows_out(module: Any, rows: int) -> int:
    """How many rows are made of the first *rows* of a frame that goes on."""
    rows -= 1  # the first convolution
    for block in _blocks(module):
        rows = _rows_of(block, rows)
    return max(rows, 0)


def sizes(module: Any, place: StripPlace, shape: tuple[int, ...]) -> tuple[int, int]:
    """How many numbers lines and cache hold, for an input of a *shape*."""
    frames, height = shape[2:ROWS]
    counted = BufferSizes(frames, height, place.taken, place.rows, place.bottom)
    counted.conv(module.encoder.conv_in)
    channels = module.encoder.conv_in.out_channels
    for block in _blocks(module):
        if _shortcut(block) is not None:
            counted.line(channels, _late(block))
        for layer in _resnets(block):
            counted.conv(layer.conv1)
            counted.conv(layer.conv2)
            channels = layer.conv2.out_channels
        if resampler(block) is not None:
            counted.halved(resampler(block).resample[1])
            if resampler(block).mode == "downsample3d":
                counted.fewer_frames(resampler(block).time_conv, first=place.first)
    return counted.lines, counted.cache


def run(
    module: Any, x: torch.Tensor, place: StripPlace, lines: torch.Tensor, cache: torch.Tensor
) -> torch.Tensor:
    """Run everything down to the latents' size on the next rows `[1, C, F, h, rows]`.

    *lines* and *cache* are updated, as in `decoder_strips.run`. What is made may have no rows.
    """
    strip, seen, conv = place.strip(lines, cache), place.taken, module.encoder.conv_in
    line, border = strip.line(x, seen)
    output = strip.conv(conv, None, border, x)
    strip.keep(line, x)
    seen = max(0, seen - 1)
    for block in _blocks(module):
        if not output.shape[ROWS]:
            break
        output = _block(block, output, strip, seen)
        seen = max(0, _rows_of(block, seen))
    return output


def _blocks(module: Any) -> Iterator[Any]:
    return iter(module.encoder.down_blocks[: len(strip_parts(module)) - 1])


def _resnets(block: Any) -> Any:
    """A block of Wan 2.1 is one residual block or halves; one of Wan 2.2 has a list of them."""
    if hasattr(block, "resnets"):
        return block.resnets
    return () if resampler(block) is not None else (block,)


def _shortcut(block: Any) -> Any:
    return getattr(block, "avg_shortcut", None)


def _rows_of(block: Any, seen: int) -> int:
    """How many rows a block has made of *seen* ones."""
    seen -= 2 * len(_resnets(block))
    return seen if resampler(block) is None else rows_halved(seen)


def _late(block: Any) -> int:
    """How many rows of its input a block's shortcut has to keep at most."""
    return 2 * len(_resnets(block)) + 2


def _block(block: Any, x: torch.Tensor, strip: Strip, seen: int) -> torch.Tensor:
    late, taken, output = None, seen, x
    if _shortcut(block) is not None:
        late = strip.lines.take((*x.shape[:ROWS], _late(block)))
    for layer in _resnets(block):
        output = resnet(layer, output, strip, seen)
        seen = max(0, seen - 2)
    if resampler(block) is not None and output.shape[ROWS]:
        output = _resample(resampler(block), output, strip, seen)
    return output if late is None else _with_shortcut(block, x, output, strip, (late, taken))


def _resample(layer: Any, x: torch.Tensor, strip: Strip, seen: int) -> torch.Tensor:
    """Halve the rows, then the frames but the clip's first, as `WanResample.forward` does."""
    x = strip.halved(layer.resample[1], x, seen)
    if layer.mode != "downsample3d" or not x.shape[ROWS]:
        return x
    return strip.fewer_frames(layer.time_conv, x)


def _with_shortcut(
    block: Any, x: torch.Tensor, output: torch.Tensor, strip: Strip, kept: tuple[torch.Tensor, int]
) -> torch.Tensor:
    """Add Wan 2.2's shortcut, an average of pixels, to the rows that there are."""
    (line, seen), shortcut, count = kept, _shortcut(block), output.shape[ROWS]
    if count:
        waiting = seen - shortcut.factor_s * max(0, _rows_of(block, seen))
        rows = torch.cat([line.narrow(ROWS, line.shape[ROWS] - waiting, waiting), x], ROWS)
        rows = rows.narrow(ROWS, 0, shortcut.factor_s * count)
        average = shortcut(turn(rows, turned=strip.turned).contiguous())
        output.add_(turn(average, turned=strip.turned))
    strip.keep(line, x)
    return output
