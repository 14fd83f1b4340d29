"""The order of things around a call, in one place: a run, a simulation and all that looks back.

Whoever walks over a plan has *hands*: what to do with a move. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from wanflow.scheduler.footprint.costs import CallRecord, Made
from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.schedule import Plan, TierMove, Turn


class Hands(Protocol):
    """What is done at each point of a turn."""

    def open_arena(self, arena: Arena) -> None:
        """Make the block that a model's segments lie in."""

    def load(self, move: TierMove) -> None:
        """Start bringing a segment, or values that were spilled."""

    def await_segment(self, segment: str) -> None:
        """Have the call's segment there; it may have been there before."""

    def await_values(self, numbers: Sequence[int]) -> None:
        """Have the values there that the call reads."""

    def call(self, call: CallRecord) -> None:
        """Run the call; what it makes is there from now on."""

    def drop(self, move: TierMove) -> None:
        """Let a segment go."""

    def free(self, number: int) -> None:
        """Let a value go: nobody reads it again."""

    def spill(self, move: TierMove) -> None:
        """Bring a value to the host."""

    def close_arena(self, arena: Arena) -> None:
        """Let the empty block go."""


def begin_turn(call: CallRecord, turn: Turn, hands: Hands) -> None:
    """Do what comes before a call."""
    for arena in turn.opens:
        hands.open_arena(arena)
    for move in turn.brings:
        hands.load(move)
    if call.segment is not None:
        hands.await_segment(call.segment)
    hands.await_values(call.reads)


def end_turn(turn: Turn, hands: Hands) -> None:
    """Do what comes after a call."""
    for move in turn.drops:
        hands.drop(move)
    for number in turn.frees:
        hands.free(number)
    for move in turn.spills:
        hands.spill(move)
    for arena in turn.closes:
        hands.close_arena(arena)


def take_turn(call: CallRecord, turn: Turn, hands: Hands) -> None:
    """Run a call and all that the plan has around it."""
    begin_turn(call, turn, hands)
    hands.call(call)
    end_turn(turn, hands)


def is_bare(call: CallRecord, turn: Turn) -> bool:
    """Whether a turn is its call and nothing else, but for values that are on their way."""
    around = (turn.opens, turn.brings, turn.drops, turn.frees, turn.spills, turn.closes)
    return call.segment is None and not any(around)


@attrs.define
class Contents:
    """What lies where at a point of a plan: hands that only keep count.

    `loading` are moves whose segment or values no call has used since; the others of `weights` were
    used. `on_device` and `away` have the numbers of values, `names` those that a name stands for.
    """

    arenas: dict[str, Arena] = attrs.field(factory=dict)
    weights: dict[str, TierMove] = attrs.field(factory=dict)
    loading: dict[str, TierMove] = attrs.field(factory=dict)
    made: dict[int, Made] = attrs.field(factory=dict)
    names: dict[str, int] = attrs.field(factory=dict)
    on_device: set[int] = attrs.field(factory=set)
    away: set[int] = attrs.field(factory=set)

    def open_arena(self, arena: Arena) -> None:
        """Count it in."""
        self.arenas[arena.model] = arena

    def load(self, move: TierMove) -> None:
        """Its room is taken now."""
        self.loading[move.segment] = move
        self.on_device |= set(move.values)
        if not move.values:
            self.weights[move.segment] = move

    def await_segment(self, segment: str) -> None:
        """It is in use."""
        self.loading.pop(segment, None)

    def await_values(self, numbers: Sequence[int]) -> None:
        """They are back."""
        self.away -= set(numbers)
        for name in [n for n, move in self.loading.items() if set(move.values) & set(numbers)]:
            del self.loading[name]

    def call(self, call: CallRecord) -> None:
        """Count in what it makes."""
        for value in call.makes:
            self.made[value.value] = value
            self.names[value.name] = value.value
            self.on_device.add(value.value)
        self.names.update(call.renames)

    def drop(self, move: TierMove) -> None:
        """Count it out."""
        del self.weights[move.segment]
        self.loading.pop(move.segment, None)

    def free(self, number: int) -> None:
        """Count it out, under whatever name."""
        del self.made[number]
        self.on_device.discard(number)

    def spill(self, move: TierMove) -> None:
        """It is on the host."""
        self.on_device -= set(move.values)
        self.away |= set(move.values)

    def close_arena(self, arena: Arena) -> None:
        """Count it out."""
        del self.arenas[arena.model]


def contents_before(plan: Plan, index: int) -> Contents:
    """Tell what lies where before call number *index* of a plan and what belongs to its turn."""
    contents = Contents()
    calls = plan.footprint.calls[:index]
    for call, turn in zip(calls, plan.turns[:index], strict=True):
        take_turn(call, turn, contents)
    return contents
