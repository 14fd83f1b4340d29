"""Runs on this CPU as if it were a card: its memory behind a link of a settable speed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from unittest.mock import patch

import attrs
import torch

from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.run.devices import LinkedDevice
from wanflow.session.machines import this_machine
from wanflow.session.planning import planned as planning
from wanflow.session.preparing.place import Place
from wanflow.session.request import Request
from wanflow.session.running import retry as executing
from wanflow.session.running import run as running
from wanflow.units import parse_budget

_CAPACITY_BYTES = 1 << 30


@contextlib.contextmanager
def linked(rate: float, *more: ModuleType) -> Iterator[None]:
    """Have runs and plans in this process go to a `LinkedDevice`; *rate* is in bytes a second.

    So do those of the modules *more*, which find a place and open a device by themselves.
    """
    opened: list[LinkedDevice] = []

    def open_device(_device: torch.device) -> LinkedDevice:
        opened.append(LinkedDevice(rate))
        return opened[-1]

    def find_place(request: Request) -> Place:
        nbytes = parse_budget(request.vram).nbytes or _CAPACITY_BYTES
        cpu, ram_bytes = torch.device("cpu"), _machine(rate).ram_bytes
        return Place(cpu, "cuda:0", _machine(rate), nbytes, request.vram, 0, ram_bytes)

    with contextlib.ExitStack() as patches:
        for module in (executing, *more):
            patches.enter_context(patch.object(module, "open_device", open_device))
        for module in (planning, running, *more):
            patches.enter_context(patch.object(module, "find_place", find_place))
        yield
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
