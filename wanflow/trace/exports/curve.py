"""Memory over time in so many columns: what each tier held at the fullest instant of each.

The peak is never between two columns. Bounded: columns, tiers and stages, not events.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from wanflow.trace.events import Event, StageSpan
from wanflow.trace.exports.follow import KINDS, Follower, LevelChange

MOST_STAGES = 64


@attrs.frozen
class Bin:
    """What a tier held at one instant."""

    resident_bytes: int = 0
    by_kind: tuple[int, ...] = (0,) * len(KINDS)


@attrs.define
class Curve:
    """One tier. `columns` are filled up to the last event."""

    columns: list[Bin]
    peak_bytes: int = 0
    peak_ns: int = 0
    _at: int = 0
    _now: Bin = attrs.field(factory=Bin)

    def see(self, change: LevelChange, index: int) -> None:
        """Take a level that holds from column *index* on."""
        self.carry(index)
        level = change.level
        self._now = Bin(level.resident_bytes, change.by_kind)
        if level.resident_bytes > self.columns[index].resident_bytes:
            self.columns[index] = self._now
        if level.resident_bytes > self.peak_bytes:
            self.peak_bytes, self.peak_ns = level.resident_bytes, change.at_ns

    def carry(self, index: int) -> None:
        """What lies here stays till column *index*."""
        for column in range(self._at + 1, index + 1):
            self.columns[column] = self._now
        self._at = max(self._at, index)


@attrs.frozen
class Curves:
    """Every tier of a trace, and the stages: name, begin and end in ns."""

    last_ns: int
    tiers: dict[str, Curve]
    stages: tuple[tuple[str, int, int], ...]
    events: int


def draw_curves(events: Iterable[Event], last_ns: int, columns: int) -> Curves:
    """Follow *events* up to *last_ns*; later ones (the run goes on) fall into the last column."""
    follower, tiers = Follower(), dict[str, Curve]()
    stages: list[tuple[str, int, int]] = []
    last_ns = max(last_ns, 1)
    count = 0
    for event in events:
        count += 1
        for change in follower.see(event):
            curve = tiers.get(change.level.tier)
            if curve is None:
                curve = tiers[change.level.tier] = Curve([Bin()] * columns)
            curve.see(change, min(change.at_ns * columns // last_ns, columns - 1))
        if isinstance(event, StageSpan) and len(stages) < MOST_STAGES:
            stages.append((event.stage, event.began_ns, event.ended_ns))
    for curve in tiers.values():
        curve.carry(columns - 1)
    return Curves(last_ns, tiers, tuple(stages), count)
