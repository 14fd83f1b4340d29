"""A candidate plan: what stays, what is loaded ahead, what it needs and takes. No torch."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Mapping, Sequence

import attrs

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.footprint.lifetimes import Lifetimes, lifetimes
from wanflow.scheduler.machine.call_times import Timing, by_rates
from wanflow.scheduler.machine.figures import Load, Machine
from wanflow.scheduler.plan.holds import Uses, bytes_with, uses_of
from wanflow.scheduler.plan.host_memory import host_order, share_host
from wanflow.scheduler.plan.prefetch import Visit, alone, issue_ahead, returns_of, visits_of
from wanflow.scheduler.plan.queues import QueueTimes, play
from wanflow.scheduler.plan.schedule import HostPlan
from wanflow.scheduler.plan.spill import Gaps

_NO_LOAD = Load(0.0, 0.0)


@attrs.frozen
class Basis:
    """What follows from a footprint on a machine whatever is spilled, worked out once."""

    footprint: Footprint
    machine: Machine
    pinned: Mapping[str, str]
    ram_bytes: int | None
    life: Lifetimes
    uses: Uses
    single: Sequence[Visit]
    host_order: Sequence[tuple[str, int]]
    compute_seconds: tuple[float, ...]
    host_staging_bytes: int


def basis_of(
    footprint: Footprint,
    machine: Machine,
    pinned: Mapping[str, str],
    ram_bytes: int | None,
    timing: Timing = by_rates,
) -> Basis:
    """Work out what all candidates of a footprint share."""
    uses = uses_of(footprint)
    # Tensors are converted in RAM, which is the device on a CPU.
    on_host = 0 if machine.device == "cpu" else footprint.staging_bytes
    return Basis(
        footprint, machine, pinned, ram_bytes,
        lifetimes(footprint, footprint.staging_bytes - on_host),
        uses, alone(uses), host_order(uses), timing(footprint, machine), on_host,
    )  # fmt: skip


@attrs.frozen
class Work:
    """A footprint on a machine with what is spilled, and what follows from these alone.

    `gaps` are where values are spilled, `returns` their ways back.
    """

    footprint: Footprint
    machine: Machine
    pinned: Mapping[str, str]
    ram_bytes: int | None
    gaps: Gaps
    returns: Sequence[Visit]
    leaving: Mapping[int, float]  # by call: the seconds its values need to the host
    life: Lifetimes
    uses: Uses
    single: Sequence[Visit]
    host_order: Sequence[tuple[str, int]]
    compute_seconds: tuple[float, ...]
    # By bytes on the device and in files: from the disk, and from the host.
    loads: Mapping[tuple[int, int], tuple[Load, Load]]
    host_staging_bytes: int

    @property
    def pinned_holds(self) -> frozenset[int]:
        """What stays because it was asked for."""
        return frozenset(
            number
            for number, hold in enumerate(self.uses.holds)
            if not hold.bridges and self.pinned.get(hold.stage) == "resident"
        )


def work_of(basis: Basis, gaps: Gaps = ()) -> Work:
    """Work out what every candidate shares that spills the values of *gaps*."""
    footprint, machine, returns = basis.footprint, basis.machine, returns_of(gaps)
    sizes = {(visit.nbytes, visit.nbytes) for visit in returns}
    sizes |= {(use.nbytes, use.file_bytes) for use in footprint.segments.values()}
    loads = {
        (nbytes, file_bytes): (
            machine.load(nbytes, from_host=False, file_bytes=file_bytes),
            machine.load(nbytes, from_host=True, file_bytes=file_bytes),
        )
        for nbytes, file_bytes in sizes
    }
    leaving: dict[int, float] = {}
    for gap in gaps:
        leaving[gap.leaves] = leaving.get(gap.leaves, 0.0) + gap.nbytes / machine.download_rate
    return Work(
        footprint, machine, basis.pinned, basis.ram_bytes, gaps, returns, leaving,
        basis.life.without(gaps), basis.uses, basis.single, basis.host_order,
        basis.compute_seconds, loads, basis.host_staging_bytes,
    )  # fmt: skip


@attrs.frozen
class Candidate:
    """A try: the holds it keeps, every visit, what it needs and how long it takes.

    `free`: no load had to wait for room, so that no other budget would make it faster.
    """

    work: Work
    depth: int
    kept: frozenset[int]
    visits: Sequence[Visit]
    issues: Sequence[int]
    free: bool
    host: HostPlan
    bytes_at: Sequence[int]
    timeline: QueueTimes

    @property
    def peak_bytes(self) -> int:
        """The most the device holds."""
        return max(self.bytes_at, default=0)

    @property
    def read_bytes(self) -> int:
        """What is read of weights in all."""
        return sum(visit.nbytes for visit in self.visits if not visit.values)

    @property
    def spares_disk(self) -> bool:
        """Whether no weights are read from the disk twice."""
        return not any(self.from_disk_again(visit) for visit in self.visits)

    def from_disk_again(self, visit: Visit) -> bool:
        """Whether a visit's weights were read before and come from the disk all the same."""
        if visit.values or visit.carry.comes:
            return False
        return visit.again and visit.segment not in self.host.cached

    @property
    def seconds(self) -> float:
        """How long it takes; a billionth is no difference."""
        return float(f"{self.timeline.seconds:.9e}")

    @property
    def order(self) -> tuple[float, int, int]:
        """Faster first, then who reads less, then who needs less."""
        return (self.seconds, self.read_bytes, self.peak_bytes)

    def fits(self, budget_bytes: int | None) -> bool:
        """Whether device and host hold it."""
        return self.host_fits and (budget_bytes is None or self.peak_bytes <= budget_bytes)

    @property
    def host_fits(self) -> bool:
        """Whether the host holds its part."""
        return self.work.ram_bytes is None or self.host.nbytes <= self.work.ram_bytes


