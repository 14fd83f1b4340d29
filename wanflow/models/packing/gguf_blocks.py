"""The blocks of GGUF's types: what the bytes of each are, and the numbers in them.

A block has so many numbers of a row, in groups that share a scale and maybe an offset; a number is
`scale * whole + offset`. Layouts: ggml's `ggml-common.h` and `ggml-quants.c`
(https://github.com/ggml-org/ggml, MIT). All arithmetic is fp32, in the order of gguf-py's
`dequantize`, whose values these are bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor

_K = 256  # numbers in a block of the K types
_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@attrs.frozen
class Groups:
    """Numbers of *n* blocks: `whole` `[n, groups, size]`; `scale`, `offset` `[n, groups, 1]`."""

    whole: Tensor
    scale: Tensor
    offset: Tensor | None = None

    def values(self) -> Tensor:
        """The numbers in fp32, `[n, groups, size]`."""
        values = self.whole.to(torch.float32).mul_(self.scale)
        return values if self.offset is None else values.add_(self.offset)


@attrs.frozen
class BlockType:
    """A block has `numbers` in `nbytes`; `halves` is where its fp16 scales and offsets are."""

    numbers: int
    nbytes: int
    halves: tuple[int, ...]
    unpack: Callable[[Tensor], Groups]  # of `[n, nbytes]`, uint8


def _half(blocks: Tensor, at: int) -> Tensor:
    """The fp16 at a byte of each block, as fp32 `[n, 1]`."""
    two = blocks[:, at : at + 2].clone(memory_format=torch.contiguous_format)
    return two.view(torch.float16).to(torch.float32)


def _fields(packed: Tensor, bits: int) -> Tensor:
    """Take bytes `[n, k, w]` apart: `[n, k * 8 / bits, w]`, the lowest bits first."""
    count, mask = 8 // bits, (1 << bits) - 1
    n, k, width = packed.shape
    fields = packed.new_empty((n, k, count, width))
    for number in range(count):
        field = fields[:, :, number]
        torch.bitwise_right_shift(packed, number * bits, out=field)
        if number < count - 1:
            field.bitwise_and_(mask)
    return fields.view(n, k * count, width)


def _less(whole: Tensor, zero: int) -> Tensor:
    """Subtract what stands for nothing, in place; the numbers have a sign then."""
    return whole.view(torch.int8).sub_(zero)


def _with_high(low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Put *high* above so many bits of *low*, in place."""
    return low.bitwise_or_(high.bitwise_left_shift_(bits).view(low.shape))


def _q4_0(blocks: Tensor) -> Groups:
    whole = _fields(blocks[:, None, 2:], 4).view(-1, 1, 32)
    return Groups(_less(whole, 8), _half(blocks, 0)[:, None])


def _q4_1(blocks: Tensor) -> Groups:
    whole = _fields(blocks[:, None, 4:], 4).view(-1, 1, 32)
    return Groups(whole, _half(blocks, 0)[:, None], _half(blocks, 2)[:, None])


def _q5(blocks: Tensor, at: int) -> Tensor:
    """Five bits a number: the fifth ones in four bytes, then the others."""
    high = _fields(blocks[:, at : at + 4, None], 1)
    return _with_high(_fields(blocks[:, None, at + 4 :], 4).view(-1, 1, 32), high, 4)


def _q5_0(blocks: Tensor) -> Groups:
    return Groups(_less(_q5(blocks, 2), 16), _half(blocks, 0)[:, None])


def _q5_1(blocks: Tensor) -> Groups:
    return Groups(_q5(blocks, 4), _half(blocks, 0)[:, None], _half(blocks, 2)[:, None])


def _q8_0(blocks: Tensor) -> Groups:
    return Groups(blocks[:, None, 2:].view(torch.int8), _half(blocks, 0)[:, None])


def _q2_k(blocks: Tensor) -> Groups:
    whole = _fields(blocks[:, 16:80].view(-1, 2, 32), 2).view(-1, 16, 16)
    scale = _half(blocks, 80) * (blocks[:, :16] & 15)
    offset = _half(blocks, 82) * (blocks[:, :16] >> 4)
    return Groups(whole, scale[..., None], offset.neg_()[..., None])


