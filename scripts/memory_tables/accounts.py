"""What a plan has on the card at each call, part by part: weights, activations, the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import attrs

from wanflow.scheduler.footprint.costs import CallRecord
from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.schedule import Plan, TierMove
from wanflow.scheduler.run.walk import take_turn


@attrs.define
class Accounts:
    """The hands of a walk over a plan: they move nothing, and write down what is there.

    `weights_bytes` has the most of each model at once, its arena whole; `activation_bytes` the most
    of values and of what a call takes to run; `peak_bytes` the most of all of it with the
    allocator's slack, as the plan predicts it without context and libraries.
    """

    weights_bytes: dict[str, int] = attrs.field(factory=lambda: defaultdict(int))
    activation_bytes: int = 0
    peak_bytes: int = 0
    _sizes: dict[int, int] = attrs.field(factory=dict)
    _values: dict[int, int] = attrs.field(factory=dict)
    _slabs: dict[str, int] = attrs.field(factory=dict)
    _arenas: dict[str, int] = attrs.field(factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Accounts:
        """Walk over a plan from its first call to its last."""
        found = cls()
        for call, turn in zip(plan.footprint.calls, plan.turns, strict=True):
            take_turn(call, turn, found)
        return found

    def open_arena(self, arena: Arena) -> None:
        """All of a block is there, whatever lies in it."""
        self._arenas[arena.model] = arena.nbytes
        self._note(arena.model)

    def load(self, move: TierMove) -> None:
        """What is on its way has its place from the start."""
        if move.values:
            self._values |= {number: self._sizes[number] for number in move.values}
        elif move.offset_bytes is None:
            self._slabs[move.segment] = move.nbytes
            self._note(move.segment.partition("/")[0])

    def await_segment(self, segment: str) -> None:
        """It is there since its load."""

    def await_values(self, numbers: Sequence[int]) -> None:
        """They are there since their load."""

    def call(self, call: CallRecord) -> None:
        """A call's workspace includes what it makes."""
        running = sum(self._values.values()) + call.cost.workspace_bytes
        self.activation_bytes = max(self.activation_bytes, running)
        weights = sum(self._slabs.values()) + sum(self._arenas.values())
        whole = weights + running + call.gathered_bytes + call.cost.slack_bytes
        self.peak_bytes = max(self.peak_bytes, whole)
        made = {value.value: value.nbytes for value in call.makes}
        self._sizes |= made
        self._values |= made

    def drop(self, move: TierMove) -> None:
        """A segment of an arena leaves its block there."""
        self._slabs.pop(move.segment, None)

    def free(self, number: int) -> None:
        """A value that waited on the host may go there."""
        self._values.pop(number, None)

    def spill(self, move: TierMove) -> None:
        """Values go to the host."""
        for number in move.values:
            del self._values[number]

    def close_arena(self, arena: Arena) -> None:
        """The block goes."""
        del self._arenas[arena.model]

    def _note(self, model: str) -> None:
        prefix = f"{model}/"
        slabs = sum(nbytes for name, nbytes in self._slabs.items() if name.startswith(prefix))
        there = self._arenas.get(model, 0) + slabs
        self.weights_bytes[model] = max(self.weights_bytes[model], there)
