"""Follow the events of a trace: what lies on each tier, for whom, and of what kind.

One pass and bounded: what is kept is what is resident now, never the events. A workspace is
written when its call ends, so the instants come in the order of the records, each tier's in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from wanflow.trace.by_kind import ByKind
from wanflow.trace.events import Event, Kind, Move, Verb, Workspace

MOST_OBJECTS = 65_536  # a tier; a trace is anybody's, and may never free what it names
MORE = "(more)"

Source = Callable[[], Iterable[Event]]
"""Gives the events of one trace from the start, as often as it is called."""


@attrs.define
class Held:
    """Bytes on a tier under one name; `stage` and `step` are those they came for last."""

    name: str
    kind: Kind
    stage: str
    step: int
    nbytes: int
    since_ns: int


@attrs.frozen
class Level:
    """What a tier holds from an instant on."""

    tier: str
    at_ns: int
    stage: str
    step: int
    resident_bytes: int
    by_kind: ByKind


@attrs.define
class Holdings:
    """One tier now. `stray_bytes` were freed and had never come."""

    objects: dict[tuple[Kind, str], Held] = attrs.field(factory=dict)
    by_kind: dict[Kind, int] = attrs.field(factory=lambda: dict.fromkeys(Kind, 0))
    stray_bytes: int = 0

    @property
    def nbytes(self) -> int:
        """All that lies here by the events, calls at work left out."""
        return sum(self.by_kind.values())

    def come(self, move: Move) -> None:
        """Take an object in. The old and the new latents lie here at once, under one name."""
        key = (move.kind, move.name)
        if key not in self.objects and len(self.objects) >= MOST_OBJECTS:
            key = (move.kind, MORE)
        held = self.objects.get(key)
        if held is None:
            self.objects[key] = Held(
                key[1], move.kind, move.stage, move.step, move.nbytes, move.began_ns
            )
        else:
            held.nbytes += move.nbytes
            held.stage, held.step = move.stage, move.step
        self.by_kind[move.kind] += move.nbytes

    def go(self, move: Move) -> None:
        """Let bytes of an object go: all of them, or a part of a block that others lie in."""
        key = (move.kind, move.name)
        if key not in self.objects:
            key = (move.kind, MORE)
        held = self.objects.get(key)
        gone = 0 if held is None else min(held.nbytes, move.nbytes)
        self.stray_bytes += move.nbytes - gone
        self.by_kind[move.kind] -= gone
        if held is not None:
            held.nbytes -= gone
            if held.nbytes == 0:
                del self.objects[key]


@attrs.define
class Residency:
    """Every tier, event by event."""

    tiers: dict[str, Holdings] = attrs.field(factory=dict)

    def see(self, event: Event) -> tuple[Level, ...]:
        """Follow *event* and say how it changed its tier: not, once, or (a call) up and down."""
        match event:
            case Move():
                return (self._move(event),)
            case Workspace():
                return self._workspace(event)
            case _:
                return ()

    def on(self, tier: str) -> Holdings:
        """Give what lies on a tier, empty for one that nothing came to."""
        holdings = self.tiers.get(tier)
        if holdings is None:
            holdings = self.tiers[tier] = Holdings()
        return holdings

    def _move(self, move: Move) -> Level:
        holdings = self.on(move.tier)
        if move.verb is Verb.FREE:
            holdings.go(move)
            return _level(move, holdings.by_kind, move.ended_ns, move.resident_bytes)
        holdings.come(move)
        return _level(move, holdings.by_kind, move.began_ns, move.resident_bytes)

    def _workspace(self, work: Workspace) -> tuple[Level, Level]:
        held, resident = self.on(work.tier).by_kind, work.resident_bytes
        at_work = {**held, Kind.WORKSPACE: held[Kind.WORKSPACE] + work.nbytes}
        slack = min(work.slack_bytes, work.nbytes)
        during = _level(work, at_work, work.began_ns, resident, slack)
        return during, _level(work, held, work.ended_ns, resident - work.nbytes)


def _level(
    event: Move | Workspace,
    held: Mapping[Kind, int],
    at_ns: int,
    resident_bytes: int,
    slack_bytes: int = 0,
) -> Level:
    by_kind = ByKind.of(resident_bytes, held, slack_bytes)
    return Level(event.tier, at_ns, event.stage, event.step, resident_bytes, by_kind)


def levels(events: Iterable[Event]) -> Iterator[Level]:
    """Yield every change of every tier, in the order of the records."""
    residency = Residency()
    for event in events:
        yield from residency.see(event)
