"""Watch what a piece of code does to memory, op by op: live bytes, kernels' own room, FLOPs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop

from wanflow.scheduler.profile.folded_loops import counted_by
from wanflow.scheduler.profile.kernel_workspace import Kernel

_aten = torch.ops.aten
_CLASSES = {
    _aten.mm: "gemm",
    _aten.addmm: "gemm",
    _aten.bmm: "gemm",
    _aten.baddbmm: "gemm",
    _aten.convolution: "conv",
}
_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001


Operate = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]


def really(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Do an operation on what it is given."""
    return func(*args, **kwargs)


class Recorder(TorchDispatchMode):
    """Count the live bytes of every storage made while active, and the FLOPs of every kernel.

    *operate* does the operations: `fakes.faked`, where all is fake.
    """

    def __init__(
        self,
        known: Iterable[torch.Tensor],
        workspace: Callable[[Any], Kernel],
        operate: Operate = really,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operate = operate
        self._known = {storage_key(t) for t in known}
        self._workspace = workspace
        self._refs: dict[int, weakref.ref[Any]] = {}
        self._numbers: dict[int, int] = {}
        self._taken = 0
        self._loops = ExitStack()
        self.times = 1  # so often counts what happens now
        self.requests: list[int] = []  # see `Cost`
        self.live_bytes = 0
        self.peak_bytes = 0
        self.memory_bytes = 0
        self.kernels = 0
        self.exchanged_bytes = 0  # that other ranks send
        self.exchanges = 0
        self.flops: dict[str, float] = {}
        self.by_dtype: dict[str, float] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Don't have PyTorch's compiler told, which would be imported for that."""
        return False

    def __enter__(self) -> Self:
        self._loops.enter_context(counted_by(self))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *problem: object) -> None:
        super().__exit__(*problem)  # type: ignore[no-untyped-call]
        self._loops.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = self._operate(func, args, kwargs)
        created = [t for t in flatten(out) if self._is_new(t)]
        for tensor in created:
            self._adopt(tensor)
        extra = self._workspace(func)(args, kwargs, out)
        if extra:
            self.pass_by(extra)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._count(func, args, kwargs, out, created)
        return out

    def pass_by(self, nbytes: int) -> None:
        """Count bytes that are there for a moment, beside all that is alive."""
        self.requests.append(-self._take(nbytes))
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + nbytes)

    def exchanged(self, nbytes: int) -> None:
        """Count an exchange between ranks, which is given memory that is there."""
        self.exchanged_bytes += self.times * nbytes
        self.exchanges += self.times

    def _is_new(self, tensor: torch.Tensor) -> bool:
        key = storage_key(tensor)
        return key not in self._known and key not in self._refs

    def _adopt(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, nbytes = storage_key(tensor), storage.nbytes()
        number = self._numbers[key] = self._take(nbytes) if nbytes else 0

        def gone(_ref: object) -> None:
            self._refs.pop(key, None)
            self.live_bytes -= nbytes
            if number:
                self.requests.append(-number)

        self._refs[key] = weakref.ref(storage, gone)
        self.live_bytes += nbytes

    def _take(self, nbytes: int) -> int:
        self._taken += 1
        self.requests.append(nbytes)
        return self._taken

    def origin(self, tensor: torch.Tensor) -> int:
        """Give the number of the request for a tensor's storage, 0 for one made elsewhere."""
        key = storage_key(tensor)
        return self._numbers[key] if key in self._refs else 0

    def _count(
        self, func: Any, args: Any, kwargs: Any, out: Any, created: list[torch.Tensor]
    ) -> None:
        packet = func._overloadpacket  # noqa: SLF001
        if created or packet == _ATTENTION or packet in _CLASSES:
            self.kernels += self.times
        if packet == _ATTENTION:
            self._add("attention", sdpa_flop(*(t.shape for t in args[:3])), args[0])
        elif packet in _CLASSES:
            flops = flop_registry[packet](*args, **kwargs, out_val=out)
            self._add(_CLASSES[packet], flops, args[0])
        elif created:
            tensors = (*flatten([args, kwargs]), *created)
            self.memory_bytes += self.times * sum(t.nbytes for t in tensors)

    def _add(self, kind: str, flops: float, operand: torch.Tensor) -> None:
        flops *= self.times
        self.flops[kind] = self.flops.get(kind, 0) + flops
        dtype = dtype_name(operand)
        self.by_dtype[dtype] = self.by_dtype.get(dtype, 0) + flops


def dtype_name(tensor: torch.Tensor) -> str:
    """Name a tensor's dtype as a machine does: `bfloat16`."""
    return str(tensor.dtype).removeprefix("torch.")


def storage_key(tensor: torch.Tensor) -> int:
    """Tell storages apart while they are alive."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - the storage's identity


def flatten(tree: Any) -> list[torch.Tensor]:
    """List the tensors in nested lists, tuples and mappings."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        return [t for item in tree.values() for t in flatten(item)]
    if isinstance(tree, (list, tuple)):
        return [t for item in tree for t in flatten(item)]
    return []
