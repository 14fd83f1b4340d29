"""Where a run happens: the device, its machine, and the budget in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from wanflow.cards import TorchCard, cards_there, torch_card
from wanflow.environment import CHECK
from wanflow.errors import InputError
from wanflow.memory_limits import RAM, MemoryLimit, tightest_free
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.store import find
from wanflow.scheduler.run.ledger import Ledger
from wanflow.session.machines import this_machine
from wanflow.session.preparing.card import (
    Trials,
    allocator_set,
    expandable_segments,
    find_card,
    free_on,
    tried_on,
    why_none,
)
from wanflow.session.request import Request
from wanflow.units import GIB, Budget, format_bytes, parse_budget

if TYPE_CHECKING:
    import torch

    from wanflow.scheduler.run.devices import Device

_MARGIN_SHARE = 0.1  # of what is free, left alone by `auto`
# Of the RAM that is free `--ram auto` takes so much, and leaves at least this: what is pinned can't
# be given back to who needs it, our own process among them, which grows by libraries and frames.
_RAM_SHARE, _RAM_LEFT_BYTES = 0.6, 4 * GIB
_LEAST_RAM_SHARE = 0.25  # where that leaves nothing


def _opened(device: torch.device) -> Device:
    from wanflow.scheduler.run.devices import open_device

    return open_device(device)


@attrs.frozen
class Place:
    """A device and the room on it.

    `budget_bytes` is what the user allows in all; `overhead_bytes` of it are not ours to give out
    (CUDA's context and the workspaces of its libraries). `tier` names the device in traces. `card`
    and `trials`, what was tried on it, are those of a card that is here. A run opens its device and
    its accounts here, and with `checks` has them checked after every move.
    """

    device_name: str = attrs.field(converter=str)  # as PyTorch has it: `cpu`, `cuda:0`
    tier: str
    machine: Machine
    budget_bytes: int
    budget_text: str
    overhead_bytes: int
    ram_bytes: int | None
    ram_is_stated: bool = False  # by the user: all of it may be taken
    limited_by: str = ""  # what an `auto` budget is bounded by, but for the memory itself
    card: TorchCard | None = None
    trials: Trials | None = None
    notes: tuple[str, ...] = ()  # what a person should know of where this is
    checks: bool = attrs.field(factory=lambda: CHECK.value == "1")
    open_device: Callable[[torch.device], Device] = _opened
    open_ledger: Callable[..., Ledger] = Ledger

    @property
    def device(self) -> torch.device:
        """The device, for what computes on it."""
        import torch

        return torch.device(self.device_name)

    @property
    def kind(self) -> str:
        """The kind of device: `cpu` or `cuda`."""
        return self.device_name.partition(":")[0]

    @property
    def usable_bytes(self) -> int:
        """What the plan may fill."""
        return max(self.budget_bytes - self.overhead_bytes, 0)

    @property
    def expandable(self) -> bool:
        """Whether the segments of a card's allocator grow."""
        refused = self.trials is not None and self.trials.expandable_refused
        return expandable_segments() and not refused

    @property
    def pinned(self) -> bool:
        """Whether memory of the host may be pinned."""
        return self.trials is None or not self.trials.pinned_refused

    @property
    def rates(self) -> Machine:
        """The machine with the rates that copies have here: without pinned memory slower ones."""
        if self.pinned:
            return self.machine
        return attrs.evolve(
            self.machine,
            upload_rate=self.machine.upload_pageable_rate,
            download_rate=self.machine.download_pageable_rate,
        )


FindPlace = Callable[[Request], Place]


def find_place(request: Request) -> Place:
    """Read `--device`, `--machine`, `--vram` and `--ram`; InputError for what can't be meant.

    For a machine that is named no card is asked for anything.
    """
    if request.machine is not None:
        _index_of(request.device)
        return place_on(find(request.machine), "cpu", request)
    device, notes = _device_here(request.device)
    place = place_on(this_machine(device), device, request)
    if device.type == "cuda":
        card, trials = torch_card(device.index), tried_on(device, place.ram_bytes or 0)
        place = attrs.evolve(place, card=card, trials=trials)
        notes += _notes_on(card, trials)
    return attrs.evolve(place, notes=notes + place.notes)


def place_on(machine: Machine, device: torch.device | str, request: Request) -> Place:
    """Read `--vram` and `--ram` for a machine; where one is named, all of it counts as free."""
    kind = machine.device
    if kind == "cpu" and request.ram is not None:
        raise InputError(
            "--ram has no meaning on a CPU: --vram bounds the tensors in RAM",
            hint="leave --ram out",
            code="ram-on-cpu",
        )
    budget, limit = parse_budget(request.vram), _free(machine, device, request)
    nbytes, limited_by = _budget_bytes(budget, machine, limit)
    name = str(device)
    tier = "cpu" if kind == "cpu" else name if name.startswith("cuda") else "cuda:0"
    return Place(
        name, tier, machine, nbytes,
        budget.text + (f", limited by {limited_by}" if limited_by else ""),
        overhead_of(machine),
        _ram_bytes(request, machine) if kind == "cuda" else None,
        request.ram not in {None, "auto"},
        limited_by,
        notes=_more_than_free(budget, nbytes, limit, tier),
    )  # fmt: skip


def _budget_bytes(budget: Budget, machine: Machine, limit: MemoryLimit) -> tuple[int, str]:
    """Give the bytes of a budget, and what bounds an `auto` one but for the memory itself."""
    nbytes, limited_by = budget.nbytes, ""
    if budget.share is not None:
        nbytes = int(machine.capacity_bytes * budget.share)
    if nbytes is None:
        nbytes = int(limit.free_bytes * (1 - _MARGIN_SHARE))
        limited_by = limit.name if limit.name != RAM else ""
    if nbytes > machine.capacity_bytes:
        raise InputError(
            f"--vram {budget.text} is more than the {machine.name} has "
            f"({format_bytes(machine.capacity_bytes)})",
            hint="give less, or --vram auto",
            code="budget-too-large",
        )
    return nbytes, limited_by


def _more_than_free(budget: Budget, nbytes: int, limit: MemoryLimit, tier: str) -> tuple[str, ...]:
    """Note a budget that is more than is free: who has the rest may have ended by then."""
    if nbytes <= limit.free_bytes:
        return ()
    held = format_bytes(limit.total_bytes - limit.free_bytes)
    note = (
        f"--vram {budget.text} is more than the {format_bytes(limit.free_bytes)} that are free on "
        f"{tier} now, {held} are held by others; --vram auto takes what is free"
    )
    return (note,)


def overhead_of(machine: Machine) -> int:
    """What of a budget is not ours to give out."""
    return machine.context_bytes + machine.library_bytes if machine.device == "cuda" else 0


def _ram_bytes(request: Request, machine: Machine) -> int:
    """Read `--ram`; `auto`, and the default: the system ends who pins more than there is."""
    ram = parse_budget("auto" if request.ram is None else request.ram, "--ram")
    if ram.share is not None:
        return int(machine.ram_bytes * ram.share)
    if ram.nbytes is None:
        free = machine.ram_bytes if request.machine else tightest_free().free_bytes
        most = min(int(free * _RAM_SHARE), free - _RAM_LEFT_BYTES)
        return max(most, int(free * _LEAST_RAM_SHARE))
    if ram.nbytes > machine.ram_bytes:
        raise InputError(
            f"--ram {ram.text} is more than the {machine.name} has "
            f"({format_bytes(machine.ram_bytes)})",
            hint="give less, or --ram auto",
            code="ram-too-large",
        )
    return ram.nbytes


def find_device(wanted: str) -> torch.device:
    """Read `--device`; InputError for one that isn't in this computer or can't be used."""
    return _device_here(wanted)[0]


def _device_here(wanted: str) -> tuple[torch.device, tuple[str, ...]]:
    """Find a device of this computer, and note where a card is left out that may be wanted."""
    index = _index_of(wanted)  # before PyTorch: a word that is none is refused without it
    import torch

    if wanted == "cpu":
        return torch.device("cpu"), ()
    count, words = cards_there()
    if index < count:
        return find_card(index), ()
    problem = why_none(words) if not count else None
    if wanted == "auto":
        note = f"on the CPU, not on NVIDIA's card: {problem.message}" if problem else ""
        return torch.device("cpu"), (f"{note}; {problem.hint}",) if problem else ()
    reason, are = f": {problem.message}" if problem else "", f"are {count} CUDA devices"
    hint = "use --device cuda:0" if count else "use --device cpu, or plan with --machine rtx4090"
    raise InputError(
        f"--device {wanted}: there {'is 1 CUDA device' if count == 1 else are}{reason}",
        hint=problem.hint if problem else hint,
        code="no-device",
    )


def _index_of(wanted: str) -> int:
    """Read the number of a card, 0 where none is meant; InputError for no device's name."""
    name, _, number = wanted.partition(":")
    if wanted in {"auto", "cpu", "cuda"}:
        return 0
    if name == "cuda" and number.isdecimal():
        return int(number)
    raise InputError(
        f"--device {wanted!r} is not known",
        hint="allowed: auto, cpu, cuda, cuda:N",
        code="bad-device",
    )


def _free(machine: Machine, device: torch.device | str, request: Request) -> MemoryLimit:
    """What a budget of `auto` is taken from: all of a machine that is named."""
    if request.machine:
        return MemoryLimit(RAM, machine.capacity_bytes, machine.capacity_bytes)
    if str(device) == "cpu":
        return tightest_free()
    import torch

    return free_on(torch.device(device))


def _notes_on(card: TorchCard, trials: Trials) -> tuple[str, ...]:
    """Say what is odd about a card: what its driver refuses, and how the plan is made without."""
    notes = []
    if card.shares_ram:
        notes.append(f"{card.name} has no memory of its own: --vram and --ram are of the same one")
    if trials.expandable_refused:
        notes.append(
            f"the driver refuses expandable segments ({trials.expandable_refused}): planned and "
            "run with plain ones, which lose more memory to fragments"
        )
    if trials.pinned_refused:
        notes.append(
            f"the driver refuses to pin host memory ({trials.pinned_refused}): planned with the "
            "slower copies from plain memory"
        )
    return tuple(notes)


@contextmanager
def enforced(place: Place) -> Iterator[None]:
    """Have CUDA's allocator refuse what passes the budget, instead of hoping that nothing does.

    Its segments are expandable unless they are refused or the user has set it up otherwise: plain
    ones lose a quarter of the memory to fragments. All of it is put back, the current card too.
    """
    if place.kind != "cuda":
        yield
        return
    import torch

    room = place.budget_bytes - place.machine.context_bytes
    share = max(min(room / place.machine.capacity_bytes, 1.0), 0.0)
    before = torch.cuda.get_per_process_memory_fraction(place.device)
    with torch.cuda.device(place.device), allocator_set(expandable=place.expandable):
        torch.cuda.set_per_process_memory_fraction(share, place.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(before, place.device)
