"""A tensor's layout as plain data, and a tensor of a given layout."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from wanflow.scheduler.footprint.call_kinds import Layout


def layout_of(tensor: torch.Tensor) -> Layout:
    """Say how *tensor* lies in its storage."""
    return Layout(
        tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()),
        str(tensor.dtype).removeprefix("torch."), int(tensor.untyped_storage().nbytes()),
    )  # fmt: skip


def fake_of(layout: Layout, mode: FakeTensorMode) -> FakeTensor:
    """Make a fake `cpu` tensor of *layout* in a storage of its own.

    From `meta` by hand: the way through *mode*'s dispatch takes ten times as long.
    """
    dtype = getattr(torch, layout.dtype)
    storage = torch.empty(layout.storage_bytes // dtype.itemsize, dtype=dtype, device="meta")
    meta = storage.as_strided(layout.shape, layout.stride, layout.offset)
    return FakeTensor(mode, meta, torch.device("cpu"))
