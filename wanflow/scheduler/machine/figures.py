"""A machine: tiers with capacities, rates, and how each of these is known. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from wanflow.scheduler.footprint.costs import CLASSES, DTYPES

# `probed`: by the short probe before a first plan.
Source = Literal["measured", "probed", "learned", "estimate"]

FLOPS = tuple(f"{kind}.{dtype}" for kind in CLASSES for dtype in DTYPES)
LINKS = ("upload_rate", "upload_pageable_rate", "download_rate", "download_pageable_rate")
RATES = ("memory_rate", *LINKS, "disk_rate", "cached_disk_rate")
OVERHEADS = ("kernel_seconds", "call_seconds")
TAKEN = ("context_bytes", "library_bytes")
SMALL = tuple(f"small.{name}" for name in (*FLOPS, "memory_rate"))
FILES = ("save_seconds", "save_rate", "video_seconds", "video_rate")
PEERS = ("exchange_rate", "exchange_seconds")  # between several of them
FIGURES = (*FLOPS, *RATES, *OVERHEADS, *TAKEN, *SMALL, *FILES, *PEERS)
_OF_A_CARD, _OF_A_CPU = (*LINKS, *TAKEN), (*SMALL, *FILES)

# What a call does of a class, in FLOPs, and its memory traffic, in bytes: at most so much goes at
# the small rate, at least so much at the large one, and what lies between at one between them.
_PACKING_RATE = 8e8  # bytes of bf16 that a core packs in a second
_FLOPS_RANGE, _BYTES_RANGE = (1e8, 1e10), (8e6, 5e8)


@attrs.frozen
class Load:
    """Seconds a load takes on each queue."""

    disk_seconds: float
    copy_seconds: float


@attrs.frozen
class Machine:
    """Capacities in bytes, rates in FLOP/s and bytes/s as they are reached, not as they are sold.

    On a CPU the device is the RAM itself: there is no host tier and the rates of the link are not
    used. `small` has the rates that small calls reach there, where these are known to be others.
    `sources` says how a figure is known; one that is not in it is an estimate. `spreads` has
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
    small: Mapping[str, float] = attrs.field(factory=dict)  # by name in `SMALL`
    save_seconds: float = 1e-3  # one file of those saved after a step, until it is on the disk
    save_rate: float = 5e8  # bytes of them
    video_seconds: float = 0.1  # starting a video's encoder and ending it
    video_rate: float = 5e7  # bytes of its frames
    exchange_rate: float = 1e9  # bytes that a rank is given by the others on its like
    exchange_seconds: float = 200e-6  # until an exchange begins
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
        if name in SMALL:
            return self.small.get(name) or self.figure(name.removeprefix("small."))
        return self.flops[name] if name in FLOPS else float(getattr(self, name))

    @property
    def matters(self) -> tuple[str, ...]:
        """The figures that a prediction for this device, by itself, uses."""
        others = (*PEERS, *(_OF_A_CPU if self.device == "cuda" else _OF_A_CARD))
        return tuple(name for name in FIGURES if name not in others)

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
        small = {**self.small, **{n: v for n, v in figures.items() if n in SMALL}}
        plain: dict[str, Any] = {n: v for n, v in figures.items() if n not in (*FLOPS, *SMALL)}
        plain |= {name: int(plain[name]) for name in TAKEN if name in plain}
        was = {n: v for n, v in self.was.items() if n not in figures}
        spreads = {n: v for n, v in self.spreads.items() if n not in figures}
        if source == "learned":
            was |= {n: self.was.get(n, self.figure(n)) for n in figures}
        return attrs.evolve(
            self,
            flops=flops,
            small=small,
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
            self._add_work(parts, self.flops_figure(kind, dtype), amount, _FLOPS_RANGE)
        self._add_work(parts, "memory_rate", memory_bytes, _BYTES_RANGE)
        return parts

    def _add_work(
        self, parts: dict[str, float], name: str, amount: float, span: tuple[float, float]
    ) -> None:
        """Add the seconds of some work; on a CPU its rate is that of small calls, or between.

        Each of the two figures has its share of the time: that is how far the time goes with it.
        """
        share = _small_share(amount, span) if self.device == "cpu" else 0.0
        small, large = self.figure(f"small.{name}"), self.figure(name)
        seconds = amount / (small**share * large ** (1 - share))
        for figure, part in ((f"small.{name}", share), (name, 1 - share)):
            if part and seconds:
                parts[figure] = parts.get(figure, 0.0) + part * seconds

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

    def exchanging_seconds(self, nbytes: int, exchanges: int) -> float:
        """Time in which other ranks, each on a machine like this one, send *nbytes*."""
        return exchanges * self.exchange_seconds + nbytes / self.exchange_rate

    def load(self, nbytes: int, *, from_host: bool, file_bytes: int) -> Load:
        """Time to bring weights to the device: from the disk, or from RAM when they are there.

        *file_bytes* are more than *nbytes* where floats are packed when they are read. On a CPU
        what is in RAM is the page cache: the bytes are still read, and packed, at another rate.
        """
        packing = file_bytes / _PACKING_RATE if file_bytes > nbytes else 0.0
        if self.device == "cuda":
            reading = 0.0 if from_host else file_bytes / self.disk_rate + packing
            return Load(reading, nbytes / self.upload_rate)
        rate = self.cached_disk_rate if from_host else self.disk_rate
        return Load(file_bytes / rate + packing, 0.0)


def _small_share(amount: float, span: tuple[float, float]) -> float:
    low, high = span
    if amount <= low:
        return 1.0
    return max(0.0, math.log(high / amount) / math.log(high / low))
