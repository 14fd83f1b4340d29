"""The levels of every tier as the exports write them: in time, and with what changed them.

What a tier holds is followed by `wanflow.trace.levels`. Here the instants of one tier never go
back, whatever the trace says, and there are only so many tiers.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wanflow.trace.events import Event, Move, Workspace
from wanflow.trace.levels import Level, Residency

KINDS = ("weights", "state", "value", "workspace", "slack", "other")  # in the exports' order
MOST_TIERS = 64  # a trace is anybody's; a run has three
_ELSEWHERE = "(more tiers)"


@attrs.frozen
class LevelChange:
    """A level, and `what` brought it: a verb, `call` or `call ends`."""

    what: str
    event: Move | Workspace
    level: Level


@attrs.define
class Follower:
    """Every tier, event by event."""

    _residency: Residency = attrs.field(factory=Residency, init=False)
    _now_ns: dict[str, int] = attrs.field(factory=dict, init=False)

    def see(self, event: Event) -> Iterator[LevelChange]:
        """Say how *event* changed a tier: not, once, or (a call) up and down."""
        if not isinstance(event, Move | Workspace):
            return
        if event.tier not in self._now_ns:
            if len(self._now_ns) >= MOST_TIERS:
                event = attrs.evolve(event, tier=_ELSEWHERE)
            self._now_ns.setdefault(event.tier, 0)
        words = (str(event.verb),) if isinstance(event, Move) else ("call", "call ends")
        for what, level in zip(words, self._residency.see(event), strict=True):
            now = self._now_ns[event.tier] = max(level.at_ns, self._now_ns[event.tier])
            yield LevelChange(what, event, _drawable(level, now))


def _drawable(level: Level, at_ns: int) -> Level:
    """Put a level to a time, and lift one below zero: bytes of names that are not there."""
    below = min(level.resident_bytes, 0)
    if not below and at_ns == level.at_ns:
        return level
    by_kind = attrs.evolve(level.by_kind, other_bytes=level.by_kind.other_bytes - below)
    resident = level.resident_bytes - below
    return attrs.evolve(level, at_ns=at_ns, resident_bytes=resident, by_kind=by_kind)
