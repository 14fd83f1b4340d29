"""Measure memory from outside: what really lives, however it was predicted.

On CUDA the allocator counts. On a CPU PyTorch's old profiler reports every allocation and every
free, those of kernels for themselves included; each report takes a microsecond.
PyTorch has one profiler: where somebody else profiles, a dispatch mode counts the storages that are
alive instead, and kernels are left to them. None of it shares code with what predicts the run.
"""

from __future__ import annotations

import resource
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wanflow.scheduler.footprint.costs import CallRecord
from wanflow.scheduler.run.card_context import CardContext
from wanflow.scheduler.run.step_events import Figure

# The old profiler has no public names left.
_profiler: Any = torch.autograd
_STATM = Path("/proc/self/statm")


class Reports:
    """What PyTorch's old profiler says of the allocations of this thread."""

    def open(self) -> None:
        """Have ops by themselves not reported: thousands a call, they take most of a tiny run."""
        _profiler._enable_record_function(False)  # noqa: FBT003, SLF001

    def close(self) -> None:
        """Put that back."""
        _profiler._enable_record_function(True)  # noqa: FBT003, SLF001

    def begin(self) -> None:
        """Count from here."""
        config = _profiler.ProfilerConfig(
            _profiler.ProfilerState.CPU, False, True, False, False, False,  # noqa: FBT003
            torch._C._profiler._ExperimentalConfig(),  # noqa: SLF001
        )  # fmt: skip
        _profiler._enable_profiler_legacy(config)  # noqa: SLF001

    def take(self) -> tuple[int, int]:
        """Stop, and give the most bytes that came on top since, and those that did to the end."""
        now = peak = 0
        for thread in _profiler._disable_profiler_legacy():  # noqa: SLF001
            for record in thread:
                now += record.cpu_memory_usage()  # none but of an allocation or a free
                peak = max(peak, now)
        return peak, now


class AllocationMeter:
    """Counts CPU allocations of the thread that entered it."""

    source = "tracked"
    context: None = None

    def __init__(self) -> None:
        self.now_bytes = 0
        self.peak_bytes = 0
        self._reports = Reports()

    def __enter__(self) -> Self:
        self._reports.open()
        self._reports.begin()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._add_up()
        self._reports.close()

    def collect(self) -> None:
        """Add up what was reported, and go on."""
        self._add_up()
        self._reports.begin()

    def others(self) -> tuple[Figure, ...]:
        """Give what the process holds in all, as the system sees it."""
        return resident_set()

    def _add_up(self) -> None:
        peak, change = self._reports.take()
        self.peak_bytes = max(self.peak_bytes, self.now_bytes + peak)
        self.now_bytes += change


class StorageMeter(TorchDispatchMode):
    """Counts live CPU storages made while it is entered."""

    source = "tracked"
    context: None = None

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

    def collect(self) -> None:
        """Storages are counted as they come and go."""

    def holds(self, _tensor: torch.Tensor) -> int:
        """It was counted when it was made."""
        return 0

    def begin(self, call: CallRecord) -> None:
        """A call is about to run."""

    def end(self, made: Iterable[torch.Tensor]) -> None:
        """It has run."""

    def fail(self) -> None:
        """It has failed."""

    def others(self) -> tuple[Figure, ...]:
        """Give what the process holds in all, as the system sees it."""
        return resident_set()

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


class CudaMeter:
    """Reads CUDA's allocator, and the driver for what lies beside it."""

    source = "allocator"

    def __init__(self, context: CardContext) -> None:
        self.context = context
        self._device = context.device
        self._counted_before = (0, 0)

    def __enter__(self) -> Self:
        torch.cuda.reset_peak_memory_stats(self._device)
        self._counted_before = self._counted()
        self.context.open()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Nothing to put back."""

    def collect(self) -> None:
        """The allocator counts by itself."""

    def holds(self, _tensor: torch.Tensor) -> int:
        """The allocator counts by itself."""
        return 0

    def begin(self, call: CallRecord) -> None:
        """A call is about to be launched."""

    def end(self, made: Iterable[torch.Tensor]) -> None:
        """It has been launched."""

    def fail(self) -> None:
        """It has failed."""

    @property
    def now_bytes(self) -> int:
        """Bytes that the allocator has given out."""
        return int(torch.cuda.memory_allocated(self._device))

    @property
    def peak_bytes(self) -> int:
        """The most it had given out since the meter was entered."""
        return int(torch.cuda.max_memory_allocated(self._device))

    def others(self) -> tuple[Figure, ...]:
        """Give what the allocator holds, and what the process has beside it.

        A plan that makes the allocator try again is too tight for it.
        """
        counts = zip(self._counted(), self._counted_before, strict=True)
        retries, failures = (now - before for now, before in counts)
        now = torch.cuda.memory_reserved(self._device)
        most = torch.cuda.max_memory_reserved(self._device)
        reserved = Figure("reserved", now, most, retries, failures)
        return (reserved, self.context.figure())

    def _counted(self) -> tuple[int, int]:
        """How often the allocator tried again, and in vain, since the process began."""
        stats = torch.cuda.memory_stats(self._device)
        return stats.get("num_alloc_retries", 0), stats.get("num_ooms", 0)


def resident_set() -> tuple[Figure, ...]:
    """Count the process's pages in RAM, code and caches of its own included; Linux tells them."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return ()
    now = pages * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (Figure("rss", now, max(now, peak)),)


def somebody_profiles() -> bool:
    """Whether PyTorch's one profiler is in use."""
    return bool(_profiler._profiler_enabled())  # noqa: SLF001


def meter_for(
    device: torch.device, context: CardContext | None = None
) -> AllocationMeter | StorageMeter | CudaMeter:
    """Return what watches every allocation on a device; enter it to count.

    *context* is what a card's run shares.
    """
    if device.type == "cuda":
        return CudaMeter(context or CardContext(device))
    return StorageMeter() if somebody_profiles() else AllocationMeter()
