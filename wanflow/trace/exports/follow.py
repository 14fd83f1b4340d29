"""What a tier holds from an instant on, by kind: the events of a trace, turned into levels.

One pass and bounded: a sum for each kind and tier is all that is kept. Instants of one tier never
go back, whatever the trace says.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wanflow.trace.events import Event, Kind, Move, Verb, Workspace
from wanflow.trace.tally import TierTally

KINDS = (Kind.WEIGHTS, Kind.STATE, Kind.VALUE, Kind.WORKSPACE)
MOST_TIERS = 64  # a trace is anybody's; a run has three
_ELSEWHERE = "(more tiers)"


@attrs.frozen
class Level:
    """What *tier* holds from `at_ns` on. `what` happened: a verb, `call` or `call ends`."""

    at_ns: int
    tier: str
    what: str
    event: Move | Workspace
    resident_bytes: int
    by_kind: tuple[int, ...]  # as `KINDS`

    @property
    def other_bytes(self) -> int:
        """What no event explains."""
        return self.resident_bytes - sum(self.by_kind)


@attrs.define
class Follower:
    """Every tier, event by event."""

    _tiers: dict[str, TierTally] = attrs.field(factory=dict, init=False)
    _now_ns: dict[str, int] = attrs.field(factory=dict, init=False)

    def see(self, event: Event) -> Iterator[Level]:
        """Say how *event* changed a tier: not, once, or (a call) up and down."""
        if isinstance(event, Move):
            tier = self._tier(event.tier)
            self._tiers[tier].move(event)
            at_ns = event.ended_ns if event.verb is Verb.FREE else event.began_ns
            yield self._level(tier, at_ns, str(event.verb), event, event.resident_bytes, 0)
        elif isinstance(event, Workspace):
            tier, nbytes, resident = self._tier(event.tier), event.nbytes, event.resident_bytes
            yield self._level(tier, event.began_ns, "call", event, resident, nbytes)
            left = max(resident - nbytes, 0)
            yield self._level(tier, event.ended_ns, "call ends", event, left, 0)

    def _tier(self, name: str) -> str:
        if name not in self._tiers:
            name = name if len(self._tiers) < MOST_TIERS else _ELSEWHERE
            self._tiers.setdefault(name, TierTally())
        return name

    def _level(
        self,
        tier: str,
        at_ns: int,
        what: str,
        event: Move | Workspace,
        resident_bytes: int,
        workspace_bytes: int,
    ) -> Level:
        now = self._now_ns[tier] = max(at_ns, self._now_ns.get(tier, 0))
        held = self._tiers[tier].by_kind
        extra = dict.fromkeys(KINDS, 0) | {Kind.WORKSPACE: workspace_bytes}
        by_kind = tuple(held[kind] + extra[kind] for kind in KINDS)
        return Level(now, tier, what, event, resident_bytes, by_kind)
