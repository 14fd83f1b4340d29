"""What kernels take for themselves: seen in a run, then run again alone, beside the table's figure.

A kernel is an op with the layouts of its operands. The table (`wanflow/scheduler/workspace.py`)
knows attention by the op that stands for it on fake tensors, and so it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from benchmarks.lib.report import error
from wanflow.scheduler.profile.attention_backend import meaning
from wanflow.scheduler.profile.kernel_workspace import workspace_of
from wanflow.scheduler.profile.recorder import flatten
from wanflow.scheduler.run.meter import meter_for

_GEMMS = ("mm", "addmm", "bmm", "baddbmm")
_ATTENTION = "_scaled_dot_product"
_STAND_IN = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default  # noqa: SLF001


@attrs.frozen
class Operand:
    """A tensor's layout."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        """`2x3x4 bfloat16`, and its strides where it is not contiguous."""
        like = torch.empty_strided(self.shape, self.stride, device="meta")
        shape, strides = ("x".join(map(str, each)) for each in (self.shape, self.stride))
        told = f"{shape} {str(self.dtype).removeprefix('torch.')}"
        return told if like.is_contiguous() else f"{told} strides {strides}"

    def make(self, device: torch.device) -> torch.Tensor:
        """Noise of that layout; elements may share memory, as those of an expanded tensor do."""
        ends = zip(self.shape, self.stride, strict=True)
        count = 1 + sum((size - 1) * stride for size, stride in ends)
        made = torch.empty(count, dtype=self.dtype, device=device)
        made = made.normal_() if self.dtype.is_floating_point else made.zero_()
        return made.as_strided(self.shape, self.stride)


@attrs.frozen
class Kernel:
    """An op with what it was given, tensors as their layouts."""

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The op's name in ATen."""
        return str(self.op._overloadpacket.__name__)  # noqa: SLF001 - there is no other

    @property
    def attends(self) -> bool:
        """Whether it is an attention."""
        return self.name.startswith(_ATTENTION)

    @property
    def operands(self) -> list[Operand]:
        """Layouts of the tensors it was given."""
        leaves, _ = tree_flatten([self.args, dict(self.kwargs)])
        return [leaf for leaf in leaves if isinstance(leaf, Operand)]


def is_opaque(op: Any) -> bool:
    """Whether an op is a convolution, a product of matrices or an attention."""
    name = str(op._overloadpacket.__name__)  # noqa: SLF001
    return name == "convolution" or name in _GEMMS or name.startswith(_ATTENTION)


class Seen(TorchDispatchMode):
    """Notes every kernel that runs while it is entered, once, and how often it ran."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: dict[str, tuple[Kernel, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_opaque(func):
            kernel = Kernel(func, *tree_map(_layout, (args, kwargs)))
            key = repr(kernel)
            self.kernels[key] = (kernel, self.kernels.get(key, (kernel, 0))[1] + 1)
        return func(*args, **kwargs)

    def attention(self) -> list[tuple[Kernel, int]]:
        """Those that attend, the only ones that a choice of backend changes."""
        return [each for each in self.kernels.values() if each[0].attends]


def _layout(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return Operand(tuple(leaf.shape), leaf.stride(), leaf.dtype)
    return leaf


def measured(kernel: Kernel, device: torch.device, backend: str) -> dict[str, Any]:
    """Run a kernel alone: what it takes beside its result, and what the table says it takes.

    Twice, since the first run may make what a library keeps for all that follow.
    """

    def made(leaf: Any) -> Any:
        return leaf.make(device) if isinstance(leaf, Operand) else leaf

    args, kwargs = tree_map(made, (kernel.args, dict(kernel.kwargs)))
    op = _STAND_IN if kernel.attends else kernel.op
    workspaces, took = [], 0.0
    for _ in range(2):
        with meter_for(device) as meter:
            before = meter.now_bytes
            began = time.perf_counter()
            out = kernel.op(*args, **kwargs)
            _settle(device)
            took = time.perf_counter() - began
            meter.collect()
        output_bytes = sum(t.untyped_storage().nbytes() for t in flatten(out))
        workspaces.append(max(meter.peak_bytes - before - output_bytes, 0))
        with meaning(backend):
            predicted = workspace_of(device.type)(op)(args, kwargs, flatten(out)[0])
        del out
    return {
        "op": kernel.name, "attention": backend, "seconds": took,
        "operands": [str(operand) for operand in kernel.operands],
        "other": repr([a for a in kernel.args if not isinstance(a, Operand)]),
        "output_bytes": output_bytes, "workspace_bytes": workspaces[-1],
        "first_workspace_bytes": workspaces[0], "predicted_workspace_bytes": predicted,
        "workspace_error": error(output_bytes + predicted, output_bytes + workspaces[-1]),
    }  # fmt: skip


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
