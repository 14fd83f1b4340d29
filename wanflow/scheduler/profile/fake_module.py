"""Copies of modules that are shapes without bytes, and what is touched of them.

On fake `cpu` tensors, as in the profiler: there attention, convolution and GEMM are single kernels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wanflow.scheduler.profile import fakes
from wanflow.scheduler.profile.recorder import flatten, storage_key


def fake_copy(
    module: torch.nn.Module,
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
            fake = fakes.like(parameter)
            with fakes.FakeMode():
                memo[id(parameter)] = torch.nn.Parameter(fake, requires_grad=False)
        for tensor in _tables(inside):
            memo[id(tensor)] = fakes.like(tensor)
    for elements in firsts:
        memo[id(elements)] = copy.deepcopy(elements[:1], memo)
    return copy.deepcopy(module, memo)


def _tables(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Buffers, and tensors that are plain attributes."""
    for tensor in (*module.buffers(recurse=False), *vars(module).values()):
        if isinstance(tensor, torch.Tensor):
            yield tensor


class Touched(TorchDispatchMode):
    """Tell *touch* the name of each parameter that an op is about to take, views of it included.

    The module's are fakes, and so is all that is made of them.
    """

    def __init__(self, module: torch.nn.Module, touch: Callable[[str], object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {storage_key(p): name for name, p in module.named_parameters()}
        self._touch = touch

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Don't have PyTorch's compiler told, which would be imported for that."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in flatten([args, kwargs]):
            name = self._names.get(storage_key(tensor))
            if name is not None:
                self._touch(name)
        return fakes.faked(func, args, kwargs)
