"""Measure the memory of a run from outside: what really lives, however it was predicted.

On CUDA the allocator counts. On a CPU a dispatch mode counts the storages that are alive, and while
a call runs PyTorch's profiler reports every allocation, those that a kernel makes for itself
included. Neither shares code with what predicts the run: tensors are known by the address of their
storage only.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StorageMeter(TorchDispatchMode):
    """Counts live CPU storages made while it is entered."""

    source = "tracked"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, weakref.finalize[Any, Any]] = {}
        self.now_bytes = 0
        self.peak_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
                self._meet(leaf.untyped_storage())
        return out

    @contextmanager
    def call(self) -> Iterator[None]:
        """Watch one call for the allocations of its kernels."""
        before = self.now_bytes
        with _allocations() as sizes:
            yield
        level = peak = 0
        for nbytes in sizes:
            level += nbytes
            peak = max(peak, level)
        self.peak_bytes = max(self.peak_bytes, before + peak)

    def _meet(self, storage: torch.UntypedStorage) -> None:
        address, nbytes = storage.data_ptr(), storage.nbytes()
        if nbytes == 0 or address in self._alive:
            return
        self._alive[address] = weakref.finalize(storage, self._leave, address, nbytes)
        self.now_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def _leave(self, address: int, nbytes: int) -> None:
        self._alive.pop(address, None)
        self.now_bytes -= nbytes


@contextmanager
def _allocations() -> Iterator[list[int]]:
    """Fill a list with the sizes of CPU allocations (frees negative) made inside the `with`.

    Uses the old profiler, which starts in a tenth of a millisecond. It can't run inside another
    profiler: then the list stays empty and whoever profiles sees the allocations anyway.
    """
    sizes: list[int] = []
    autograd: Any = torch.autograd
    if autograd._profiler_enabled():  # noqa: SLF001 - no public way to ask
        yield sizes
        return
    config = autograd.ProfilerConfig(
        autograd.ProfilerState.CPU, False, True, False, False, False,  # noqa: FBT003
        torch._C._profiler._ExperimentalConfig(),  # noqa: SLF001
    )  # fmt: skip
    autograd._enable_profiler_legacy(config)  # noqa: SLF001
    try:
        yield sizes
    finally:
        for thread in autograd._disable_profiler_legacy():  # noqa: SLF001
            sizes += [r.cpu_memory_usage() for r in thread if r.kind() == "memory_alloc"]


class CudaMeter:
    """Reads CUDA's allocator."""

    source = "allocator"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> Self:
        torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Nothing to put back."""

    def call(self) -> AbstractContextManager[None]:
        """Nothing to do: the allocator sees every kernel."""
        return nullcontext()

    @property
    def now_bytes(self) -> int:
        """Bytes that the allocator has given out."""
        return int(torch.cuda.memory_allocated(self._device))

    @property
    def peak_bytes(self) -> int:
        """The most it had given out since the meter was entered."""
        return int(torch.cuda.max_memory_allocated(self._device))


def meter_for(device: torch.device) -> StorageMeter | CudaMeter:
    """Return the meter of a device."""
    return CudaMeter(device) if device.type == "cuda" else StorageMeter()
