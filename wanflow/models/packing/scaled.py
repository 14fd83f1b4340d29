"""Whole numbers or 8-bit floats times a scale: one of the tensor, a row, or a block of a row.

Opening is exact up to the rounding of the scale to the dtype that is computed in, and of the
product where the scale goes into the weight. The numbers themselves are exact in bf16 and fp16.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import attrs
import torch

from wanflow.models.packing.form import PACKED, Opened, Piece, Pieces

SCALE = "packed_scale"
ROTATED = 256  # input columns that are turned together, where a weight is

NAMES: Mapping[torch.dtype, str] = {
    torch.int8: "int8",
    torch.float8_e4m3fn: "fp8_e4m3",
    torch.float8_e5m2: "fp8_e5m2",
}


@attrs.frozen
class Scaled:
    """A weight `shape` in *dtype*; its scale has *scale_shape*, None where there is no scale.

    A scale is `[]`, `[out, 1]` or `[out, blocks, 1]`, fp32. Of a *rotated* weight every `ROTATED`
    columns were turned by a symmetric orthogonal matrix before it was packed (ConvRot,
    https://github.com/leejet/stable-diffusion.cpp, docs/int8_convrot.md).
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    scale_shape: tuple[int, ...] | None
    rotated: bool = False

    @property
    def name(self) -> str:
        """`int8`, `fp8_e4m3` or `fp8_e5m2`."""
        return NAMES[self.dtype] + (" convrot" if self.rotated else "")

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """The numbers, and the scale if there is one."""
        pieces = {PACKED: Piece(self.shape, self.dtype)}
        if self.scale_shape is not None:
            pieces[SCALE] = Piece(self.scale_shape, torch.float32)
        return pieces

    def open(self, pieces: Pieces, dtype: torch.dtype) -> Opened:
        """Open it; a scale of rows is left to the product, where its dtype reaches far enough."""
        weight = pieces[PACKED].to(dtype)
        if self.scale_shape is None:
            return Opened(weight)
        scale = pieces[SCALE].to(dtype)
        if len(self.scale_shape) == _BLOCKS:
            blocks = weight.view(self.shape[0], self.scale_shape[1], -1)
            return self._turned(blocks.mul_(scale).view(self.shape))
        rows = scale.reshape(-1).expand(self.shape[0])
        if self.rotated or dtype == torch.float16:  # 127 times what comes in is past its end
            return self._turned(weight.mul_(rows[:, None]))
        return Opened(weight, rows)

    def part(self, rows: slice) -> Scaled:
        """The form of some of its rows."""
        count = rows.stop - rows.start
        scale_shape = self.scale_shape
        if scale_shape:
            scale_shape = (count, *scale_shape[1:])
        return attrs.evolve(self, shape=(count, *self.shape[1:]), scale_shape=scale_shape)

    def cut(self, pieces: Pieces, rows: slice) -> Pieces:
        """The pieces of some of its rows; a scale of the tensor is theirs too."""
        return {name: piece[rows] if piece.dim() else piece for name, piece in pieces.items()}

    def _turned(self, weight: torch.Tensor) -> Opened:
        if not self.rotated:
            return Opened(weight)
        matrix = rotation(weight.dtype, weight.device)
        return Opened((weight.view(self.shape[0], -1, ROTATED) @ matrix).view(self.shape))


_BLOCKS = 3  # dimensions of a scale for each block of a row


@functools.lru_cache(maxsize=4)
def _rotation() -> tuple[tuple[float, ...], ...]:
    """The fourth Kronecker power of the regular Hadamard matrix of order four, over sixteen."""
    base = [[-1.0 if row + column == 3 else 1.0 for column in range(4)] for row in range(4)]
    matrix = [[1.0]]
    for _ in range(4):
        matrix = [
            [one * other for one in left for other in right] for left in matrix for right in base
        ]
    return tuple(tuple(value / 16 for value in row) for row in matrix)


def rotation(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The matrix `[256, 256]` that turns columns, its own inverse."""
    return torch.tensor(_rotation(), dtype=dtype, device=device)
