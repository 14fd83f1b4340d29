"""Changes that are added to a parameter when it is read: biases, norms, tables, convolutions.

They are summed in fp32 and rounded to what the parameter is computed in.
"""

from __future__ import annotations

import math
from typing import Protocol

import attrs
import torch

from wanflow.models.weights.checkpoint import Checkpoint

_CHUNK_NUMBERS = 1 << 14  # summed in fp32 at a time


class ReadChange(Protocol):
    """What is added to a parameter."""

    @property
    def nbytes(self) -> int:
        """Bytes that are read for it."""

    def add_to(self, target: torch.Tensor) -> None:
        """Add it to contiguous CPU *target*, in place."""


@attrs.frozen
class Difference:
    """The tensor *name* of a LoRA's file, times *weight*."""

    checkpoint: Checkpoint
    name: str
    weight: float

    @property
    def nbytes(self) -> int:
        """Bytes that are read for it."""
        return self.checkpoint.entries[self.name].nbytes

    def add_to(self, target: torch.Tensor) -> None:
        """Add it, a chunk at a time."""
        flat = target.reshape(-1)
        for first in range(0, flat.numel(), _CHUNK_NUMBERS):
            part = flat[first : first + _CHUNK_NUMBERS]
            there = torch.empty(part.shape, dtype=self.checkpoint.entries[self.name].dtype)
            self.checkpoint.read_part_into(self.name, first, there)
            part.copy_(there.float().mul_(self.weight).add_(part.float()))


@attrs.frozen
class AddedLowRank:
    """`up @ down` of a LoRA's file, times *scale*, in the shape of the parameter."""

    checkpoint: Checkpoint
    down: str
    up: str
    scale: float

    @property
    def nbytes(self) -> int:
        """Bytes that are read for it."""
        return sum(self.checkpoint.entries[name].nbytes for name in (self.down, self.up))

    def add_to(self, target: torch.Tensor) -> None:
        """Add it."""
        up, down = self._matrix(self.up), self._matrix(self.down)
        rows = max(1, _CHUNK_NUMBERS // down.shape[1])
        for first in range(0, len(up), rows):
            part = target[first : first + rows]
            product = (up[first : first + rows] @ down).mul_(self.scale)
            part.copy_(product.view(part.shape).add_(part.float()))

    def _matrix(self, name: str) -> torch.Tensor:
        entry = self.checkpoint.entries[name]
        there = torch.empty(entry.shape, dtype=entry.dtype)
        self.checkpoint.read_into(name, there, None)
        return there.float().view(entry.shape[0], math.prod(entry.shape[1:]))
