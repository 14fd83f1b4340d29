"""Copies of modules and of their inputs that are shapes without bytes, and what is touched of them.

On fake `cpu` tensors, as in the profiler: there attention, convolution and GEMM are single kernels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from wanflow.scheduler.profile.recorder import flatten, storage_key


def fake_copy(
    module: torch.nn.Module,
    mode: FakeTensorMode,
    dtype_of: Callable[[str], torch.dtype] | None = None,
    firsts: Sequence[torch.nn.ModuleList] = (),
) -> torch.nn.Module:
    """Copy *module* with fake tensors for its own, wherever those are; it is left as it is.

    *dtype_of* gives a parameter's dtype by its name, otherwise it is kept. Of the lists *firsts*
    only the first element is copied.
    """
    memo: dict[int, Any] = {}
    left_out = {inside for each in firsts for inside in each[1:].modules()}
    for path, inside in module.named_modules():
        if inside in left_out:
            continue
        for leaf, parameter in inside.named_parameters(recurse=False):
            dtype = dtype_of(f"{path}.{leaf}" if path else leaf) if dtype_of else parameter.dtype
            if id(parameter) not in memo:  # a tied one goes by its first name
                fake = _fake(parameter, mode, dtype)
                memo[id(parameter)] = torch.nn.Parameter(fake, requires_grad=False)
        for tensor in _tables(inside):
            memo[id(tensor)] = _fake(tensor, mode, tensor.dtype)
    for each in firsts:
        memo[id(each)] = copy.deepcopy(each[:1], memo)
    return copy.deepcopy(module, memo)


def tables_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """List the tensors that a module keeps besides its parameters."""
    return [tensor for inside in module.modules() for tensor in _tables(inside)]


def _tables(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Buffers, and tensors that are plain attributes."""
    for tensor in (*module.buffers(recurse=False), *vars(module).values()):
        if isinstance(tensor, torch.Tensor):
            yield tensor


def _fake(tensor: torch.Tensor, mode: FakeTensorMode, dtype: torch.dtype) -> torch.Tensor:
    shape = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device="meta")
    return FakeTensor(mode, shape, torch.device("cpu"))  # in the mode it would take ten times long


def cpu_like(tree: Any) -> Any:
    """Copy nested arguments with empty `cpu` tensors, fake ones in a fake mode, for their own.

    A tensor that is there twice is so in the copy.
    """
    made: dict[int, torch.Tensor] = {}

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:
            size, stride = tensor.shape, tensor.stride()
            made[id(tensor)] = torch.empty_strided(size, stride, dtype=tensor.dtype, device="cpu")
        return made[id(tensor)]

    return tree_map_only(torch.Tensor, empty, tree)


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
