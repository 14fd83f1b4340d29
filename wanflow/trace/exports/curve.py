"""Memory over time in so many columns: what each tier held at the fullest instant of each.

The peak is never between two columns. Bounded: columns, tiers and stages, not events.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import attrs

from wanflow.trace.cells import Curve, Window, WorkTimes
from wanflow.trace.events import Event
from wanflow.trace.exports.follow import Follower


@attrs.frozen
class Curves:
    """Every tier of a trace, and the stages at work: name, first column and the one after."""

    last_ns: int
    tiers: dict[str, Curve]
    stages: tuple[tuple[str, int, int], ...]
    events: int


def draw_curves(events: Iterable[Event], last_ns: int, columns: int) -> Curves:
    """Follow *events* up to *last_ns*; later ones (the run goes on) fall into the last column."""
    follower, times = Follower(), WorkTimes()
    window, tiers = Window(0, max(last_ns, 1), columns), dict[str, Curve]()
    count = 0
    for event in events:
        count += 1
        times.see(event)
        for change in follower.see(event):
            level, at_ns = change.level, min(change.level.at_ns, window.ended_ns)
            if level.tier not in tiers:
                tiers[level.tier] = Curve(window)
            curve = tiers[level.tier]
            curve.see(level)
            curve.fill(level, at_ns, at_ns + 1)  # an instant's peak is drawn too
    for curve in tiers.values():
        curve.end()
    return Curves(window.ended_ns, tiers, tuple(runs_of(times.names(window))), count)


def runs_of(names: Iterable[str]) -> Iterable[tuple[str, int, int]]:
    """Say from which column to which one name stands."""
    index = 0
    for name, group in groupby(names):
        count = len(list(group))
        if name:
            yield name, index, index + count
        index += count
