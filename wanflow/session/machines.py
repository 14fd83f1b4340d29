"""The machines of this computer: measured once, kept, and refined by every run."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs

from wanflow.memory_limits import tightest_total
from wanflow.scheduler.machine.cards import Chip
from wanflow.scheduler.machine.datasheets import cpu_machine, guessed_machine
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.learn import learn
from wanflow.scheduler.machine.store import find, folder, load, path_of, save, stored

if TYPE_CHECKING:
    import torch

__all__ = [
    "device_name", "estimate", "find", "folder", "keep_learned", "learn", "load", "measure",
    "path_of", "save", "stored", "this_machine",
]  # fmt: skip


def device_name(device: torch.device) -> str:
    """Name the machine of a device: `cpu`, or as the driver calls the card."""
    if device.type == "cpu":
        return "cpu"
    import torch

    return str(torch.cuda.get_device_properties(device).name)


def this_machine(device: torch.device) -> Machine:
    """Give the stored machine of a device, else an estimate; its capacities are those of today."""
    machine = load(device_name(device))
    guess = estimate(device)
    if machine is None or machine.device != device.type:
        return guess
    return attrs.evolve(machine, capacity_bytes=guess.capacity_bytes, ram_bytes=guess.ram_bytes)


def estimate(device: torch.device) -> Machine:
    """Say of a device what can be said without measuring."""
    import torch

    ram_bytes = tightest_total().total_bytes
    if device.type == "cpu":
        return cpu_machine(ram_bytes, _instructions(), torch.get_num_threads())
    about = torch.cuda.get_device_properties(device)
    capability = (int(about.major), int(about.minor))
    return guessed_machine(
        str(about.name), capability, int(about.total_memory), ram_bytes, Chip.of(about)
    )


def _instructions() -> str:
    """The fastest of the instructions for products that PyTorch finds here."""
    import torch

    if torch.cpu._is_amx_tile_supported():  # noqa: SLF001 - there is no public way to ask
        return "amx"
    return "avx512" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "avx2"


def measure(device: torch.device, name: str | None = None) -> Machine:
    """Measure a device and keep what was found, under *name* or that of the device."""
    import torch

    from wanflow.scheduler.run.probe import probe

    # What pins memory asks for no device: it pins for the current one.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        machine = probe(device, estimate(device))
    machine = attrs.evolve(machine, name=name or machine.name)
    save(machine)
    return machine


def keep_learned(before: Machine, after: Machine) -> str | None:
    """Store what a run has taught, if anything; a run does not fail for it: the problem is told."""
    if after == before:
        return None
    try:
        save(after)
    except OSError as error:
        return f"what this run taught was not kept: {folder()}: {error.strerror}"
    return None