def _q3_k(blocks: Tensor) -> Groups:
    high = _fields(blocks[:, None, :32], 1)
    whole = _with_high(_fields(blocks[:, 32:96].view(-1, 2, 32), 2), high, 2)
    low, above = blocks[:, None, 96:104], blocks[:, None, 104:108]
    scale = _less(_with_high(_fields(low, 4), _fields(above, 2), 4).view(-1, 16), 32)
    return Groups(_less(whole, 4).view(-1, 16, 16), (_half(blocks, 108) * scale)[..., None])


def _eight(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and offsets `[n, 8, 1]` of Q4_K and Q5_K: six bits each, in twelve bytes."""
    first, second, shared = blocks[:, 4:16].view(-1, 3, 4).unbind(1)
    scale = torch.cat([first & 63, (shared & 15) | ((first >> 6) << 4)], dim=1)
    offset = torch.cat([second & 63, (shared >> 4) | ((second >> 6) << 4)], dim=1)
    least = (_half(blocks, 2) * offset).neg_()
    return (_half(blocks, 0) * scale)[..., None], least[..., None]


def _q4_k(blocks: Tensor) -> Groups:
    return Groups(_fields(blocks[:, 16:].view(-1, 4, 32), 4), *_eight(blocks))


def _q5_k(blocks: Tensor) -> Groups:
    high = _fields(blocks[:, None, 16:48], 1)
    whole = _with_high(_fields(blocks[:, 48:].view(-1, 4, 32), 4), high, 4)
    return Groups(whole, *_eight(blocks))


def _q6_k(blocks: Tensor) -> Groups:
    high = _fields(blocks[:, 128:192].view(-1, 2, 32), 2)
    whole = _with_high(_fields(blocks[:, :128].view(-1, 2, 64), 4), high, 4)
    scale = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8)
    return Groups(_less(whole, 32).view(-1, 16, 16), scale[..., None])


def _iq4(packed: Tensor) -> Tensor:
    """Numbers from a table of sixteen."""
    table = torch.tensor(_IQ4, dtype=torch.int8, device=packed.device)
    fields = _fields(packed, 4)
    return table.index_select(0, fields.view(-1).to(torch.int32)).view(fields.shape)


def _iq4_nl(blocks: Tensor) -> Groups:
    return Groups(_iq4(blocks[:, None, 2:]).view(-1, 1, 32), _half(blocks, 0)[:, None])


def _iq4_xs(blocks: Tensor) -> Groups:
    high = _fields(blocks[:, 2:4, None], 2).view(-1, 8)
    scale = _less(_with_high(_fields(blocks[:, 4:8, None], 4).view(-1, 8), high, 4), 32)
    whole = _iq4(blocks[:, 8:].view(-1, 8, 16)).view(-1, 8, 32)
    return Groups(whole, (_half(blocks, 0) * scale)[..., None])


TYPES: Mapping[str, BlockType] = {
    "Q4_0": BlockType(32, 18, (0,), _q4_0),
    "Q4_1": BlockType(32, 20, (0, 2), _q4_1),
    "Q5_0": BlockType(32, 22, (0,), _q5_0),
    "Q5_1": BlockType(32, 24, (0, 2), _q5_1),
    "Q8_0": BlockType(32, 34, (0,), _q8_0),
    "Q2_K": BlockType(_K, 84, (80, 82), _q2_k),
    "Q3_K": BlockType(_K, 110, (108,), _q3_k),
    "Q4_K": BlockType(_K, 144, (0, 2), _q4_k),
    "Q5_K": BlockType(_K, 176, (0, 2), _q5_k),
    "Q6_K": BlockType(_K, 210, (208,), _q6_k),
    "IQ4_NL": BlockType(32, 18, (0,), _iq4_nl),
    "IQ4_XS": BlockType(_K, 136, (0,), _iq4_xs),
}
