"""Play a plan without running it: the same ledger and events, by a clock that is set. No torch.

A simulated trace has the format of a run's, so whatever reads the one reads the other.
"""

from __future__ import annotations

import attrs

from wanflow.scheduler.footprint.costs import CallRecord, Made
from wanflow.scheduler.plan.host_memory import RING
from wanflow.scheduler.plan.schedule import Plan, TierMove, Turn, arena_key, room_of
from wanflow.scheduler.run.ledger import Cause, Item, Ledger
from wanflow.scheduler.run.step_events import Figure, Spans
from wanflow.trace.events import Kind, Transfer, Verb
from wanflow.trace.writer import TraceSink

_NS = 1_000_000_000


@attrs.define
class _Clock:
    """Simulated time in seconds."""

    seconds: float = 0.0

    def __call__(self) -> int:
        return round(self.seconds * _NS)


@attrs.frozen
class _CountingMeter:
    """Stands for a meter: what a simulation measures is what it counts."""

    ledger: Ledger
    tier: str
    source: str = "simulated"

    @property
    def now_bytes(self) -> int:
        return self.ledger.resident_bytes(self.tier)

    @property
    def peak_bytes(self) -> int:
        return self.ledger.peak_bytes(self.tier)

    def others(self) -> tuple[Figure, ...]:
        return ()


def simulate(plan: Plan, tier: str, sink: TraceSink) -> Ledger:
    """Send *sink* the events that running *plan* would make; return the ledger at its end."""
    clock = _Clock()
    budgets = {tier: max(plan.budget_bytes, plan.predicted_peak_bytes)}
    if plan.host.nbytes:
        budgets["host"] = plan.host.nbytes
    ledger = Ledger(budgets, sink, clock=clock)
    spans = Spans(plan, sink, ledger, _CountingMeter(ledger, tier), tier)
    player = _Player(plan, tier, ledger, sink, clock)
    player.open()
    for index, (turn, step) in enumerate(zip(plan.turns, plan.footprint.calls, strict=True)):
        spans.before(step.stage)
        player.turn(index, turn, step)
        spans.after(index)
    player.close()
    spans.finish()
    return ledger


