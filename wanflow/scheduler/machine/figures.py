"""A machine: tiers with capacities, rates, and how each of these is known. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from wanflow.scheduler.footprint.costs import CLASSES, DTYPES

Source = Literal["measured", "learned", "estimate"]

FLOPS = tuple(f"{kind}.{dtype}" for kind in CLASSES for dtype in DTYPES)
LINKS = ("upload_rate", "upload_pageable_rate", "download_rate", "download_pageable_rate")
RATES = ("memory_rate", *LINKS, "disk_rate", "cached_disk_rate")
OVERHEADS = ("kernel_seconds", "call_seconds")
TAKEN = ("context_bytes", "library_bytes")
FIGURES = (*FLOPS, *RATES, *OVERHEADS, *TAKEN)
_OF_A_CARD = (*LINKS, *TAKEN)


@attrs.frozen
class Load:
    """Seconds a load takes on each queue."""

    disk_seconds: float
    copy_seconds: float


@attrs.frozen
class Machine:
    """Capacities in bytes, rates in FLOP/s and bytes/s as they are reached, not as they are sold.

    On a CPU the device is the RAM itself: there is no host tier and the rates of the link are not
    used. `sources` says how a figure is known; one that is not in it is an estimate. `spreads` has
    what the runs of a measurement differed by, as a share of their median; `was` what a learned
    figure was before it was learned.
    """

    name: str
    device: str  # cpu or cuda
    capacity_bytes: int
    ram_bytes: int  # of the host
    context_bytes: int  # what the driver takes before the first tensor
    library_bytes: int  # what cuBLAS keeps of the allocator's memory from its first product on
    granularity_bytes: int  # the allocator takes memory from the device in multiples of this
    flops: Mapping[str, float]  # by kernel class and dtype: `gemm.bfloat16`
    memory_rate: float  # read and written together, by kernels that are neither of the classes
    upload_rate: float  # from pinned memory
    upload_pageable_rate: float
    download_rate: float
    download_pageable_rate: float
    disk_rate: float  # page cache cold
    cached_disk_rate: float  # page cache warm
    kernel_seconds: float  # one dispatch, the meter's share included
    call_seconds: float  # one call of the executor: ledger, trace, meter
    sources: Mapping[str, Source] = attrs.field(factory=dict)
    spreads: Mapping[str, float] = attrs.field(factory=dict)
    was: Mapping[str, float] = attrs.field(factory=dict)
    guessed_from: str = ""  # the named machine whose rates these are, for want of better
    about: str = ""  # when and with what it was measured

    @property
    def figures(self) -> dict[str, float]:
        """Every figure by name."""
        return {name: self.figure(name) for name in FIGURES}

    def figure(self, name: str) -> float:
        """One figure by its name in `FIGURES`."""
        return self.flops[name] if name in FLOPS else float(getattr(self, name))

    @property
    def matters(self) -> tuple[str, ...]:
        """The figures that a prediction for this device uses."""
        return tuple(n for n in FIGURES if self.device == "cuda" or n not in _OF_A_CARD)

    def source(self, name: str) -> Source:
        """How a figure is known."""
        return self.sources.get(name, "estimate")

    @property
    def estimated(self) -> bool:
        """Whether anything that matters is a guess."""
        return any(self.source(name) == "estimate" for name in self.matters)

    def with_figures(self, figures: Mapping[str, float], source: Source) -> Machine:
        """Return the machine with other values for some figures, known from *source*."""
        flops = {**self.flops, **{n: v for n, v in figures.items() if n in FLOPS}}
        plain: dict[str, Any] = {n: v for n, v in figures.items() if n not in FLOPS}
        plain |= {name: int(plain[name]) for name in TAKEN if name in plain}
        was = {n: v for n, v in self.was.items() if n not in figures}
        spreads = {n: v for n, v in self.spreads.items() if n not in figures}
        if source == "learned":
            was |= {n: self.was.get(n, self.figure(n)) for n in figures}
        return attrs.evolve(
            self,
            flops=flops,
            sources={**self.sources, **dict.fromkeys(figures, source)},
            spreads=spreads,
            was=was,
            **plain,
        )

    def flops_figure(self, kind: str, dtype: str) -> str:
        """Name the rate of a kernel; a dtype without one is taken for the slow one."""
        name = f"{kind}.{dtype}"
        return name if name in self.flops else f"{kind}.float32"

    def parts(
        self, flops: Mapping[str, float], memory_bytes: int, dtype: str, kernels: int = 0
    ) -> dict[str, float]:
        """The seconds of a call by the figure that they come from."""
        parts = {"call_seconds": self.call_seconds, "kernel_seconds": kernels * self.kernel_seconds}
        for kind, amount in flops.items():
            name = self.flops_figure(kind, dtype)
            parts[name] = parts.get(name, 0.0) + amount / self.flops[name]
        parts["memory_rate"] = memory_bytes / self.memory_rate
        return parts

    def compute_seconds(
        self, flops: Mapping[str, float], memory_bytes: int, dtype: str, kernels: int = 0
    ) -> float:
        """Time of one call: its kernels one after the other, and what it takes to start them.

        On CUDA the host runs ahead of the kernels, so that only the slower of the two counts.
        """
        parts = self.parts(flops, memory_bytes, dtype, kernels)
        starting = sum(parts.pop(name) for name in OVERHEADS)
        working = sum(parts.values())
        return max(starting, working) if self.device == "cuda" else starting + working

    def load(self, nbytes: int, *, from_host: bool) -> Load:
        """Time to bring weights to the device: from the disk, or from RAM when they are there.

        On a CPU what is in RAM is the page cache: the bytes are still read, at another rate.
        """
        if self.device == "cuda":
            return Load(0.0 if from_host else nbytes / self.disk_rate, nbytes / self.upload_rate)
        return Load(nbytes / (self.cached_disk_rate if from_host else self.disk_rate), 0.0)

    def load_seconds(self, nbytes: int) -> float:
        """Time to bring weights from the disk to the device, nothing overlapped."""
        load = self.load(nbytes, from_host=False)
        return load.disk_seconds + load.copy_seconds