def candidate(work: Work, keep: frozenset[int], budget_bytes: int | None, depth: int) -> Candidate:
    """Play what keeping some holds takes, loads issued as far ahead as budget and depth allow."""
    bytes_at = bytes_with(work.life.need_bytes, [work.uses.holds[n] for n in sorted(keep)])
    visits = visits_of(work.uses, keep, work.single)
    if work.returns:
        visits = list(heapq.merge(work.returns, visits, key=lambda visit: visit.first))
    ahead = issue_ahead(visits, bytes_at, budget_bytes, depth)
    host = shared_host(work, visits, work.host_order)
    timeline = played(work, visits, ahead.issues, host)
    return Candidate(work, depth, keep, visits, ahead.issues, ahead.free, host, bytes_at, timeline)


def with_less_cached(best: Candidate) -> Candidate:
    """Cache on the host only what makes it faster: of the same order a shorter start will do.

    More in the host never takes longer, so that the shortest one is found by halving.
    """
    work = best.work
    order = [entry for entry in work.host_order if entry[0] in best.host.cached]

    def of(count: int) -> Candidate:
        host = shared_host(work, best.visits, order[:count])
        return attrs.evolve(best, host=host, timeline=played(work, best.visits, best.issues, host))

    def as_fast(count: int) -> bool:
        return of(count).seconds <= best.seconds

    count = bisect.bisect_left(range(len(order)), x=True, key=as_fast)
    return best if count == len(order) else of(count)


def shared_host(work: Work, visits: Sequence[Visit], order: Sequence[tuple[str, int]]) -> HostPlan:
    """Share the host's memory among *visits*, the segments of *order* first."""
    host = share_host(order, visits, work.machine, work.ram_bytes, work.gaps)
    return attrs.evolve(host, staging_bytes=work.host_staging_bytes)


def played(
    work: Work,
    visits: Sequence[Visit],
    issues: Sequence[int],
    host: HostPlan,
    *,
    first_run: bool = False,
) -> QueueTimes:
    """Play the calls with every load from where it comes from.

    What the run before left is there at once, in the *first_run* of a plan it is loaded.
    """
    on_cpu = work.machine.device == "cpu"  # there, what was read before is in the page cache
    cached, times, segments = host.cached, work.loads, work.footprint.segments
    loads, seen = [], set()
    for v in visits:
        file_bytes = v.nbytes if v.values else segments[v.segment].file_bytes
        known = v.segment in seen if first_run and not v.values else v.again
        again = known and (on_cpu or bool(v.values) or v.segment in cached)
        found = v.carry.comes and not first_run
        loads.append(_NO_LOAD if found else times[v.nbytes, file_bytes][again])
        seen.add(v.segment)
    return play(work.compute_seconds, visits, issues, loads, work.leaving)