@attrs.define
class _Player:
    plan: Plan
    tier: str
    ledger: Ledger
    sink: TraceSink
    clock: _Clock
    _loads: dict[str, tuple[str, float, float, int]] = attrs.field(factory=dict, init=False)
    _coming: dict[int, tuple[float, float]] = attrs.field(factory=dict, init=False)
    _made: dict[int, Made] = attrs.field(factory=dict, init=False)
    _next: int = attrs.field(default=0, init=False)

    def open(self) -> None:
        """Reserve the buffers that are there from the first call to the last."""
        for item, tier in self._fixtures():
            with self.ledger.bring(Verb.PLACE, item, tier, "", Cause("", 0, "for all reads")):
                pass

    def close(self) -> None:
        """Let them go, and what the host kept."""
        over = Cause("", 0, "the run is over")
        for item, tier in self._fixtures():
            self.ledger.free(item.key, tier, over)
        if "host" in self.ledger.tiers:
            self.ledger.free_all("host", over)

    def _fixtures(self) -> list[tuple[Item, str]]:
        staging, ring = self.plan.footprint.staging_bytes, RING * self.plan.host.ring_bytes
        items = [
            (Item("staging", "read staging", Kind.WORKSPACE, staging), self.tier),
            (Item("ring", "upload ring", Kind.WORKSPACE, ring), "host"),
        ]
        return [(item, tier) for item, tier in items if item.nbytes]

    def turn(self, index: int, turn: Turn, step: CallRecord) -> None:
        """Play one call: issue, wait, run, keep, free."""
        timeline = self.plan.timeline
        cause = Cause(step.stage, step.step, step.kind)
        for arena in turn.opens:
            item = Item(
                arena_key(arena.model), f"room for {arena.model}", Kind.WORKSPACE, arena.nbytes
            )
            with self.ledger.bring(Verb.PLACE, item, self.tier, "", cause):
                pass
        for move in turn.brings:
            self._bring(move, Cause(move.stage, move.step, move.cause))
        waited = self._wait(step, timeline.waits[index], cause)
        for number in step.reads:
            if number in self._coming:
                self._back(number, waited, cause)
                waited = 0.0
        self._run(step, timeline.compute[index], cause)
        for made in step.makes:
            self._made[made.value] = made
            with self.ledger.bring(Verb.PLACE, self._item(made.value), self.tier, "", cause):
                pass
        for move in turn.drops:
            why = attrs.evolve(cause, why=move.cause)
            self.ledger.free(move.segment, self.tier, why, room_of(move))
        for number in turn.frees:
            self.ledger.free(f"value.{number}", self.tier, attrs.evolve(cause, why="last use"))
        nbytes = sum(move.nbytes for move in turn.spills)
        for move in turn.spills:
            self._spill(move, timeline.leaving[index] * move.nbytes / max(nbytes, 1), cause)
        for arena in turn.closes:
            self.ledger.free(arena_key(arena.model), self.tier, cause)

    def _spill(self, move: TierMove, seconds: float, cause: Cause) -> None:
        (number,) = move.values
        item, why = self._item(number), attrs.evolve(cause, why=move.cause)
        with self.ledger.bring(move.verb, item, "host", self.tier, why):
            self.clock.seconds += seconds
        self.ledger.free(item.key, self.tier, why)

    def _back(self, number: int, waited: float, cause: Cause) -> None:
        """A spilled value is on the device again."""
        item = self._item(number)
        began, ended = self._coming.pop(number)
        self.sink.emit(
            Transfer(
                item.name, cause.stage, cause.step, "copy", self.tier, item.nbytes,
                round(began * _NS), round(ended * _NS), round(waited * _NS),
            )
        )  # fmt: skip
        why = attrs.evolve(cause, why="back on the device")
        self.ledger.free(item.key, "host", why)

    def _item(self, number: int) -> Item:
        made = self._made[number]
        kind = Kind.STATE if made.is_state else Kind.VALUE
        return Item(f"value.{number}", made.name, kind, made.nbytes)

    def _bring(self, move: TierMove, cause: Cause) -> None:
        """Start a load; a segment that the host caches passes there once."""
        if move.values:
            for number in move.values:
                with self.ledger.bring(move.verb, self._item(number), self.tier, "host", cause):
                    self._coming[number] = self.plan.timeline.loads[self._next]
            self._next += 1
            return
        item = Item(move.segment, move.segment, Kind.WEIGHTS, move.nbytes)
        source = "host" if self.ledger.holds("host", move.segment) else "disk"
        if move.segment in self.plan.host.cached and source == "disk":
            with self.ledger.bring(Verb.PLACE, item, "host", "disk", cause):
                pass
        with self.ledger.bring(move.verb, item, self.tier, source, cause, room_of(move)):
            began, ended = self.plan.timeline.loads[self._next]
            queue = "copy" if source == "host" else "disk"
            self._loads[move.segment] = (queue, began, ended, move.nbytes)
            self._next += 1

    def _wait(self, step: CallRecord, seconds: float, cause: Cause) -> float:
        """Wait for what the call needs; return the part of it that no segment was waited for."""
        load = self._loads.pop(step.segment, None) if step.segment is not None else None
        self.clock.seconds += seconds
        if load is None or step.segment is None:
            return seconds
        queue, began, ended, nbytes = load
        self.sink.emit(
            Transfer(
                step.segment, cause.stage, cause.step, queue, self.tier, nbytes,
                round(began * _NS), round(ended * _NS), round(seconds * _NS),
            )
        )  # fmt: skip
        return 0.0

    def _run(self, step: CallRecord, seconds: float, cause: Cause) -> None:
        gathered = None
        if step.gathered_bytes:
            gathered = Item(
                f"rows.{cause.stage}.{cause.why}", "rows", Kind.WEIGHTS, step.gathered_bytes
            )
            with self.ledger.bring(Verb.STREAM, gathered, self.tier, "disk", cause):
                pass
        cost = step.cost
        with self.ledger.workspace(step.kind, cost.room_bytes, self.tier, cause, cost.slack_bytes):
            self.clock.seconds += seconds
        if gathered is not None:
            self.ledger.free(gathered.key, self.tier, cause)
