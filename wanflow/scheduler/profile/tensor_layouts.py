"""A tensor's layout as plain data, and how PyTorch lays out what it makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wanflow.scheduler.footprint.call_kinds import Layout

Sizes = Sequence[int]
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def layout_of(tensor: torch.Tensor) -> Layout:
    """Say how *tensor* lies in its storage."""
    return Layout(
        tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()),
        str(tensor.dtype).removeprefix("torch."), int(tensor.untyped_storage().nbytes()),
    )  # fmt: skip


def suggested(shape: Sizes, stride: Sizes) -> torch.memory_format:
    """Say in which format PyTorch takes a tensor to lie: channels last only where that is certain.

    `is_channels_last_strides_2d` and `_3d` of `c10/core/MemoryFormat.h`.
    """
    form = _LAST.get(len(shape))
    if form is None or stride[1] == 0:
        return torch.contiguous_format
    least = 0
    for dim in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[dim] == 0 or stride[dim] < least:
            return torch.contiguous_format
        if dim == 0 and least == stride[1]:  # one pixel: either
            return torch.contiguous_format
        least = stride[dim] * max(shape[dim], 1)
    return form


def broadcast(shapes: Sequence[Sizes]) -> torch.Size | None:
    """Give the shape that all are broadcast to; None where they can't be."""
    count = max(map(len, shapes))
    whole = [1] * count
    for shape in shapes:
        for dim, size in enumerate(shape, count - len(shape)):
            if size != 1:
                if whole[dim] not in (1, size):
                    return None
                whole[dim] = size
    return torch.Size(whole)


def iterated(shape: Sizes, operands: Sequence[tuple[Sizes, Sizes]]) -> tuple[int, ...]:
    """Give the strides of what is made of *operands* (shape, stride), number by number.

    As `TensorIterator` does (`aten/src/ATen/TensorIterator.cpp`): what is dense is made as it lies
    where all lie alike; else dimensions are put in the order of the operands' strides.
    """
    count = len(shape)
    strides = [_spread(shape, *operand) for operand in operands]
    alike = all(operand == operands[0] for operand in operands[1:])
    if alike and len(operands[0][0]) == count and _is_dense(shape, strides[0]):
        return tuple(operands[0][1])
    order = list(reversed(range(count)))
    for at in range(1, count):
        here = at
        for other in range(at - 1, -1, -1):
            compared = _compared(shape, strides, order[other], order[here])
            if compared < 0:
                break
            if compared > 0:
                order[other], order[here] = order[here], order[other]
                here = other
    made, step = [0] * count, 1
    for dim in order:
        made[dim] = step
        step *= shape[dim]
    return tuple(made)


def _spread(shape: Sizes, own: Sizes, stride: Sizes) -> list[int]:
    """Strides of an operand in the whole: none where it is repeated."""
    new = len(shape) - len(own)
    kept = (0 if n == 1 and shape[new + d] != 1 else stride[d] for d, n in enumerate(own))
    return [0] * new + list(kept)


def _is_dense(shape: Sizes, stride: Sizes) -> bool:
    step = 1
    for _, size, dim in sorted(
        (s, n, d) for d, (s, n) in enumerate(zip(stride, shape, strict=True))
    ):
        if size == 1:
            continue
        if stride[dim] != step:
            return False
        step *= size
    return True


def _compared(shape: Sizes, strides: Sequence[Sizes], inner: int, outer: int) -> int:
    """More than 0 where the *outer* dimension steps in less than the *inner*; 0: nobody says."""
    for stride in strides:
        if not stride[inner] or not stride[outer]:
            continue
        if stride[inner] != stride[outer]:
            return -1 if stride[inner] < stride[outer] else 1
        if shape[inner] > shape[outer]:
            return 1
    return 0
