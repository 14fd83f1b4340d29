"""Machines by name, with figures from datasheets: all of them estimates. No torch.

Dense tensor-core rates with fp32 accumulation, which is what PyTorch uses. On GeForce cards they
are half of the advertised figure for fp16 accumulation. Sources: NVIDIA's architecture whitepapers
(GA102 1.0 and 2.1, Ada GPU 2.1, RTX Blackwell 1.1, A100 1.0, H100 1.04) and the H200 datasheet;
the 3060, 4060 and 4070 SUPER by their SM counts and clocks from the cards' specification pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches

import attrs

from wanflow.errors import InputError
from wanflow.scheduler.allocator.plain import LARGE_SEGMENT_BYTES, segment_bytes
from wanflow.scheduler.machine.figures import FLOPS, Machine
from wanflow.units import GIB, KIB, MIB

_T, _G = 1e12, 1e9
# Of its datasheet rate a large kernel reaches about so much.
_REACHED = {"gemm": 0.7, "attention": 0.5, "conv": 0.4}
_MEMORY_REACHED = 0.8
_LINK_REACHED = {"3x16": 12, "4x8": 12, "4x16": 24, "5x16": 50}  # PCIe, pinned, GB/s


def _library_bytes(capability: tuple[int, int]) -> int:
    """What PyTorch gives cuBLAS (2 times 4 MiB and 8 times 16 KiB; 32 MiB from Hopper on) and Lt.

    `aten/src/ATen/cuda/CublasHandlePool.cpp`; each for as long as the process lives, at the start
    of the allocator's memory, on pages that hold nothing else for certain. cuDNN's workspaces are a
    call's own.
    """
    blas = 32 * MIB if capability >= (9, 0) else 2 * 4 * MIB + 8 * 16 * KIB
    pages = -(-blas // LARGE_SEGMENT_BYTES) * LARGE_SEGMENT_BYTES
    return pages + segment_bytes(MIB)


@attrs.frozen
class _Card:
    """A datasheet: half-precision, TF32 and plain single TFLOP/s, memory GB/s, PCIe."""

    name: str
    capability: tuple[int, int]
    gib: int
    half: float
    tf32: float
    single: float
    memory: float
    link: str
    ram_gib: int

    def machine(self) -> Machine:
        # PyTorch lets cuDNN use TF32 for fp32 convolutions, and nothing else.
        single = {"gemm": self.single, "attention": self.single, "conv": self.tf32}
        flops = {}
        for kind, reached in _REACHED.items():
            flops[f"{kind}.bfloat16"] = flops[f"{kind}.float16"] = self.half * reached * _T
            flops[f"{kind}.float32"] = single[kind] * reached * _T
        link = _LINK_REACHED[self.link] * _G
        pageable = min(link / 2, 8 * _G)  # one core copies through the driver's pinned buffer
        return Machine(
            name=self.name,
            device="cuda",
            capacity_bytes=self.gib * GIB,
            ram_bytes=self.ram_gib * GIB,
            context_bytes=512 * MIB,
            library_bytes=_library_bytes(self.capability),
            granularity_bytes=2 * MIB,
            flops=flops,
            memory_rate=self.memory * _MEMORY_REACHED * _G,
            upload_rate=link,
            upload_pageable_rate=pageable,
            download_rate=link,
            download_pageable_rate=pageable,
            disk_rate=3.5 * _G,
            cached_disk_rate=8 * _G,
            kernel_seconds=6e-6,
            call_seconds=100e-6,
        )


_CARDS = {
    card.name: card
    for card in (
        _Card("rtx3060", (8, 6), 12, 25.5, 12.7, 12.7, 360, "4x16", 32),
        _Card("rtx4060", (8, 9), 8, 30.2, 15.1, 15.1, 272, "4x8", 32),
        _Card("rtx4070s", (8, 9), 12, 71, 35.5, 35.5, 504, "4x16", 32),
        _Card("rtx4090", (8, 9), 24, 165.2, 82.6, 82.6, 1008, "4x16", 64),
        _Card("rtx5090", (12, 0), 32, 209.5, 104.8, 104.8, 1792, "5x16", 64),
        _Card("a100-40g", (8, 0), 40, 312, 156, 19.5, 1555, "4x16", 128),
        _Card("a100-80g", (8, 0), 80, 312, 156, 19.5, 2039, "4x16", 128),
        _Card("h100", (9, 0), 80, 989.4, 494.7, 66.9, 3350, "5x16", 128),
        # Sold as 141 GB; of its memory the driver shows 140 GiB.
        _Card("h200", (9, 0), 140, 989.4, 494.7, 66.9, 4800, "5x16", 128),
    )
}
_ADA = (8, 9)  # for a card of which nothing is known but its memory
NAMES = ("cpu", *_CARDS)


# GFLOP/s that Wan's calls reach on two threads, of GEMM, attention and convolution each in
# bfloat16, float16 and float32, and GB/s of memory. With AVX2 half-precision GEMM and convolution
# have no fast path, attention has one. AMX: what `machine probe` found on one rented server, whose
# runs bear it out. AVX-512: convolution and memory of one run at full size, the rest by products.
_CPU_RATES: Mapping[str, tuple[float, ...]] = {
    "avx2": (10, 10, 100, 90, 35, 90, 0.8, 0.8, 40, 5),
    "avx512": (300, 100, 130, 250, 60, 150, 100, 60, 75, 10),
    "amx": (880, 360, 380, 1200, 300, 430, 900, 200, 250, 8),
}


def cpu_machine(total_bytes: int, instructions: str = "avx2", threads: int = 2) -> Machine:
    """A processor with its RAM, at the rates of an ordinary machine with such *instructions*."""
    *rates, memory = (rate * threads / 2 * _G for rate in _CPU_RATES[instructions])
    flops = dict(zip(FLOPS, rates, strict=True))
    return Machine(
        name="cpu",
        device="cpu",
        capacity_bytes=total_bytes,
        ram_bytes=total_bytes,
        context_bytes=0,
        library_bytes=0,
        granularity_bytes=64,  # PyTorch's alignment
        flops=flops,
        memory_rate=memory,
        upload_rate=10 * _G,
        upload_pageable_rate=10 * _G,
        download_rate=10 * _G,
        download_pageable_rate=10 * _G,
        disk_rate=1 * _G,
        cached_disk_rate=4 * _G,
        kernel_seconds=10e-6,
        call_seconds=50e-6,
    )


def named_machine(name: str) -> Machine:
    """Look a machine up by name; InputError lists the names."""
    if name == "cpu":
        return cpu_machine(16 * GIB)
    card = _CARDS.get(name.lower())
    if card is None:
        raise unknown(name, NAMES)
    return card.machine()


def unknown(name: str, names: tuple[str, ...]) -> InputError:
    """Say that no machine is called *name*, and what there is."""
    close = get_close_matches(name.lower(), names, n=1)
    did = f"did you mean {close[0]!r}? " if close else ""
    return InputError(
        f"--machine {name!r} is not known",
        hint=f"{did}known: {', '.join(names)}",
        code="unknown-machine",
    )


def guessed_machine(
    name: str, capability: tuple[int, int], capacity_bytes: int, ram_bytes: int
) -> Machine:
    """Guess the rates of a card nobody measured: those of the named card that is most like it."""

    def distance(card: _Card) -> float:
        other, own = (major + minor / 10 for major, minor in (card.capability, capability))
        return abs(other - own) + abs(math.log2(card.gib * GIB / capacity_bytes))

    like = min(_CARDS.values(), key=distance)
    return attrs.evolve(
        like.machine(),
        name=name,
        capacity_bytes=capacity_bytes,
        ram_bytes=ram_bytes,
        guessed_from=like.name,
    )


def as_on_paper(machine: Machine) -> Machine:
    """Give a machine as it was before anything was measured or learned: what no time may decide."""
    if machine.device == "cpu":
        paper = cpu_machine(machine.ram_bytes)
    elif (card := _CARDS.get(machine.guessed_from or machine.name)) is not None:
        paper = card.machine()
    else:
        paper = guessed_machine(machine.name, _ADA, machine.capacity_bytes, machine.ram_bytes)
    return attrs.evolve(
        paper, name=machine.name, capacity_bytes=machine.capacity_bytes,
        ram_bytes=machine.ram_bytes, granularity_bytes=machine.granularity_bytes,
    )  # fmt: skip
