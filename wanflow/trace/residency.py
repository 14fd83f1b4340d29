"""Follow the events of a trace: what lies on each tier, for whom, and of what kind.

One pass and bounded: what is kept is what is resident now, never the events. A workspace is
written when its call ends, so the instants come in the order of the records, each tier's in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

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
    """What a tier holds from an instant on, by kind. `slack_bytes` are the allocator's own.

    `other_bytes` is what no event explains; below zero, events name more than is there.
    """

    tier: str
    at_ns: int
    stage: str
    step: int
    resident_bytes: int
    weights_bytes: int
    value_bytes: int
    state_bytes: int
    workspace_bytes: int
    slack_bytes: int

    @property
    def other_bytes(self) -> int:
        """Bytes that no object explains."""
        known = self.weights_bytes + self.value_bytes + self.state_bytes
        return self.resident_bytes - known - self.workspace_bytes - self.slack_bytes


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
        found = self.tiers.get(tier)
        if found is None:
            found = self.tiers[tier] = Holdings()
        return found

    def _move(self, move: Move) -> Level:
        holdings = self.on(move.tier)
        if move.verb is Verb.FREE:
            holdings.go(move)
            return level(move, holdings, move.ended_ns)
        holdings.come(move)
        return level(move, holdings, move.began_ns)

    def _workspace(self, work: Workspace) -> tuple[Level, Level]:
        holdings = self.on(work.tier)
        slack = min(work.slack_bytes, work.nbytes)
        during = level(work, holdings, work.began_ns, work.nbytes - slack, slack)
        after = attrs.evolve(
            level(work, holdings, work.ended_ns), resident_bytes=work.resident_bytes - work.nbytes
        )
        return during, after


def level(
    event: Move | Workspace,
    held: Holdings,
    at_ns: int,
    workspace_bytes: int = 0,
    slack_bytes: int = 0,
) -> Level:
    """Say what a tier holds beside what *event* says of it."""
    kinds = held.by_kind
    return Level(
        event.tier, at_ns, event.stage, event.step, event.resident_bytes, kinds[Kind.WEIGHTS],
        kinds[Kind.VALUE], kinds[Kind.STATE], kinds[Kind.WORKSPACE] + workspace_bytes, slack_bytes,
    )  # fmt: skip


def levels(events: Iterable[Event]) -> Iterator[Level]:
    """Yield every change of every tier, in the order of the records."""
    residency = Residency()
    for event in events:
        yield from residency.see(event)
