"""What a run took of the budget's tier as others counted it: one figure, whoever tells it."""

from __future__ import annotations

from typing import ClassVar

import attrs

from wanflow.trace.events import Event, Memory

# Whoever counts most of what the budget means comes first; the driver is asked only now and then.
_MEASURES = ("reserved", "driver", "allocator", "tracked", "rss")
_OF_ALLOCATOR = ("reserved", "allocator")

CONTEXT, CONTEXT_AND_OTHERS = "context", "context+others"
"""What a card's driver gave out beside the allocator's memory: to this process by NVML, else in
all, another program's growth since the start among it."""


@attrs.frozen
class Measured:
    """The highest figure that somebody else counted on a tier."""

    source: str
    tier: str
    peak_bytes: int


@attrs.frozen
class MeasuredPeak:
    """All that the process took of a tier, to be held against the whole budget.

    `beside_bytes` of it are outside of the allocator; `with_others` where another program's growth
    could not be told from them.
    """

    source: str
    nbytes: int
    beside_bytes: int = 0
    with_others: bool = False


@attrs.define
class MeasuredPeaks:
    """Hears what others count; a sink of its own, and a part of what sums a trace up."""

    highest: dict[tuple[str, str], int] = attrs.field(factory=dict)
    alloc_retries: int = 0  # at most in one plan of the run
    alloc_failures: int = 0
    hears: ClassVar[tuple[type[Memory], ...]] = (Memory,)

    def emit(self, event: Event) -> None:
        """Keep the highest."""
        if isinstance(event, Memory):
            self.take(event)

    def take(self, memory: Memory) -> None:
        """Keep the highest figure of a source and tier."""
        key = (memory.source, memory.tier)
        self.highest[key] = max(self.highest.get(key, 0), memory.peak_bytes, memory.now_bytes)
        self.alloc_retries = max(self.alloc_retries, memory.alloc_retries)
        self.alloc_failures = max(self.alloc_failures, memory.alloc_failures)

    @property
    def all(self) -> tuple[Measured, ...]:
        """Every figure."""
        return tuple(Measured(*key, nbytes) for key, nbytes in sorted(self.highest.items()))

    def peak(self, tier: str | None, overhead_bytes: int) -> MeasuredPeak | None:
        """Say what was taken of a tier in all; None where nobody measured.

        Where nobody asked a card's driver, what was set aside (*overhead_bytes*) stands for what
        it gave out beside the allocator's memory.
        """
        here = {source: n for (source, where), n in self.highest.items() if where == tier}
        source = next((name for name in _MEASURES if name in here), None)
        if source is None:
            return None
        if source not in _OF_ALLOCATOR:
            return MeasuredPeak(source, here[source])
        with_others = CONTEXT not in here and CONTEXT_AND_OTHERS in here
        beside = here.get(CONTEXT, here.get(CONTEXT_AND_OTHERS, overhead_bytes))
        return MeasuredPeak(source, here[source] + beside, beside, with_others)
