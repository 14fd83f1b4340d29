"""Small runs that are cut short and resumed, and a device with every tier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from wanflow.errors import StageFailed
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.scheduler.run.devices import LinkedDevice
from wanflow.scheduler.run.ledger import Ledger
from wanflow.session import Request, resume, run
from wanflow.session.preparing.place import FindPlace, Place, find_place
from wanflow.trace import TraceReader
from wanflow.trace.events import Event

INPUTS: dict[str, str | int | float] = {"steps": 3, "frames": 5, "size": "32*32"}
# What is chosen otherwise depends on what runs have taught; here bits are compared.
PLAIN = ("denoise.cfg=serial", "denoise.rows=all", "decode.strips=whole")
SMALL = Request("t2v-tiny", INPUTS, device="cpu", vram="64MiB", pins=PLAIN)
STREAMED = attrs.evolve(SMALL, pins=(*SMALL.pins, "denoise.weights=stream"))


class Frames:
    """A watch that keeps the frames; *fail_at* makes it fail when that many latents were made."""

    def __init__(self, fail_at: int | None = None) -> None:
        self._chunks: list[torch.Tensor] = []
        self._fail_at, self._latents = fail_at, 0

    def __call__(self, _stage: str, name: str, tensor: torch.Tensor) -> None:
        """See a value."""
        if name == "decode.frames":
            self._chunks.append(tensor.to("cpu", copy=True))
        self._latents += name == "denoise.latents"
        if self._latents == self._fail_at:
            raise StageFailed("as the test wants it", code="test")

    @property
    def frames(self) -> torch.Tensor:
        """All frames, or none."""
        return torch.cat(self._chunks) if self._chunks else torch.empty(0)


def frames_of(request: Request, out: Path, on: FindPlace = find_place) -> torch.Tensor:
    """Run it whole."""
    watch = Frames()
    run(request, out=out, force=True, watch=watch, on=on)
    return watch.frames


def resumed_frames(out: Path, on: FindPlace = find_place) -> torch.Tensor:
    """Go on with what is in *out*."""
    watch = Frames()
    resume(out, watch=watch, on=on)
    return watch.frames


def cut_short(request: Request, out: Path, latents: int = 2, on: FindPlace = find_place) -> Path:
    """A run that failed while it made latents for the *latents*-th time."""
    with pytest.raises(StageFailed):
        run(request, out=out, watch=Frames(latents), on=on)
    return out


def events(out: Path) -> list[Event]:
    """The events of a run's trace."""
    with TraceReader(out / "trace.msgpack") as reader:
        return list(reader)


@attrs.define
class Link:
    """Stands in for a card: its devices, and the ledgers of the runs on it."""

    devices: list[LinkedDevice] = attrs.field(factory=list)
    ledgers: list[Ledger] = attrs.field(factory=list)
    slabs: int = 0
    fails: Callable[[int], bool] = lambda _number: False  # of slabs
    refuses: Callable[[str], None] = lambda _what: None  # may raise at anything
    vram_bytes: int = 1 << 30
    ram_bytes: int | None = None

    def open(self, _device: torch.device) -> LinkedDevice:
        """Make the device of a try."""
        self.devices.append(LinkedDevice(rate=4e9, fails=self._ask))
        return self.devices[-1]

    def _ask(self, what: str) -> None:
        self.refuses(what)
        if what != "slab":
            return
        self.slabs += 1
        if self.fails(self.slabs):
            raise torch.OutOfMemoryError("CUDA out of memory. As the test wants it.")

    def ledger(self, *given: Any, **named: Any) -> Ledger:
        """Make a ledger and remember it."""
        self.ledgers.append(Ledger(*given, **named))
        return self.ledgers[-1]

    def place(self, _request: Request) -> Place:
        """A card that computes on the CPU, beside a disk that is worth avoiding."""
        machine = attrs.evolve(
            named_machine("rtx4060"), name="linked", device="cuda",
            disk_rate=1e6, cached_disk_rate=1e6,
        )  # fmt: skip
        cpu, text = torch.device("cpu"), "the test's"
        place = Place(cpu, "cuda:0", machine, self.vram_bytes, text, 0, self.ram_bytes)
        return self.put_on(place)

    def put_on(self, place: Place) -> Place:
        """The place, its device and its accounts of this link."""
        return attrs.evolve(place, checks=True, open_device=self.open, open_ledger=self.ledger)

    def close(self) -> None:
        """End the devices so far and forget them."""
        for device in self.devices:
            device.close()
        self.devices.clear()

    def left_bytes(self) -> int:
        """What the ledgers of all tries still hold."""
        return sum(ledger.resident_bytes(t) for ledger in self.ledgers for t in ledger.tiers)
