"""Machines by name, and as they are guessed: all of their figures are estimates. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import attrs

from wanflow.errors import InputError
from wanflow.scheduler.machine.cards import CARDS, OFF_PERCENT, Chip, card_like
from wanflow.scheduler.machine.figures import FLOPS, Machine
from wanflow.units import GIB

_G = 1e9
_ADA = (8, 9)  # for a card of which nothing is known but its memory
NAMES = ("cpu", *CARDS)


# GFLOP/s that Wan's calls reach on two threads, of GEMM, attention and convolution each in
# bfloat16, float16 and float32, and GB/s of memory. With AVX2 half-precision GEMM and convolution
# have no fast path, attention has one. AMX: what `machine probe` found on one rented server, whose
# runs bear it out. AVX-512: convolution and memory of one run at full size, the rest by products.
_CPU_RATES: Mapping[str, tuple[float, ...]] = {
    "avx2": (10, 10, 100, 90, 35, 90, 0.8, 0.8, 40, 5),
    "avx512": (300, 100, 130, 250, 60, 150, 100, 60, 75, 10),
    "amx": (880, 360, 380, 1200, 300, 430, 900, 200, 250, 8),
}


# By so much convolutions of a few MFLOP are slower, most of all those of strips of a row or two.
_SMALL_CONVOLUTIONS = 4


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
        small={"small.conv.float32": flops["conv.float32"] / _SMALL_CONVOLUTIONS},
    )


def named_machine(name: str) -> Machine:
    """Look a machine up by name; InputError lists the names."""
    if name == "cpu":
        return cpu_machine(16 * GIB)
    card = CARDS.get(name.lower())
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
    name: str,
    capability: tuple[int, int],
    capacity_bytes: int,
    ram_bytes: int,
    chip: Chip | None = None,
) -> Machine:
    """Guess the rates of a card nobody measured: by *chip*, and the named card most like it."""
    like, card = card_like(name, capability, capacity_bytes, chip)
    return attrs.evolve(
        card.machine(),
        name=name,
        capacity_bytes=capacity_bytes,
        ram_bytes=ram_bytes,
        guessed_from=like.name,
    )


def published_error(machine: Machine) -> int | None:
    """Say within how many percent of published runs a machine's rates were, where they are known.

    None for any but a named card's own rates.
    """
    card = CARDS.get(machine.guessed_from or machine.name)
    if card is None or machine.sources or machine.flops != card.machine().flops:
        return None
    return OFF_PERCENT.get(card.name)


def as_on_paper(machine: Machine) -> Machine:
    """Give a machine as it was before anything was measured or learned: what no time may decide."""
    if machine.device == "cpu":
        paper = cpu_machine(machine.ram_bytes)
    elif (card := CARDS.get(machine.guessed_from or machine.name)) is not None:
        paper = card.machine()
    else:
        paper = guessed_machine(machine.name, _ADA, machine.capacity_bytes, machine.ram_bytes)
    return attrs.evolve(
        paper, name=machine.name, capacity_bytes=machine.capacity_bytes,
        ram_bytes=machine.ram_bytes, granularity_bytes=machine.granularity_bytes,
    )  # fmt: skip
