"""Copies of modules that are shapes without bytes, and what is touched of them.

On fake `cpu` tensors, as in the profiler: there attention, convolution and GEMM are single kernels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from wanflow.scheduler.profile.recorder import flatten, storage_key


def fake_copy(
    module: torch.nn.Module,
    mode: FakeTensorMode,
    firsts: Sequence[torch.nn.ModuleList] = (),
) -> torch.nn.Module:
    """Copy *module* with fake tensors for its own, wherever those are; it is left as it is.

    Of the lists *firsts* only the first element is copied.
    """
    memo: dict[int, Any] = {}
    left_out = {inside for elements in firsts for inside in elements[1:].modules()}
    for inside in module.modules():
        if inside in left_out:
            continue
        for parameter in inside.parameters(recurse=False):
            fake = _fake(parameter, mode)
            memo[id(parameter)] = torch.nn.Parameter(fake, requires_grad=False)
        for tensor in _tables(inside):
            memo[id(tensor)] = _fake(tensor, mode)
    for elements in firsts:
        memo[id(elements)] = copy.deepcopy(elements[:1], memo)
    return copy.deepcopy(module, memo)


def _tables(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Buffers, and tensors that are plain attributes."""
    for tensor in (*module.buffers(recurse=False), *vars(module).values()):
        if isinstance(tensor, torch.Tensor):
            yield tensor


def _fake(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    shape = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return FakeTensor(mode, shape, torch.device("cpu"))  # in the mode it would take ten times long


class Touched(TorchDispatchMode):
    """Tell *touch* the name of each parameter that an op is about to take, views of it included."""

    def __init__(self, module: torch.nn.Module, touch: Callable[[str], object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {storage_key(p): name for name, p in module.named_parameters()}
        self._touch = touch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in flatten([args, kwargs]):
            name = self._names.get(storage_key(tensor))
            if name is not None:
                self._touch(name)
        return func(*args, **kwargs)
