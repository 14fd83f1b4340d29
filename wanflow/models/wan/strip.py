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

from wanflow.models.trees.convolution import strip_conv3d

TIME, ROWS = 2, 4
KEPT_ROWS = KEPT_FRAMES = 2
_LEAST = 1e-12  # a pixel's norm, as `F.normalize` has it


def before(seen: int) -> int:
    """How many rows a convolution has kept of *seen* ones, the zeros at the top among them."""
    return min(KEPT_ROWS, seen + 1)


def rows_halved(seen: int) -> int:
    """How many rows a convolution that halves has made of *seen* ones of a frame that goes on."""
    return max(0, seen - 1) // 2


@attrs.define
class Tape:
    """Tensors in one flat buffer, taken in order; channels last, as convolutions like them."""

    flat: torch.Tensor
    _at: int = 0

    def take(self, shape: Sequence[int]) -> torch.Tensor:
        """Give the next `[1, C, F, h, w]`."""
        at, self._at = self._at, self._at + math.prod(shape)
        return self.flat.as_strided(tuple(shape), strides_of(shape), at)


@attrs.frozen
class StripPlace:
    """Which rows of a frame a part takes: *rows*, after *taken* ones; the clip's first frame."""

    taken: int
    rows: int
    first: bool
    bottom: bool
    turned: bool = False

    def strip(self, lines: torch.Tensor, cache: torch.Tensor) -> Strip:
        """Open the two buffers."""
        return Strip(Tape(lines), Tape(cache), self.first, self.bottom, self.turned)

    def buffers(
        self, like: torch.Tensor, sizes: tuple[int, int], kept: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor]:
        """Lines and cache of *sizes*: the *kept* ones, zeros where a frame or a strip begins."""
        fresh = (self.taken == 0, self.first)
        return [
            like.new_zeros(max(1, size)) if is_fresh or buffer is None else buffer
            for buffer, size, is_fresh in zip(kept, sizes, fresh, strict=True)
        ]


