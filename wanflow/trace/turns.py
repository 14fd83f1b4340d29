"""In whose turn something happens: that of the call around it, not of the stage that it is for.

The records of a turn lie together: what comes, the call, what it made, what goes. What comes may be
for a later stage, loaded ahead while another one works; it says for which. Whose turn it came in is
said by the next record that is the call's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from wanflow.trace.events import Event, Kind, Move, Verb, Workspace
from wanflow.trace.levels import Level


def is_load(event: Move | Workspace) -> bool:
    """Whether it may be for another stage than the one at work: weights, values that come back."""
    if not isinstance(event, Move) or event.verb in (Verb.FREE, Verb.OFFLOAD):
        return False
    return event.kind is Kind.WEIGHTS or event.source != ""


@attrs.define
class TurnLevels:
    """The levels of one tier with the stage and the step in whose turn they were.

    Levels that loads made are held back until a call says whose turn it is, the highest of them;
    those that no call comes after are of no stage.
    """

    tier: str
    _held: Level | None = attrs.field(default=None, init=False)

    def see(self, event: Event, levels: Iterable[Level]) -> Iterator[Level]:
        """Take the *levels* that an event made; give those whose turn is known by it."""
        if not isinstance(event, Move | Workspace):
            return
        here = [level for level in levels if level.tier == self.tier]
        if is_load(event):
            for level in here:
                if self._held is None or level.resident_bytes > self._held.resident_bytes:
                    self._held = level
            return
        if self._held is not None:
            yield attrs.evolve(self._held, stage=event.stage, step=event.step)
            self._held = None
        yield from here
