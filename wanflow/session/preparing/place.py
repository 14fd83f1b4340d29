"""Where a run happens: the device, its machine, and the budget in bytes."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch

from wanflow.environment import ALLOC_CONF, CHECK, CUDA_ALLOC_CONF
from wanflow.errors import InputError
from wanflow.memory_limits import RAM, MemoryLimit, tightest_free
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.store import find
from wanflow.scheduler.run.devices import Device, open_device
from wanflow.scheduler.run.ledger import Ledger
from wanflow.session.machines import this_machine
from wanflow.session.request import Request
from wanflow.units import format_bytes, parse_budget

_MARGIN_SHARE = 0.1  # of what is free, left alone by `auto`


@attrs.frozen
class Place:
    """A device and the room on it.

    `budget_bytes` is what the user allows in all; `overhead_bytes` of it are not ours to give out
    (CUDA's context and the workspaces of its libraries). `tier` names the device in traces. A run
    opens its device and its accounts here, and with `checks` has them checked after every move.
    """

    device: torch.device
    tier: str
    machine: Machine
    budget_bytes: int
    budget_text: str
    overhead_bytes: int
    ram_bytes: int | None
    limited_by: str = ""  # what an `auto` budget is bounded by, but for the memory itself
    checks: bool = attrs.field(factory=lambda: CHECK.value == "1")
    open_device: Callable[[torch.device], Device] = open_device
    open_ledger: Callable[..., Ledger] = Ledger

    @property
    def usable_bytes(self) -> int:
        """What the plan may fill."""
        return max(self.budget_bytes - self.overhead_bytes, 0)


FindPlace = Callable[[Request], Place]


def find_place(request: Request) -> Place:
    """Read `--device`, `--machine`, `--vram` and `--ram`; InputError for what can't be meant."""
    device = find_device(request.device, there=request.machine is None)
    machine = find(request.machine) if request.machine else this_machine(device)
    return place_on(machine, device, request)


def place_on(machine: Machine, device: torch.device, request: Request) -> Place:
    """Read `--vram` and `--ram` for a machine; where one is named, all of it counts as free."""
    kind = machine.device
    if kind == "cpu" and request.ram is not None:
        raise InputError(
            "--ram has no meaning on a CPU: --vram bounds the tensors in RAM",
            hint="leave --ram out",
            code="ram-on-cpu",
        )
    budget = parse_budget(request.vram)
    overhead = overhead_of(machine)
    nbytes = budget.nbytes
    if budget.share is not None:
        nbytes = int(machine.capacity_bytes * budget.share)
    limited_by = ""
    if nbytes is None:
        limit = _free(machine, device, request)
        nbytes = int(limit.free_bytes * (1 - _MARGIN_SHARE))
        limited_by = limit.name if limit.name != RAM else ""
    if nbytes > machine.capacity_bytes:
        raise InputError(
            f"--vram {budget.text} is more than the {machine.name} has "
            f"({format_bytes(machine.capacity_bytes)})",
            hint="give less, or --vram auto",
            code="budget-too-large",
        )
    ram_bytes = _ram_bytes(request, machine) if kind == "cuda" else None
    tier = "cpu" if kind == "cpu" else str(device) if device.type == "cuda" else "cuda:0"
    text = budget.text + (f", limited by {limited_by}" if limited_by else "")
    return Place(device, tier, machine, nbytes, text, overhead, ram_bytes, limited_by)


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
        return int(free * (1 - _MARGIN_SHARE))
    if ram.nbytes > machine.ram_bytes:
        raise InputError(
            f"--ram {ram.text} is more than the {machine.name} has "
            f"({format_bytes(machine.ram_bytes)})",
            hint="give less, or --ram auto",
            code="ram-too-large",
        )
    return ram.nbytes


def find_device(wanted: str, *, there: bool = True) -> torch.device:
    """Read `--device`; with *there* it has to be in this computer."""
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    name, _, number = wanted.partition(":")
    if name == "cpu" and not number:
        return torch.device("cpu")
    if name == "cuda" and (not number or number.isdecimal()):
        index = int(number or 0)
        count = torch.cuda.device_count()
        if index >= count and there:
            raise InputError(
                f"--device {wanted}: there {'is' if count == 1 else 'are'} {count} CUDA devices",
                hint="use --device cpu" + (", or plan with --machine rtx4090" if not count else ""),
                code="no-device",
            )
        return torch.device("cuda", index)
    raise InputError(
        f"--device {wanted!r} is not known",
        hint="allowed: auto, cpu, cuda, cuda:N",
        code="bad-device",
    )


def _free(machine: Machine, device: torch.device, request: Request) -> MemoryLimit:
    """What a budget of `auto` is taken from: all of a machine that is named."""
    if request.machine:
        return MemoryLimit(RAM, machine.capacity_bytes, machine.capacity_bytes)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return MemoryLimit(RAM, int(total), int(free))
    return tightest_free()


def expandable_segments() -> bool:
    """Whether CUDA's allocator uses expandable segments: as the user has set it, else it does."""
    words = ALLOC_CONF.value or CUDA_ALLOC_CONF.value
    return not words or "expandable_segments:True" in words.replace(" ", "")


def enforce(place: Place) -> None:
    """Have CUDA's allocator refuse what passes the budget, instead of hoping that nothing does.

    Its segments are made expandable where the user has not set it up otherwise: plain ones lose a
    quarter of the memory to fragments.
    """
    if expandable_segments():
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")  # noqa: SLF001
    room = place.budget_bytes - place.machine.context_bytes
    share = max(min(room / place.machine.capacity_bytes, 1.0), 0.0)
    torch.cuda.set_per_process_memory_fraction(share, place.device)
