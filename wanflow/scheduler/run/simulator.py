"""Play a plan without running it: the same ledger and events, by a clock that is set. No torch.

A simulated trace has the format of a run's, so whatever reads the one reads the other.
"""

from __future__ import annotations

import attrs

from wanflow.scheduler.footprint.costs import CallRecord
from wanflow.scheduler.plan.schedule import Plan, TierMove
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.player import Arrival, Leftover, Player
from wanflow.scheduler.run.step_events import Figure, StepEvents
from wanflow.trace.writer import TraceSink

_NS = 1_000_000_000


@attrs.frozen
class _CountingMeter:
    """Stands for a meter: what a simulation measures is what it counts."""

    ledger: Ledger
    tier: str
    source: str = "simulated"
    context: None = None

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
    works = _PlannedWorks(plan)
    budgets = {tier: max(plan.budget_bytes, plan.predicted_peak_bytes)}
    if host_bytes := plan.host.nbytes + plan.host.staging_bytes:
        budgets["host"] = host_bytes
    ledger = Ledger(budgets, sink, clock=works.now_ns)
    step_events = StepEvents(plan, sink, ledger, _CountingMeter(ledger, tier), tier)
    player = Player(plan, tier, ledger, sink, works)
    player.open()
    for index, call in enumerate(plan.footprint.calls):
        step_events.before(call.stage)
        works.begin(index)
        player.turn(index)
        step_events.after(index)
    player.close()
    step_events.finish()
    return ledger


@attrs.define
class _PlannedWorks:
    """Does nothing and takes the time that the plan has for it."""

    plan: Plan
    _seconds: float = attrs.field(default=0.0, init=False)
    _index: int = attrs.field(default=0, init=False)
    _waits: float = attrs.field(default=0.0, init=False)
    _next: int = attrs.field(default=0, init=False)
    _cached: set[str] = attrs.field(factory=set, init=False)
    _segments: dict[str, tuple[str, float, float]] = attrs.field(factory=dict, init=False)
    _values: dict[int, tuple[float, float]] = attrs.field(factory=dict, init=False)

    def now_ns(self) -> int:
        """The clock."""
        return round(self._seconds * _NS)

    def begin(self, index: int) -> None:
        """Go on to call number *index*."""
        self._index, self._waits = index, self.plan.timeline.waits[index]

    def found(self, move: TierMove) -> Leftover:
        return Leftover.DEVICE if move.carry.comes else Leftover.NOWHERE

    def start_segment(self, move: TierMove) -> None:
        queue = "copy" if move.segment in self._cached else "disk"
        self._segments[move.segment] = (queue, *self._load())
        if move.segment in self.plan.host.cached:
            self._cached.add(move.segment)

    def start_value(self, number: int, move: TierMove) -> None:
        first = move.values[0]
        self._values[number] = self._load() if number == first else self._values[first]

    def _load(self) -> tuple[float, float]:
        self._next += 1
        return self.plan.timeline.loads[self._next - 1]

    def segment(self, name: str) -> Arrival | None:
        load = self._segments.pop(name, None)
        return None if load is None else self._wait(*load)

    def value(self, number: int) -> Arrival:
        return self._wait("copy", *self._values.pop(number))

    def _wait(self, queue: str, began: float, ended: float) -> Arrival:
        """Whatever comes first is what the call waits for."""
        waited, self._waits = self._waits, 0.0
        self._seconds += waited
        return Arrival(queue, round(began * _NS), round(ended * _NS), round(waited * _NS))

    def rows_name(self, call: CallRecord) -> str:
        return next(str(f.model) for f in self.plan.footprint.stages if f.stage == call.stage)

    def run(self, _call: CallRecord) -> None:
        self._seconds += self.plan.timeline.compute[self._index]

    def spill(self, move: TierMove) -> None:
        nbytes = sum(spill.nbytes for spill in self.plan.turns[self._index].spills)
        self._seconds += self.plan.timeline.leaving[self._index] * move.nbytes / max(nbytes, 1)

    def _nothing(self, *_what: object) -> None:
        """Takes no time."""

    open_arena = close_arena = gather = keep = drop = leave = free = _nothing
