"""When segments are on the device: each visit from the call that starts its load to its last use.

              issue        first          last
    calls  ---|------------|==============|-------
              load goes on  used, then freed

A load is issued ahead of its first use, so that it hides behind the calls between; the segment
takes its room from the issue on. No torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from wanflow.scheduler.plan.holds import Run, Uses
from wanflow.scheduler.plan.spill import Gap


@attrs.frozen
class Carry:
    """How weights go over the end of a run to the next one of the same plan.

    `comes`: the run before left it there, else it is loaded. `stays`: it is left there. `ahead`: no
    call of this run uses it, it is loaded for the next one.
    """

    comes: bool = False
    stays: bool = False
    ahead: bool = False


NO_CARRY = Carry()


@attrs.frozen
class Visit:
    """One stay of a segment. `again`: it was there before. `stays`: through more than one run.

    Of spilled values that come back together for the call `first`, `values` has the numbers; their
    load can't be issued before the call `earliest`. `carry` says how it goes over the end of a run.
    """

    segment: str
    stage: str
    first: int
    last: int
    nbytes: int
    again: bool
    stays: bool
    values: tuple[int, ...] = ()
    earliest: int = 0
    carry: Carry = NO_CARRY


@attrs.frozen
class Ahead:
    """The call at which each visit's load is issued; `free`: no load had to wait for room."""

    issues: list[int]
    free: bool


def alone(uses: Uses) -> list[Visit]:
    """Make the visit of each run by itself; those that nothing stays for are used as they are."""
    counts: dict[str, int] = {}
    for run in uses.runs:
        counts[run.segment] = counts.get(run.segment, 0) + 1
    return [_visit(run, run.last, stays=counts[run.segment] == 1) for run in uses.runs]


def returns_of(gaps: Sequence[Gap]) -> list[Visit]:
    """Make the visits of spilled values: those that are read by one call come back together."""
    by_call: dict[int, list[Gap]] = {}
    for gap in gaps:
        by_call.setdefault(gap.comes, []).append(gap)
    return [
        Visit(
            segment=f"values.{call}",
            stage=group[0].stage,
            first=call,
            last=call,
            nbytes=sum(gap.nbytes for gap in group),
            again=True,
            stays=False,
            values=tuple(gap.value for gap in group),
            earliest=max(gap.leaves for gap in group) + 1,
        )
        for call, group in sorted(by_call.items())
    ]


def _visit(run: Run, last: int, *, stays: bool) -> Visit:
    again = run.hold is not None
    return Visit(run.segment, run.stage, run.first, last, run.nbytes, again, stays)


def visits_of(uses: Uses, keep: Collection[int], single: Sequence[Visit]) -> list[Visit]:
    """Every visit in order of its first use. *keep* are holds, *single* what `alone` gives."""
    if not keep:
        return list(single)
    begun: dict[str, int] = {}
    last: dict[int, int] = {}  # of the runs that a visit goes beyond
    starts: list[int] = []
    for number, run in enumerate(uses.runs):
        if run.hold is not None and run.hold in keep:
            last[begun[run.segment]] = run.last
        else:
            begun[run.segment] = number
            starts.append(number)
    return [_visit(uses.runs[n], last[n], stays=True) if n in last else single[n] for n in starts]


def issue_ahead(
    visits: Sequence[Visit], bytes_at: list[int], budget_bytes: int | None, depth: int
) -> Ahead:
    """Issue each visit's load as early as the room allows, at most *depth* visits ahead.

    *bytes_at* is what every call needs with each visit from its first use on; it is raised in
    place by what the earlier loads take. Loads keep their order, so that the reader never serves a
    later one first. More room or depth never issues a load later: at every call that a load may go
    back to, those before it are there already.
    """
    issues: list[int] = []
    left_at: dict[str, int] = {}  # the call after the one at which a segment was last freed
    free, before = True, 0
    for number, visit in enumerate(visits):
        earliest = visits[number - depth].first if number >= depth else 0
        earliest = max(earliest, before, left_at.get(visit.segment, 0), visit.earliest)
        issue, nbytes = visit.first, visit.nbytes
        room = None if budget_bytes is None else budget_bytes - nbytes
        while issue > earliest and (room is None or bytes_at[issue - 1] <= room):
            issue -= 1
            bytes_at[issue] += nbytes
        free = free and issue == earliest
        issues.append(issue)
        before = issue
        left_at[visit.segment] = visit.last + 1
    return Ahead(issues, free)
