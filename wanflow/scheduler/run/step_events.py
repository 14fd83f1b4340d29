"""Write the steps and stages of a run into its trace, with what a meter measured. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.run.ledger import Ledger
from wanflow.trace.events import Memory, StageSpan, Step
from wanflow.trace.writer import TraceSink


@attrs.frozen
class Figure:
    """Memory by somebody's count: now, and the most so far."""

    source: str
    now_bytes: int
    peak_bytes: int


class Meter(Protocol):
    """Memory as somebody else counts it, in bytes."""

    @property
    def source(self) -> str:
        """Who counts: `tracked` or `allocator`."""

    @property
    def now_bytes(self) -> int:
        """Bytes alive."""

    @property
    def peak_bytes(self) -> int:
        """The most that was ever alive."""

    def others(self) -> Sequence[Figure]:
        """What others count on the same tier, where somebody does."""


class StepEvents:
    """Follows the calls of a run and emits a Step or a StageSpan after the last call of one."""

    def __init__(
        self, plan: Plan, sink: TraceSink, ledger: Ledger, meter: Meter, tier: str
    ) -> None:
        self._plan, self._sink, self._ledger, self._meter = plan, sink, ledger, meter
        self._tier = tier
        calls = plan.footprint.calls
        self._last = {call.stage: index for index, call in enumerate(calls)}
        self._step_ends = {(call.stage, call.step): index for index, call in enumerate(calls)}
        self._stages = {s.stage: s for s in plan.stages}
        self._began: dict[str, int] = {}
        self._step_began: dict[str, int] = {}
        self._peaks: dict[str, int] = {}

    def before(self, stage: str) -> None:
        """A call of *stage* is about to run."""
        now = self._ledger.now_ns()
        self._began.setdefault(stage, now)
        self._step_began.setdefault(stage, now)

    def after(self, index: int) -> None:
        """Call number *index* has run."""
        call = self._plan.footprint.calls[index]
        peak = self._ledger.take_turn_peak_bytes(self._tier)
        self._peaks[call.stage] = max(self._peaks.get(call.stage, 0), peak)
        if self._step_ends[call.stage, call.step] == index:
            self._end_step(call.stage, call.step)
        if self._last[call.stage] == index:
            self._end_stage(call.stage)

    def _end_step(self, stage: str, index: int) -> None:
        now, facts = self._ledger.now_ns(), self._stages[stage]
        began = self._step_began.pop(stage)
        resident = self._ledger.resident_bytes(self._tier)
        measured = self._meter.peak_bytes
        self._sink.emit(Step(stage, index, facts.steps, began, now, resident, measured))

    def _end_stage(self, stage: str) -> None:
        now, facts = self._ledger.now_ns(), self._stages[stage]
        knobs = tuple(f"{k}={v}" for k, v in facts.knobs.items())
        self._sink.emit(
            StageSpan(stage, facts.op, self._began[stage], now, self._peaks[stage], knobs)
        )
        self._measure()

    def finish(self) -> None:
        """The run is over."""
        self._measure()

    def _measure(self) -> None:
        meter, at = self._meter, self._ledger.now_ns()
        own = Figure(meter.source, meter.now_bytes, meter.peak_bytes)
        for figure in (own, *meter.others()):
            memory = Memory(figure.source, self._tier, figure.now_bytes, figure.peak_bytes, at)
            self._sink.emit(memory)
