"""Wan's VAE decoder, its upper blocks in strips of a frame, without halo and without recomputing.

Drives the submodules of `diffusers.AutoencoderKLWan` (0.42) by `strip.py`: their weights and
shortcuts. Rows are those of the frame's longer side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from wanflow.models.wan import vae
from wanflow.models.wan.strip import (
    KEPT_FRAMES,
    ROWS,
    TIME,
    BufferSizes,
    Strip,
    StripPlace,
    channels_last,
    resnet,
    turn,
)


def parts(module: Any) -> tuple[str, ...]:
    """The parts that run in strips, in execution order."""
    return tuple(part for part in vae.parts(module) if part not in ("in", "mid"))


def behind(module: Any, part: str) -> int:
    """How many rows of its input a part is behind, an upsampler's row aside."""
    return 1 if part == "head" else 2 * len(_block(module, part).resnets)


def rows_out(module: Any, part: str, rows: int) -> int:
    """How many rows a part has made once it has seen *rows* of a frame that goes on."""
    rows = max(0, rows - behind(module, part))
    return rows if scale(module, part) == 1 else max(0, 2 * rows - 1)


def scale(module: Any, part: str) -> int:
    """How many rows a part makes of one."""
    return 1 if part == "head" or _upsampler(_block(module, part)) is None else 2


def sizes(module: Any, part: str, place: StripPlace, shape: tuple[int, ...]) -> tuple[int, int]:
    """How many numbers a part keeps in its lines and in its cache, for an input of a *shape*."""
    channels, frames, height = shape[1:ROWS]
    counted = BufferSizes(frames, height, place.taken, place.rows, place.bottom)
    for conv in _convs(module, part):
        counted.conv(conv)
    if scale(module, part) == 2:
        block = _block(module, part)
        conv = _upsampler(block).resample[1]
        slow = _is_temporal(block)
        counted.cache += conv.in_channels * KEPT_FRAMES * height * counted.count if slow else 0
        counted.line(conv.in_channels, 2 if slow and not place.first else 1)
        if _shortcut(block) is not None:
            counted.line(channels, _late(block))
    return counted.lines, counted.cache


def run(
    module: Any,
    part: str,
    x: torch.Tensor,
    place: StripPlace,
    lines: torch.Tensor,
    cache: torch.Tensor,
) -> torch.Tensor:
    """Run one part on the next rows of a latent frame's features `[1, C, F, h, rows]`.

    *lines* and *cache*, of the sizes that `sizes` tells, are zeros at a frame's first strip and at
    a clip's first frame; they are updated.
    """
    strip, seen = place.strip(lines, cache), place.taken
    if part == "head":
        line, border = strip.line(x, seen)
        output = strip.conv(module.decoder.conv_out, module.decoder.norm_out, border, x)
        strip.keep(line, x)
        return output
    block, output = _block(module, part), x
    for layer in block.resnets:
        output = resnet(layer, output, strip, seen)
        seen = max(0, seen - 2)
    if _upsampler(block) is not None and output.shape[ROWS]:
        output = _upsample(_upsampler(block), output, strip, seen)
    elif _upsampler(block) is not None:
        output = _skip_upsampler(block, output, strip)
    if _shortcut(block) is None:
        return output
    return _with_shortcut(block, x, output, strip, place)


def _upsample(layer: Any, x: torch.Tensor, strip: Strip, seen: int) -> torch.Tensor:
    """Double the frames but the clip's first, then the rows, as `WanResample.forward` does."""
    halves: tuple[torch.Tensor, ...] = (x,)
    if layer.mode == "upsample3d":
        frames = strip.temporal(layer.time_conv, x)
        halves = (x,) if strip.first else tuple(frames.chunk(2, 1))
    return strip.doubled(layer.resample[1], halves, seen)


def _skip_upsampler(block: Any, x: torch.Tensor, strip: Strip) -> torch.Tensor:
    """Take what the upsampler keeps, since nothing has come that far."""
    conv, slow = _upsampler(block).resample[1], _is_temporal(block) and not strip.first
    frames, height = (2 if slow else 1) * x.shape[TIME], x.shape[3]
    strip.lines.take((1, conv.in_channels, frames, height, 1))
    return x.new_empty(1, conv.out_channels, frames, 2 * height, 0)


def _with_shortcut(
    block: Any, x: torch.Tensor, output: torch.Tensor, strip: Strip, place: StripPlace
) -> torch.Tensor:
    """Add Wan 2.2's shortcut, which repeats pixels, to the rows that there are."""
    late = _late(block)
    line = strip.lines.take((*x.shape[:ROWS], late))
    before, count = min(late, place.taken), output.shape[ROWS]
    if count:
        rows = torch.cat([line.narrow(ROWS, late - before, before), x], ROWS)
        rows = turn(rows, turned=strip.turned).contiguous()
        repeated = turn(_shortcut(block)(rows, first_chunk=strip.first), turned=strip.turned)
        done = max(0, 2 * (place.taken - 2 * len(block.resnets)) - 1)
        output = output.add_(repeated.narrow(ROWS, done - 2 * (place.taken - before), count))
    strip.keep(line, x)
    return output


def _convs(module: Any, part: str) -> Iterator[Any]:
    if part == "head":
        yield module.decoder.conv_out
        return
    for layer in _block(module, part).resnets:
        yield from (layer.conv1, layer.conv2)


def _block(module: Any, part: str) -> Any:
    return module.decoder.up_blocks[int(part.partition(".")[2])]


def _upsampler(block: Any) -> Any:
    """Wan 2.2's block has `upsampler`, Wan 2.1's a list `upsamplers`; either may be None."""
    if hasattr(block, "upsampler"):
        return block.upsampler
    return None if block.upsamplers is None else block.upsamplers[0]


def _is_temporal(block: Any) -> bool:
    return bool(_upsampler(block).mode == "upsample3d")


def _shortcut(block: Any) -> Any:
    return getattr(block, "avg_shortcut", None)


def _late(block: Any) -> int:
    """How many rows of its input a block's shortcut has to keep."""
    return 2 * len(block.resnets) + 1


def cut(frame: torch.Tensor, start: int, stop: int, *, turned: bool) -> torch.Tensor:
    """Copy rows out of a whole frame's features, turned if it stands."""
    rows = turn(frame, turned=turned).narrow(ROWS, start, stop - start)
    return channels_last(rows, rows.shape).copy_(rows)


def lines_size(module: Any, part: str, shape: tuple[int, ...], *, first: bool) -> int:
    """How many numbers a part keeps in its lines, whichever strip it has done."""
    return max(1, sizes(module, part, StripPlace(1, 1, first, bottom=False), shape)[0])


def input_shapes(module: Any, height: int, *, first: bool) -> dict[str, tuple[int, ...]]:
    """The shape `[1, C, F, h, 1]` of a row of each part's input, of frames of a latent *height*."""
    frames = 1
    shapes: dict[str, tuple[int, ...]] = {}
    for part in parts(module):
        conv = next(iter(_convs(module, part)))
        shapes[part] = (1, conv.in_channels, frames, height, 1)
        if scale(module, part) == 2:
            height *= 2
            frames *= 2 if _is_temporal(_block(module, part)) and not first else 1
    return shapes


def dtype_of(module: Any) -> torch.dtype:
    """What features are in; known without weights."""
    return next(_convs(module, "head")).weight.dtype  # type: ignore[no-any-return]