@attrs.define
class BufferSizes:
    """How many numbers lines and cache hold, counted layer by layer.

    `seen` rows have come to a layer before the `count` that come now, of `frames` by `height`.
    """

    frames: int
    height: int
    seen: int
    count: int
    bottom: bool
    lines: int = 0
    cache: int = 0

    def line(self, channels: int, rows: int) -> None:
        """Count rows that wait for the next strip."""
        self.lines += channels * self.frames * self.height * rows

    def conv(self, conv: Any) -> None:
        """Count a convolution of `Strip.conv`."""
        self.line(conv.in_channels, KEPT_ROWS)
        width = before(self.seen) + self.count + int(self.bottom)
        if width > KEPT_ROWS:
            self.cache += conv.in_channels * KEPT_FRAMES * self.height * width
        self.seen, self.count = max(0, self.seen - 1), max(0, width - KEPT_ROWS)

    def halved(self, conv: Any) -> None:
        """Count a convolution of `Strip.halved`."""
        self.line(conv.in_channels, KEPT_ROWS)
        made = rows_halved(self.seen)
        rows = self.seen + self.count
        total = rows // 2 if self.bottom else rows_halved(rows)
        self.seen, self.count, self.height = made, total - made, self.height // 2

    def fewer_frames(self, conv: Any, *, first: bool) -> None:
        """Count a convolution of `Strip.fewer_frames`."""
        self.cache += conv.in_channels * self.height * self.count
        self.frames = self.frames if first else self.frames // 2


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
        """Norm and activate what is kept and *x*, and convolve the rows that are whole by now.

        With *norm* None they are convolved as they are.
        """
        line, count = border.shape[ROWS], x.shape[ROWS]
        shape = [*x.shape[:ROWS], line + count + int(self.bottom)]
        if shape[ROWS] <= KEPT_ROWS:
            return x.new_empty(1, conv.out_channels, *x.shape[TIME:ROWS], 0)
        cache = self.cache.take((*shape[:TIME], KEPT_FRAMES, *shape[TIME + 1 :]))
        held = 0 if self.first else KEPT_FRAMES
        shape[TIME] += held
        rows = channels_last(x, shape)
        fill(norm, (border, x), rows[:, :, held:] if held else rows)
        if self.first:  # the taps before the clip would meet nothing but zeros
            cache[:, :, 1:].copy_(rows)
            weight = self._weight(conv.weight[:, :, -1])
            return as_clip(F.conv2d(as_frames(rows), weight, conv.bias, padding=(1, 0)))
        rows[:, :, :held].copy_(cache)
        cache.copy_(rows[:, :, -KEPT_FRAMES:])
        return strip_conv3d(rows, self._weight(conv.weight), conv.bias)

    def halved(self, conv: Any, x: torch.Tensor, seen: int) -> torch.Tensor:
        """Halve the rows of each frame: row r is made of rows 2r, 2r + 1 and 2r + 2."""
        line = self.lines.take((*x.shape[:ROWS], KEPT_ROWS))
        waiting, count = seen - 2 * rows_halved(seen), x.shape[ROWS]
        shape = [*x.shape[:3], x.shape[3] + 1, waiting + count + int(self.bottom)]
        rows = channels_last(x, shape)
        rows[:, :, :, -1:].zero_()  # the border at the far side
        fill(None, (line.narrow(ROWS, KEPT_ROWS - waiting, waiting), x), rows[:, :, :, :-1])
        self.keep(line, x)
        half = (shape[ROWS] - 1) // 2
        if not half:
            return x.new_empty(1, conv.out_channels, x.shape[TIME], x.shape[3] // 2, 0)
        rows = rows.narrow(ROWS, 0, 2 * half + 1)
        return as_clip(F.conv2d(as_frames(rows), self._weight(conv.weight), conv.bias, stride=2))

    def fewer_frames(self, conv: Any, x: torch.Tensor) -> torch.Tensor:
        """Halve the frames; at the clip's first frame only keep it."""
        cache = self.cache.take((*x.shape[:TIME], 1, *x.shape[TIME + 1 :]))
        frames = None if self.first else torch.cat([cache, x], TIME)
        cache.copy_(x[:, :, -1:])
        if frames is None:
            return x
        return F.conv3d(frames, conv.weight, conv.bias, stride=conv.stride)

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


def fill(norm: Any, pieces: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """Fill *out* with rows and, behind them, zeros; with *norm*, a `WanRMS_norm`, take its SiLU.

    That is done in fp32.
    """
    exact = norm is None or out.dtype.itemsize >= torch.float32.itemsize
    y = out if exact else channels_last(out, out.shape, torch.float32)
    at = 0
    for piece in pieces:
        if count := piece.shape[ROWS]:
            y.narrow(ROWS, at, count).copy_(piece)
            at += count
    if at < y.shape[ROWS]:
        y.narrow(ROWS, at, y.shape[ROWS] - at).zero_()
    if norm is None:
        return
    scale = torch.linalg.vector_norm(y, dim=1, keepdim=True).clamp_min_(_LEAST).reciprocal_()
    y.mul_(scale.mul_(norm.scale)).mul_(norm.gamma)
    F.silu(y, inplace=True)
    if not exact:
        out.copy_(y)


def channels_last(
    like: torch.Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Make an uninitialised `[1, C, F, h, w]` whose channels lie next to each other."""
    return like.new_empty_strided(tuple(shape), strides_of(shape), dtype=dtype or like.dtype)


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """How `[1, C, F, h, w]` lies whose channels are next to each other."""
    _, channels, frames, height, width = shape
    strides = (frames * height * width, 1, height * width, width, 1)
    return tuple(stride if i == 1 else stride * channels for i, stride in enumerate(strides))


def is_turned(shape: Sequence[int]) -> bool:
    """Whether a frame of `[1, C, F, h, w]` is cut along its height, the longer side."""
    return shape[4] < shape[3]


def turn(x: torch.Tensor, *, turned: bool) -> torch.Tensor:
    """Lay a standing frame down, or put it up again."""
    return x.transpose(3, 4) if turned else x


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
