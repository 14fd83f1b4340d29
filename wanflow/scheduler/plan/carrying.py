"""What stays on the device from a run of a plan to the next one of the same plan. No torch.

A row of a batch ends with room that the next one would begin by filling. Weights that fit through
the calls after their last use and those before their first one stay; of the others, those that fit
after their last use alone are loaded again behind everything else, for the next run:

    calls   0 ....... first use ...... last use ....... end | 0 ....... first use
    stays   =================================================================
    ahead   ===========================                 =====================
"""

from __future__ import annotations

from collections.abc import Collection

import attrs
import numpy as np

from wanflow.scheduler.plan.candidate import Candidate, played, shared_host
from wanflow.scheduler.plan.host_memory import host_order
from wanflow.scheduler.plan.prefetch import Carry, Visit


def carrying(best: Candidate, room_bytes: int, without: Collection[str] = ()) -> Candidate:
    """Have *best* leave for the next run what *room_bytes* hold, but no segment of *without*.

    Those that are used first come first, since their loads have nothing to hide behind.
    """
    calls = len(best.bytes_at)
    level = np.array(best.bytes_at, dtype=np.int64)
    visits = [attrs.evolve(v, again=True) for v in best.visits]  # the run before had it too
    issues = list(best.issues)
    ahead: list[tuple[int, Visit]] = []
    begin = max(issues, default=0)  # the reader serves what this run needs first
    for segment, numbers in _by_segment(visits).items():
        first, last = numbers[0], numbers[-1]
        nbytes, after = visits[first].nbytes, visits[last].last + 1
        room = room_bytes - nbytes
        if segment in without or (level[: issues[first]] > room).any():
            continue
        if (level[after:] <= room).all():
            level[after:] += nbytes
            visits[last] = attrs.evolve(visits[last], last=calls - 1, stays=True)
            _mark(visits, last, stays=True)
        else:
            issue = _earliest(level, max(begin, after), room)
            if issue == calls:
                continue
            level[issue:] += nbytes
            carry = Carry(stays=True, ahead=True)
            end = attrs.evolve(visits[last], first=calls - 1, last=calls - 1, carry=carry)
            ahead.append((issue, end))
        level[: issues[first]] += nbytes
        issues[first] = 0
        _mark(visits, first, comes=True)
    order = sorted(range(len(visits)), key=lambda n: (issues[n], visits[n].first))
    pairs = [(issues[n], visits[n]) for n in order] + sorted(ahead, key=lambda pair: pair[0])
    return _as_candidate(best, pairs, level)


def first_seconds(chosen: Candidate) -> float:
    """What the first run of a plan takes, which finds nothing there."""
    timeline = played(chosen.work, chosen.visits, chosen.issues, chosen.host, first_run=True)
    return timeline.seconds


def _by_segment(visits: list[Visit]) -> dict[str, list[int]]:
    """The visits of each segment, the segments in the order in which they are used first."""
    found: dict[str, list[int]] = {}
    for number, visit in enumerate(visits):
        if not visit.values:
            found.setdefault(visit.segment, []).append(number)
    return found


def _mark(visits: list[Visit], number: int, *, comes: bool = False, stays: bool = False) -> None:
    was = visits[number].carry
    carry = Carry(comes=was.comes or comes, stays=was.stays or stays)
    visits[number] = attrs.evolve(visits[number], carry=carry)


def _earliest(level: np.ndarray, begin: int, room: int) -> int:
    """The first call from *begin* on from which there is room up to the end."""
    full = np.flatnonzero(level[begin:] > room)
    return begin + (int(full[-1]) + 1 if len(full) else 0)


def _as_candidate(best: Candidate, pairs: list[tuple[int, Visit]], level: np.ndarray) -> Candidate:
    issues, visits = [issue for issue, _ in pairs], [visit for _, visit in pairs]
    work = attrs.evolve(best.work, host_order=host_order(best.work.uses, repeated=True))
    host = shared_host(work, visits, work.host_order)
    return attrs.evolve(
        best, work=work, visits=visits, issues=issues, host=host, bytes_at=[*map(int, level)],
        timeline=played(work, visits, issues, host),
    )  # fmt: skip
