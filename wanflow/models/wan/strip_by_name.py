"""A strip of a frame with line buffers handed in and out by name, for the VAE's encoder.

    strip  s-1 | s      a convolution keeps the last two rows of its input (its *line buffer*), so
      ....##|xxxx       that the next strip's rows go on where these ended; it is one row behind
          `- kept      its input until the last strip, whose border is the frame's own

*lines* go from a strip to the next one of the same frame, *cache* from a frame to the next one of
the same strip: the last two frames of a convolution's input, fewer when fewer have been.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from diffusers.models.autoencoders.autoencoder_kl_wan import CACHE_T

Kept = Mapping[str, torch.Tensor]
_HEIGHT, _WIDTH = 3, 4
_TIME = 2


def axis_of(shape: tuple[int, ...]) -> int:
    """Return the dimension of `[1, C, F, h, w]` along which a frame is cut: its longer side."""
    return _WIDTH if shape[_WIDTH] >= shape[_HEIGHT] else _HEIGHT


@attrs.define
class NamedStrip:
    """Where a strip lies in its frame and its clip; what came in, and what goes out (`made_*`)."""

    axis: int
    bottom: bool
    first: bool
    lines: Kept
    cache: Kept
    made_lines: dict[str, torch.Tensor] = attrs.field(factory=dict)
    made_cache: dict[str, torch.Tensor] = attrs.field(factory=dict)

    def conv(self, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
        """Run a causal 3*3*3 convolution on the rows that are whole by now."""
        held = min(CACHE_T, self.cache[name].shape[_TIME]) if name in self.cache else 0
        rows = self._joined(name, x, held)
        if rows is None:
            return self._none(x, conv.out_channels)
        if held:
            rows[:, :, :held] = self.cache[name]
        self.made_cache[name] = rows[:, :, -CACHE_T:].clone()
        return _causal(conv, rows, x.shape[_TIME], self._padding())

    def conv2d(self, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
        """Run a 3*3 convolution on every frame."""
        rows = self._joined(name, x, 0)
        if rows is None:
            return self._none(x, conv.out_channels)
        frames = rows[0].transpose(0, 1)
        padding = self._padding()[1:]
        out = F.conv2d(frames, conv.weight, conv.bias, padding=padding)
        return out.transpose(0, 1).unsqueeze(0)

    def temporal(self, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
        """Run a causal convolution along time; rows don't meet in it."""
        rows = torch.cat([self.cache[name], x], _TIME) if name in self.cache else x
        self.made_cache[name] = rows[:, :, -CACHE_T:].clone()
        return _causal(conv, rows, x.shape[_TIME], (0, 0, 0))

    def delayed(self, name: str, x: torch.Tensor | None, count: int) -> torch.Tensor:
        """Add *x* to the rows that wait (a shortcut's, for its convolutions) and take *count*."""
        waiting = [t for t in (self.lines.get(name), x) if t is not None]
        x = waiting[0] if len(waiting) == 1 else torch.cat(waiting, self.axis)
        left = x.shape[self.axis] - count
        if left:
            self.made_lines[name] = x.narrow(self.axis, count, left).clone()
        return x.narrow(self.axis, 0, count)

    def _joined(self, name: str, x: torch.Tensor, held: int) -> torch.Tensor | None:
        """Join kept rows (a zero one at the top), *x* and the border; room for *held* frames."""
        line = self.lines.get(name)
        before = 1 if line is None else line.shape[self.axis]
        count, shape = x.shape[self.axis], list(x.shape)
        shape[self.axis] = before + count + int(self.bottom)
        shape[_TIME] += held
        rows = x.new_empty(shape)
        new = rows[:, :, held:]
        if line is None:
            new.narrow(self.axis, 0, 1).zero_()
        else:
            new.narrow(self.axis, 0, before).copy_(line)
        new.narrow(self.axis, before, count).copy_(x)
        if self.bottom:
            new.narrow(self.axis, before + count, 1).zero_()
        else:
            keep = min(2, before + count)
            self.made_lines[name] = new.narrow(self.axis, before + count - keep, keep).clone()
        return rows if shape[self.axis] >= 3 else None  # the kernel's height

    def _padding(self) -> tuple[int, int, int]:
        return (0, 1, 0) if self.axis == _WIDTH else (0, 0, 1)

    def _none(self, x: torch.Tensor, channels: int) -> torch.Tensor:
        shape = list(x.shape)
        shape[1], shape[self.axis] = channels, 0
        return x.new_empty(shape)


def _causal(
    conv: Any, rows: torch.Tensor, frames: int, padding: tuple[int, int, int]
) -> torch.Tensor:
    """Convolve; taps that would meet nothing but zeros before the clip are left out."""
    taps = conv.kernel_size[0]
    missing = taps - 1 + frames - rows.shape[_TIME]
    weight = conv.weight
    if missing and frames == 1:
        weight = weight[:, :, missing:]
    elif missing:
        rows = F.pad(rows, (0, 0, 0, 0, missing, 0))
    return F.conv3d(rows, weight, conv.bias, padding=padding)


def resnet(block: Any, x: torch.Tensor, strip: NamedStrip, name: str) -> torch.Tensor:
    """Run a residual block; it gives two rows fewer than it has taken, until the frame's end."""
    shortcut = block.conv_shortcut(x)
    x = strip.conv(f"{name}.conv1", block.conv1, block.nonlinearity(block.norm1(x)))
    x = strip.conv(f"{name}.conv2", block.conv2, block.nonlinearity(block.norm2(x)))
    return x + strip.delayed(f"{name}.short", shortcut, x.shape[strip.axis])
