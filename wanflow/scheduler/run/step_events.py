"""Write the steps and stages of a run into its trace, with what a meter measured. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from wanflow.scheduler.footprint.costs import CallRecord
from wanflow.scheduler.machine.file_work import PREVIEW
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.run.ledger import Ledger
from wanflow.trace.events import Memory, Note, Preview, StageSpan, Step
from wanflow.trace.writer import TraceSink


@attrs.frozen
class Figure:
    """Memory by somebody's count: now, the most so far, and an allocator's retries and failures."""

    source: str
    now_bytes: int
    peak_bytes: int
    alloc_retries: int = 0
    alloc_failures: int = 0


class Context(Protocol):
    """What a process has on a device beside its tensors, as it grows."""

    def stage_begins(self) -> None:
        """The first call of a stage is about to run."""

    def stage_began(self) -> str:
        """Its first call has run, or its first step; what is to be noted, if anything."""


class Meter(Protocol):
    """Memory as somebody else counts it, in bytes."""

    @property
    def context(self) -> Context | None:
        """None where nothing lies beside what is counted."""

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
    """Follows the calls of a run and emits a Step or a StageSpan after the last call of one.

    *exchanging* says for how many ns exchanges with other ranks were waited for so far.
    """

    def __init__(
        self,
        plan: Plan,
        sink: TraceSink,
        ledger: Ledger,
        meter: Meter,
        tier: str,
        exchanging: Callable[[], int] | None = None,
    ) -> None:
        self._exchanging, self._exchanged = exchanging, 0  # ns, so far, and when a step last ended
        self._plan, self._sink, self._ledger, self._meter = plan, sink, ledger, meter
        self._tier = tier
        calls = plan.footprint.calls
        self._last = {call.stage: index for index, call in enumerate(calls)}
        ends = {(call.stage, call.step): index for index, call in enumerate(calls)}
        self._step_ends = frozenset(ends.values())
        self._peak_asked = _last_of_each_run([call.stage for call in calls])
        self._previews = _previews(calls)
        self._stages = {s.stage: s for s in plan.stages}
        self._opening: dict[str, bool] = {}  # stages at their first step: whether a call has run
        self._began: dict[str, int] = {}
        self._step_began: dict[str, int] = {}
        self._peaks: dict[str, int] = {}

    def before(self, stage: str) -> None:
        """A call of *stage* is about to run."""
        if stage in self._step_began:
            return
        if self._meter.context is not None and stage not in self._began:
            self._meter.context.stage_begins()
            self._opening[stage] = False
        now = self._ledger.now_ns()
        self._began.setdefault(stage, now)
        self._step_began[stage] = now

    def after(self, index: int) -> None:
        """Call number *index* has run."""
        if index in self._previews:
            self._end_preview(index)
        if index not in self._peak_asked and index not in self._step_ends and not self._opening:
            return
        call = self._plan.footprint.calls[index]
        if index in self._peak_asked:
            peak = self._ledger.take_turn_peak_bytes(self._tier)
            self._peaks[call.stage] = max(peak, self._peaks.get(call.stage, 0))
        step_ends = index in self._step_ends
        if call.stage in self._opening:
            self._look_beside(call.stage, step_ends=step_ends)
        if step_ends:
            self._end_step(call.stage, call.step)
        if self._last[call.stage] == index:
            self._end_stage(call.stage)

    def _look_beside(self, stage: str, *, step_ends: bool) -> None:
        """Look after the first call of a stage, and after its first step: kernels were loaded."""
        context = self._meter.context
        if context is not None and (step_ends or not self._opening[stage]):
            text = context.stage_began()
            if text:
                self._sink.emit(Note("context", text, self._ledger.now_ns()))
        self._opening[stage] = True
        if step_ends:
            del self._opening[stage]

    def _end_step(self, stage: str, index: int) -> None:
        now, facts = self._ledger.now_ns(), self._stages[stage]
        began = self._step_began.pop(stage)
        resident = self._ledger.resident_bytes(self._tier)
        measured, before = self._meter.peak_bytes, self._exchanged
        if self._exchanging is not None:
            self._exchanged = self._exchanging()
        stood = self._exchanged - before
        self._sink.emit(Step(stage, index, facts.steps, began, now, resident, measured, stood))

    def _end_preview(self, index: int) -> None:
        call = self._plan.footprint.calls[index]
        frames, height, width, _ = self._previews[index]
        now = self._ledger.now_ns()
        self._sink.emit(Preview(call.stage, call.step, frames, width, height, now))

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
            memory = Memory(
                figure.source, self._tier, figure.now_bytes, figure.peak_bytes, at,
                figure.alloc_retries, figure.alloc_failures,
            )  # fmt: skip
            self._sink.emit(memory)


def _previews(calls: Sequence[CallRecord]) -> dict[int, tuple[int, ...]]:
    """The calls that write previews, and the shapes of the frames that they are given."""
    writes = {index: call.reads[0] for index, call in enumerate(calls) if call.kind == PREVIEW}
    made = {v.value: v.shape for index in writes for v in calls[index - 1].makes}
    return {index: made[number] for index, number in writes.items()}


def _last_of_each_run(stages: Sequence[str]) -> frozenset[int]:
    """Number the calls after which another stage's turn comes, or none."""
    last = len(stages) - 1
    return frozenset(
        index for index, stage in enumerate(stages) if index == last or stages[index + 1] != stage
    )
