"""Measure the memory of a run on a CPU: each kind of call once by its allocations, storages always.

PyTorch's report of every allocation takes a tenth of a small run. Calls of one kind allocate alike,
so the first of each is watched, kernels' own memory included; of those after it what they make is
counted, by storage, from when it is there until nobody holds it, and the peak of their kind comes
on top. What a watched call leaves behind that is no value of its own counts to the end.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from typing import Self, cast

import torch

from wanflow.scheduler.footprint.costs import CallRecord
from wanflow.scheduler.run.card_context import CardContext
from wanflow.scheduler.run.meter import (
    CudaMeter,
    Reports,
    StorageMeter,
    resident_set,
    somebody_profiles,
)
from wanflow.scheduler.run.step_events import Figure

Kind = tuple[str, str, int, int]
Peaks = dict[Kind, int]  # bytes that calls of a kind took at most over what was there


class _LivingStorage(weakref.ref[torch.UntypedStorage]):
    """A storage that is alive, and what it takes; it doesn't keep it."""

    __slots__ = ("address", "nbytes")
    address: int
    nbytes: int


class CallMeter:
    """Counts what lives of a run's tensors; with *every* all calls are watched.

    It is entered and left by the thread that runs the calls. Kinds in *peaks* were watched in an
    earlier run of the same calls; those that are watched here are added.
    """

    source = "tracked"
    context: None = None

    def __init__(self, peaks: Peaks | None = None, *, every: bool = False) -> None:
        self.peak_bytes = 0
        self.watched = 0
        self.calls = 0
        self._every = every
        self._reports = Reports()
        self._peaks = {} if peaks is None else peaks
        self._alive: dict[int, _LivingStorage] = {}
        self._gone: deque[_LivingStorage] = deque()  # any thread adds, one counts them out
        self._now_bytes = 0
        self._kind: Kind = ("", "", 0, 0)
        self._watching = False

    def __enter__(self) -> Self:
        self._reports.open()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.fail()
        self._reports.close()

    @property
    def now_bytes(self) -> int:
        """Bytes alive."""
        self._count_out()
        return self._now_bytes

    def others(self) -> tuple[Figure, ...]:
        """Give what the process holds in all, as the system sees it."""
        return resident_set()

    def holds(self, tensor: torch.Tensor) -> int:
        """Count a tensor's storage until it is gone; bytes that were not counted before."""
        storage = tensor.untyped_storage()
        address, nbytes = storage.data_ptr(), storage.nbytes()
        if self._gone:
            self._count_out()
        if nbytes == 0 or address in self._alive:
            return 0
        living = _LivingStorage(storage, self._left)
        living.address, living.nbytes = address, nbytes
        self._alive[address] = living
        self._now_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self._now_bytes)
        return nbytes

    def begin(self, call: CallRecord) -> None:
        """A call is about to run."""
        cost = call.cost
        self._kind = (call.stage, call.kind, cost.workspace_bytes, cost.kernels)
        self.calls += 1
        if self._every or self._kind not in self._peaks:
            self._watching = True
            self.watched += 1
            self._reports.begin()

    def fail(self) -> None:
        """It has failed: what is let go of now was there before it, PyTorch would say so."""
        if self._watching:
            self._reports.take()
        self._watching = False

    def end(self, made: Iterable[torch.Tensor]) -> None:
        """It has run, and this is new of what it gave."""
        if self._gone:
            self._count_out()
        before, left = self._now_bytes, 0
        if self._watching:
            self._watching = False
            peak, left = self._reports.take()
            self._peaks[self._kind] = max(peak, self._peaks.get(self._kind, 0))
        self.peak_bytes = max(self.peak_bytes, before + self._peaks[self._kind])
        new = 0
        for tensor in made:
            new += self.holds(tensor)
        if left > new:
            self._now_bytes += left - new

    def _left(self, living: weakref.ref[torch.UntypedStorage]) -> None:
        self._gone.append(cast("_LivingStorage", living))

    def _count_out(self) -> None:
        while self._gone:
            held = self._gone.popleft()
            if self._alive.get(held.address) is held:
                del self._alive[held.address]
            self._now_bytes -= held.nbytes


RunMeter = CallMeter | StorageMeter | CudaMeter


def run_meter(
    device: torch.device,
    context: CardContext | None = None,
    peaks: Peaks | None = None,
    *,
    every: bool = False,
) -> RunMeter:
    """Return the meter of a run on a device; enter it to count.

    *context* is what the tries of a run on a card share. On a CPU *every* call is watched, or the
    first of each kind that is not in *peaks*.
    """
    if device.type == "cuda":
        return CudaMeter(context or CardContext(device))
    return StorageMeter() if somebody_profiles() else CallMeter(peaks, every=every)
