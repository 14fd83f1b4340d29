"""One strip of a frame in the VAE: convolutions that go on where the strip before it ended.

    strip  s-1 | s      a convolution keeps the last two rows of its input (its *line buffer*), so
      ....##|xxxx       that the next strip's rows go on where these ended; it is one row behind
          `- kept       its input until the last strip, whose border is the frame's own

Rows are those along the last dimension, so that they are short; a standing frame is *turned*, and
its weights with it. What is kept lies in two flat buffers that are updated in place: *lines*, from
a strip to the next one of the same frame, and *cache*, from a frame to the next one of the same
strip: the last two frames of a convolution's input, zeros before the clip. Whoever takes from a
buffer does so in the same order each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

TIME, ROWS = 2, 4
KEPT_ROWS = KEPT_FRAMES = 2
_LEAST = 1e-12  # a pixel's norm, as `F.normalize` has it


def before(seen: int) -> int:
    """How many rows a convolution has kept of *seen* ones, the zeros at the top among them."""
    return min(KEPT_ROWS, seen + 1)


@attrs.define
class Tape:
    """Tensors in one flat buffer, taken in order; channels last, as convolutions like them."""

    flat: torch.Tensor
    _at: int = 0

    def take(self, shape: Sequence[int]) -> torch.Tensor:
        """Give the next `[1, C, F, h, w]`."""
        at, self._at = self._at, self._at + math.prod(shape)
        return self.flat.as_strided(tuple(shape), _strides(shape), at)


@attrs.define
class Strip:
    """Where a strip lies in its frame and its clip, and what is kept."""

    lines: Tape
    cache: Tape
    first: bool  # of the clip's frames
    bottom: bool  # the frame ends with it
    turned: bool = False

    def line(self, x: torch.Tensor, seen: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a convolution's line buffer, and what of it is there after *seen* rows."""
        line = self.lines.take((*x.shape[:ROWS], KEPT_ROWS))
        return line, line.narrow(ROWS, KEPT_ROWS - before(seen), before(seen))

    def keep(self, line: torch.Tensor, x: torch.Tensor) -> None:
        """Push rows into a line buffer."""
        size, count = line.shape[ROWS], x.shape[ROWS]
        if self.bottom or not count:
            return
        if count < size:
            stay = line.narrow(ROWS, count, size - count).clone()
            line.narrow(ROWS, 0, size - count).copy_(stay)
        new = min(size, count)
        line.narrow(ROWS, size - new, new).copy_(x.narrow(ROWS, count - new, new))

    def conv(self, conv: Any, norm: Any, border: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Norm and activate what is kept and *x*, and convolve the rows that are whole by now."""
        line, count = border.shape[ROWS], x.shape[ROWS]
        shape = [*x.shape[:ROWS], line + count + int(self.bottom)]
        if shape[ROWS] <= KEPT_ROWS:
            return x.new_empty(1, conv.out_channels, *x.shape[TIME:ROWS], 0)
        cache = self.cache.take((*shape[:TIME], KEPT_FRAMES, *shape[TIME + 1 :]))
        held = 0 if self.first else KEPT_FRAMES
        shape[TIME] += held
        rows = channels_last(x, shape)
        activate(norm, (border, x), rows[:, :, held:] if held else rows)
        if self.first:  # the taps before the clip would meet nothing but zeros
            cache[:, :, 1:].copy_(rows)
            weight = self._weight(conv.weight[:, :, -1])
            return as_clip(F.conv2d(as_frames(rows), weight, conv.bias, padding=(1, 0)))
        rows[:, :, :held].copy_(cache)
        cache.copy_(rows[:, :, -KEPT_FRAMES:])
        return F.conv3d(rows, self._weight(conv.weight), conv.bias, padding=(0, 1, 0))

    def temporal(self, conv: Any, x: torch.Tensor) -> torch.Tensor:
        """Convolve along time, rows don't meet in it; at the clip's first frame only keep."""
        cache = self.cache.take((*x.shape[:TIME], KEPT_FRAMES, *x.shape[TIME + 1 :]))
        if self.first:  # upstream forgets it: zeros stay
            return x
        rows = torch.cat([cache, x], TIME)
        cache.copy_(rows[:, :, -KEPT_FRAMES:])
        return F.conv3d(rows, conv.weight, conv.bias)

    def doubled(self, conv: Any, halves: Sequence[torch.Tensor], seen: int) -> torch.Tensor:
        """Double the rows and convolve each frame; the frames of *halves* alternate."""
        x, frames = halves[0], len(halves) * halves[0].shape[TIME]
        line = self.lines.take((*x.shape[:TIME], frames, x.shape[3], 1))
        before, count = 2 if seen else 1, x.shape[ROWS]
        shape = [1, x.shape[1], frames, 2 * x.shape[3], before + 2 * count + int(self.bottom)]
        rows = channels_last(x, shape)
        if seen:
            _double(line, rows.narrow(ROWS, 0, before))
        else:
            rows.narrow(ROWS, 0, before).zero_()
        for i, half in enumerate(halves):
            _double(half, rows[:, :, i :: len(halves)].narrow(ROWS, before, 2 * count))
            self.keep(line[:, :, i :: len(halves)], half)
        if self.bottom:
            rows.narrow(ROWS, before + 2 * count, 1).zero_()
        weight = self._weight(conv.weight)
        return as_clip(F.conv2d(as_frames(rows), weight, conv.bias, padding=(1, 0)))

    def _weight(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.transpose(-1, -2) if self.turned else weight


def resnet(block: Any, x: torch.Tensor, strip: Strip, seen: int) -> torch.Tensor:
    """Run a residual block, of whose input *seen* rows have been; it is two rows behind."""
    line, border = strip.line(x, seen)
    hidden = strip.conv(block.conv1, block.norm1, border, x)
    inner, inner_border = strip.line(hidden, max(0, seen - 1))
    output = strip.conv(block.conv2, block.norm2, inner_border, hidden)
    strip.keep(inner, hidden)
    del hidden
    border = border.narrow(ROWS, int(seen < KEPT_ROWS), min(seen, 1 + int(seen > 1)))
    late = min(border.shape[ROWS], output.shape[ROWS])
    for shortcut, start in ((border.narrow(ROWS, 0, late), 0), (x, late)):
        count = min(shortcut.shape[ROWS], output.shape[ROWS] - start)
        if count:
            rows = block.conv_shortcut(shortcut.narrow(ROWS, 0, count))
            output.narrow(ROWS, start, count).add_(rows)
    strip.keep(line, x)
    return output


def activate(norm: Any, pieces: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """Fill *out* with rows and, behind them, zeros, and take SiLU of a `WanRMS_norm`, in fp32."""
    exact = out.dtype.itemsize >= torch.float32.itemsize
    y = out if exact else channels_last(out, out.shape, torch.float32)
    at = 0
    for piece in pieces:
        if count := piece.shape[ROWS]:
            y.narrow(ROWS, at, count).copy_(piece)
            at += count
    if at < y.shape[ROWS]:
        y.narrow(ROWS, at, y.shape[ROWS] - at).zero_()
    scale = torch.linalg.vector_norm(y, dim=1, keepdim=True).clamp_min_(_LEAST).reciprocal_()
    y.mul_(scale.mul_(norm.scale)).mul_(norm.gamma)
    F.silu(y, inplace=True)
    if not exact:
        out.copy_(y)


def channels_last(
    like: torch.Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Make an uninitialised `[1, C, F, h, w]` whose channels lie next to each other."""
    return like.new_empty_strided(tuple(shape), _strides(shape), dtype=dtype or like.dtype)


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    _, channels, frames, height, width = shape
    strides = (frames * height * width, 1, height * width, width, 1)
    return tuple(stride if i == 1 else stride * channels for i, stride in enumerate(strides))


def as_frames(x: torch.Tensor) -> torch.Tensor:
    """See `[1, C, F, h, w]` as `[F, C, h, w]`."""
    return x[0].transpose(0, 1)


def as_clip(x: torch.Tensor) -> torch.Tensor:
    """See `[F, C, h, w]` as `[1, C, F, h, w]`."""
    return x.transpose(0, 1).unsqueeze(0)


def _double(x: torch.Tensor, out: torch.Tensor) -> None:
    """Write each pixel into two by two of *out*."""
    twice = out.unflatten(ROWS, (-1, 2)).unflatten(3, (-1, 2))
    twice.copy_(x[:, :, :, :, None, :, None])
