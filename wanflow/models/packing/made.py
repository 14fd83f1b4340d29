"""Packing a weight here: a scale a row, of which the largest number is the type's largest.

Rows are independent, so a weight may be packed by any number of rows at a time. A scale is rounded
up to bfloat16, so that opening it in any dtype loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from wanflow.models.packing.form import PACKED, Pieces
from wanflow.models.packing.scaled import SCALE, Scaled
from wanflow.models.precisions import PACKINGS

KINDS: Mapping[str, torch.dtype] = dict(
    zip(PACKINGS, (torch.int8, torch.float8_e4m3fn), strict=True)
)
_LARGEST: Mapping[torch.dtype, float] = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


def form_of(kind: str, shape: tuple[int, ...]) -> Scaled:
    """The form that a weight `[out, in]` gets."""
    return Scaled(tuple(shape), KINDS[kind], (shape[0], 1))


def pack(kind: str, weight: torch.Tensor) -> Pieces:
    """Pack rows `[out, in]` of floats; ValueError names the first row that is not finite."""
    dtype = KINDS[kind]
    rows = weight.float()
    largest = rows.abs().amax(dim=1, keepdim=True)
    if not torch.isfinite(largest).all():
        row = int((~torch.isfinite(largest)).nonzero()[0, 0])
        raise ValueError(f"row {row} is not finite")
    scale = _rounded_up(largest / _LARGEST[dtype])
    scale = torch.where(scale > 0, scale, 1.0)  # of a row of zeros: a scale of zero is refused
    packed = rows / scale
    if dtype == torch.int8:
        packed = packed.round_()
    return {PACKED: packed.to(dtype), SCALE: scale}


def _rounded_up(scale: torch.Tensor) -> torch.Tensor:
    """The next bfloat16 that is not below, as fp32."""
    bits = scale.view(torch.int32)
    return ((bits + 0xFFFF) & -0x10000).view(torch.float32)
