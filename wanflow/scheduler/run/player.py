"""Play a plan through the ledger: each move is accounted for, then done by *works*. No torch.

A run and a simulation differ only in their works, so a simulated trace is what the run will write.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

import attrs

from wanflow.scheduler.footprint.costs import CallRecord, Made
from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.host_memory import RING
from wanflow.scheduler.plan.schedule import Plan, TierMove, arena_key, arena_of
from wanflow.scheduler.run.device_times import DeviceTimes
from wanflow.scheduler.run.ledger import Cause, Item, Ledger
from wanflow.scheduler.run.marks import CopySpan
from wanflow.scheduler.run.walk import is_bare, take_turn
from wanflow.trace.events import Kind, Transfer, Verb
from wanflow.trace.writer import TraceSink

_OVER = Cause("", 0, "the run is over")


@attrs.frozen
class Arrival:
    """A load that has ended, by the ledger's clock, and how long it was waited for.

    `asked_ns` is when it was asked for. Of one that a device is still to wait for, `copy` says when
    it is on its way.
    """

    queue: str
    began_ns: int
    ended_ns: int
    waited_ns: int
    asked_ns: int = 0
    copy: CopySpan | None = None


class Leftover(enum.Enum):
    """Where the run before left a segment."""

    NOWHERE = 0
    HOST = 1
    DEVICE = 2

    def __bool__(self) -> bool:
        """Whether it is anywhere."""
        return self is not Leftover.NOWHERE


class Works(Protocol):
    """What moves bytes and makes values, or says how long that takes."""

    def open_arena(self, model: str, nbytes: int) -> None:
        """Make the block that a model's segments lie in."""

    def close_arena(self, model: str) -> None:
        """Let it go."""

    def found(self, move: TierMove) -> Leftover:
        """Say where the run before left a segment."""

    def start_segment(self, move: TierMove) -> None:
        """Start a load."""

    def start_value(self, number: int, move: TierMove) -> None:
        """Start bringing a spilled value back; those of one move are loaded as one."""

    def segment(self, name: str) -> Arrival | None:
        """Wait for a segment; None when it was waited for before."""

    def value(self, number: int) -> Arrival:
        """Wait for a value that is on its way back."""

    def rows_name(self, call: CallRecord, /) -> str:
        """Name the weight whose rows the call gathers."""

    def gather(self, call: CallRecord, /) -> Arrival | None:
        """Read these rows."""

    def run(self, call: CallRecord, /) -> None:
        """Run the call."""

    def keep(self, value: Made) -> None:
        """Keep a value that the call made."""

    def drop(self, segment: str) -> None:
        """Let a segment's memory go."""

    def leave(self, segment: str) -> None:
        """Leave a segment there for the next run."""

    def spill(self, move: TierMove) -> None:
        """Copy a value to the host and let it go."""

    def free(self, number: int) -> None:
        """Let a value go."""


def item_of(value: Made) -> Item:
    """A value as the ledger knows it."""
    kind = Kind.STATE if value.is_state else Kind.VALUE
    return Item(f"value.{value.value}", value.name, kind, value.nbytes)


