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

from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.residency import Uses


@attrs.frozen
class Visit:
    """One stay of a segment. `again`: it was there before. `stays`: through all its uses."""

    segment: str
    stage: str
    issue: int
    first: int
    last: int
    nbytes: int
    again: bool
    stays: bool


def visits_of(
    footprint: Footprint, uses: Sequence[Uses], resident: Collection[tuple[str, str]]
) -> list[Visit]:
    """Every visit in order of its first use, none of them issued ahead yet."""
    found = []
    for use in uses:
        stays = use.runs == 1 or (use.stage, use.segment) in resident
        nbytes = footprint.segments[use.segment].nbytes
        runs = [(use.calls[0], use.calls[-1])] if stays else _runs(use.calls)
        for number, (first, last) in enumerate(runs):
            found.append(
                Visit(use.segment, use.stage, first, first, last, nbytes, number > 0, stays)
            )
    return sorted(found, key=lambda visit: visit.first)


def _runs(calls: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of every run of consecutive calls."""
    runs = [(calls[0], calls[0])]
    for call in calls[1:]:
        first, last = runs[-1]
        if call == last + 1:
            runs[-1] = (first, call)
        else:
            runs.append((call, call))
    return runs


def issue_ahead(
    visits: Sequence[Visit], load: list[int], budget_bytes: int | None, depth: int
) -> list[Visit]:
    """Issue each visit's load as early as the room allows, at most *depth* visits ahead.

    *load* is every call's bytes with each visit from its first use on; it is raised in place by
    what the earlier loads take. Loads keep their order, so that the reader never serves a later one
    first.
    """
    ahead: list[Visit] = []
    left_at: dict[str, int] = {}  # the call after which a segment was last freed
    for number, visit in enumerate(visits):
        earliest = visits[number - depth].first if number >= depth else 0
        if visit.segment in left_at:
            earliest = max(earliest, left_at[visit.segment] + 1)
        if ahead:
            earliest = max(earliest, ahead[-1].issue)
        issue = visit.first
        while issue > earliest and _fits(load[issue - 1] + visit.nbytes, budget_bytes):
            issue -= 1
            load[issue] += visit.nbytes
        ahead.append(attrs.evolve(visit, issue=issue))
        left_at[visit.segment] = visit.last
    return ahead


def _fits(nbytes: int, budget_bytes: int | None) -> bool:
    return budget_bytes is None or nbytes <= budget_bytes
