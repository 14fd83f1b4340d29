"""Read `--devices` and the budgets of its ranks: one request a rank."""

from __future__ import annotations

import re

import attrs

from wanflow.errors import InputError
from wanflow.scheduler.machine.store import find
from wanflow.session.request import Request
from wanflow.units import parse_budget

_MOST = 64  # ranks
_ITEM = re.compile(r"(?P<name>[A-Za-z0-9_.:-]+?)(\*(?P<count>[0-9]{1,3}))?")


@attrs.frozen
class Seats:
    """The requests of all ranks, in order; `kind` is what carries tensors between them."""

    requests: tuple[Request, ...]
    kind: str  # cpu or cuda

    @property
    def is_here(self) -> bool:
        """Whether the devices are this computer's, not named machines."""
        return all(request.machine is None for request in self.requests)


def parse_devices(request: Request) -> Seats:
    """Read a request's devices; InputError for what can't be meant."""
    if request.device != "auto" or request.machine is not None:
        raise InputError(
            f"--devices {request.devices} says where: --device and --machine can't as well",
            hint="leave the other out",
            code="devices-and-device",
        )
    names = _names(request.devices)
    cards = [name for name in names if name.startswith("cuda")]
    named = [name for name in names if name not in cards and name != "cpu"]
    if cards and len(cards) < len(names):
        raise InputError(
            f"--devices {request.devices}: cards of this computer and others can't be mixed",
            hint="cuda:0,cuda:1 or cpu*2; named machines only to plan: rtx4090*4",
            code="bad-devices",
        )
    if twice := sorted({name for name in cards if cards.count(name) > 1}):
        raise InputError(f"--devices: {twice[0]} is given twice", code="bad-devices")
    if named and "cpu" in names:
        raise InputError("--devices: a cpu can't be mixed with named machines", code="bad-devices")
    for name in named:
        find(name)
    device_of = {name: ("auto", name) if name in named else (name, None) for name in names}
    requests = tuple(
        attrs.evolve(
            request, devices="", device=device_of[name][0], machine=device_of[name][1], vram=vram
        )
        for name, vram in zip(names, _budgets(request.vram, len(names)), strict=True)
    )
    kind = "cuda" if cards or any(find(name).device == "cuda" for name in named) else "cpu"
    return Seats(requests, kind)


def _names(text: str) -> list[str]:
    """Spell out `cpu*2` and `cuda*2`."""
    names: list[str] = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None or match["count"] == "0":
            raise InputError(
                f"--devices {text!r}: {item!r} is no device",
                hint="cuda:0,cuda:1, cuda*2, cpu*2, or a machine to plan for: rtx4090*4",
                code="bad-devices",
            )
        name, count = match["name"], int(match["count"] or 1)
        if name == "cuda":
            names += [f"cuda:{number}" for number in range(count)]
        else:
            names += [name] * count
    if len(names) > _MOST:
        raise InputError(
            f"--devices {text!r}: {len(names)} ranks, {_MOST} at the most", code="bad-devices"
        )
    return names


def _budgets(text: str, count: int) -> list[str]:
    """Give each rank its budget; one that is given alone is each one's."""
    texts = [part.strip() for part in text.split(",")]
    if len(texts) not in (1, count):
        raise InputError(
            f"--vram {text}: {len(texts)} budgets for {count} ranks",
            hint="one for all of them, or one for each",
            code="bad-budgets",
        )
    for part in texts:
        parse_budget(part)
    return texts * count if len(texts) == 1 else texts
