"""Cards: their datasheets, what kernels reach of these, and a guess for any other card. No torch.

Dense tensor-core rates with fp32 accumulation, which is what PyTorch uses. On GeForce cards they
are half of the advertised figure for fp16 accumulation. Sources: NVIDIA's architecture whitepapers
(GA102 1.0 and 2.1, Ada GPU 2.1, RTX Blackwell 1.1 and RTX PRO 1.0, A100 1.0, H100 1.04) and the
datasheets of H200, H20, L20, L40S and RTX PRO 6000 (Server Edition); the 3060, 4060 and 4070 SUPER
by their SM counts and clocks from the cards' specification pages.

What kernels reach of these is fitted to published runs: `scripts/fit_cards.py`, docs/machines.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import attrs

from wanflow.scheduler.allocator.plain import LARGE_SEGMENT_BYTES, segment_bytes
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.peer_links import EXCHANGE_SECONDS, peer_rate
from wanflow.units import GIB, KIB, MIB

_T, _G = 1e12, 1e9
_PLAIN_REACHED = {"gemm": 0.7, "attention": 0.5}  # in fp32, without tensor cores
_LINK_REACHED = {"3x16": 12, "4x8": 12, "4x16": 24, "5x16": 50}  # PCIe, pinned, GB/s


@attrs.frozen
class Reached:
    """What kernels reach of a datasheet's rates, as shares.

    `memory` is of the bytes that footprints count, which are fewer than those that move: what is
    done in place is not in them.
    """

    gemm: float
    attention: float
    conv: float
    memory: float


REACHED: Mapping[str, Reached] = {
    "ampere": Reached(0.816, 0.717, 0.4, 0.336),  # GA100
    "hopper": Reached(0.763, 0.645, 0.4, 0.336),  # with cuDNN's attention
    "h20": Reached(0.919, 0.921, 0.4, 0.336),  # sold with a limited rate, and so the L20
    "l20": Reached(0.854, 0.919, 0.4, 0.6),
    "geforce": Reached(0.922, 0.93, 0.4, 0.6),  # half a rate, as its tensor cores are in fp32
    "workstation": Reached(0.711, 0.75, 0.4, 0.6),  # Ada and Blackwell at their full rate
}
# Percent that no published run of a card's kind is farther off; of a card that none was published
# of, the most of any. The 30 series has the later ones' shares, and nothing to show for it.
OFF_PERCENT: Mapping[str, int] = {
    "rtx4060": 20, "rtx4070s": 20, "rtx4090": 10, "rtx4090d": 10, "rtx5090": 10, "l20": 15,
    "l40s": 20, "rtxpro6000": 20, "a100-40g": 20, "a100-80g": 10, "a800": 10, "h100": 10,
    "h800": 10, "h200": 20, "h20": 10,
}  # fmt: skip


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
class Card:
    """A datasheet: half-precision, TF32 and plain single TFLOP/s, memory GB/s, PCIe.

    `kind` is what it reaches; `sold` is how the driver calls it, `NVIDIA` and `GeForce` aside.
    """

    name: str
    kind: str
    capability: tuple[int, int]
    gib: int
    half: float
    tf32: float
    single: float
    memory: float
    link: str
    ram_gib: int
    sold: str

    def machine(self, reached: Reached | None = None) -> Machine:
        """Make the machine, for kernels that reach what its kind does, or *reached*."""
        share = reached or REACHED[self.kind]
        flops = {"conv.float32": self.tf32 * share.conv * _T}  # PyTorch lets cuDNN use TF32
        for kind, plain in _PLAIN_REACHED.items():
            flops[f"{kind}.float32"] = self.single * plain * _T
        for kind in ("gemm", "attention", "conv"):
            half = self.half * getattr(share, kind) * _T
            # Before Ampere bfloat16 is computed in fp32, between two conversions.
            brain = half if self.capability >= _AMPERE else flops[f"{kind}.float32"] / 2
            flops |= {f"{kind}.bfloat16": brain, f"{kind}.float16": half}
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
            memory_rate=self.memory * share.memory * _G,
            upload_rate=link,
            upload_pageable_rate=pageable,
            download_rate=link,
            download_pageable_rate=pageable,
            disk_rate=3.5 * _G,
            cached_disk_rate=8 * _G,
            kernel_seconds=6e-6,
            call_seconds=100e-6,
            exchange_rate=peer_rate(self.name, link),
            exchange_seconds=EXCHANGE_SECONDS,
        )


CARDS = {
    card.name: card
    for card in (
        Card("rtx3060", "geforce", (8, 6), 12, 25.5, 12.7, 12.7, 360, "4x16", 32, "RTX 3060"),
        Card("rtx3090", "geforce", (8, 6), 24, 71, 35.6, 35.6, 936, "4x16", 64, "RTX 3090"),
        Card("rtx4060", "geforce", (8, 9), 8, 30.2, 15.1, 15.1, 272, "4x8", 32, "RTX 4060"),
        Card("rtx4070s", "geforce", (8, 9), 12, 71, 35.5, 35.5, 504, "4x16", 32, "RTX 4070 SUPER"),
        Card("rtx4090", "geforce", (8, 9), 24, 165.2, 82.6, 82.6, 1008, "4x16", 64, "RTX 4090"),
        Card("rtx4090d", "geforce", (8, 9), 24, 147, 73.5, 73.5, 1008, "4x16", 64, "RTX 4090 D"),
        Card("rtx5090", "geforce", (12, 0), 32, 209.5, 104.8, 104.8, 1792, "5x16", 64, "RTX 5090"),
        Card("l20", "l20", (8, 9), 48, 119.5, 59.8, 59.8, 864, "4x16", 128, "L20"),
        Card("l40s", "workstation", (8, 9), 48, 362, 183, 91.6, 864, "4x16", 128, "L40S"),
        Card("rtxpro6000", "workstation", (12, 0), 96, 480, 240, 120, 1597, "5x16", 128,
             "RTX PRO 6000 Blackwell (Server|Workstation) Edition"),
        Card("a100-40g", "ampere", (8, 0), 40, 312, 156, 19.5, 1555, "4x16", 128, "A100.*40GB"),
        Card("a100-80g", "ampere", (8, 0), 80, 312, 156, 19.5, 2039, "4x16", 128, "A100.*80GB"),
        Card("a800", "ampere", (8, 0), 80, 312, 156, 19.5, 2039, "4x16", 128, "A800.*80GB"),
        Card("h100", "hopper", (9, 0), 80, 989.4, 494.7, 66.9, 3350, "5x16", 128, "H100.*HBM3"),
        Card("h800", "hopper", (9, 0), 80, 989.4, 494.7, 66.9, 3350, "5x16", 128, "H800"),
        # Sold as 141 GB; of its memory the driver shows 140 GiB.
        Card("h200", "hopper", (9, 0), 140, 989.4, 494.7, 66.9, 4800, "5x16", 128, "H200"),
        Card("h20", "h20", (9, 0), 96, 148, 74, 44, 4000, "5x16", 128, "H20(-.*)?"),
    )
}  # fmt: skip


# FLOPs a clock of one multiprocessor on tensor cores, in half precision. GeForce cards do half of
# it where they accumulate in fp32. Pascal has no tensor cores.
_HALF_A_CLOCK = {
    (6, 0): 128, (6, 1): 256, (7, 0): 1024, (7, 5): 1024, (8, 0): 2048, (8, 6): 1024, (8, 9): 1024,
    (9, 0): 4096, (10, 0): 8192, (12, 0): 1024,
}  # fmt: skip
_FEW_CORES = {(6, 0), (7, 0), (7, 5), (8, 0)}  # 64 in a multiprocessor, 128 in all others
_AMPERE = (8, 0)


@attrs.frozen
class Chip:
    """What the driver says of a card: multiprocessors, their highest clock, bytes/s of memory."""

    multiprocessors: int
    clock: float
    memory: float

    @classmethod
    def of(cls, about: Any) -> Chip | None:
        """Read PyTorch's properties of a device; None where it doesn't tell."""
        names = ("multi_processor_count", "clock_rate", "memory_clock_rate", "memory_bus_width")
        count, clock, memory, bits = (int(getattr(about, name, 0) or 0) for name in names)
        if not all((count, clock, memory, bits)):
            return None
        return cls(count, clock * 1e3, memory * 1e3 * 2 * bits / 8)  # kHz, twice a clock


def card_like(
    name: str, capability: tuple[int, int], capacity_bytes: int, chip: Chip | None
) -> tuple[Card, Card]:
    """Give a card by its driver's name: the named one that is most like it, and itself.

    A card that is sold as a named one is that one. Of any other *chip* says the datasheet, and the
    nearest of its kind what is reached of it.
    """
    short = re.sub(r"^(NVIDIA |Tesla |GeForce )+", "", name)
    for card in CARDS.values():
        if re.fullmatch(card.sold, short):
            return card, card

    def distance(card: Card) -> float:
        other, own = (major + minor / 10 for major, minor in (card.capability, capability))
        apart = abs(other - own) + abs(math.log2(card.gib * GIB / capacity_bytes))
        return apart + 10 * (card.kind != _kind_of(name, capability))

    like = min(CARDS.values(), key=distance)
    return like, like if chip is None else _by_chip(like, name, capability, chip)


def _kind_of(name: str, capability: tuple[int, int]) -> str:
    if "GeForce" in name:
        return "geforce"
    return {(8, 0): "ampere", (9, 0): "hopper", (10, 0): "hopper"}.get(capability, "workstation")


def _by_chip(like: Card, name: str, capability: tuple[int, int], chip: Chip) -> Card:
    """Make a datasheet out of what the driver says; one of a newer chip is like the newest."""
    known = max((c for c in _HALF_A_CLOCK if c <= capability), default=(6, 0))
    a_clock = _HALF_A_CLOCK[known]
    if "GeForce" in name and capability >= (7, 5):
        a_clock //= 2
    teraflops = chip.multiprocessors * chip.clock / _T
    single = teraflops * (128 if known in _FEW_CORES else 256)
    half = teraflops * a_clock
    return attrs.evolve(
        like,
        capability=capability,
        half=half,
        tf32=half / 2 if capability >= _AMPERE else single,
        single=single,
        memory=chip.memory / _G,
    )