@attrs.define
class Player:
    """Takes the turns of one plan. `cause` is the call that it is at."""

    plan: Plan
    tier: str
    ledger: Ledger
    sink: TraceSink
    works: Works
    cause: Cause = _OVER
    made: dict[int, Made] = attrs.field(factory=dict)
    _bare: frozenset[int] = attrs.field(init=False)
    _coming: set[int] = attrs.field(factory=set, init=False)
    _last_use: Cause = attrs.field(default=_OVER, init=False)

    @_bare.default
    def _find_bare(self) -> frozenset[int]:
        """Number the turns that are a call and nothing else."""
        calls = zip(self.plan.footprint.calls, self.plan.turns, strict=True)
        return frozenset(n for n, (call, turn) in enumerate(calls) if is_bare(call, turn))

    def open(self) -> None:
        """Reserve the buffers that are there from the first call to the last."""
        for item, tier in self._buffers():
            with self.ledger.bring(Verb.PLACE, item, tier, "", Cause("", 0, "for all reads")):
                pass

    def close(self) -> None:
        """Let them go, and what the host cached."""
        for item, tier in self._buffers():
            self.ledger.free(item.key, tier, _OVER)
        for segment in self.plan.host.cached:
            if self.ledger.holds("host", segment):
                self.ledger.free(segment, "host", _OVER)

    def _buffers(self) -> list[tuple[Item, str]]:
        staging, ring = self.plan.footprint.staging_bytes, RING * self.plan.host.ring_bytes
        buffers = []
        if staging:
            item = Item("staging", "read staging", Kind.WORKSPACE, staging)
            buffers.append((item, "host" if self.plan.host.staging_bytes else self.tier))
        if ring and "host" in self.ledger.tiers:
            buffers.append((Item("ring", "upload ring", Kind.WORKSPACE, ring), "host"))
        return buffers

    def turn(self, index: int) -> None:
        """Take turn number *index*."""
        call, cause = self.plan.footprint.calls[index], self.cause
        if cause.why != call.kind or cause.step != call.step or cause.stage != call.stage:
            self.cause = Cause(call.stage, call.step, call.kind)
        if index in self._bare and not self._coming:
            self.call(call)
            return
        if self._last_use.step != call.step or self._last_use.stage != call.stage:
            self._last_use = Cause(call.stage, call.step, "last use")
        take_turn(call, self.plan.turns[index], self)

    def open_arena(self, arena: Arena) -> None:
        """Take an arena's bytes; its segments take theirs out of it."""
        name = f"room for {arena.model}"
        item = Item(arena_key(arena.model), name, Kind.WORKSPACE, arena.nbytes)
        why = attrs.evolve(self.cause, why="one block for the model's weights")
        with self.ledger.bring(Verb.PLACE, item, self.tier, "", why):
            self.works.open_arena(arena.model, arena.nbytes)

    def close_arena(self, arena: Arena) -> None:
        """Give an arena's bytes back."""
        self.works.close_arena(arena.model)
        why = attrs.evolve(self.cause, why="the model's last use")
        self.ledger.free(arena_key(arena.model), self.tier, why)

    def load(self, move: TierMove) -> None:
        """Start a load; a segment that the host caches passes there once."""
        cause = Cause(move.stage, move.step, move.cause)
        if move.values:
            self._return(move, cause)
            return
        item = Item(move.segment, move.segment, Kind.WEIGHTS, move.nbytes)
        found = self.works.found(move)
        source = "host" if self.ledger.holds("host", move.segment) else "disk"
        if move.segment in self.plan.host.cached and source == "disk":
            with self.ledger.bring(Verb.PLACE, item, "host", "" if found else "disk", cause):
                pass
            source = "host" if found else source
        if found is Leftover.DEVICE:
            source = ""
        room = arena_of(move)
        turn = attrs.evolve(self.cause, why=move.cause) if room else None
        with self.ledger.bring(move.verb, item, self.tier, source, cause, room, turn):
            self.works.start_segment(move)

    def _return(self, move: TierMove, cause: Cause) -> None:
        for number in move.values:
            item = item_of(self.made[number])
            with self.ledger.bring(move.verb, item, self.tier, "host", cause):
                self.works.start_value(number, move)
            self._coming.add(number)

    def await_segment(self, segment: str) -> None:
        """Wait for it; the trace has its arrival once."""
        arrival = self.works.segment(segment)
        if arrival is not None:
            self._arrived(segment, self.plan.footprint.segments[segment].nbytes, arrival)

    def await_values(self, numbers: Sequence[int]) -> None:
        """Wait for those that are on their way; the host's copy goes."""
        for number in numbers:
            if number not in self._coming:
                continue
            arrival = self.works.value(number)
            self._coming.discard(number)
            item = item_of(self.made[number])
            self._arrived(item.name, item.nbytes, arrival)
            self.ledger.free(item.key, "host", attrs.evolve(self.cause, why="back on the device"))

    def call(self, call: CallRecord) -> None:
        """Run a call inside the room that it was planned with, and keep what it makes."""
        if call.gathered_bytes:
            with ExitStack() as stack:
                self._gather(call, stack)
                self._run(call)
        else:
            self._run(call)
        for value in call.makes:
            self.ledger.place(item_of(value), self.tier, self.cause)
            self.made[value.value] = value
            self.works.keep(value)

    def _run(self, call: CallRecord) -> None:
        cost = call.cost
        room_bytes = cost.workspace_bytes + cost.slack_bytes
        self.ledger.work(self.works.run, call, room_bytes, self.tier, self.cause, cost.slack_bytes)

    def _gather(self, call: CallRecord, stack: ExitStack) -> None:
        """Bring the rows that a call asked for; they go when *stack* is closed."""
        name = self.works.rows_name(call)
        item = Item(name, f"{name} rows", Kind.WEIGHTS, call.gathered_bytes)
        why = attrs.evolve(self.cause, why="rows of the prompt's tokens")
        with self.ledger.bring(Verb.STREAM, item, self.tier, "disk", why):
            arrival = self.works.gather(call)
        if arrival is not None:
            self._arrived(item.name, item.nbytes, arrival)
        stack.callback(self.ledger.free, item.key, self.tier, why)

    def drop(self, move: TierMove) -> None:
        """Let a segment go."""
        (self.works.leave if move.carry.stays else self.works.drop)(move.segment)
        why = attrs.evolve(self.cause, why=move.cause)
        self.ledger.free(move.segment, self.tier, why, arena_of(move))

    def free(self, number: int) -> None:
        """Let a value go."""
        self.works.free(number)
        self.ledger.free(f"value.{number}", self.tier, self._last_use)

    def spill(self, move: TierMove) -> None:
        """Bring a value to the host and let its memory on the device go."""
        (number,) = move.values
        item = item_of(self.made[number])
        why = attrs.evolve(self.cause, why=move.cause)
        with self.ledger.bring(move.verb, item, "host", self.tier, why):
            self.works.spill(move)
        self.ledger.free(item.key, self.tier, why)

    def _arrived(self, name: str, nbytes: int, arrival: Arrival) -> None:
        began, ended = (self.ledger.since_ns(t) for t in (arrival.began_ns, arrival.ended_ns))
        transfer = Transfer(
            name, self.cause.stage, self.cause.step, arrival.queue, self.tier, nbytes, began, ended,
            arrival.waited_ns,
        )  # fmt: skip
        if isinstance(self.sink, DeviceTimes):
            asked = self.ledger.since_ns(arrival.asked_ns)
            self.sink.arrived(transfer, arrival.copy, asked)
        else:
            self.sink.emit(transfer)
