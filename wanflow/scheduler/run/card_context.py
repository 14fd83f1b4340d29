"""What a driver gives a process beside the allocator's memory, and what that leaves of a budget.

CUDA's context grows when kernels and libraries are used for the first time: PyTorch loads them
lazily. No plan can tell by how much. It is read after the first call of each stage and its first
step, and what it takes more than was set aside comes off what the allocator may hold.
"""

from __future__ import annotations

import attrs
import torch

from wanflow.scheduler.run.process_memory import process_bytes
from wanflow.scheduler.run.step_events import Figure
from wanflow.trace.measured import CONTEXT, CONTEXT_AND_OTHERS
from wanflow.units import format_bytes


@attrs.define
class OwnContext:
    """This process's context on a card. `seen_bytes` is what its last run has seen it take."""

    free_before_bytes: int | None = None  # of the card, before it was made; None: nobody can say
    made_bytes: int = 0  # what it took then
    seen_bytes: int | None = None


@attrs.define
class CardContext:
    """Follows one process on a card, from its first try to its last: a context stays for good.

    *set_aside_bytes* of the budget are for the context. The driver counts the whole device. Where
    NVML tells by process, that is the figure; else it is what the device has given out since the
    context was made, of which a growth between two stages may be another program's: it is counted,
    but the allocator gives way only to what came with the first calls of a stage. NVML takes a
    tenth of a second to tell: it is asked where there is a budget, when there is more than ever.
    """

    device: torch.device
    set_aside_bytes: int = 0
    own: OwnContext = attrs.field(factory=OwnContext)
    budget_bytes: int | None = None  # None: the allocator has no cap
    _others_bytes: int | None = attrs.field(default=None, init=False)  # None: not opened yet
    _by_process: bool = attrs.field(default=False, init=False)
    _own_bytes: int = attrs.field(default=0, init=False)  # of the context, for certain
    _told_bytes: int = attrs.field(default=0, init=False)
    _before_bytes: int = attrs.field(default=0, init=False)  # beside, when the stage began
    _highest_bytes: int = attrs.field(default=0, init=False)

    def open(self) -> None:
        """Read what is there before a try, and keep the allocator to what it had to give way to."""
        if self._others_bytes is None:
            used, reserved = self._read()
            own = None if self.budget_bytes is None else process_bytes(self.device)
            self._by_process = own is not None
            self._own_bytes = self._at_first() if own is None else max(own - reserved, 0)
            self._others_bytes = max(used - reserved - self._own_bytes, 0)
        self._cap()

    def _at_first(self) -> int:
        """What the context takes before a run: as an earlier one left it, else all since then."""
        seen, before = self.own.seen_bytes, self.own.free_before_bytes
        if seen is not None or before is None:
            return seen or 0
        free, _ = torch.cuda.mem_get_info(self.device)
        return max(before - int(free) - int(torch.cuda.memory_reserved(self.device)), 0)

    def figure(self) -> Figure:
        """Say what the process has beside the allocator's memory, now and at most."""
        now = self._look()
        if self._by_process:
            return Figure(CONTEXT, now, self._highest_bytes)
        known = self.own.free_before_bytes is not None
        least = 0 if known else self.set_aside_bytes
        return Figure(CONTEXT_AND_OTHERS, max(now, least), max(self._highest_bytes, least))

    def stage_begins(self) -> None:
        """The first call of a stage is about to run."""
        self._before_bytes = self._look()

    def stage_began(self) -> str:
        """Give way to what the first calls of a stage have added; say what is new of it, or ""."""
        now = self._look()
        grown = max(now - self._before_bytes, 0)
        self._before_bytes += grown
        self._own_bytes = now if self._by_process else self._own_bytes + grown
        self.own.seen_bytes = self._own_bytes
        if self._own_bytes <= max(self._told_bytes, self.set_aside_bytes):
            return ""
        self._told_bytes = self._own_bytes
        self._cap()
        takes, more = self._own_bytes, self._own_bytes - self.set_aside_bytes
        return f"CUDA's context takes {format_bytes(takes)}, {format_bytes(more)} over its share"

    def _cap(self) -> None:
        if self.budget_bytes is not None and self._own_bytes > self.set_aside_bytes:
            _, total = torch.cuda.mem_get_info(self.device)
            room = max(self.budget_bytes - self._own_bytes, 0)
            torch.cuda.set_per_process_memory_fraction(min(room / total, 1.0), self.device)

    def _look(self) -> int:
        """Read what is beside the allocator's memory; by process when it is more than ever."""
        used, reserved = self._read()
        beside = used - reserved - (self._others_bytes or 0)
        if self._by_process and beside > self._highest_bytes:
            own = process_bytes(self.device)
            if own is not None:
                self._others_bytes, beside = max(used - own, 0), own - reserved
        self._highest_bytes = max(self._highest_bytes, beside)
        return max(beside, 0)

    def _read(self) -> tuple[int, int]:
        """Bytes of the device that are used, and those that our allocator holds of them."""
        free, total = torch.cuda.mem_get_info(self.device)
        return int(total - free), int(torch.cuda.memory_reserved(self.device))
