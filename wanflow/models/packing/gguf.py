"""Weights in GGUF's blocks: opened some rows at a time, in little more than the weight takes."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch

from wanflow.models.packing.form import PACKED, Opened, Piece, Pieces
from wanflow.models.packing.gguf_blocks import TYPES, BlockType
from wanflow.scheduler.profile.folded_loops import passes

_NUMBERS = 1 << 18  # opened at a time: in fp32 they stay in a core's cache


@attrs.frozen
class Gguf:
    """A weight `[out, in]` in blocks of *type* (`Q4_K`): `[out, bytes of a row]`, uint8.

    Open, it has the values of gguf-py's `dequantize` in fp32, rounded once to the dtype asked for.
    """

    shape: tuple[int, ...]
    type: str

    @property
    def name(self) -> str:
        """`gguf Q4_K`."""
        return f"gguf {self.type}"

    @property
    def blocks(self) -> BlockType:
        """What its blocks are."""
        return TYPES[self.type]

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """The blocks: scales are in them."""
        rows, width = self.shape
        row_bytes = width // self.blocks.numbers * self.blocks.nbytes
        return {PACKED: Piece((rows, row_bytes), torch.uint8)}

    def open(self, pieces: Pieces, dtype: torch.dtype) -> Opened:
        """Open it in new memory, by some rows at a time."""
        packed, blocks = pieces[PACKED], self.blocks
        count, width = self.shape
        weight = torch.empty(self.shape, dtype=dtype, device=packed.device)
        step = max(1, _NUMBERS // width)
        chunks = [slice(first, min(first + step, count)) for first in range(0, count, step)]
        for rows in passes(chunks):
            groups = blocks.unpack(packed[rows].reshape(-1, blocks.nbytes))
            weight[rows].copy_(groups.values().view(-1, width))
            del groups
        return Opened(weight)

    def part(self, rows: slice) -> Gguf:
        """The form of some of its rows."""
        return attrs.evolve(self, shape=(rows.stop - rows.start, *self.shape[1:]))

    def cut(self, pieces: Pieces, rows: slice) -> Pieces:
        """The blocks of some of its rows."""
        return {name: piece[rows] for name, piece in pieces.items()}

    def damaged(self, packed: torch.Tensor) -> int | None:
        """The first row with a block whose scale or offset is not finite; None where all are."""
        blocks = packed.reshape(-1, self.blocks.nbytes)
        for at in self.blocks.halves:
            high = blocks[:, at + 1] & 0x7C  # the exponent of an fp16, all ones if not finite
            wrong = high == 0x7C
            if wrong.any():
                block = int(wrong.nonzero()[0, 0])
                return block * self.blocks.numbers // self.shape[1]
        return None
