"""How a weight is packed, and what it is when it is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

import attrs
import torch

PACKED = "packed"  # the piece with the numbers, a row an output; others tell how to read them

Pieces = Mapping[str, torch.Tensor]


@attrs.frozen
class Piece:
    """One tensor of a packed weight."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@attrs.frozen
class Opened:
    """A weight `[out, in]` that is open; its rows are still to be times a *scale* `[out]`, if any.

    To scale what comes out of a product is cheaper than to scale the weight, and as exact.
    """

    weight: torch.Tensor
    scale: torch.Tensor | None = None

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Apply it to `[..., in]`: `[..., out]`."""
        if self.scale is None:
            return torch.nn.functional.linear(x, self.weight, bias)
        y = torch.nn.functional.linear(x, self.weight)
        return y * self.scale if bias is None else torch.addcmul(bias, y, self.scale)

    def whole(self) -> torch.Tensor:
        """Give the weight itself, scaled in place."""
        return self.weight if self.scale is None else self.weight.mul_(self.scale[:, None])


class Form(Protocol):
    """How one weight is packed. Equal forms have the same calls at the same cost."""

    @property
    def name(self) -> str:
        """What people call it: `int8`, `fp8_e4m3`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the open weight, outputs first."""

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """Its tensors by name, `PACKED` first."""

    def open(self, pieces: Pieces, dtype: torch.dtype) -> Opened:
        """Open it in new memory, in *dtype*."""

    def part(self, rows: slice) -> Self:
        """The form of some of its rows; *rows* has a start and a stop."""

    def cut(self, pieces: Pieces, rows: slice) -> Pieces:
        """The pieces of some of its rows, as views."""
