"""A candidate plan: what stays, what is loaded ahead, what it needs and takes. No torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.lifetimes import Lifetimes
from wanflow.scheduler.plan import HostPlan
from wanflow.scheduler.residency import Uses
from wanflow.scheduler.timeline import Timeline
from wanflow.scheduler.visits import Visit


@attrs.frozen
class Work:
    """A footprint with what follows from it alone, worked out once."""

    footprint: Footprint
    life: Lifetimes
    uses: tuple[Uses, ...]
    compute_seconds: tuple[float, ...]


@attrs.frozen
class Draft:
    """One candidate: what stays, every visit, what it needs and how long it takes."""

    work: Work
    depth: int
    resident: Collection[tuple[str, str]]
    visits: Sequence[Visit]
    host: HostPlan
    load: Sequence[int]
    timeline: Timeline

    @property
    def peak_bytes(self) -> int:
        """The most the device holds."""
        return max(self.load, default=0)

    @property
    def read_bytes(self) -> int:
        """What is read of weights in all."""
        return sum(visit.nbytes for visit in self.visits)

    @property
    def order(self) -> tuple[float, int, int]:
        """Faster first, then who reads less, then who needs less. A billionth is no difference."""
        return (float(f"{self.timeline.seconds:.9e}"), self.read_bytes, self.peak_bytes)
