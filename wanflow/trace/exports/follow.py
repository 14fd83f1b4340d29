"""The levels of every tier as the exports write them: in time, and with what changed them.

What a tier holds is followed by `wanflow.trace.residency`. Here the instants of one tier never go
back, whatever the trace says, and there are only so many tiers.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wanflow.trace.events import Event, Move, Workspace
from wanflow.trace.residency import Level, Residency

KINDS = ("weights", "state", "value", "workspace", "slack")
MOST_TIERS = 64  # a trace is anybody's; a run has three
_ELSEWHERE = "(more tiers)"


@attrs.frozen
class LevelChange:
    """A level from `at_ns` on. `what` brought it: a verb, `call` or `call ends`."""

    at_ns: int
    what: str
    event: Move | Workspace
    level: Level

    @property
    def by_kind(self) -> tuple[int, ...]:
        """Bytes of each of `KINDS`; `slack` is the allocator's own."""
        level = self.level
        held = (level.weights_bytes, level.state_bytes, level.value_bytes)
        return (*held, level.workspace_bytes, level.slack_bytes)


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
            resident = max(level.resident_bytes, 0)
            yield LevelChange(now, what, event, attrs.evolve(level, resident_bytes=resident))
