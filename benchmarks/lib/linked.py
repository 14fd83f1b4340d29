"""Runs on this CPU as if it were a card: its memory behind a link of a settable speed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs
import torch

from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.run.devices import LinkedDevice
from wanflow.session.machines import this_machine
from wanflow.session.preparing.place import FindPlace, Place
from wanflow.session.request import Request
from wanflow.units import parse_budget

_CAPACITY_BYTES = 1 << 30


@contextlib.contextmanager
def linked(rate: float) -> Iterator[FindPlace]:
    """Lend what finds a place behind a link of *rate* bytes a second, for the option `on`."""
    opened: list[LinkedDevice] = []

    def open_device(_device: torch.device) -> LinkedDevice:
        opened.append(LinkedDevice(rate))
        return opened[-1]

    def find(request: Request) -> Place:
        nbytes = parse_budget(request.vram).nbytes or _CAPACITY_BYTES
        cpu, machine = torch.device("cpu"), _machine(rate)
        place = Place(cpu, "cuda:0", machine, nbytes, request.vram, 0, machine.ram_bytes)
        return attrs.evolve(place, open_device=open_device)

    yield find
    for device in opened:
        device.close()


def _machine(rate: float) -> Machine:
    """What this CPU reaches, with the link's rate; a card, so that there is a host tier."""
    cpu = this_machine(torch.device("cpu"))
    return attrs.evolve(
        cpu,
        name="linked",
        device="cuda",
        capacity_bytes=_CAPACITY_BYTES,
        upload_rate=rate,
        download_rate=rate,
    )
